//! The parts of SYSLINUX out of Debian's packages `syslinux` and `syslinux-common`.
//!
//! Boot sector template, `ldlinux.sys` and the `ldlinux.c32` of the same build are in no file of
//! their own: they are arrays in the data of the installer `usr/bin/syslinux`, made by
//! `libinstaller/bin2c.pl`. They can be told by what they contain:
//!
//! * the boot sector: `EB xx 90 "SYSLINUX"` with the magic `3EB202FE` at 504 and `55 AA` at 510;
//! * `ldlinux.sys`: begins with `"\r\nSYSLINUX "`, with the magic within its first kilobyte;
//! * `ldlinux.c32`: a 32-bit ELF object, whose section headers are its end.

use std::fs;
use std::path::Path;

use super::Loader;
use super::patch::{BOOT_MAGIC_AT, MAGIC};
use crate::field::{index, u16_le, u32_le};
use crate::{Error, Result};

/// Larger files are no installer.
const MAX_INSTALLER: u64 = 8 << 20;

impl Loader {
    /// Reads the parts from a directory into which Debian's packages `syslinux` and
    /// `syslinux-common` were unpacked (or from `/` where they are installed).
    ///
    /// # Errors
    /// [`Error::Io`] for a missing file, [`Error::NotFound`] when the installer does not hold what
    /// it should.
    pub fn from_package(root: impl AsRef<Path>) -> Result<Self> {
        let root = root.as_ref();
        let installer = read(&root.join("usr/bin/syslinux"))?;
        let directory = ["usr/lib/syslinux/mbr", "usr/lib/SYSLINUX"]
            .into_iter()
            .map(|directory| root.join(directory))
            .find(|directory| directory.join("gptmbr.bin").is_file())
            .unwrap_or_else(|| root.join("usr/lib/syslinux/mbr"));
        let gptmbr = read(&directory.join("gptmbr.bin"))?;
        let mbr = read(&directory.join("mbr.bin"))?;
        Self::from_installer(&installer, &gptmbr, &mbr)
    }

    /// Takes the parts out of the bytes of SYSLINUX's installer for Linux.
    ///
    /// # Errors
    /// [`Error::NotFound`] when they are not in it, [`Error::Malformed`] when they do not fit
    /// together.
    pub fn from_installer(installer: &[u8], gptmbr: &[u8], mbr: &[u8]) -> Result<Self> {
        let missing = |what: &str| Error::NotFound {
            what: what.to_owned(),
            place: "the syslinux installer".to_owned(),
        };
        let boot_sector = find(installer, b"SYSLINUX")
            .filter_map(|at| crate::field::array::<512>(installer, at.checked_sub(3)?))
            .find(|sector| {
                sector.first() == Some(&0xeb)
                    && sector.get(2) == Some(&0x90)
                    && u32_le(sector, BOOT_MAGIC_AT) == Some(MAGIC)
                    && u16_le(sector, 510) == Some(0xaa55)
            })
            .ok_or_else(|| missing("the boot sector template"))?;
        let sys_at = find(installer, b"\r\nSYSLINUX ")
            .find(|at| {
                (0..1024).step_by(4).any(|offset| u32_le(installer, at + offset) == Some(MAGIC))
            })
            .ok_or_else(|| missing("ldlinux.sys"))?;
        let (c32_at, c32_len) = find(installer, b"\x7fELF\x01\x01")
            .filter(|at| *at > sys_at)
            .find_map(|at| Some((at, elf32_len(installer.get(at..)?)?)))
            .ok_or_else(|| missing("ldlinux.c32"))?;
        // The arrays follow each other, aligned to at most 32 bytes. The installer also has the
        // lengths as constants, which tells the exact one.
        let most = c32_at - sys_at;
        let sys_len = (most.saturating_sub(31)..=most)
            .rev()
            .find(|len| {
                let constant = u32::try_from(*len).unwrap_or(0).to_le_bytes();
                installer
                    .get(..sys_at)
                    .unwrap_or_default()
                    .chunks_exact(4)
                    .any(|chunk| chunk == constant)
            })
            .ok_or_else(|| missing("the length of ldlinux.sys"))?;
        let part = |at: usize, len: usize| installer.get(at..at + len).unwrap_or_default().to_vec();
        Self::from_parts(boot_sector, part(sys_at, sys_len), part(c32_at, c32_len), gptmbr, mbr)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let action = || format!("read {}", path.display());
    let len = fs::metadata(path).map_err(Error::io(action()))?.len();
    if len > MAX_INSTALLER {
        let (found, limit) = (len, MAX_INSTALLER);
        return Err(Error::Limit { format: "syslinux", what: "length of a file", found, limit });
    }
    fs::read(path).map_err(Error::io(action()))
}

fn find<'bytes>(
    bytes: &'bytes [u8],
    pattern: &'static [u8],
) -> impl Iterator<Item = usize> + use<'bytes> {
    bytes
        .windows(pattern.len())
        .enumerate()
        .filter_map(move |(at, window)| (window == pattern).then_some(at))
}

/// Length of a 32-bit ELF object that ends with its section headers, as linkers leave it.
fn elf32_len(elf: &[u8]) -> Option<usize> {
    let table = index(u64::from(u32_le(elf, 32)?));
    let (len, count) = (usize::from(u16_le(elf, 46)?), usize::from(u16_le(elf, 48)?));
    let end = table.checked_add(len.checked_mul(count)?)?;
    (table > 52 && len == 40 && end <= elf.len()).then_some(end)
}
