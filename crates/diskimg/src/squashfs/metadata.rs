//! Metadata blocks: 8 KiB each before compression, with their length before them.

use std::io::{Seek, Write};

use crate::Result;
use crate::content::Sink;
use crate::erofs::compress::Spooler;
use crate::field::narrow16;

/// Bytes of a block before compression.
pub(super) const BLOCK: usize = 8192;
/// In a block's length: it is not compressed.
const STORED: u16 = 1 << 15;

/// Where something is in a table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Where its block begins, in bytes from the table's start.
    pub(super) block: u64,
    /// Where in the block, uncompressed.
    pub(super) offset: u16,
}

impl Place {
    pub(super) fn reference(self) -> u64 {
        self.block << 16 | u64::from(self.offset)
    }
}

/// A table that is being filled.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    done: Vec<u8>,
    starts: Vec<u64>,
    open: Vec<u8>,
}

impl Metadata {
    /// Where what is added next begins, in bytes before compression from the table's start.
    pub(super) fn next(&self) -> usize {
        self.starts.len() * BLOCK + self.open.len()
    }

    /// Where the block begins that has the byte at a place as of [`Metadata::next`]. It is known as
    /// soon as the blocks before it are complete.
    pub(super) fn block_of(&self, at: usize) -> u64 {
        self.starts.get(at / BLOCK).copied().unwrap_or(self.done.len() as u64)
    }

    /// Adds something; gives where it begins.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Place {
        let offset = narrow16(self.open.len() as u64);
        let place = Place { block: self.done.len() as u64, offset };
        self.open.extend_from_slice(bytes);
        while self.open.len() >= BLOCK {
            let rest = self.open.split_off(BLOCK);
            let block = std::mem::replace(&mut self.open, rest);
            self.close(&block);
        }
        place
    }

    fn close(&mut self, block: &[u8]) {
        self.starts.push(self.done.len() as u64);
        let (bytes, is_stored) = super::smaller(block);
        let flag = if is_stored { STORED } else { 0 };
        self.done.extend_from_slice(&(narrow16(bytes.len() as u64) | flag).to_le_bytes());
        self.done.extend_from_slice(&bytes);
    }

    /// Writes the table, and behind it `head` and where each of its blocks is; gives where that
    /// begins.
    pub(super) fn write<S: Write + Seek>(
        mut self,
        spooler: &mut Spooler<'_, S>,
        head: &[u8],
    ) -> Result<u64> {
        let start = spooler.position;
        spooler.data(&self.finish())?;
        let at = spooler.position;
        spooler.data(head)?;
        for block in &self.starts {
            spooler.data(&(start + block).to_le_bytes())?;
        }
        Ok(at)
    }

    /// The table's bytes.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let block = std::mem::take(&mut self.open);
        if !block.is_empty() {
            self.close(&block);
        }
        std::mem::take(&mut self.done)
    }
}
