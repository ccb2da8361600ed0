//! QEMU's copy-on-write format, `docs/interop/qcow2.txt` of QEMU. Numbers are big-endian.

mod packed;
mod reader;
mod writer;

pub(crate) use packed::Writer as PackedWriter;
pub(crate) use reader::Reader;
pub(crate) use writer::Writer;

use std::io::Write;

use super::blocks::BLOCK;
use crate::field::{index, narrow32, put};
use crate::{Error, Result};

pub(crate) const MAGIC: &[u8; 4] = b"QFI\xfb";
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const _: () = assert!(CLUSTER == BLOCK);
/// Entries of an L2 table: what one cluster holds.
const L2_ENTRIES: u64 = CLUSTER / 8;
/// 16-bit counts in one cluster.
const COUNTS: u64 = CLUSTER / 2;
/// The refcount of what an entry points to is exactly one.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Version 3: the cluster reads as zeroes.
const ZERO: u64 = 1;
/// Incompatible feature: byte 104 says how clusters are compressed.
const HAS_COMPRESSION_TYPE: u64 = 1 << 3;
/// QEMU refuses larger L1 tables (`QCOW_MAX_L1_SIZE`).
const MAX_L1: u64 = 32 << 20;

fn io(source: std::io::Error) -> Error {
    Error::io("write the qcow2 image")(source)
}

/// How many L1 entries a disk needs.
fn l1_entries(len: u64) -> Result<u64> {
    let tables = len.div_ceil(CLUSTER * L2_ENTRIES);
    if tables * 8 > MAX_L1 {
        return Err(Error::unsupported("qcow2", format!("a disk of {len} bytes")));
    }
    Ok(tables)
}

/// Writes zeroes up to the next cluster; gives how many clusters so many bytes take.
fn pad(writer: &mut impl Write, bytes: u64) -> Result<u64> {
    let clusters = bytes.div_ceil(CLUSTER);
    writer.write_all(&vec![0; index(clusters * CLUSTER - bytes)]).map_err(io)?;
    Ok(clusters)
}

/// What the header says of the tables, which come last.
#[derive(Debug, Clone, Copy, Default)]
struct Header {
    len: u64,
    l1_len: u64,
    l1_at: u64,
    refcounts_at: u64,
    refcount_clusters: u64,
    /// Clusters are compressed by zstd.
    zstd: bool,
}

impl Header {
    /// Writes the L1 table, the refcount table and its blocks from cluster `next` on. The counts are
    /// those of the clusters before; `next` is where they end.
    fn write_tables(
        writer: &mut impl Write,
        len: u64,
        l1: &[u64],
        next: u64,
        counts: impl Fn(u64) -> u16,
    ) -> Result<Self> {
        let l1_at = next * CLUSTER;
        let bytes: Vec<u8> = l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        writer.write_all(&bytes).map_err(io)?;
        let table_at = next + pad(writer, bytes.len() as u64)?;
        // The refcount blocks count themselves and their table, so their number is found from below.
        let mut blocks: u64 = 1;
        let (total, table_clusters) = loop {
            let table_clusters = (blocks * 8).div_ceil(CLUSTER);
            let total = table_at + table_clusters + blocks;
            if total <= blocks * COUNTS {
                break (total, table_clusters);
            }
            blocks += 1;
        };
        let first_block = table_at + table_clusters;
        let table: Vec<u8> =
            (0..blocks).flat_map(|block| ((first_block + block) * CLUSTER).to_be_bytes()).collect();
        writer.write_all(&table).map_err(io)?;
        pad(writer, table.len() as u64)?;
        for block in 0..blocks {
            let first = block * COUNTS;
            let used = total.saturating_sub(first).min(COUNTS);
            let block: Vec<u8> = (first..first + used)
                .flat_map(|cluster| if cluster < next { counts(cluster) } else { 1 }.to_be_bytes())
                .collect();
            writer.write_all(&block).map_err(io)?;
            pad(writer, block.len() as u64)?;
        }
        Ok(Self {
            len,
            l1_len: l1.len() as u64,
            l1_at,
            refcounts_at: table_at * CLUSTER,
            refcount_clusters: table_clusters,
            zstd: false,
        })
    }

    /// The header; eight zeroes after it end the list of extensions.
    fn bytes(self) -> [u8; 120] {
        let mut header = [0; 120];
        put(&mut header, 0, MAGIC);
        put(&mut header, 4, &3_u32.to_be_bytes());
        put(&mut header, 20, &CLUSTER_BITS.to_be_bytes());
        put(&mut header, 24, &self.len.to_be_bytes());
        put(&mut header, 36, &narrow32(self.l1_len).to_be_bytes());
        put(&mut header, 40, &self.l1_at.to_be_bytes());
        put(&mut header, 48, &self.refcounts_at.to_be_bytes());
        put(&mut header, 56, &narrow32(self.refcount_clusters).to_be_bytes());
        // 2⁴ = 16 bits per refcount; then the length of the header.
        put(&mut header, 96, &4_u32.to_be_bytes());
        let header_len: u32 = if self.zstd { 112 } else { 104 };
        put(&mut header, 100, &header_len.to_be_bytes());
        if self.zstd {
            put(&mut header, 72, &HAS_COMPRESSION_TYPE.to_be_bytes());
            put(&mut header, 104, &[1]);
        }
        header
    }
}
