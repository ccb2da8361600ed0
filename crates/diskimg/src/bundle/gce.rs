//! What Google Compute Engine imports: `disk.raw`, a whole number of GiB, in a sparse tar of old
//! GNU's, gzipped ("Create an image from a raw disk": `tar --format=oldgnu -Sczf`).

use std::io::Write;

use super::tar;
use crate::container::{Blocks, Deflated, Options, Store};
use crate::content::Content;
use crate::units::ByteLen;
use crate::{Error, Result};

/// Holes smaller than this are stored, so that the map of a disk in shreds stays short.
const MERGE: u64 = 1 << 20;
const BLOCK: u64 = 64 << 10;
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Where the disk has something: first bytes and ends.
#[derive(Default)]
struct Ranges(Vec<(u64, u64)>);

impl Store for Ranges {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let start = block * BLOCK;
        let end = (start + bytes.len() as u64).next_multiple_of(512);
        match self.0.last_mut() {
            Some((_, last)) if start - *last < MERGE => *last = end,
            _ => self.0.push((start, end)),
        }
        Ok(())
    }
}

/// Stores the ranges one after the other.
struct Stored<'ranges, W: Write> {
    out: Deflated<W>,
    ranges: &'ranges [(u64, u64)],
    /// Up to where the first of the ranges is stored.
    position: u64,
}

fn changed() -> Error {
    Error::io("read the disk again")(std::io::Error::other("it has changed"))
}

impl<W: Write> Stored<'_, W> {
    /// Fills with zeroes up to there; only small holes and the end of the last sector are so.
    fn fill(&mut self, to: u64) -> Result<()> {
        let mut gap = to.checked_sub(self.position).ok_or_else(changed)?;
        while gap > 0 {
            let now = gap.min(BLOCK);
            self.out.write(ZEROES.get(..crate::field::index(now)).unwrap_or_default())?;
            gap -= now;
        }
        self.position = to;
        Ok(())
    }

    /// Goes on to the next range.
    fn next(&mut self) -> Result<()> {
        let Some(((_, end), later)) = self.ranges.split_first() else { return Err(changed()) };
        self.fill(*end)?;
        self.ranges = later;
        self.position = later.first().map_or(0, |(start, _)| *start);
        Ok(())
    }
}

impl<W: Write> Store for Stored<'_, W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let start = block * BLOCK;
        while self.ranges.first().is_some_and(|(_, end)| *end <= start) {
            self.next()?;
        }
        let end = start + bytes.len() as u64;
        match self.ranges.first() {
            Some((_, last)) if end <= *last => {}
            _ => return Err(changed()),
        }
        self.fill(start)?;
        self.out.write(bytes)?;
        self.position = end;
        Ok(())
    }
}

/// Writes Google's archive. The disk is filled up with zeroes to a whole number of GiB. Its content is
/// read twice: once for the map that the archive begins with.
///
/// # Errors
/// Those of the disk and of the writer.
pub fn write_gce<W: Write>(disk: &dyn Content, writer: W, options: &Options) -> Result<W> {
    let mut blocks = Blocks::new(Ranges::default(), disk.len(), "gce");
    disk.write_to(&mut blocks)?;
    let ranges = blocks.finish()?.0;
    let gib = ByteLen::gib(1);
    let len = ByteLen(disk.len().max(1)).align_up(gib).map_or(u64::MAX, |len| len.0);
    let mut out = Deflated::new(writer, options)?;
    out.write(&tar::sparse("disk.raw", len, &ranges))?;
    let position = ranges.first().map_or(0, |(start, _)| *start);
    let stored = Stored { out, ranges: &ranges, position };
    let mut blocks = Blocks::new(stored, disk.len(), "gce");
    disk.write_to(&mut blocks)?;
    let mut stored = blocks.finish()?;
    while !stored.ranges.is_empty() {
        stored.next()?;
    }
    let mut out = stored.out;
    out.write(&[0; 1024])?;
    out.finish()
}
