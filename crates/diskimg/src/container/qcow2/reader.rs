//! Versions 2 and 3, any cluster size, clusters as they are or compressed by deflate or zstd.

use std::io::{Read, Seek};

use super::{COMPRESSED, COPIED, HAS_COMPRESSION_TYPE, MAX_L1, OFFSET, ZERO};
use crate::container::codec::{Unpacker, Wrapping};
use crate::container::source::{BlockSource, check_range, read_exact_at};
use crate::field::{index, u32_be, u64_be};
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

pub(crate) struct Reader<R> {
    reader: R,
    file_len: u64,
    len: u64,
    cluster_bits: u32,
    /// Bytes of an L2 table's part that is held at once.
    l1: Vec<u64>,
    l2: Option<(u64, Vec<u8>)>,
    wrapping: Wrapping,
    unpacker: Unpacker,
    packed: Vec<u8>,
    /// The cluster that was decompressed last: its entry and its bytes.
    unpacked: Option<(u64, Vec<u8>)>,
}

/// Where a cluster of the disk is in the file.
#[derive(Debug, Clone, Copy)]
enum Place {
    Zeroes,
    At(u64),
    /// The entry says where and how long it is.
    Packed(u64),
}

fn malformed(offset: u64, reason: impl Into<String>) -> Error {
    Error::malformed("qcow2", offset, reason)
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn open(mut reader: R, file_len: u64, limits: &Limits) -> Result<Self> {
        let mut header = [0; 112];
        let have = index(file_len.min(112));
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
        // Bit 0 (dirty) concerns the refcounts only, and bit 3 the kind of compression.
        let features = if version == 3 { number(72) } else { 0 };
        let incompatible = features & !(HAS_COMPRESSION_TYPE | 1);
        if incompatible != 0 {
            let what = format!("incompatible feature bits {incompatible:#x}");
            return Err(Error::unsupported("qcow2", what));
        }
        let wrapping = match header.get(104) {
            _ if features & HAS_COMPRESSION_TYPE == 0 => Wrapping::Deflate,
            Some(0) => Wrapping::Deflate,
            Some(1) => Wrapping::Zstd,
            kind => {
                let kind = kind.copied().unwrap_or(0);
                return Err(Error::unsupported("qcow2", format!("compression type {kind}")));
            }
        };
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
        let mut reader = Self {
            reader,
            file_len,
            len,
            cluster_bits,
            l1: Vec::new(),
            l2: None,
            wrapping,
            unpacker: Unpacker::default(),
            packed: Vec::new(),
            unpacked: None,
        };
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

    /// Where a cluster of the disk is in the file.
    fn locate(&mut self, cluster: u64) -> Result<Place> {
        let size = 1_u64 << self.cluster_bits;
        let (table, slot) = (cluster / (size / 8), cluster % (size / 8));
        let l2_at = self.l1.get(index(table)).copied().unwrap_or(0) & OFFSET;
        if l2_at == 0 {
            return Ok(Place::Zeroes);
        }
        if self.l2.as_ref().is_none_or(|(at, _)| *at != l2_at) {
            let mut bytes = vec![0; index(self.inside("an L2 table", l2_at, size)?)];
            read_exact_at(&mut self.reader, l2_at, &mut bytes)?;
            self.l2 = Some((l2_at, bytes));
        }
        let entry = self.l2.as_ref().and_then(|(_, bytes)| u64_be(bytes, index(slot * 8)));
        let entry = entry.unwrap_or(0);
        if entry & COMPRESSED != 0 {
            return Ok(Place::Packed(entry));
        }
        let at = entry & OFFSET;
        Ok(if at == 0 || entry & ZERO != 0 { Place::Zeroes } else { Place::At(at) })
    }

    /// Where a compressed cluster begins, and how many bytes it has at most: the sectors that it
    /// touches, which may have something else at their end.
    fn packed_range(&self, entry: u64) -> Result<(u64, u64)> {
        let shift = 62 - (self.cluster_bits - 8);
        let at = entry & ((1 << shift) - 1);
        let further = (entry & !(COPIED | COMPRESSED)) >> shift;
        let len = (further + 1) * SECTOR - at % SECTOR;
        // The file may end inside of the last sector.
        let len = len.min(self.file_len.saturating_sub(at));
        if len == 0 {
            self.inside("a compressed cluster", at, 1)?;
        }
        Ok((at, len))
    }

    /// The bytes of a compressed cluster.
    fn unpack(&mut self, entry: u64) -> Result<&[u8]> {
        if self.unpacked.as_ref().is_none_or(|(held, _)| *held != entry) {
            let (at, len) = self.packed_range(entry)?;
            self.packed.resize(index(len), 0);
            read_exact_at(&mut self.reader, at, &mut self.packed)?;
            let (_, mut bytes) = self.unpacked.take().unwrap_or_default();
            let size = 1_usize << self.cluster_bits;
            bytes.resize(size, 0);
            let found = self.unpacker.unpack(self.wrapping, &self.packed, &mut bytes)?;
            match found {
                Ok(found) if found == size => self.unpacked = Some((entry, bytes)),
                Ok(found) => {
                    let reason = format!("a compressed cluster has {found} bytes, expected {size}");
                    return Err(malformed(at, reason));
                }
                Err(error) => {
                    return Err(malformed(at, format!("a compressed cluster: {error}")));
                }
            }
        }
        Ok(self.unpacked.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default())
    }

    /// How its clusters are compressed: `None` when those of the first L2 table are not.
    pub(crate) fn compression(&mut self) -> Option<Wrapping> {
        if self.wrapping != Wrapping::Deflate {
            return Some(self.wrapping);
        }
        let per_table = (1_u64 << self.cluster_bits) / 8;
        let first = self.l1.iter().position(|entry| entry & OFFSET != 0)? as u64 * per_table;
        // An L2 table that cannot be read is reported to those who read the disk.
        self.locate(first).ok()?;
        let (_, table) = self.l2.as_ref()?;
        let mut entries = table.chunks_exact(8).filter_map(|entry| u64_be(entry, 0));
        entries.any(|entry| entry & COMPRESSED != 0).then_some(self.wrapping)
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
                Place::At(at) => {
                    self.inside("a cluster", at + within, now.len() as u64)?;
                    read_exact_at(&mut self.reader, at + within, now)?;
                }
                Place::Packed(entry) => {
                    let start = index(within);
                    let bytes = self.unpack(entry)?.get(start..start + now.len());
                    if let Some(bytes) = bytes {
                        now.copy_from_slice(bytes);
                    }
                }
                Place::Zeroes => now.fill(0),
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
            let place = self.locate(cluster)?;
            if let Place::Packed(entry) = place {
                self.packed_range(entry)?;
            }
            if !matches!(place, Place::Zeroes) {
                let start = (cluster * size).max(offset);
                let end = ((cluster + 1) * size).min(self.len);
                return Ok(Some((start, end.saturating_sub(start))));
            }
            cluster += 1;
        }
        Ok(None)
    }
}
