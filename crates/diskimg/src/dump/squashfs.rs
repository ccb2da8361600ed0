//! A SquashFS image in a report: what its superblock says (Linux, `fs/squashfs/squashfs_fs.h`).

use super::FileSystem;
use crate::container::BlockSource;
use crate::field::array;
use crate::units::ByteLen;
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"hsqs";
/// Compressors by their number.
const COMPRESSORS: [&str; 6] = ["gzip", "lzma", "lzo", "xz", "lz4", "zstd"];

/// What is in an image; `None` when the source is none.
pub(super) fn report(source: &mut dyn BlockSource) -> Option<Result<FileSystem>> {
    let mut head = [0; 96];
    source.read_at(0, &mut head).ok()?;
    let half = |at: usize| array(&head, at).map_or(0, u16::from_le_bytes);
    let word = |at: usize| array(&head, at).map_or(0, u32::from_le_bytes);
    (head.starts_with(MAGIC) && half(28) == 4).then(|| {
        let used = array(&head, 40).map_or(0, u64::from_le_bytes);
        if used > source.len() {
            let reason = format!("{used} bytes are used, but there are {}", source.len());
            return Err(Error::malformed("squashfs", 40, reason));
        }
        let number = half(20);
        let compressor = COMPRESSORS.get(usize::from(number).wrapping_sub(1));
        let compressor = compressor.map_or_else(|| number.to_string(), |name| (*name).to_owned());
        Ok(FileSystem {
            kind: "SquashFS".to_owned(),
            label: None,
            id: format!("{compressor}, {} inodes", word(4)),
            oem: String::new(),
            len: Some(ByteLen(used)),
            cluster: ByteLen(u64::from(word(12))),
            free: None,
            boot: Vec::new(),
            files: Vec::new(),
        })
    })
}
