//! VirtualBox's format, version 1.1: `VDICore.h` of VirtualBox and `block/vdi.c` of QEMU. Numbers are
//! little-endian.
//!
//! Written: header, table of blocks at 1 MiB, then blocks of 1 MiB in the disk's order, each at a
//! multiple of 1 MiB.

use std::io::{Read, Seek, Write};

use super::blocks::{BLOCK as STEP, Store};
use super::mapped::{self, Mapped, Shape};
use super::options::Options;
use super::out::Out;
use super::source::{BlockSource, read_exact_at};
use crate::field::{index, narrow32, put, u32_le, u64_le};
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

/// At byte 64, after a text for people.
pub(crate) const SIGNATURE: [u8; 4] = 0xbeda_107f_u32.to_le_bytes();
const TEXT: &[u8] = b"<<< Oracle VM VirtualBox Disk Image >>>\n";
const VERSION: u32 = 0x0001_0001;
/// From byte 72 on.
const HEADER_LEN: u32 = 400;
const HEADER: usize = 512;
const DYNAMIC: u32 = 1;
const FIXED: u32 = 2;
const BLOCK: u64 = 1 << 20;
const TABLE_AT: u64 = 1 << 20;
/// A block that is not in the file; the number before it means one that was discarded.
const UNALLOCATED: u32 = 0xffff_ffff;
const DISCARDED: u32 = 0xffff_fffe;
/// QEMU refuses more (`VDI_BLOCKS_IN_IMAGE_MAX`).
const MAX_BLOCKS: u64 = 0x1fff_ffff;

pub(crate) struct Writer<W: Write> {
    out: Out<W>,
    len: u64,
    options: Options,
    data_at: u64,
    table: Vec<u32>,
    allocated: u32,
    /// Up to where the file was written.
    end: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(writer: W, len: u64, options: &Options) -> Result<Self> {
        let blocks = len.div_ceil(BLOCK);
        if blocks > MAX_BLOCKS {
            return Err(Error::unsupported("vdi", format!("a disk of {len} bytes")));
        }
        Ok(Self {
            out: Out::new(writer, "write the vdi image"),
            len,
            options: options.clone(),
            data_at: (TABLE_AT + blocks * 4).next_multiple_of(BLOCK),
            table: vec![UNALLOCATED; index(blocks)],
            allocated: 0,
            end: 0,
        })
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        let file_len = self.data_at + u64::from(self.allocated) * BLOCK;
        self.out.set_len(self.end, file_len)?;
        let mut header = [0; HEADER];
        put(&mut header, 0, TEXT);
        put(&mut header, 64, &SIGNATURE);
        let words = [
            (68, VERSION),
            (72, HEADER_LEN),
            (76, DYNAMIC),
            (340, narrow32(TABLE_AT)),
            (344, narrow32(self.data_at)),
            (360, narrow32(SECTOR)),
            (376, narrow32(BLOCK)),
            (384, narrow32(self.table.len() as u64)),
            (388, self.allocated),
        ];
        for (at, word) in words {
            put(&mut header, at, &word.to_le_bytes());
        }
        put(&mut header, 368, &self.len.next_multiple_of(SECTOR).to_le_bytes());
        // VirtualBox stores its identifiers as Windows does.
        put(&mut header, 392, &self.options.seed.guid("vdi image").to_disk());
        put(&mut header, 408, &self.options.seed.guid("vdi modification").to_disk());
        self.out.write_at(0, &header)?;
        let table: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.out.write_at(TABLE_AT, &table)?;
        self.out.finish().map_err(Error::io("write the vdi image"))
    }
}

impl<W: Write + Seek> Store for Writer<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        for (block, within, part) in mapped::parts(block * STEP, bytes, BLOCK) {
            let Some(entry) = self.table.get_mut(index(block)) else { continue };
            if *entry == UNALLOCATED {
                *entry = self.allocated;
                self.allocated += 1;
            }
            let at = self.data_at + u64::from(*entry) * BLOCK + within;
            self.out.write_at(at, part)?;
            self.end = at + part.len() as u64;
        }
        Ok(())
    }
}

pub(crate) struct Reader<R> {
    reader: R,
    shape: Shape,
    data_at: u64,
    table: Vec<u8>,
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn open(mut reader: R, file_len: u64, limits: &Limits) -> Result<Self> {
        let malformed = |at, reason: String| Error::malformed("vdi", at, reason);
        let mut header = [0; HEADER];
        if file_len < HEADER as u64 {
            let reason = "the image ends inside of its header of 512 bytes".to_owned();
            return Err(malformed(file_len, reason));
        }
        read_exact_at(&mut reader, 0, &mut header)?;
        let word = |at| u32_le(&header, at).unwrap_or(0);
        if word(68) != VERSION {
            return Err(Error::unsupported("vdi", format!("version {:#x}", word(68))));
        }
        if !matches!(word(76), DYNAMIC | FIXED) {
            return Err(Error::unsupported("vdi", format!("image type {}", word(76))));
        }
        if header.get(424..456).is_some_and(|ids| ids.iter().any(|byte| *byte != 0)) {
            return Err(Error::unsupported("vdi", "a parent image"));
        }
        let block = u64::from(word(376));
        if !block.is_power_of_two() || !(4096..=256 << 20).contains(&block) || word(380) != 0 {
            return Err(malformed(376, format!("blocks of {block} bytes, expected 1048576")));
        }
        let (len, blocks) = (u64_le(&header, 368).unwrap_or(0), u64::from(word(384)));
        if len.div_ceil(block) > blocks {
            let reason = format!("{blocks} blocks do not hold a disk of {len} bytes");
            return Err(malformed(384, reason));
        }
        let (found, limit) = (blocks * 4, limits.tables);
        if found > limit {
            return Err(Error::Limit { format: "vdi", what: "block table", found, limit });
        }
        let shape = Shape { format: "vdi", file_len, len, block };
        let table_at = u64::from(word(340));
        let mut table = vec![0; index(shape.inside("the block table", table_at, found)?)];
        read_exact_at(&mut reader, table_at, &mut table)?;
        Ok(Self { reader, shape, data_at: u64::from(word(344)), table })
    }
}

impl<R: Read + Seek> Mapped for Reader<R> {
    type File = R;

    fn shape(&self) -> Shape {
        self.shape
    }

    fn file(&mut self) -> &mut R {
        &mut self.reader
    }

    fn locate(&mut self, block: u64) -> Result<Option<u64>> {
        let entry = u32_le(&self.table, index(block.saturating_mul(4))).unwrap_or(UNALLOCATED);
        Ok((entry < DISCARDED).then(|| self.data_at + u64::from(entry) * self.shape.block))
    }
}

impl<R: Read + Seek> BlockSource for Reader<R> {
    fn len(&self) -> u64 {
        self.shape.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        mapped::read_at(self, offset, buffer)
    }

    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        mapped::next_data(self, offset)
    }
}
