//! Written compressed: clusters packed one after the other, byte by byte, each L2 table after what it
//! describes. A cluster that does not become smaller is stored as it is, which must be at a multiple
//! of the cluster size; the gap before it takes later small ones.

use std::io::{Seek, Write};

use super::{CLUSTER, CLUSTER_BITS, COMPRESSED, COPIED, Header, L2_ENTRIES, io, l1_entries};
use crate::Result;
use crate::container::out::Out;
use crate::container::parallel::{Packed, Piece};
use crate::field::{index, put};
use crate::units::SECTOR;

/// Where the number of further sectors begins in a compressed cluster's entry.
const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);

pub(crate) struct Writer<W: Write> {
    out: Out<W>,
    len: u64,
    zstd: bool,
    /// First byte that nothing was put to.
    end: u64,
    /// The largest gap that was left before a cluster: its first byte and its end.
    gap: (u64, u64),
    /// How many things every cluster of the file has in it.
    counts: Vec<u16>,
    l1: Vec<u64>,
    /// The L2 table in the making: its number and its entries.
    l2: Option<(u64, Vec<u8>)>,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(writer: W, len: u64, zstd: bool) -> Result<Self> {
        let l1 = vec![0; index(l1_entries(len)?)];
        let out = Out::new(writer, "write the qcow2 image");
        // The header's cluster.
        Ok(Self { out, len, zstd, end: CLUSTER, gap: (0, 0), counts: vec![1], l1, l2: None })
    }

    /// Counts what was put to these bytes.
    fn count(&mut self, at: u64, len: u64) {
        let (first, last) = (index(at / CLUSTER), index((at + len - 1) / CLUSTER));
        if self.counts.len() <= last {
            self.counts.resize(last + 1, 0);
        }
        for count in self.counts.get_mut(first..=last).unwrap_or_default() {
            *count += 1;
        }
    }

    fn put_packed(&mut self, bytes: &[u8]) -> Result<u64> {
        let len = bytes.len() as u64;
        let at = if len <= self.gap.1 - self.gap.0 {
            let at = self.gap.0;
            self.gap.0 += len;
            at
        } else {
            self.end += len;
            self.end - len
        };
        self.count(at, len);
        self.out.write_at(at, bytes)?;
        Ok(at)
    }

    fn put_cluster(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.end.next_multiple_of(CLUSTER);
        if at - self.end > self.gap.1 - self.gap.0 {
            self.gap = (self.end, at);
        }
        self.end = at + CLUSTER;
        self.count(at, CLUSTER);
        self.out.write_at(at, bytes)?;
        Ok(at)
    }

    fn finish_l2(&mut self) -> Result<()> {
        if let Some((number, table)) = self.l2.take() {
            let at = self.put_cluster(&table)?;
            if let Some(entry) = self.l1.get_mut(index(number)) {
                *entry = at | COPIED;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.finish_l2()?;
        let next = self.end.div_ceil(CLUSTER);
        let mut tables = Vec::new();
        let counts = &self.counts;
        let count = |cluster| counts.get(index(cluster)).copied().unwrap_or(0);
        let mut header = Header::write_tables(&mut tables, self.len, &self.l1, next, count)?;
        header.zstd = self.zstd;
        self.out.write_at(next * CLUSTER, &tables)?;
        self.out.write_at(0, &header.bytes())?;
        self.out.finish().map_err(io)
    }
}

impl<W: Write + Seek> Packed for Writer<W> {
    fn put(&mut self, block: u64, piece: Piece<'_>) -> Result<()> {
        let table = block / L2_ENTRIES;
        if self.l2.as_ref().is_some_and(|(number, _)| *number != table) {
            self.finish_l2()?;
        }
        let Piece { packed, plain } = piece;
        let entry = if packed.is_empty() || packed.len() >= plain.len() {
            self.put_cluster(plain)? | COPIED
        } else {
            let at = self.put_packed(packed)?;
            let sectors = (at + packed.len() as u64 - 1) / SECTOR - at / SECTOR;
            COMPRESSED | (sectors << SECTORS_SHIFT) | at
        };
        let (_, entries) = self.l2.get_or_insert_with(|| (table, vec![0; index(CLUSTER)]));
        put(entries, index(block % L2_ENTRIES * 8), &entry.to_be_bytes());
        Ok(())
    }
}
