//! Written as it is: header (cluster 0), data clusters in the disk's order with each L2 table after
//! the data it describes, then the L1 table, the refcount table and the refcount blocks. Every
//! cluster of the file is used exactly once, so every refcount is one.

use std::io::{Seek, SeekFrom, Write};

use super::{CLUSTER, COPIED, Header, L2_ENTRIES, io, l1_entries, pad};
use crate::Result;
use crate::container::blocks::Store;
use crate::field::{index, put};

pub(crate) struct Writer<W> {
    writer: W,
    len: u64,
    /// Next free cluster of the file.
    next: u64,
    l1: Vec<u64>,
    /// The L2 table in the making: its number and its entries.
    l2: Option<(u64, Vec<u8>)>,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(mut writer: W, len: u64) -> Result<Self> {
        let tables = l1_entries(len)?;
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

    pub(crate) fn finish(mut self) -> Result<W> {
        self.finish_l2()?;
        let header = Header::write_tables(&mut self.writer, self.len, &self.l1, self.next, |_| 1)?;
        self.writer.seek(SeekFrom::Start(0)).map_err(io)?;
        self.writer.write_all(&header.bytes()).map_err(io)?;
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
            self.writer.write_all(now).map_err(io)?;
            self.next += pad(&mut self.writer, now.len() as u64)?;
            block += clusters;
            bytes = later;
        }
        Ok(())
    }
}
