//! One gzip member (RFC 1952) made by several threads: pieces that end at a byte, one after the other.

use std::io::Write;

use super::codec::Method;
use super::deflate::Encoder;
use super::options::Options;
use super::out::Out;
use super::parallel::{Done, Pool};
use crate::{Error, Result};

/// Bytes of a piece.
const PIECE: usize = 512 << 10;

/// Gzips what is written to it.
pub(crate) struct Deflated<W: Write> {
    out: Out<W>,
    pool: Pool<()>,
    current: Done,
    crc32: crc32fast::Hasher,
    len: u64,
}

impl<W: Write> Deflated<W> {
    pub(crate) fn new(writer: W, options: &Options) -> Result<Self> {
        let mut out = Out::new(writer, "write the gzip archive");
        // Deflate, no name, no time, no flags, made by Unix.
        out.write(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])?;
        let mut pool = Pool::new(options.threads(), Method::DeflatePart)?;
        let current = pool.buffer();
        Ok(Self { out, pool, current, crc32: crc32fast::Hasher::new(), len: 0 })
    }

    fn pass_on(&mut self, all: bool) -> Result<()> {
        while let Some(((), done)) = self.pool.take(all)? {
            self.out.write(&done.packed)?;
            self.pool.recycle(done);
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<()> {
        let next = self.pool.buffer();
        let done = std::mem::replace(&mut self.current, next);
        self.pool.submit((), done, PIECE);
        self.pass_on(false)
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.crc32.update(bytes);
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = PIECE.saturating_sub(self.current.bytes.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.current.bytes.extend_from_slice(now);
            if self.current.bytes.len() >= PIECE {
                self.submit()?;
            }
            bytes = later;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        if !self.current.bytes.is_empty() {
            self.submit()?;
        }
        self.pass_on(true)?;
        let mut tail = Vec::new();
        Encoder::new(4096).compress(&[], &mut tail);
        tail.extend_from_slice(&self.crc32.finalize().to_le_bytes());
        // The length modulo 2³².
        let len = crate::field::narrow32(self.len & u64::from(u32::MAX));
        tail.extend_from_slice(&len.to_le_bytes());
        self.out.write(&tail)?;
        self.out.finish().map_err(Error::io("write the gzip archive"))
    }
}
