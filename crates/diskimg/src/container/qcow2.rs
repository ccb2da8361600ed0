//! QEMU's copy-on-write format, `docs/interop/qcow2.txt` of QEMU. Numbers are big-endian.
//!
//! Written: header (cluster 0), data clusters in the disk's order with each L2 table after the data
//! it describes, then the L1 table, the refcount table and the refcount blocks. Every cluster of
//! the file is used exactly once, so every refcount is one.

use std::io::{Read, Seek, SeekFrom, Write};

use super::blocks::{BLOCK, Store};
use super::source::{BlockSource, check_range, read_exact_at};
use crate::field::{index, narrow32, put, u32_be, u64_be};
use crate::{Error, Limits, Result};

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
const HEADER_LEN: u32 = 104;
/// QEMU refuses larger L1 tables (`QCOW_MAX_L1_SIZE`).
const MAX_L1: u64 = 32 << 20;

pub(crate) struct Writer<W> {
    writer: W,
    len: u64,
    /// Next free cluster of the file.
    next: u64,
    l1: Vec<u64>,
    /// The L2 table in the making: its number and its entries.
    l2: Option<(u64, Vec<u8>)>,
}

fn io(source: std::io::Error) -> Error {
    Error::io("write the qcow2 image")(source)
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(mut writer: W, len: u64) -> Result<Self> {
        let tables = len.div_ceil(CLUSTER * L2_ENTRIES);
        if tables * 8 > MAX_L1 {
            return Err(Error::unsupported("qcow2", format!("a disk of {len} bytes")));
        }
        // The header comes last, when everything it points to is there.
        writer.seek(SeekFrom::Start(CLUSTER)).map_err(io)?;
        Ok(Self { writer, len, next: 1, l1: vec![0; index(tables)], l2: None })
    }

    fn finish_l2(&mut self) -> Result<()> {
        if let Some((number, table)) = self.l2.take() {
            if let Some(entry) = self.l1.get_mut(index(number)) {
                *entry = (self.next * CLUSTER) | COPIED;
            }
            self.writer.write_all(&table).map_err(io)?;
            self.next += 1;
        }
        Ok(())
    }

    fn write_padded(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.next * CLUSTER;
        let clusters = (bytes.len() as u64).div_ceil(CLUSTER);
        self.writer.write_all(bytes).map_err(io)?;
        let padding = clusters * CLUSTER - bytes.len() as u64;
        self.writer.write_all(&vec![0; index(padding)]).map_err(io)?;
        self.next += clusters;
        Ok(at)
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.finish_l2()?;
        let l1: Vec<u8> = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        let l1_at = self.write_padded(&l1)?;
        // The refcount blocks count themselves and their table, so their number is found from below.
        let mut blocks: u64 = 1;
        let (total, table_clusters) = loop {
            let table_clusters = (blocks * 8).div_ceil(CLUSTER);
            let total = self.next + table_clusters + blocks;
            if total <= blocks * COUNTS {
                break (total, table_clusters);
            }
            blocks += 1;
        };
        let table_at = self.next * CLUSTER;
        let first_block = self.next + table_clusters;
        let table: Vec<u8> =
            (0..blocks).flat_map(|block| ((first_block + block) * CLUSTER).to_be_bytes()).collect();
        self.write_padded(&table)?;
        for block in 0..blocks {
            let used = total.saturating_sub(block * COUNTS).min(COUNTS);
            let counts: Vec<u8> = (0..used).flat_map(|_| 1_u16.to_be_bytes()).collect();
            self.write_padded(&counts)?;
        }
        let mut header = [0; 112];
        put(&mut header, 0, MAGIC);
        put(&mut header, 4, &3_u32.to_be_bytes());
        put(&mut header, 20, &CLUSTER_BITS.to_be_bytes());
        put(&mut header, 24, &self.len.to_be_bytes());
        put(&mut header, 36, &narrow32(self.l1.len() as u64).to_be_bytes());
        put(&mut header, 40, &l1_at.to_be_bytes());
        put(&mut header, 48, &table_at.to_be_bytes());
        put(&mut header, 56, &narrow32(table_clusters).to_be_bytes());
        // 2⁴ = 16 bits per refcount; then the length of the header. The eight zeroes after it end
        // the list of extensions.
        put(&mut header, 96, &4_u32.to_be_bytes());
        put(&mut header, 100, &HEADER_LEN.to_be_bytes());
        self.writer.seek(SeekFrom::Start(0)).map_err(io)?;
        self.writer.write_all(&header).map_err(io)?;
        self.writer.flush().map_err(io)?;
        Ok(self.writer)
    }
}

