//! A zip archive of stored files (PKWARE's APPNOTE 6.3), whose lengths become known after them. All
//! files have zip64 fields, so that it does not matter how long they get; times are 1980's first.

use std::io::{Seek, SeekFrom, Write};

use crate::field::narrow32;
use crate::{Error, Result};

/// Zip64.
const VERSION: u16 = 45;
/// 1980-01-01 as DOS stores it.
const DATE: u16 = 0x21;
const MANY: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    at: u64,
    len: u64,
    crc32: u32,
}

pub(super) struct Writer<W> {
    writer: Option<W>,
    /// Where the next entry begins.
    end: u64,
    entries: Vec<Entry>,
}

fn io(source: std::io::Error) -> Error {
    Error::io("write the zip archive")(source)
}

fn lost() -> Error {
    io(std::io::Error::other("it is being written to"))
}

impl Entry {
    fn local_header(&self) -> Vec<u8> {
        let mut header = b"PK\x03\x04".to_vec();
        // Version, no flags, stored, time, date.
        for half in [VERSION, 0, 0, 0, DATE] {
            header.extend_from_slice(&half.to_le_bytes());
        }
        header.extend_from_slice(&self.crc32.to_le_bytes());
        // Both lengths are in the zip64 field.
        header.extend_from_slice(&MANY.to_le_bytes());
        header.extend_from_slice(&MANY.to_le_bytes());
        header.extend_from_slice(&crate::field::narrow16(self.name.len() as u64).to_le_bytes());
        header.extend_from_slice(&20_u16.to_le_bytes());
        header.extend_from_slice(self.name.as_bytes());
        for half in [1_u16, 16] {
            header.extend_from_slice(&half.to_le_bytes());
        }
        header.extend_from_slice(&self.len.to_le_bytes());
        header.extend_from_slice(&self.len.to_le_bytes());
        header
    }

    fn central_header(&self) -> Vec<u8> {
        let mut header = b"PK\x01\x02".to_vec();
        // Made by Unix (3), then as in the local header.
        for half in [VERSION | 3 << 8, VERSION, 0, 0, 0, DATE] {
            header.extend_from_slice(&half.to_le_bytes());
        }
        header.extend_from_slice(&self.crc32.to_le_bytes());
        header.extend_from_slice(&MANY.to_le_bytes());
        header.extend_from_slice(&MANY.to_le_bytes());
        header.extend_from_slice(&crate::field::narrow16(self.name.len() as u64).to_le_bytes());
        // Extra field; no comment, first disk, not text.
        for half in [28_u16, 0, 0, 0] {
            header.extend_from_slice(&half.to_le_bytes());
        }
        header.extend_from_slice(&(0o100_644_u32 << 16).to_le_bytes());
        header.extend_from_slice(&MANY.to_le_bytes());
        header.extend_from_slice(self.name.as_bytes());
        for half in [1_u16, 24] {
            header.extend_from_slice(&half.to_le_bytes());
        }
        for number in [self.len, self.len, self.at] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header
    }

    /// Where its bytes begin.
    fn data_at(&self) -> u64 {
        self.at + self.local_header().len() as u64
    }
}

impl<W: Write + Seek> Writer<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer: Some(writer), end: 0, entries: Vec::new() }
    }

    fn writer(&mut self) -> Result<&mut W> {
        self.writer.as_mut().ok_or_else(lost)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let writer = self.writer()?;
        writer.seek(SeekFrom::Start(at)).map_err(io)?;
        writer.write_all(bytes).map_err(io)
    }

    /// Keeps room for a file that is filled later; gives its number.
    pub(super) fn reserve(&mut self, name: &str, len: u64) -> Result<usize> {
        let entry = Entry { name: name.to_owned(), at: self.end, len, crc32: 0 };
        self.end = entry.data_at() + len;
        self.entries.push(entry);
        Ok(self.entries.len() - 1)
    }

    pub(super) fn fill(&mut self, number: usize, bytes: &[u8]) -> Result<()> {
        let entry = self.entries.get_mut(number).filter(|entry| entry.len == bytes.len() as u64);
        let Some(entry) = entry else {
            return Err(Error::unsupported("zip", "a file of another length than was reserved"));
        };
        entry.crc32 = crc32fast::hash(bytes);
        let (at, header) = (entry.at, entry.local_header());
        self.write_at(at, &[&header, bytes].concat())
    }

    /// Lends the writer, at the place where the file's bytes go.
    pub(super) fn begin(&mut self, name: &str) -> Result<W> {
        let entry = Entry { name: name.to_owned(), at: self.end, len: 0, crc32: 0 };
        let at = entry.data_at();
        self.entries.push(entry);
        self.writer()?.seek(SeekFrom::Start(at)).map_err(io)?;
        self.writer.take().ok_or_else(lost)
    }

    /// Takes the writer back, after so many bytes.
    pub(super) fn end(&mut self, writer: W, len: u64, crc32: u32) -> Result<()> {
        self.writer = Some(writer);
        let Some(entry) = self.entries.last_mut() else { return Err(lost()) };
        (entry.len, entry.crc32) = (len, crc32);
        let (at, header) = (entry.at, entry.local_header());
        self.end = entry.data_at() + len;
        self.write_at(at, &header)
    }

    /// Writes the directory.
    pub(super) fn finish(mut self) -> Result<W> {
        let (at, count) = (self.end, self.entries.len() as u64);
        let directory: Vec<u8> = self.entries.iter().flat_map(Entry::central_header).collect();
        let mut tail = directory.clone();
        let len = directory.len() as u64;
        // Zip64's end of the directory, the place of this, and the old one, which refers to it.
        tail.extend_from_slice(b"PK\x06\x06");
        tail.extend_from_slice(&44_u64.to_le_bytes());
        tail.extend_from_slice(&(VERSION | 3 << 8).to_le_bytes());
        tail.extend_from_slice(&VERSION.to_le_bytes());
        tail.extend_from_slice(&[0; 8]);
        for number in [count, count, len, at] {
            tail.extend_from_slice(&number.to_le_bytes());
        }
        tail.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        tail.extend_from_slice(&(at + len).to_le_bytes());
        tail.extend_from_slice(&1_u32.to_le_bytes());
        tail.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        let short = crate::field::narrow16(count).to_le_bytes();
        tail.extend_from_slice(&short);
        tail.extend_from_slice(&short);
        tail.extend_from_slice(&narrow32(len).to_le_bytes());
        tail.extend_from_slice(&MANY.to_le_bytes());
        tail.extend_from_slice(&[0; 2]);
        self.write_at(at, &tail)?;
        let mut writer = self.writer.take().ok_or_else(lost)?;
        writer.flush().map_err(io)?;
        Ok(writer)
    }
}
