//! The zip that users of VMware's desktop programs unpack: settings, and a disk that the machine can write
//! to. (The disk of an appliance is for imports: VMware runs none.)

use std::io::{Read, Seek, SeekFrom, Write};

use super::machine::Machine;
use super::{vmx, zip};
use crate::container::{self, Format, Options};
use crate::content::Content;
use crate::{Error, Result};

/// As the descriptor in it says.
const DISK: &str = "disk.vmdk";
/// How much is read at once.
const PIECE: usize = 256 << 10;

fn io(source: std::io::Error) -> Error {
    Error::io("write the zip archive")(source)
}

/// A part of a file, as if it began there.
struct Part<W> {
    writer: W,
    start: u64,
}

impl<W: Write> Write for Part<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}

impl<W: Seek> Seek for Part<W> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at.saturating_add(self.start)),
            other => other,
        };
        let at = self.writer.seek(to)?;
        at.checked_sub(self.start).ok_or_else(|| std::io::ErrorKind::InvalidInput.into())
    }
}

/// The checksum of what there is from here to the end, and its length.
fn rest(reader: &mut impl Read) -> std::io::Result<(u64, u32)> {
    let (mut len, mut crc32) = (0, crc32fast::Hasher::new());
    let mut piece = vec![0; PIECE];
    loop {
        let count = match reader.read(&mut piece) {
            Ok(0) => return Ok((len, crc32.finalize())),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        crc32.update(piece.get(..count).unwrap_or_default());
        len += count as u64;
    }
}

/// Writes a zip archive of the settings and the disk, stored. The files are `NAME.vmx` and `disk.vmdk`. The
/// writer must be at its start and empty; what is in it is read once more, for the disk's checksum, because
/// the disk is not written front to back.
///
/// # Errors
/// As [`write_ova`](super::write_ova).
pub fn write_vmx_zip<W: Read + Write + Seek>(
    machine: &Machine,
    disk: &dyn Content,
    writer: W,
    options: &Options,
) -> Result<W> {
    machine.check()?;
    let mut options = options.clone();
    options.adapter.get_or_insert(machine.controller);
    let mut archive = zip::Writer::new(writer);
    let settings = vmx::settings(machine, DISK).into_bytes();
    let room = archive.reserve(&format!("{}.vmx", machine.name), settings.len() as u64)?;
    archive.fill(room, &settings)?;
    let mut writer = archive.begin(DISK)?;
    let start = writer.stream_position().map_err(io)?;
    let part = Part { writer, start };
    let mut writer = container::write_with(Format::Vmdk, disk, part, &options)?.writer;
    writer.seek(SeekFrom::Start(start)).map_err(io)?;
    let (len, crc32) = rest(&mut writer).map_err(io)?;
    archive.end(writer, len, crc32)?;
    archive.finish()
}
