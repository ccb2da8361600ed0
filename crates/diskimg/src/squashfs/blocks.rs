//! Blocks of files.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use super::{BLOCK, Options, STORED};
use crate::Result;
use crate::content::Sink;
use crate::erofs::compress::Spooler;
use crate::erofs::feed::{self, Piece};
use crate::erofs::outline::Outline;
use crate::field::{index, narrow32};

/// Where a file's blocks are.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) start: u64,
    /// Lengths as the inode has them; 0 for zeroes.
    pub(super) lengths: Vec<u32>,
    /// Bytes that are zeroes and not stored.
    pub(super) holes: u64,
}

/// What became of a unit.
#[derive(Default)]
struct Packed {
    read: Vec<u8>,
    bytes: Vec<u8>,
    /// By block: as [`Blocks::lengths`], and the bytes that are not stored.
    lengths: Vec<(u32, u64)>,
}

pub(super) fn write<S: Write + Seek>(
    outline: &Outline,
    options: &Options,
    spooler: &mut Spooler<'_, S>,
) -> Result<BTreeMap<u32, Blocks>> {
    let (files, _) = outline.order();
    let units = feed::units(outline, &files, feed::UNIT, feed::UNIT);
    let work = |unit: &Vec<Piece>, packed: &mut Packed| {
        packed.bytes.clear();
        packed.lengths.clear();
        for piece in unit {
            packed.read.clear();
            feed::append(outline, piece, &mut packed.read)?;
            for block in packed.read.chunks(index(BLOCK)) {
                if block.iter().all(|byte| *byte == 0) {
                    packed.lengths.push((0, block.len() as u64));
                    continue;
                }
                let smaller = lz4_flex::block::compress(block);
                let (bytes, flag) = if smaller.len() < block.len() {
                    (smaller.as_slice(), 0)
                } else {
                    (block, STORED)
                };
                packed.bytes.extend_from_slice(bytes);
                packed.lengths.push((narrow32(bytes.len() as u64) | flag, 0));
            }
        }
        Ok(())
    };
    let mut all: BTreeMap<u32, Blocks> = BTreeMap::new();
    crate::parallel::in_order(
        crate::parallel::threads(options.threads),
        &units,
        work,
        |unit, packed| {
            let mut next = spooler.position;
            spooler.data(&packed.bytes)?;
            let mut lengths = packed.lengths.iter();
            for piece in unit {
                let blocks = all.entry(piece.item).or_default();
                if piece.from == 0 {
                    blocks.start = next;
                }
                for (length, hole) in lengths.by_ref().take(index(piece.len.div_ceil(BLOCK))) {
                    blocks.lengths.push(*length);
                    blocks.holes += hole;
                    next += u64::from(length & !STORED);
                }
            }
            Ok(())
        },
    )?;
    Ok(all)
}
