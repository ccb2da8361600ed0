//! The disk's bytes as zstd frames of 1 MiB each, with the seek table of zstd's seekable format after
//! them (`contrib/seekable_format` of zstd), so that any part can be read without the rest. Every
//! decompressor reads it as one stream.

use std::io::{Read, Seek, Write};

use super::blocks::{BLOCK, Store};
use super::codec::{Method, Packer, Unpacker, Wrapping};
use super::mapped;
use super::options::Options;
use super::out::Out;
use super::parallel::Pool;
use super::source::{BlockSource, check_range, read_exact_at};
use crate::field::{index, narrow32, u32_le};
use crate::{Error, Limits, Result};

/// A frame's.
pub(crate) const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// A frame that decompressors skip: the table.
const SKIPPED: u32 = 0x184d_2a5e;
/// The file's last word.
const SEEKABLE: u32 = 0x8f92_eab1;
/// Number of frames, descriptor, magic.
const FOOTER: u64 = 9;
const FRAME: u64 = 1 << 20;
/// Frames are large: more threads than this would hold more memory than they save time.
const MAX_THREADS: usize = 8;
/// What a frame may be unpacked to at most; it is held in memory.
const MAX_FRAME: u64 = 16 << 20;

pub(crate) struct Writer<W: Write> {
    out: Out<W>,
    pool: Pool<u64>,
    /// A frame of zeroes.
    empty: Vec<u8>,
    method: Method,
    len: u64,
    /// Compressed lengths.
    frames: Vec<u32>,
    /// The frame in the making: its number and its bytes so far.
    current: Option<(u64, Vec<u8>)>,
    /// First frame that was not handed on.
    next: u64,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(writer: W, len: u64, options: &Options) -> Result<Self> {
        let method = Method::ZstdChecked(options.zstd_level);
        method.check("raw-zst")?;
        if len.div_ceil(FRAME) > u64::from(u32::MAX) / 8 - 2 {
            return Err(Error::unsupported("raw-zst", format!("a disk of {len} bytes")));
        }
        let mut empty = Vec::new();
        Packer::new(method)?.pack(&vec![0; index(FRAME)], &mut empty)?;
        Ok(Self {
            out: Out::new(writer, "write the raw-zst image"),
            pool: Pool::new(options.threads().min(MAX_THREADS), method)?,
            empty,
            method,
            len,
            frames: Vec::new(),
            current: None,
            next: 0,
        })
    }

    fn write_empty(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            self.out.write(&self.empty)?;
            self.frames.push(narrow32(self.empty.len() as u64));
        }
        Ok(())
    }

    fn pass_on(&mut self, all: bool) -> Result<()> {
        // The tag is how many empty frames come before.
        while let Some((empty, done)) = self.pool.take(all)? {
            self.write_empty(empty)?;
            self.out.write(&done.packed)?;
            self.frames.push(narrow32(done.packed.len() as u64));
            self.pool.recycle(done);
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<()> {
        if let Some((number, bytes)) = self.current.take() {
            let mut buffer = self.pool.buffer();
            buffer.bytes = bytes;
            let len = FRAME.min(self.len - number * FRAME);
            buffer.bytes.resize(index(len), 0);
            self.pool.submit(number - self.next, buffer, index(FRAME));
            self.next = number + 1;
        }
        self.pass_on(false)
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.submit()?;
        self.pass_on(true)?;
        let frames = self.len.div_ceil(FRAME);
        let last = self.len % FRAME;
        if self.next < frames && last > 0 {
            self.write_empty(frames - self.next - 1)?;
            let mut frame = Vec::new();
            Packer::new(self.method)?.pack(&vec![0; index(last)], &mut frame)?;
            self.out.write(&frame)?;
            self.frames.push(narrow32(frame.len() as u64));
        } else {
            self.write_empty(frames - self.next)?;
        }
        let count = self.frames.len() as u64;
        let mut table = Vec::new();
        table.extend_from_slice(&SKIPPED.to_le_bytes());
        table.extend_from_slice(&narrow32(count * 8 + FOOTER).to_le_bytes());
        for (number, packed) in (0..).zip(&self.frames) {
            table.extend_from_slice(&packed.to_le_bytes());
            let len = FRAME.min(self.len - number * FRAME);
            table.extend_from_slice(&narrow32(len).to_le_bytes());
        }
        table.extend_from_slice(&narrow32(count).to_le_bytes());
        // No checksums in the table: the frames have their own.
        table.push(0);
        table.extend_from_slice(&SEEKABLE.to_le_bytes());
        self.out.write(&table)?;
        self.out.finish().map_err(Error::io("write the raw-zst image"))
    }
}

impl<W: Write> Store for Writer<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        for (number, within, part) in mapped::parts(block * BLOCK, bytes, FRAME) {
            if self.current.as_ref().is_some_and(|(current, _)| *current != number) {
                self.submit()?;
            }
            if self.current.is_none() {
                self.current = Some((number, self.pool.buffer().bytes));
            }
            if let Some((_, frame)) = &mut self.current {
                frame.resize(index(within), 0);
                frame.extend_from_slice(part);
            }
        }
        Ok(())
    }
}

