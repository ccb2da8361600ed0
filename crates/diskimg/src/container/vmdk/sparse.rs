//! Written as one sparse file (`monolithicSparse`): header, descriptor, redundant grain directory with
//! its tables, grain directory with its tables, then grains of 64 KiB in the disk's order. Both
//! directories have tables of their own, as VMware makes them.

use std::io::{Seek, SeekFrom, Write};

use super::{
    Adapter, CHECKED, DESCRIPTOR_AT, DESCRIPTOR_SECTORS, GRAIN, GT_SECTORS, GTES, Header,
    REDUNDANT, check_len, geometry, io,
};
use crate::Result;
use crate::container::blocks::{BLOCK, Store};
use crate::field::{index, narrow32, put};
use crate::units::SECTOR;

/// Where things are in a file for a disk of so many grains, in sectors.
#[derive(Debug, Clone, Copy)]
struct Places {
    tables: u64,
    rgd: u64,
    gd: u64,
    data: u64,
}

impl Places {
    fn new(capacity: u64) -> Self {
        let tables = capacity.div_ceil(GRAIN * GTES);
        let directory = (tables * 4).div_ceil(SECTOR);
        let rgd = DESCRIPTOR_AT + DESCRIPTOR_SECTORS;
        let gd = rgd + directory + tables * GT_SECTORS;
        let end = gd + directory + tables * GT_SECTORS;
        Self { tables, rgd, gd, data: end.next_multiple_of(GRAIN) }
    }

    /// First sector of a table of the directory that begins there.
    fn table(self, directory: u64, table: u64) -> u64 {
        directory + (self.tables * 4).div_ceil(SECTOR) + table * GT_SECTORS
    }
}

pub(crate) struct Writer<W> {
    writer: W,
    len: u64,
    adapter: Adapter,
    places: Places,
    /// Next free sector.
    next: u64,
    /// The grain table in the making: its number and its entries.
    table: Option<(u64, Vec<u8>)>,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(mut writer: W, len: u64, adapter: Adapter) -> Result<Self> {
        check_len(len)?;
        let places = Places::new(len.div_ceil(SECTOR));
        writer.seek(SeekFrom::Start(places.data * SECTOR)).map_err(io)?;
        Ok(Self { writer, len, adapter, places, next: places.data, table: None })
    }

    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> Result<()> {
        self.writer.seek(SeekFrom::Start(sector * SECTOR)).map_err(io)?;
        self.writer.write_all(bytes).map_err(io)
    }

    /// Writes the table to both places and comes back to the grains.
    fn finish_table(&mut self) -> Result<()> {
        if let Some((number, entries)) = self.table.take() {
            for directory in [self.places.rgd, self.places.gd] {
                self.write_at(self.places.table(directory, number), &entries)?;
            }
            self.writer.seek(SeekFrom::Start(self.next * SECTOR)).map_err(io)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.finish_table()?;
        let places = self.places;
        for start in [places.rgd, places.gd] {
            let directory: Vec<u8> = (0..places.tables)
                .flat_map(|table| narrow32(places.table(start, table)).to_le_bytes())
                .collect();
            self.write_at(start, &directory)?;
        }
        if self.next == places.data {
            // Without a grain the file would end inside of its tables.
            self.write_at(places.data - 1, &[0; 512])?;
        }
        let capacity = self.len.div_ceil(SECTOR);
        let header = Header {
            version: 1,
            flags: CHECKED | REDUNDANT,
            capacity,
            rgd: places.rgd,
            gd: places.gd,
            data: places.data,
        };
        let mut head = vec![0; index((DESCRIPTOR_AT + DESCRIPTOR_SECTORS) * SECTOR)];
        put(&mut head, 0, &header.bytes());
        let descriptor = descriptor(capacity, self.adapter);
        put(&mut head, index(DESCRIPTOR_AT * SECTOR), descriptor.as_bytes());
        self.write_at(0, &head)?;
        self.writer.flush().map_err(io)?;
        Ok(self.writer)
    }
}

/// The text that describes the disk. The content identifier is fixed: it only has to differ from
/// `ffffffff` ("no parent") and to change when a base disk is changed.
fn descriptor(capacity: u64, adapter: Adapter) -> String {
    let (cylinders, heads, sectors) = geometry(capacity, adapter);
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
         createType=\"monolithicSparse\"\n\n# Extent description\n\
         RW {capacity} SPARSE \"disk.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\nddb.geometry.sectors = \"{sectors}\"\n\
         ddb.adapterType = \"{adapter}\"\n"
    )
}

impl<W: Write + Seek> Store for Writer<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let (mut block, mut bytes) = (block, bytes);
        while !bytes.is_empty() {
            let number = block / GTES;
            if self.table.as_ref().is_some_and(|(at, _)| *at != number) {
                self.finish_table()?;
            }
            let room = index(((number + 1) * GTES - block) * BLOCK);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let grains = (now.len() as u64).div_ceil(BLOCK);
            let (_, entries) = self.table.get_or_insert_with(|| (number, vec![0; index(GTES * 4)]));
            for grain in 0..grains {
                let at = index((block + grain) % GTES * 4);
                put(entries, at, &narrow32(self.next + grain * GRAIN).to_le_bytes());
            }
            self.writer.write_all(now).map_err(io)?;
            let padding = grains * BLOCK - now.len() as u64;
            self.writer.write_all(&vec![0; index(padding)]).map_err(io)?;
            self.next += grains * GRAIN;
            block += grains;
            bytes = later;
        }
        Ok(())
    }
}