impl<W: Write + Seek> Store for Writer<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let (mut block, mut bytes) = (block, bytes);
        while !bytes.is_empty() {
            // As many clusters as one L2 table has entries for.
            let table = block / L2_ENTRIES;
            if self.l2.as_ref().is_some_and(|(number, _)| *number != table) {
                self.finish_l2()?;
            }
            let room = index((table + 1) * L2_ENTRIES - block).saturating_mul(index(CLUSTER));
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let clusters = (now.len() as u64).div_ceil(CLUSTER);
            let (_, entries) = self.l2.get_or_insert_with(|| (table, vec![0; index(CLUSTER)]));
            for cluster in 0..clusters {
                let at = index((block + cluster) % L2_ENTRIES * 8);
                let entry = ((self.next + cluster) * CLUSTER) | COPIED;
                put(entries, at, &entry.to_be_bytes());
            }
            self.write_padded(now)?;
            block += clusters;
            bytes = later;
        }
        Ok(())
    }
}

pub(crate) struct Reader<R> {
    reader: R,
    file_len: u64,
    len: u64,
    cluster_bits: u32,
    /// Bytes of an L2 table's part that is held at once.
    l1: Vec<u64>,
    l2: Option<(u64, Vec<u8>)>,
}

fn malformed(offset: u64, reason: impl Into<String>) -> Error {
    Error::malformed("qcow2", offset, reason)
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn open(mut reader: R, file_len: u64, limits: &Limits) -> Result<Self> {
        let mut header = [0; 104];
        let have = index(file_len.min(104));
        read_exact_at(&mut reader, 0, header.get_mut(..have).unwrap_or_default())?;
        let word = |at| u32_be(&header, at).unwrap_or(0);
        let number = |at| u64_be(&header, at).unwrap_or(0);
        let version = word(4);
        let needed = if version == 2 { 72 } else { 104 };
        if have < needed {
            let reason = format!("the image ends inside of its header of {needed} bytes");
            return Err(malformed(file_len, reason));
        }
        if !matches!(version, 2 | 3) {
            return Err(Error::unsupported("qcow2", format!("version {version}")));
        }
        if number(8) != 0 {
            return Err(Error::unsupported("qcow2", "a backing file"));
        }
        if word(32) != 0 {
            return Err(Error::unsupported("qcow2", "encryption"));
        }
        // Bit 0 (dirty) concerns the refcounts only, and bit 3 the kind of compression, which is
        // refused where a compressed cluster is met.
        let incompatible = if version == 3 { number(72) & !0b1001 } else { 0 };
        if incompatible != 0 {
            let what = format!("incompatible feature bits {incompatible:#x}");
            return Err(Error::unsupported("qcow2", what));
        }
        let (cluster_bits, len) = (word(20), number(24));
        if !(9..=21).contains(&cluster_bits) {
            return Err(malformed(20, format!("cluster bits {cluster_bits}, expected 9 to 21")));
        }
        let cluster = 1_u64 << cluster_bits;
        let tables = len.div_ceil(cluster * (cluster / 8));
        let (l1_len, l1_at) = (u64::from(word(36)), number(40));
        if l1_len < tables {
            let reason = format!("the L1 table has {l1_len} entries, expected {tables}");
            return Err(malformed(36, reason));
        }
        let (found, limit) = (tables.saturating_mul(8), limits.tables.min(MAX_L1));
        if found > limit {
            return Err(Error::Limit { format: "qcow2", what: "L1 table", found, limit });
        }
        let mut reader = Self { reader, file_len, len, cluster_bits, l1: Vec::new(), l2: None };
        let mut bytes = vec![0; index(reader.inside("the L1 table", l1_at, found)?)];
        read_exact_at(&mut reader.reader, l1_at, &mut bytes)?;
        reader.l1 = bytes.chunks_exact(8).filter_map(|entry| u64_be(entry, 0)).collect();
        reader.check_refcounts(number(48), u64::from(word(56)).saturating_mul(cluster), limits)?;
        Ok(reader)
    }

    /// Fails when the refcounts are not in the file. Reading does not need them, but writers put
    /// them last, so that their absence tells an image that was cut short.
    fn check_refcounts(&mut self, at: u64, len: u64, limits: &Limits) -> Result<()> {
        let (found, limit) = (len, limits.tables);
        if found > limit {
            return Err(Error::Limit { format: "qcow2", what: "refcount table", found, limit });
        }
        let mut table = vec![0; index(self.inside("the refcount table", at, len)?)];
        read_exact_at(&mut self.reader, at, &mut table)?;
        let cluster = 1_u64 << self.cluster_bits;
        for entry in table.chunks_exact(8).filter_map(|entry| u64_be(entry, 0)) {
            if entry & OFFSET != 0 {
                self.inside("a refcount block", entry & OFFSET, cluster)?;
            }
        }
        Ok(())
    }

    /// The length, when the file has so many bytes there.
    fn inside(&self, what: &str, offset: u64, len: u64) -> Result<u64> {
        if offset.checked_add(len).is_some_and(|end| end <= self.file_len) {
            return Ok(len);
        }
        let reason = format!(
            "{what} of {len} bytes should be here, but the image is cut short: it has {} bytes",
            self.file_len
        );
        Err(malformed(offset, reason))
    }

    /// Where a cluster of the disk is in the file; `None` when it is all zeroes.
    fn locate(&mut self, cluster: u64) -> Result<Option<u64>> {
        let size = 1_u64 << self.cluster_bits;
        let (table, slot) = (cluster / (size / 8), cluster % (size / 8));
        let l2_at = self.l1.get(index(table)).copied().unwrap_or(0) & OFFSET;
        if l2_at == 0 {
            return Ok(None);
        }
        if self.l2.as_ref().is_none_or(|(at, _)| *at != l2_at) {
            let mut bytes = vec![0; index(self.inside("an L2 table", l2_at, size)?)];
            read_exact_at(&mut self.reader, l2_at, &mut bytes)?;
            self.l2 = Some((l2_at, bytes));
        }
        let entry = self.l2.as_ref().and_then(|(_, bytes)| u64_be(bytes, index(slot * 8)));
        let entry = entry.unwrap_or(0);
        if entry & COMPRESSED != 0 {
            return Err(Error::unsupported("qcow2", "a compressed cluster"));
        }
        Ok(Some(entry & OFFSET).filter(|at| *at != 0 && entry & ZERO == 0))
    }
}