pub(crate) struct Reader<R> {
    reader: R,
    len: u64,
    /// Where each frame and its bytes of the disk begin; one more for their ends.
    starts: Vec<(u64, u64)>,
    unpacker: Unpacker,
    packed: Vec<u8>,
    /// The frame that was decompressed last: its number and its bytes.
    unpacked: Option<(usize, Vec<u8>)>,
}

fn malformed(at: u64, reason: impl Into<String>) -> Error {
    Error::malformed("raw-zst", at, reason)
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn open(mut reader: R, file_len: u64, limits: &Limits) -> Result<Self> {
        let footer_at = file_len.saturating_sub(FOOTER);
        let mut footer = [0; 9];
        let have = index(file_len.min(FOOTER));
        read_exact_at(&mut reader, footer_at, footer.get_mut(..have).unwrap_or_default())?;
        if u32_le(&footer, 5) != Some(SEEKABLE) {
            let reason = "no seek table ends here: the image is cut short, or was made without one";
            return Err(malformed(footer_at, reason));
        }
        let descriptor = footer.get(4).copied().unwrap_or(0);
        if descriptor & 0x7f != 0 {
            return Err(Error::unsupported("raw-zst", format!("seek table {descriptor:#x}")));
        }
        let entry = if descriptor == 0 { 8 } else { 12 };
        let count = u64::from(u32_le(&footer, 0).unwrap_or(0));
        let (found, limit) = (count * 16, limits.tables);
        if found > limit {
            return Err(Error::Limit { format: "raw-zst", what: "seek table", found, limit });
        }
        let table_at = footer_at.checked_sub(count * entry).filter(|at| *at >= 8);
        let table_at = table_at
            .ok_or_else(|| malformed(footer_at, format!("{count} frames are not in the image")))?;
        let mut table = vec![0; index(count * entry)];
        read_exact_at(&mut reader, table_at, &mut table)?;
        let (mut at, mut len) = (0, 0);
        let mut starts = vec![(0, 0)];
        for frame in table.chunks_exact(index(entry)) {
            let packed = u64::from(u32_le(frame, 0).unwrap_or(0));
            let bytes = u64::from(u32_le(frame, 4).unwrap_or(0));
            if packed.max(bytes) > MAX_FRAME {
                let (found, limit) = (packed.max(bytes), MAX_FRAME);
                return Err(Error::Limit { format: "raw-zst", what: "a frame", found, limit });
            }
            at += packed;
            len += bytes;
            starts.push((at, len));
        }
        if at + 8 != table_at {
            let reason = format!("the frames end at byte {at}, not before the seek table");
            return Err(malformed(table_at, reason));
        }
        let (unpacker, packed) = (Unpacker::default(), Vec::new());
        Ok(Self { reader, len, starts, unpacker, packed, unpacked: None })
    }

    /// The frame that has a byte of the disk, and where in the disk it begins.
    fn frame(&mut self, position: u64) -> Result<(u64, &[u8])> {
        let number = self.starts.partition_point(|(_, start)| *start <= position).saturating_sub(1);
        let range = (self.starts.get(number).copied(), self.starts.get(number + 1).copied());
        let (Some((at, start)), Some((end, stop))) = range else {
            return Err(malformed(0, "a frame that is not in the table"));
        };
        if self.unpacked.as_ref().is_none_or(|(held, _)| *held != number) {
            self.packed.resize(index(end - at), 0);
            read_exact_at(&mut self.reader, at, &mut self.packed)?;
            let (_, mut bytes) = self.unpacked.take().unwrap_or_default();
            bytes.resize(index(stop - start), 0);
            match self.unpacker.unpack(Wrapping::Zstd, &self.packed, &mut bytes)? {
                Ok(found) if found == bytes.len() => self.unpacked = Some((number, bytes)),
                Ok(found) => {
                    let reason = format!("a frame of {found} bytes, expected {}", bytes.len());
                    return Err(malformed(at, reason));
                }
                Err(error) => return Err(malformed(at, format!("a frame: {error}"))),
            }
        }
        Ok((start, self.unpacked.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default()))
    }
}

impl<R: Read + Seek> BlockSource for Reader<R> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range("raw-zst disk", offset, buffer.len(), self.len)?;
        let mut position = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let (start, bytes) = self.frame(position)?;
            let from = bytes.get(index(position - start)..).unwrap_or_default();
            let count = from.len().min(rest.len());
            if count == 0 {
                return Err(malformed(position, "a frame without bytes"));
            }
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(from.get(..count).unwrap_or_default());
            position += count as u64;
            rest = later;
        }
        Ok(())
    }
}
