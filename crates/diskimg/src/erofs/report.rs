//! A volume as `inspect` shows it.

use super::{Reader, superblock};
use crate::container::BlockSource;
use crate::dump::{FileReport, FileSystem};
use crate::units::ByteLen;
use crate::{Limits, Result};

/// What is in a volume; `None` when the source is none.
pub(crate) fn report(source: &mut dyn BlockSource, limits: &Limits) -> Option<Result<FileSystem>> {
    let mut magic = [0; 4];
    source.read_at(superblock::OFFSET, &mut magic).ok()?;
    (u32::from_le_bytes(magic) == superblock::MAGIC).then(|| {
        let mut reader = Reader::open(source, limits)?;
        let files = reader.list()?;
        Ok(FileSystem {
            kind: "EROFS".to_owned(),
            label: reader.label(),
            id: reader.uuid().to_string(),
            oem: String::new(),
            len: Some(ByteLen(reader.blocks().saturating_mul(reader.block_len()))),
            cluster: ByteLen(reader.block_len()),
            free: None,
            boot: Vec::new(),
            files: files
                .iter()
                .map(|file| FileReport {
                    path: file.path.to_string(),
                    directory: file.is_directory(),
                    len: file.len,
                })
                .collect(),
        })
    })
}
