//! A large image in few bytes: only what is not zero, and where.
//!
//! Fuzzers are fast with inputs of some kilobytes, images have megabytes of zeroes. An input is:
//!
//! | at | what |
//! |---|---|
//! | 0 | flags: with bit 0 checksums stay as they are, without it they are made right |
//! | 1 | the image's length in bytes (4, little-endian), at most 64 MiB |
//! | 5 | pieces until the end: place (4), length (2), so many bytes; later ones cover earlier ones |

use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom};

use kiln_diskimg::container::BlockSource;
use kiln_diskimg::{Error, Result};

/// Bytes before the first piece, and before the bytes of each.
pub const HEAD: usize = 5;
/// See [`HEAD`].
pub const PIECE_HEAD: usize = 6;
/// The longest image. (FAT32 has 33 MiB at least.)
const MOST: u64 = 64 << 20;
const MOST_PIECES: usize = 256;
/// How much may be read of an image: far more than any bounded reader should want.
const MOST_READ: u64 = 256 << 20;

/// An image.
#[derive(Debug, Clone, Default)]
pub struct Sparse<'input> {
    len: u64,
    pieces: Vec<(u64, Cow<'input, [u8]>)>,
    /// Whether checksums are to be made right.
    pub repaired: bool,
    position: u64,
    read: u64,
}

impl<'input> Sparse<'input> {
    /// The image that an input stands for; what makes no sense is left out.
    pub fn decode(input: &'input [u8]) -> Self {
        Self::decode_within(input, MOST)
    }

    /// The same, cut short where it is longer than so many bytes.
    pub fn decode_within(input: &'input [u8], most: u64) -> Self {
        let Some((&[flags, a, b, c, d], mut rest)) = input.split_first_chunk() else {
            return Self::default();
        };
        let len = u64::from(u32::from_le_bytes([a, b, c, d])).min(most);
        let mut pieces = Vec::new();
        while let Some((&[a, b, c, d, e, f], more)) = rest.split_first_chunk() {
            let place = u64::from(u32::from_le_bytes([a, b, c, d]));
            let wanted = usize::from(u16::from_le_bytes([e, f]));
            let (bytes, more) = more.split_at(wanted.min(more.len()));
            rest = more;
            pieces.push((place, Cow::Borrowed(bytes)));
            if pieces.len() == MOST_PIECES {
                break;
            }
        }
        Self { len, pieces, repaired: flags & 1 == 0, ..Self::default() }
    }

    /// The input that stands for an image.
    pub fn encode(image: &[u8]) -> Vec<u8> {
        let mut input = vec![0];
        input.extend(u32::try_from(image.len()).unwrap_or(u32::MAX).to_le_bytes());
        let mut at = 0;
        while let Some(found) = image[at..].iter().position(|byte| *byte != 0) {
            let start = at + found;
            let mut end = start;
            // A few zeroes cost less than another piece.
            while let Some(next) = image[end..].iter().take(24).position(|byte| *byte != 0) {
                end += next + 1;
                if end - start > 4096 {
                    break;
                }
            }
            input.extend(u32::try_from(start).unwrap_or(u32::MAX).to_le_bytes());
            input.extend(u16::try_from(end - start).unwrap_or(u16::MAX).to_le_bytes());
            input.extend_from_slice(&image[start..end]);
            at = end;
        }
        input
    }

    /// Bytes at a place; zeroes after the end.
    pub fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(at, &mut bytes);
        bytes
    }

    /// So many bytes from a place on.
    pub fn slice(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(at, &mut bytes);
        bytes
    }

    /// Covers what is there.
    pub fn put(&mut self, at: u64, bytes: &[u8]) {
        self.pieces.push((at, Cow::Owned(bytes.to_vec())));
    }

    /// All of it, as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.slice(0, usize::try_from(self.len).unwrap_or(0))
    }

    /// The image's length.
    pub fn size(&self) -> u64 {
        self.len
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) {
        buffer.fill(0);
        let end = at.saturating_add(buffer.len() as u64);
        for (place, bytes) in &self.pieces {
            let (from, to) = (at.max(*place), end.min(place + bytes.len() as u64));
            if from < to {
                let part = |start: u64| (from - start) as usize..(to - start) as usize;
                buffer[part(at)].copy_from_slice(&bytes[part(*place)]);
            }
        }
    }

    fn count(&mut self, len: usize) {
        // A page at least: small reads cost too.
        self.read += (len as u64).max(4096);
        assert!(self.read < MOST_READ, "a reader reads without bounds");
    }
}

impl BlockSource for Sparse<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            let source = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(Error::Io { action: String::from("read"), source });
        }
        self.count(buffer.len());
        self.fill(offset, buffer);
        Ok(())
    }
}

impl Read for Sparse<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.len.saturating_sub(self.position);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let part = &mut buffer[..count];
        self.count(count);
        self.fill(self.position, part);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Sparse<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
