//! What formats with one table of blocks have in common: a number of the disk's block leads to a
//! place in the file.

use std::io::{Read, Seek};

use super::source::{check_range, read_exact_at};
use crate::field::index;
use crate::{Error, Result};

/// A disk whose blocks are found in a table.
pub(crate) trait Mapped {
    type File: Read + Seek;

    /// Name for errors, length of the file, of the disk and of a block, in bytes.
    fn shape(&self) -> Shape;

    fn file(&mut self) -> &mut Self::File;

    /// Where a block's bytes begin in the file; `None` when it is all zeroes.
    fn locate(&mut self, block: u64) -> Result<Option<u64>>;
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) format: &'static str,
    pub(crate) file_len: u64,
    pub(crate) len: u64,
    pub(crate) block: u64,
}

impl Shape {
    /// The length, when the file has so many bytes there.
    pub(crate) fn inside(self, what: &str, offset: u64, len: u64) -> Result<u64> {
        if offset.checked_add(len).is_some_and(|end| end <= self.file_len) {
            return Ok(len);
        }
        let reason = format!(
            "{what} of {len} bytes should be here, but the image is cut short: it has {} bytes",
            self.file_len
        );
        Err(Error::malformed(self.format, offset, reason))
    }

    /// How many bytes of a block the disk has.
    fn part(self, block: u64) -> u64 {
        self.len.saturating_sub(block.saturating_mul(self.block)).min(self.block)
    }
}

pub(crate) fn read_at(disk: &mut impl Mapped, offset: u64, buffer: &mut [u8]) -> Result<()> {
    let shape = disk.shape();
    check_range(shape.format, offset, buffer.len(), shape.len)?;
    let mut position = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let (block, within) = (position / shape.block, position % shape.block);
        let count = index(shape.block - within).min(rest.len());
        let (now, later) = rest.split_at_mut(count);
        match disk.locate(block)? {
            Some(at) => {
                shape.inside("a block", at, within + count as u64)?;
                read_exact_at(disk.file(), at + within, now)?;
            }
            None => now.fill(0),
        }
        position += count as u64;
        rest = later;
    }
    Ok(())
}

/// The next block that is in the file, and those that follow it on the disk.
pub(crate) fn next_data(disk: &mut impl Mapped, offset: u64) -> Result<Option<(u64, u64)>> {
    let shape = disk.shape();
    if offset >= shape.len {
        return Ok(None);
    }
    for block in offset / shape.block..shape.len.div_ceil(shape.block) {
        if let Some(at) = disk.locate(block)? {
            // What a table promises must be there, also for those who only look at the map.
            shape.inside("a block", at, shape.part(block))?;
            let start = (block * shape.block).max(offset);
            let end = block * shape.block + shape.part(block);
            return Ok(Some((start, end.saturating_sub(start))));
        }
    }
    Ok(None)
}

/// Cuts blocks of 64 KiB where a larger block ends: its number, where in it, and the bytes.
pub(crate) fn parts(
    start: u64,
    bytes: &[u8],
    block: u64,
) -> impl Iterator<Item = (u64, u64, &[u8])> {
    let mut position = start;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (number, within) = (position / block, position % block);
        let (now, later) = rest.split_at(index(block - within).min(rest.len()));
        position += now.len() as u64;
        rest = later;
        Some((number, within, now))
    })
}
