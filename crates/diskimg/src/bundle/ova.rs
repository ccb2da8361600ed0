//! OVA, and the zip that VirtualBox users unpack: an OVF descriptor and its disk.

use std::io::{Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use super::machine::Machine;
use super::{ovf, tar, zip};
use crate::container::{Options, store_vmdk_stream};
use crate::content::Content;
use crate::units::SECTOR;
use crate::{Error, Result};

fn io(source: std::io::Error) -> Error {
    Error::io("write the appliance")(source)
}

/// Counts and digests what passes through.
pub(super) struct Watched<W> {
    writer: W,
    pub(super) len: u64,
    digest: Sha256,
    pub(super) crc32: crc32fast::Hasher,
}

impl<W: Write> Watched<W> {
    fn new(writer: W) -> Self {
        Self { writer, len: 0, digest: Sha256::new(), crc32: crc32fast::Hasher::new() }
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.writer.write(bytes)?;
        let written = bytes.get(..count).unwrap_or_default();
        self.len += count as u64;
        self.digest.update(written);
        self.crc32.update(written);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The disk's file; its adapter is the machine's.
fn write_disk<W: Write>(
    machine: &Machine,
    disk: &dyn Content,
    writer: W,
    options: &Options,
) -> Result<Watched<W>> {
    let mut options = options.clone();
    options.adapter.get_or_insert(machine.controller);
    let fill = |sink: &mut dyn crate::Sink| disk.write_to(sink);
    store_vmdk_stream(disk.len(), Watched::new(writer), &options, fill)
}

fn capacity(disk: &dyn Content) -> u64 {
    disk.len().div_ceil(SECTOR).saturating_mul(SECTOR)
}

/// Writes an OVA: a tar archive of descriptor, manifest and disk, in this order. The files are
/// `NAME.ovf`, `NAME.mf` and `NAME-disk1.vmdk`. The writer must be at its start.
///
/// # Errors
/// [`Error::Plan`] with everything that is wrong with the machine; those of the disk and of the
/// writer.
pub fn write_ova<W: Write + Seek>(
    machine: &Machine,
    disk: &dyn Content,
    writer: W,
    options: &Options,
) -> Result<W> {
    machine.check()?;
    let (ovf_name, manifest_name) =
        (format!("{}.ovf", machine.name), format!("{}.mf", machine.name));
    let disk_name = format!("{}-disk1.vmdk", machine.name);
    // Descriptor and manifest are written when the disk's length and digest are known, into the room
    // that is left for them: their lengths do not depend on either.
    let head = |len: u64, digest: &str| -> Vec<u8> {
        let text = ovf::descriptor(machine, &disk_name, capacity(disk), len);
        // VMware wants no space before the parenthesis.
        let manifest = format!(
            "SHA256({ovf_name})= {}\nSHA256({disk_name})= {digest}\n",
            hex(&Sha256::digest(&text))
        );
        let mut head = Vec::new();
        for (name, text) in [(&ovf_name, &text), (&manifest_name, &manifest)] {
            head.extend_from_slice(&tar::file(name, text.len() as u64));
            head.extend_from_slice(text.as_bytes());
            head.extend_from_slice(tar::padding(text.len() as u64));
        }
        head.extend_from_slice(&tar::file(&disk_name, len));
        head
    };
    let mut writer = writer;
    let room = head(0, &"0".repeat(64)).len() as u64;
    writer.seek(SeekFrom::Start(room)).map_err(io)?;
    let watched = write_disk(machine, disk, writer, options)?;
    let (len, digest) = (watched.len, hex(&watched.digest.finalize()));
    let mut writer = watched.writer;
    writer.write_all(tar::padding(len)).map_err(io)?;
    // Two blocks of zeroes end the archive.
    writer.write_all(&[0; 1024]).map_err(io)?;
    let head = head(len, &digest);
    if head.len() as u64 != room {
        return Err(Error::unsupported("ova", "a descriptor whose length depends on the disk"));
    }
    writer.seek(SeekFrom::Start(0)).map_err(io)?;
    writer.write_all(&head).map_err(io)?;
    writer.flush().map_err(io)?;
    Ok(writer)
}

/// Writes a zip archive of the descriptor and the disk, stored: both are small already. The files are
/// `NAME.ovf` and `NAME-disk1.vmdk`. The writer must be at its start.
///
/// # Errors
/// As [`write_ova`].
pub fn write_vbox_zip<W: Write + Seek>(
    machine: &Machine,
    disk: &dyn Content,
    writer: W,
    options: &Options,
) -> Result<W> {
    machine.check()?;
    let disk_name = format!("{}-disk1.vmdk", machine.name);
    let descriptor = |len| ovf::descriptor(machine, &disk_name, capacity(disk), len).into_bytes();
    let mut archive = zip::Writer::new(writer);
    // Its place comes first; its bytes when the disk's length is known.
    let room = archive.reserve(&format!("{}.ovf", machine.name), descriptor(0).len() as u64)?;
    let writer = archive.begin(&disk_name)?;
    let watched = write_disk(machine, disk, writer, options)?;
    let (len, crc32) = (watched.len, watched.crc32.finalize());
    archive.end(watched.writer, len, crc32)?;
    archive.fill(room, &descriptor(len))?;
    archive.finish()
}
