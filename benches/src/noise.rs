//! Files to pack: bytes that look arbitrary and are the same in every run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::Result;

/// A xorshift generator (Marsaglia, 2003) of 64 bits.
#[derive(Debug)]
pub struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Noise {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Bytes that do not compress and are nowhere zero for long.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Lines that compress as configuration does.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 64);
        while bytes.len() < len {
            let word = self.number();
            let line = format!("{} = {};\n", word % 977, word >> 20 & 0xfff);
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Words with zeroes in their middle, which compress as programs do.
    pub fn sparse_words(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&(self.number() & 0x00ff_ffff_0000_ffff).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Fills directories with so many files of so many bytes each, in each of them.
///
/// # Errors
/// What the file system refuses.
pub fn fill(dir: &Path, directories: usize, files: usize, len: usize) -> Result<()> {
    let mut noise = Noise::default();
    for directory in 0..directories {
        let dir = dir.join(format!("directory {directory}"));
        fs::create_dir_all(&dir)?;
        for file in 0..files {
            fs::write(dir.join(format!("kernel-module-{file}.ko")), noise.bytes(len))?;
        }
    }
    Ok(())
}

/// Makes something like a root file system, the same on every machine: 10,000 files with 338 MB in
/// 1,100 directories, half of them text; few are long, most are short, some may be executed or are
/// empty; and 500 symbolic links.
///
/// # Errors
/// What the file system refuses.
pub fn fill_root(dir: &Path) -> Result<()> {
    let mut noise = Noise::default();
    for number in 0..10_000_usize {
        let (group, file) = (number / 100, number % 100);
        let dir = dir.join(format!("usr/lib/group-{group}/part-{}", file / 10));
        let path = dir.join(format!("kernel-module-{file}.ko"));
        if file.is_multiple_of(10) {
            fs::create_dir_all(&dir)?;
        }
        let len = match file {
            0 => 1_500_000,
            1..=9 => 120_000,
            99 => 0,
            _ => 8_000 + usize::try_from(noise.number() % 2_000)?,
        };
        let bytes =
            if number.is_multiple_of(2) { noise.text(len) } else { noise.sparse_words(len) };
        fs::write(&path, bytes)?;
        let mode = if file % 7 == 3 { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if number.is_multiple_of(20) {
            symlink(format!("kernel-module-{file}.ko"), dir.join(format!("alias-{file}.ko")))?;
        }
    }
    Ok(())
}

/// A tree to pack: the given one, or [`fill_root`]'s, made in a directory.
///
/// # Errors
/// What the file system refuses.
pub fn root(given: Option<&Path>, dir: &Path) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let made = dir.join("tree");
    fill_root(&made)?;
    Ok(made)
}
