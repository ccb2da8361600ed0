//! The superblock that `veritysetup` writes before a tree (cryptsetup, "DM-Verity" on-disk format):
//! 512 bytes, numbers little-endian.

use super::{BLOCK, MAX_SALT, Parameters};
use crate::container::BlockSource;
use crate::field::{array, index, narrow16, narrow32, put, u16_le, u32_le, u64_le};
use crate::guid::Guid;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"verity\0\0";
const ALGORITHM: &[u8] = b"sha256";

/// The superblock as a block.
pub(super) fn emit(parameters: &Parameters, uuid: Guid) -> Vec<u8> {
    let mut block = vec![0; index(BLOCK)];
    put(&mut block, 0, MAGIC);
    // Version of the superblock, and type of the tree.
    put(&mut block, 8, &1_u32.to_le_bytes());
    put(&mut block, 12, &1_u32.to_le_bytes());
    put(&mut block, 16, &uuid.0);
    put(&mut block, 32, ALGORITHM);
    put(&mut block, 64, &narrow32(BLOCK).to_le_bytes());
    put(&mut block, 68, &narrow32(BLOCK).to_le_bytes());
    put(&mut block, 72, &parameters.data_blocks.to_le_bytes());
    put(&mut block, 80, &narrow16(parameters.salt.len() as u64).to_le_bytes());
    put(&mut block, 88, &parameters.salt);
    block
}

impl Parameters {
    /// Reads the superblock at a byte of a source, which the tree follows.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the byte that is not as it should be, [`Error::Unsupported`] for
    /// other algorithms and blocks than SHA-256 and 4096 bytes.
    pub fn read(source: &mut dyn BlockSource, offset: u64) -> Result<Self> {
        let mut bytes = [0; 512];
        source.read_at(offset, &mut bytes)?;
        let malformed =
            |at: u64, reason: &str| Error::malformed("verity", offset.saturating_add(at), reason);
        let number = |at| u32_le(&bytes, at).unwrap_or(0);
        if array(&bytes, 0) != Some(*MAGIC) {
            return Err(malformed(0, "this is no verity superblock: its magic is not there"));
        }
        if (number(8), number(12)) != (1, 1) {
            let what = format!("superblock version {}, type {}", number(8), number(12));
            return Err(Error::unsupported("verity", what));
        }
        let algorithm: [u8; 32] = array(&bytes, 32).unwrap_or_default();
        let end = algorithm.iter().position(|byte| *byte == 0).unwrap_or(32);
        let name = algorithm.get(..end).unwrap_or_default();
        if name != ALGORITHM {
            let what = format!("the algorithm {:?}", String::from_utf8_lossy(name));
            return Err(Error::unsupported("verity", what));
        }
        let blocks = (u64::from(number(64)), u64::from(number(68)));
        if blocks != (BLOCK, BLOCK) {
            let what = format!("blocks of {} and {} bytes", blocks.0, blocks.1);
            return Err(Error::unsupported("verity", what));
        }
        if !offset.is_multiple_of(BLOCK) {
            return Err(malformed(0, "the superblock does not begin a block"));
        }
        let salt_len = usize::from(u16_le(&bytes, 80).unwrap_or(0));
        if salt_len > MAX_SALT {
            return Err(malformed(80, "the salt is longer than 256 bytes"));
        }
        Ok(Self {
            data_blocks: u64_le(&bytes, 72).unwrap_or(0),
            tree_block: offset / BLOCK + 1,
            salt: bytes.get(88..88 + salt_len).unwrap_or_default().to_vec(),
        })
    }
}