impl<R: Read + Seek> BlockSource for Reader<R> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range("qcow2 disk", offset, buffer.len(), self.len)?;
        let size = 1_u64 << self.cluster_bits;
        let mut position = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = position % size;
            let count = index(size - within).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            match self.locate(position / size)? {
                // The file's last cluster may end with the disk.
                Some(at) => {
                    self.inside("a cluster", at + within, now.len() as u64)?;
                    read_exact_at(&mut self.reader, at + within, now)?;
                }
                None => now.fill(0),
            }
            position += count as u64;
            rest = later;
        }
        Ok(())
    }

    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        // The disk may end inside of its last cluster.
        if offset >= self.len {
            return Ok(None);
        }
        let size = 1_u64 << self.cluster_bits;
        let per_table = size / 8;
        let last = self.len.div_ceil(size);
        let mut cluster = offset / size;
        while cluster < last {
            if self.l1.get(index(cluster / per_table)).copied().unwrap_or(0) & OFFSET == 0 {
                cluster = (cluster / per_table + 1) * per_table;
                continue;
            }
            if self.locate(cluster)?.is_some() {
                let start = (cluster * size).max(offset);
                let end = ((cluster + 1) * size).min(self.len);
                return Ok(Some((start, end.saturating_sub(start))));
            }
            cluster += 1;
        }
        Ok(None)
    }
}
