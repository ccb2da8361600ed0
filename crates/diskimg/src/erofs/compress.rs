//! A compressed volume: what planning compresses goes into a spool as the volume will have it.

use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

use kiln_tree::Tree;

use super::cluster::{self, Extent};
use super::codec::Codec;
use super::feed::{self, Piece};
use super::inode::{Inode, Storage};
use super::outline::{self, Outline};
use super::place::Packer;
use super::volume::{self, Header, Options};
use super::{BLOCK, Compression};
use crate::content::{Content, Sink};
use crate::error::Problems;
use crate::field::{index, narrow32, put};
use crate::{Error, Result};

/// Blocks of metadata that are gathered before they are put into the spool.
const SEGMENT: u64 = 1024;

/// A volume whose files are compressed. Its bytes, all but the first blocks, are in a spool of the
/// caller's.
pub struct Compressed<S> {
    header: Vec<u8>,
    blocks: u64,
    spool: Mutex<S>,
}

impl<S> fmt::Debug for Compressed<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Compressed").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}

impl<S: Read + Write + Seek> Compressed<S> {
    /// Plans a volume and compresses its files, each read once. How long the volume is cannot be
    /// known before; so what is compressed goes into `spool`, which should be empty (a file without
    /// a name, or memory for small trees). Memory is taken for the inodes and for a few megabytes
    /// per thread, twice as many with [`Lz4High`](super::Algorithm::Lz4High).
    ///
    /// A file that compression does not make smaller is stored as it is.
    ///
    /// # Errors
    /// As [`Volume::plan`](super::Volume::plan), before a file is read; [`Error::Io`] of the files
    /// and of the spool.
    pub fn plan(
        tree: &Tree,
        options: &Options,
        compression: Compression,
        mut spool: S,
    ) -> Result<Self> {
        let mut problems = Problems(Vec::new());
        let mut outline = Outline::new(tree, options.build_time, outline::EROFS, &mut problems.0);
        options.check(&mut problems.0);
        compression.check(&mut problems.0);
        problems.check("erofs volume")?;
        let (features, configs) = compression.features();
        let header = Header::new(&outline, features, &configs);
        let mut spooler = Spooler { spool: &mut spool, position: 0 };
        spooler.hole(header.blocks() * BLOCK)?;
        let threads = crate::parallel::threads(options.threads);
        let (files, rest) = outline.order();
        let next = compress(&mut outline, &files, compression, threads, &mut spooler)?;
        let (segments, blocks) = volume::place(&mut outline, &rest, next, header.root);
        let mut problems = Problems(Vec::new());
        volume::check_blocks(blocks, &mut problems.0);
        problems.check("erofs volume")?;
        volume::write(&outline, &segments, threads, &mut spooler)?;
        spool.flush().map_err(Error::io("write the spool"))?;
        let header = header.emit(&outline, options, compression.algorithms(), blocks);
        Ok(Self { header, blocks, spool: Mutex::new(spool) })
    }

    /// What was spooled by another.
    #[cfg(feature = "squashfs")]
    pub(crate) fn from_parts(header: Vec<u8>, blocks: u64, spool: S) -> Self {
        Self { header, blocks, spool: Mutex::new(spool) }
    }

    /// Makes the volume of the spool itself, where that is all that is wanted: nothing is copied.
    ///
    /// # Errors
    /// [`Error::Io`] of the spool.
    pub fn into_image(self) -> Result<S> {
        let mut spool = self.spool.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = "write the start of the volume";
        spool.rewind().map_err(Error::io(failed))?;
        spool.write_all(&self.header).map_err(Error::io(failed))?;
        spool.flush().map_err(Error::io(failed))?;
        Ok(spool)
    }
}

