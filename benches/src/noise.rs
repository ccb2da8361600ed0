//! Files to pack: bytes that look arbitrary and are the same in every run.

use std::fs;
use std::path::Path;

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
