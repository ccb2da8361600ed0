//! A raw disk in zstd frames with a block map beside it.

use std::io::{Seek, Write};

use super::bmap::Map;
use crate::Result;
use crate::container::{Blocks, Options, RawZstWriter, Store};
use crate::content::Content;

/// Shows the blocks to the map on their way.
struct Mapped<W: Write> {
    map: Map,
    inner: RawZstWriter<W>,
}

impl<W: Write + Seek> Store for Mapped<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        self.map.data(block * (64 << 10), bytes);
        self.inner.put(block, bytes)
    }
}

/// Writes a raw disk as [`Format::RawZst`](crate::container::Format::RawZst); gives the text of its
/// block map too, for a file of the same name with `.bmap` instead of `.zst`. With it `bmaptool copy`
/// writes only what is not zero, and verifies it.
///
/// # Errors
/// Those of the disk and of the writer.
pub fn write_raw_zst<W: Write + Seek>(
    disk: &dyn Content,
    writer: W,
    options: &Options,
) -> Result<(W, String)> {
    let inner = RawZstWriter::new(writer, disk.len(), options)?;
    let mapped = Mapped { map: Map::new(disk.len()), inner };
    let mut blocks = Blocks::new(mapped, disk.len(), "raw-zst");
    disk.write_to(&mut blocks)?;
    let mapped = blocks.finish()?;
    Ok((mapped.inner.finish()?, mapped.map.finish()))
}