impl<S: Read + Seek + Send> Content for Compressed<S> {
    fn len(&self) -> u64 {
        self.blocks * BLOCK
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        sink.data(&self.header)?;
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self.len() - self.header.len() as u64;
        let start = SeekFrom::Start(self.header.len() as u64);
        spool.seek(start).map_err(Error::io("read the spool"))?;
        let mut buffer = vec![0; index(feed::UNIT)];
        while left > 0 {
            let now = buffer.get_mut(..index(left.min(feed::UNIT))).unwrap_or_default();
            spool.read_exact(now).map_err(Error::io("read the spool"))?;
            sink.data(now)?;
            left -= now.len() as u64;
        }
        Ok(())
    }
}

/// Writes to a spool from its start.
pub(crate) struct Spooler<'spool, S> {
    pub(crate) spool: &'spool mut S,
    pub(crate) position: u64,
}

impl<S: Write + Seek> Sink for Spooler<'_, S> {
    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        self.spool.write_all(bytes).map_err(Error::io("write the spool"))
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        let zeroes = vec![0; index(BLOCK)];
        let mut left = len;
        while left > 0 {
            let now = left.min(BLOCK);
            self.data(zeroes.get(..index(now)).unwrap_or_default())?;
            left -= now;
        }
        Ok(())
    }
}

/// What became of a unit.
#[derive(Default)]
struct Packed {
    /// What was read of one piece; kept for its memory.
    read: Vec<u8>,
    blocks: Vec<u8>,
    tails: Vec<u8>,
    /// By piece.
    outcomes: Vec<Outcome>,
}

enum Outcome {
    /// So many blocks, and so many bytes among the tails.
    Plain {
        blocks: u64,
        tail: usize,
    },
    Compressed {
        blocks: u64,
        extents: Vec<Extent>,
    },
}

impl Packed {
    fn pack(
        &mut self,
        outline: &Outline,
        pieces: &[Piece],
        compression: &Compression,
        codec: &mut dyn Codec,
    ) -> Result<()> {
        self.blocks.clear();
        self.tails.clear();
        self.outcomes.clear();
        for piece in pieces {
            self.read.clear();
            feed::append(outline, piece, &mut self.read)?;
            let Some(item) = outline.get(piece.item) else { continue };
            let start = self.blocks.len();
            // How the item would be stored as it is, if this is all of it.
            let alone = piece.last && piece.from == 0;
            let plain = alone.then(|| item.plain(true)).map(|(_, blocks, bytes)| (blocks, bytes));
            let outcome = if alone && piece.len <= BLOCK {
                None
            } else {
                let mut extents = Vec::new();
                cluster::compress(
                    &self.read,
                    piece.from,
                    compression,
                    codec,
                    &mut self.blocks,
                    &mut extents,
                );
                let blocks = (self.blocks.len() - start) as u64 / BLOCK;
                let len = blocks * BLOCK + cluster::index_len(piece.len, compression);
                let gains = plain.is_none_or(|(blocks, bytes)| {
                    len < blocks * BLOCK + bytes.saturating_sub(item.head())
                });
                gains.then_some(Outcome::Compressed { blocks, extents })
            };
            let outcome = outcome.unwrap_or_else(|| {
                self.blocks.truncate(start);
                let (blocks, bytes) = plain.unwrap_or_default();
                let tail = index(bytes.saturating_sub(item.head()));
                let (whole, rest) = self.read.split_at(self.read.len() - tail);
                self.blocks.extend_from_slice(whole);
                self.blocks.resize(start + index(blocks * BLOCK), 0);
                self.tails.extend_from_slice(rest);
                Outcome::Plain { blocks, tail }
            });
            self.outcomes.push(outcome);
        }
        Ok(())
    }
}

