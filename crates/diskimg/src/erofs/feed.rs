//! Reads what files consist of, in units of about equal size, so that several threads can.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};

use kiln_tree::Source;

use super::BLOCK;
use super::inode::Storage;
use super::outline::{Body, Outline};
use crate::field::index;
use crate::{Error, Result};

/// Bytes of a unit, about.
pub(crate) const UNIT: u64 = 1 << 20;

/// A part of an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) item: u32,
    /// Where in the item it begins.
    pub(crate) from: u64,
    pub(crate) len: u64,
    /// Whether it is the item's last.
    pub(crate) last: bool,
}

/// Some pieces, in the order of the volume.
pub(crate) type Unit = Vec<Piece>;

/// Cuts items into units of about `unit` bytes; files longer than `piece` bytes, a multiple of a
/// block, are cut into pieces of that length.
pub(crate) fn units(outline: &Outline, items: &[u32], unit: u64, piece: u64) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut current = Unit::new();
    let mut len = 0;
    for number in items {
        let Some(item) = outline.get(*number) else { continue };
        let whole = item.inode.len;
        if matches!(item.body, Body::Nothing) || whole == 0 {
            continue;
        }
        let at_once = if matches!(item.body, Body::File(_)) { piece } else { whole };
        let mut from = 0;
        while from < whole {
            let now = at_once.min(whole - from);
            current.push(Piece { item: *number, from, len: now, last: from + now == whole });
            from += now;
            len += now;
            if len >= unit {
                units.push(std::mem::take(&mut current));
                len = 0;
            }
        }
    }
    units.push(current);
    units
}

/// What was read of a unit.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    /// Whole blocks.
    pub(crate) blocks: Vec<u8>,
    /// The ends that follow inodes, one after the other.
    pub(crate) tails: Vec<u8>,
}

impl Filled {
    /// Reads a unit of items that are stored uncompressed.
    pub(crate) fn fill(&mut self, outline: &Outline, unit: &Unit) -> Result<()> {
        self.blocks.clear();
        self.tails.clear();
        for piece in unit {
            append(outline, piece, &mut self.blocks)?;
            if !piece.last {
                continue;
            }
            let tail = index(piece.len % BLOCK);
            if outline.get(piece.item).is_some_and(|item| item.inode.storage == Storage::Inline) {
                let whole = self.blocks.len().saturating_sub(tail);
                self.tails.extend(self.blocks.drain(whole..));
            } else if tail > 0 {
                self.blocks.resize(self.blocks.len() + index(BLOCK) - tail, 0);
            }
        }
        Ok(())
    }
}

/// Adds a piece's bytes.
pub(crate) fn append(outline: &Outline, piece: &Piece, out: &mut Vec<u8>) -> Result<()> {
    match outline.get(piece.item).map(|item| &item.body) {
        Some(Body::File(source)) => append_range(source, piece, out),
        Some(Body::Directory(..)) => {
            out.extend_from_slice(&outline.directory(piece.item));
            Ok(())
        }
        Some(Body::Symlink(target)) => {
            out.extend_from_slice(target);
            Ok(())
        }
        Some(Body::Nothing) | None => Ok(()),
    }
}

fn append_range(source: &Source, piece: &Piece, out: &mut Vec<u8>) -> Result<()> {
    let (from, len) = (index(piece.from), index(piece.len));
    let (path, planned) = match source {
        Source::File { path, len } => (path, *len),
        // In memory, or something that gives its bytes that way.
        other => {
            let bytes = other.read().map_err(Error::io("read a file of the tree"))?;
            out.extend_from_slice(bytes.get(from..from.saturating_add(len)).unwrap_or_default());
            return Ok(());
        }
    };
    let failed = |error: std::io::Error| {
        let text = format!("{}: {error}", path.display());
        Error::io("read a file of the tree")(std::io::Error::new(error.kind(), text))
    };
    let mut file = File::open(path).map_err(failed)?;
    if from > 0 {
        file.seek(SeekFrom::Start(piece.from)).map_err(failed)?;
    }
    let start = out.len();
    // A byte more than there should be tells whether the file has grown.
    out.resize(start + len + usize::from(piece.last), 0);
    let mut got = 0;
    loop {
        match file.read(out.get_mut(start + got..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    out.truncate(start + len);
    if got == len {
        return Ok(());
    }
    let found = piece.from.saturating_add(got as u64);
    let changed = kiln_tree::Error::SizeChanged { path: path.clone(), planned, found };
    Err(Error::io("read a file of the tree")(std::io::Error::new(ErrorKind::InvalidData, changed)))
}
