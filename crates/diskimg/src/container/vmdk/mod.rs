//! VMware's hosted sparse extent in one file with its descriptor inside, "Virtual Disk Format 5.0":
//! chapter "Hosted Sparse Extents" (`monolithicSparse`) and "Stream-Optimized Compressed Sparse
//! Extents" (`streamOptimized`). Numbers are little-endian, lengths and places in sectors.

mod reader;
mod sparse;
mod stream;

pub(crate) use reader::Reader;
pub(crate) use sparse::Writer;
pub(crate) use stream::Writer as StreamWriter;

use super::blocks::BLOCK;
use super::options::Adapter;
use crate::field::{narrow32, put};
use crate::units::SECTOR;
use crate::{Error, Result};

pub(crate) const MAGIC: &[u8; 4] = b"KDMV";
const GRAIN: u64 = BLOCK / SECTOR;
/// Entries of a grain table: one covers 32 MiB.
const GTES: u64 = 512;
const GT_SECTORS: u64 = GTES * 4 / SECTOR;
const DESCRIPTOR_AT: u64 = 1;
const DESCRIPTOR_SECTORS: u64 = 20;
/// The newline check bytes are valid.
const CHECKED: u32 = 1;
/// The redundant tables are used.
const REDUNDANT: u32 = 1 << 1;
const COMPRESSED: u32 = 1 << 16;
/// What is not a grain has a marker before it.
const MARKERS: u32 = 1 << 17;
/// The grain directory is where the footer at the file's end says.
const AT_END: u64 = u64::MAX;
/// What other tools accept at most; beyond it places no longer fit into 32 bits.
const MAX_LEN: u64 = 2 << 40;

fn io(source: std::io::Error) -> Error {
    Error::io("write the vmdk image")(source)
}

fn check_len(len: u64) -> Result<()> {
    if len > MAX_LEN {
        let what = format!("a sparse disk of {len} bytes, more than 2 TiB,");
        return Err(Error::unsupported("vmdk", what));
    }
    Ok(())
}

/// The sparse extent's header.
#[derive(Debug, Clone, Copy)]
struct Header {
    version: u32,
    flags: u32,
    capacity: u64,
    rgd: u64,
    gd: u64,
    data: u64,
}

impl Header {
    fn bytes(self) -> [u8; 512] {
        let mut head = [0; 512];
        put(&mut head, 0, MAGIC);
        put(&mut head, 4, &self.version.to_le_bytes());
        put(&mut head, 8, &self.flags.to_le_bytes());
        put(&mut head, 12, &self.capacity.to_le_bytes());
        put(&mut head, 20, &GRAIN.to_le_bytes());
        put(&mut head, 28, &DESCRIPTOR_AT.to_le_bytes());
        put(&mut head, 36, &DESCRIPTOR_SECTORS.to_le_bytes());
        put(&mut head, 44, &narrow32(GTES).to_le_bytes());
        put(&mut head, 48, &self.rgd.to_le_bytes());
        put(&mut head, 56, &self.gd.to_le_bytes());
        put(&mut head, 64, &self.data.to_le_bytes());
        // A transfer that changed line ends would change these.
        put(&mut head, 73, b"\n \r\n");
        if self.flags & COMPRESSED != 0 {
            // Deflate, in a zlib wrapper.
            put(&mut head, 77, &1_u16.to_le_bytes());
        }
        head
    }
}

/// Cylinders, heads and sectors as VMware's tools choose them for an adapter.
fn geometry(capacity: u64, adapter: Adapter) -> (u64, u64, u64) {
    match adapter {
        Adapter::Ide => ((capacity / (16 * 63)).min(16_383), 16, 63),
        _ => (capacity.div_ceil(255 * 63).min(65_535), 255, 63),
    }
}