/// Compresses files into the spool, metadata behind their data, part by part; gives the next block.
fn compress<S: Write + Seek>(
    outline: &mut Outline,
    files: &[u32],
    compression: Compression,
    threads: usize,
    spooler: &mut Spooler<'_, S>,
) -> Result<u64> {
    let mut part = Part::default();
    let units = feed::units(outline, files, feed::UNIT, compression.piece());
    let work = |unit: &Vec<Piece>, packed: &mut Packed| {
        packed.pack(outline, unit, &compression, &mut *compression.codec())
    };
    // Of a file of which some pieces are done.
    let mut extents: Vec<Extent> = Vec::new();
    let mut blocks_of_file = 0;
    crate::parallel::in_order(threads, &units, work, |unit, packed| {
        let mut next = spooler.position / BLOCK;
        spooler.data(&packed.blocks)?;
        let mut tails = packed.tails.as_slice();
        for (piece, outcome) in unit.iter().zip(packed.outcomes.drain(..)) {
            let Some(item) = outline.get(piece.item) else { continue };
            let mut inode = item.inode;
            match outcome {
                Outcome::Plain { blocks, tail } => {
                    inode.storage = if tail > 0 { Storage::Inline } else { Storage::Plain };
                    inode.place = if blocks > 0 { narrow32(next) } else { 0 };
                    let (tail, rest) = tails.split_at(tail.min(tails.len()));
                    tails = rest;
                    part.add(piece.item, inode, &item.xattrs, item.head(), tail);
                    next += blocks;
                }
                Outcome::Compressed { blocks, extents: found } => {
                    let start = found.first().map_or(0, |extent| extent.block);
                    extents.extend(
                        found.iter().map(|it| Extent { block: it.block - start + next, ..*it }),
                    );
                    next += blocks;
                    blocks_of_file += blocks;
                    if piece.last {
                        inode.storage = Storage::CompressedFull;
                        inode.place = narrow32(std::mem::take(&mut blocks_of_file));
                        let index = cluster::emit_index(&extents, inode.len, &compression);
                        extents.clear();
                        let after = item.head().next_multiple_of(8);
                        part.add(piece.item, inode, &item.xattrs, after, &index);
                    }
                }
            }
        }
        if part.packer.blocks() >= SEGMENT { part.close(spooler) } else { Ok(()) }
    })?;
    // Files without a byte were in no unit.
    for number in files {
        if let Some(item) = outline.get(*number).filter(|item| item.inode.len == 0) {
            part.add(*number, item.inode, &item.xattrs, item.head(), &[]);
            if part.packer.blocks() >= SEGMENT {
                part.close(spooler)?;
            }
        }
    }
    part.close(spooler)?;
    for (number, inode, offset) in part.placed {
        if let Some(item) = outline.items.get_mut(index(u64::from(number))) {
            (item.inode, item.offset) = (inode, offset);
        }
    }
    Ok(spooler.position / BLOCK)
}

/// Metadata that wait until the data before them are complete.
#[derive(Default)]
struct Part {
    packer: Packer,
    bytes: Vec<u8>,
    /// Items, as they became, at places in the part.
    items: Vec<(u32, Inode, u64)>,
    /// The same in the volume, of the parts before.
    placed: Vec<(u32, Inode, u64)>,
}

impl Part {
    /// Places an inode, with something at an offset behind it.
    fn add(&mut self, number: u32, inode: Inode, xattrs: &[u8], after: u64, bytes: &[u8]) {
        let offset = self.packer.place(after + bytes.len() as u64);
        self.bytes.resize(index(self.packer.blocks() * BLOCK), 0);
        volume::put_inode(&mut self.bytes, &inode, xattrs, offset);
        put(&mut self.bytes, index(offset + after), bytes);
        self.items.push((number, inode, offset));
    }

    fn close<S: Write + Seek>(&mut self, spooler: &mut Spooler<'_, S>) -> Result<()> {
        let start = spooler.position;
        let items = self.items.drain(..);
        self.placed.extend(items.map(|(number, inode, offset)| (number, inode, offset + start)));
        spooler.data(&self.bytes)?;
        self.bytes.clear();
        self.packer = Packer::default();
        Ok(())
    }
}
