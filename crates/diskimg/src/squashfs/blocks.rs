//! Files in blocks, and what fills no block in fragments.
//!
//! A fragment is a block that the ends of several files share, short files among them; it is
//! compressed as one. In which a file's end is, and where, follows from the files' lengths and order
//! alone: it is known before a byte is read, whatever thread reads it.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use super::{BLOCK, Options, STORED};
use crate::Result;
use crate::content::Sink;
use crate::erofs::compress::Spooler;
use crate::erofs::feed::{self, Piece};
use crate::erofs::outline::Outline;
use crate::field::{index, narrow32};

/// Where a file's bytes are.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Where its first block is, in bytes from the image's start.
    pub(super) start: u64,
    /// Lengths as the inode has them; 0 for zeroes.
    pub(super) lengths: Vec<u32>,
    /// Bytes that are zeroes and not stored.
    pub(super) holes: u64,
    /// The fragment with its end, and where in it; `None` when it ends with a block.
    pub(super) end: Option<(u32, u32)>,
}

/// All that is stored of files.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// By item.
    pub(super) files: BTreeMap<u32, Blocks>,
    /// Where fragments are, and their lengths as of blocks.
    pub(super) fragments: Vec<(u64, u32)>,
}

/// What is read at once.
#[derive(Debug)]
enum Part {
    /// Whole blocks of a file.
    Blocks(Piece),
    /// The ends of files that share a fragment.
    Fragment(Vec<Piece>),
}

/// Cuts files into units of about [`feed::UNIT`] bytes.
#[derive(Debug, Default)]
struct Cutter {
    units: Vec<Vec<Part>>,
    unit: Vec<Part>,
    /// Bytes of the unit.
    len: u64,
    /// The fragment that is not full.
    open: Vec<Piece>,
    open_len: u64,
    /// How many fragments are in units.
    closed: u32,
    stored: Stored,
}

impl Cutter {
    fn add(&mut self, item: u32, len: u64) {
        let end = len % BLOCK;
        let whole = len - end;
        let mut from = 0;
        while from < whole {
            let now = feed::UNIT.min(whole - from);
            self.push(Part::Blocks(Piece { item, from, len: now, last: from + now == len }), now);
            from += now;
        }
        if end > 0 {
            if self.open_len + end > BLOCK {
                self.close();
            }
            let blocks = self.stored.files.entry(item).or_default();
            blocks.end = Some((self.closed, narrow32(self.open_len)));
            self.open.push(Piece { item, from: whole, len: end, last: true });
            self.open_len += end;
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let (pieces, len) =
                (std::mem::take(&mut self.open), std::mem::take(&mut self.open_len));
            self.push(Part::Fragment(pieces), len);
            self.closed += 1;
        }
    }

    fn push(&mut self, part: Part, len: u64) {
        self.unit.push(part);
        self.len += len;
        if self.len >= feed::UNIT {
            self.units.push(std::mem::take(&mut self.unit));
            self.len = 0;
        }
    }

    fn finish(mut self) -> (Vec<Vec<Part>>, Stored) {
        self.close();
        self.units.push(self.unit);
        (self.units, self.stored)
    }
}

/// What became of a unit.
#[derive(Default)]
struct Packed {
    read: Vec<u8>,
    bytes: Vec<u8>,
    /// By block or fragment: as [`Blocks::lengths`], and the bytes that are not stored.
    lengths: Vec<(u32, u64)>,
}

impl Packed {
    fn pack(&mut self, outline: &Outline, unit: &[Part]) -> Result<()> {
        self.bytes.clear();
        self.lengths.clear();
        for part in unit {
            self.read.clear();
            match part {
                Part::Blocks(piece) => {
                    feed::append(outline, piece, &mut self.read)?;
                    for block in self.read.chunks(index(BLOCK)) {
                        self.lengths.push(if block.iter().all(|byte| *byte == 0) {
                            (0, block.len() as u64)
                        } else {
                            (compress(block, &mut self.bytes), 0)
                        });
                    }
                }
                Part::Fragment(pieces) => {
                    for piece in pieces {
                        feed::append(outline, piece, &mut self.read)?;
                    }
                    self.lengths.push((compress(&self.read, &mut self.bytes), 0));
                }
            }
        }
        Ok(())
    }
}

/// Adds a block, compressed where that makes it smaller; gives its length as inodes have it.
fn compress(block: &[u8], out: &mut Vec<u8>) -> u32 {
    let (bytes, is_stored) = super::smaller(block);
    let flag = if is_stored { STORED } else { 0 };
    out.extend_from_slice(&bytes);
    narrow32(bytes.len() as u64) | flag
}

/// Compresses all files into the spool.
pub(super) fn write<S: Write + Seek>(
    outline: &Outline,
    options: &Options,
    spooler: &mut Spooler<'_, S>,
) -> Result<Stored> {
    let mut cutter = Cutter::default();
    for number in outline.order().0 {
        cutter.add(number, outline.get(number).map_or(0, |item| item.inode.len));
    }
    let (units, mut stored) = cutter.finish();
    let threads = crate::parallel::threads(options.threads);
    let work = |unit: &Vec<Part>, packed: &mut Packed| packed.pack(outline, unit);
    crate::parallel::in_order(threads, &units, work, |unit, packed| {
        let mut next = spooler.position;
        spooler.data(&packed.bytes)?;
        let mut lengths = packed.lengths.iter().copied();
        for part in unit {
            match part {
                Part::Blocks(piece) => {
                    let blocks = stored.files.entry(piece.item).or_default();
                    if piece.from == 0 {
                        blocks.start = next;
                    }
                    let count = index(piece.len.div_ceil(BLOCK));
                    for (length, hole) in lengths.by_ref().take(count) {
                        blocks.lengths.push(length);
                        blocks.holes += hole;
                        next += u64::from(length & !STORED);
                    }
                }
                Part::Fragment(_) => {
                    let (length, _) = lengths.next().unwrap_or_default();
                    stored.fragments.push((next, length));
                    next += u64::from(length & !STORED);
                }
            }
        }
        Ok(())
    })?;
    Ok(stored)
}
