//! Written as a stream (`streamOptimized`), as ovftool makes it and vSphere's content library wants it:
//! header without a directory, descriptor, compressed grains in the disk's order with each grain table
//! after its grains, then grain directory, footer (the header again, now with the directory's place)
//! and the end of the stream. Nothing is written out of order, so the writer need not seek.

use std::io::Write;

use super::{
    AT_END, Adapter, CHECKED, COMPRESSED, DESCRIPTOR_AT, DESCRIPTOR_SECTORS, GRAIN, GT_SECTORS,
    GTES, Header, MARKERS, check_len, geometry, io,
};
use crate::Result;
use crate::container::options::Options;
use crate::container::out::Out;
use crate::container::parallel::{Packed, Piece};
use crate::field::{index, narrow32, put};
use crate::units::SECTOR;

/// What a marker says comes next.
#[derive(Debug, Clone, Copy)]
enum Marker {
    EndOfStream = 0,
    Table = 1,
    Directory = 2,
    Footer = 3,
}

pub(crate) struct Writer<W: Write> {
    out: Out<W>,
    header: Header,
    directory: Vec<u32>,
    /// The grain table in the making: its number and its entries.
    table: Option<(u64, Vec<u8>)>,
}

/// VMware's number for "tools are installed and not managed by the host".
const TOOLS_VERSION: u32 = 2_147_483_647;

/// The text that describes the disk.
fn descriptor(capacity: u64, options: &Options) -> String {
    let adapter = options.adapter.unwrap_or(Adapter::LsiLogic);
    let (cylinders, heads, sectors) = geometry(capacity, adapter);
    let id = options.seed.guid("vmdk content").to_string().replace('-', "");
    // The short identifier is the long one's end; ffffffff would mean "none".
    let short = id.get(24..).filter(|id| *id != "ffffffff").unwrap_or("fffffffe");
    format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={short}\nparentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\n# Extent description\n\
         RW {capacity} SPARSE \"disk.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.adapterType = \"{adapter}\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\nddb.geometry.heads = \"{heads}\"\n\
         ddb.geometry.sectors = \"{sectors}\"\nddb.longContentID = \"{id}\"\n\
         ddb.toolsInstallType = \"4\"\nddb.toolsVersion = \"{TOOLS_VERSION}\"\n\
         ddb.virtualHWVersion = \"10\"\n"
    )
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(writer: W, len: u64, options: &Options) -> Result<Self> {
        check_len(len)?;
        let capacity = len.div_ceil(SECTOR);
        let header = Header {
            version: 3,
            flags: CHECKED | COMPRESSED | MARKERS,
            capacity,
            rgd: 0,
            gd: AT_END,
            data: GRAIN,
        };
        let mut head = vec![0; index(header.data * SECTOR)];
        put(&mut head, 0, &header.bytes());
        let text = descriptor(capacity, options);
        debug_assert!(text.len() as u64 <= DESCRIPTOR_SECTORS * SECTOR);
        put(&mut head, index(DESCRIPTOR_AT * SECTOR), text.as_bytes());
        let mut out = Out::new(writer, "write the vmdk image");
        out.write(&head)?;
        let tables = capacity.div_ceil(GRAIN * GTES);
        Ok(Self { out, header, directory: vec![0; index(tables)], table: None })
    }

    /// Writes the marker for so many sectors; gives the sector after it.
    fn mark(&mut self, marker: Marker, sectors: u64) -> Result<u64> {
        let mut bytes = [0; 512];
        put(&mut bytes, 0, &sectors.to_le_bytes());
        put(&mut bytes, 12, &(marker as u32).to_le_bytes());
        self.out.write(&bytes)?;
        Ok(self.out.position() / SECTOR)
    }

    fn write_padded(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write(bytes)?;
        let over = bytes.len() as u64 % SECTOR;
        let padding = if over == 0 { 0 } else { SECTOR - over };
        self.out.write([0; 512].get(..index(padding)).unwrap_or_default())
    }

    fn finish_table(&mut self) -> Result<()> {
        if let Some((number, entries)) = self.table.take() {
            let at = self.mark(Marker::Table, GT_SECTORS)?;
            if let Some(entry) = self.directory.get_mut(index(number)) {
                *entry = narrow32(at);
            }
            self.write_padded(&entries)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.finish_table()?;
        let directory: Vec<u8> =
            self.directory.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        let sectors = (directory.len() as u64).div_ceil(SECTOR);
        self.header.gd = self.mark(Marker::Directory, sectors)?;
        self.write_padded(&directory)?;
        self.mark(Marker::Footer, 1)?;
        let footer = self.header.bytes();
        self.out.write(&footer)?;
        self.mark(Marker::EndOfStream, 0)?;
        self.out.finish().map_err(io)
    }
}

impl<W: Write> Packed for Writer<W> {
    fn put(&mut self, block: u64, piece: Piece<'_>) -> Result<()> {
        let number = block / GTES;
        if self.table.as_ref().is_some_and(|(at, _)| *at != number) {
            self.finish_table()?;
        }
        let at = self.out.position() / SECTOR;
        if at > u64::from(u32::MAX) {
            return Err(crate::Error::unsupported("vmdk", "an image of more than 2 TiB"));
        }
        let (_, entries) = self.table.get_or_insert_with(|| (number, vec![0; index(GTES * 4)]));
        put(entries, index(block % GTES * 4), &narrow32(at).to_le_bytes());
        // There is no other kind of grain in a stream.
        let packed = piece.packed;
        let mut marker = [0; 12];
        put(&mut marker, 0, &(block * GRAIN).to_le_bytes());
        put(&mut marker, 8, &narrow32(packed.len() as u64).to_le_bytes());
        self.out.write(&marker)?;
        self.out.write(packed)?;
        let over = self.out.position() % SECTOR;
        let padding = if over == 0 { 0 } else { SECTOR - over };
        self.out.write([0; 512].get(..index(padding)).unwrap_or_default())
    }
}
