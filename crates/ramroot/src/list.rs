//! Lists of chunks, as text:
//!
//! ```text
//! kiln-chunks 1
//! system hashios
//! version 0.1.0
//! file hashios-root.tar.xz
//! kind tar.xz
//! size 1310720
//! unpacked 4194304
//! chunk 1048576
//! 30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58
//! 5647f05ec18958947d32874eeb788fa396a05d0bab7c1b71f112ceb7e9b31eee
//! signature 9f86…
//! ```
//!
//! Every line ends with a newline, the last one too. The digests are those of SHA-256, a line for each chunk in
//! order; all chunks are `chunk` bytes long but for the last one. The signature is of all lines before its own,
//! 64 bytes in hexadecimal.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::{Error, Kind, Result};

const MAGIC: &str = "kiln-chunks 1";
/// Bytes of a list that is read: enough for 256 GiB in chunks of 1 MiB.
pub const LONGEST_LIST: u64 = 17 << 20;
/// Bytes of a chunk that is read.
const CHUNKS: std::ops::RangeInclusive<u32> = (4 << 10)..=(16 << 20);
/// Bytes of a name or version.
const LONGEST_NAME: usize = 128;

/// What a file of a root is: how it is stored, for whom, and what each part of it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChunkList {
    /// The system that it is a root of.
    pub system: String,
    /// The version of that system.
    pub version: String,
    /// The name of the file.
    pub file: String,
    /// How it is stored.
    pub kind: Kind,
    /// Bytes that its files need in memory: of an archive unpacked, of a file system as it is.
    pub unpacked: u64,
    /// Bytes of the file.
    size: u64,
    /// Bytes of a chunk.
    chunk: u32,
    digests: Vec<[u8; 32]>,
}

impl ChunkList {
    /// Reads a list that somebody has signed. `verify` says whether a trusted key has signed these bytes so; nothing
    /// else of the list is looked at before.
    ///
    /// # Errors
    /// [`Error::Signature`], [`Error::List`].
    pub fn read(bytes: &[u8], verify: impl FnOnce(&[u8], &[u8; 64]) -> bool) -> Result<Self> {
        let refused = |problem: &str| Error::Signature(problem.to_owned());
        if bytes.len() as u64 > LONGEST_LIST {
            return Err(refused("it is longer than any list"));
        }
        let Some(before) = bytes.strip_suffix(b"\n") else {
            return Err(refused("it does not end with a whole line"));
        };
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (signed, last) = before.split_at(start);
        let hex =
            last.strip_prefix(b"signature ").ok_or_else(|| refused("nobody has signed it"))?;
        let signature = unhex::<64>(hex).ok_or_else(|| refused("the signature is none"))?;
        if !verify(signed, &signature) {
            return Err(refused(
                "the signature is of something else, or by a key that is not trusted here",
            ));
        }
        Self::parse(signed)
    }

    fn parse(signed: &[u8]) -> Result<Self> {
        let at = |line, problem: String| Error::List { line, problem };
        let text = std::str::from_utf8(signed).map_err(|_| at(1, "it is no text".into()))?;
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(first, _)| first != MAGIC) {
            return Err(at(1, format!("it has to be {MAGIC:?}")));
        }
        let mut field = |name: &str| -> Result<(&str, usize)> {
            let (line, number) = lines.next().unwrap_or(("", 0));
            let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
            value
                .map(|value| (value, number))
                .ok_or_else(|| at(number, format!("{name} is missing")))
        };
        let system = field("system").and_then(name)?;
        let version = field("version").and_then(name)?;
        let file = field("file").and_then(name)?;
        if file.contains('/') || file.starts_with('.') {
            return Err(at(4, "it is no name of a file".into()));
        }
        let (kind, number) = field("kind")?;
        let kind = kind.parse().map_err(|problem| at(number, problem))?;
        let size: u64 = field("size").and_then(number_of)?;
        let unpacked = field("unpacked").and_then(number_of)?;
        let (chunk, number) = field("chunk")?;
        let chunk: u32 = number_of((chunk, number))?;
        if !CHUNKS.contains(&chunk) {
            let (least, most) = CHUNKS.into_inner();
            return Err(at(number, format!("chunks have {least} to {most} bytes")));
        }
        if size == 0 {
            return Err(at(6, "there is nothing in it".into()));
        }
        let expected = size.div_ceil(u64::from(chunk));
        let mut digests = Vec::new();
        for (line, number) in lines {
            if digests.len() as u64 == expected {
                return Err(at(
                    number,
                    format!("there are {expected} chunks, and this is one more"),
                ));
            }
            let digest = unhex(line.as_bytes());
            digests.push(digest.ok_or_else(|| at(number, "it is no digest".into()))?);
        }
        if digests.len() as u64 != expected {
            let problem = format!("{} digests, of {expected} chunks", digests.len());
            return Err(at(digests.len() + 9, problem));
        }
        Ok(Self { system, version, file, kind, unpacked, size, chunk, digests })
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { system, version, file, kind, unpacked, size, chunk, digests } = self;
        let mut text = format!(
            "{MAGIC}\nsystem {system}\nversion {version}\nfile {file}\nkind {kind}\nsize {size}\n\
             unpacked {unpacked}\nchunk {chunk}\n"
        );
        for digest in digests {
            hex(&mut text, digest);
            text.push('\n');
        }
        text
    }

    /// The whole list, as [`read`](Self::read) takes it, signed by what gives a signature of bytes.
    #[must_use]
    pub fn signed(&self, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> String {
        let mut text = self.text();
        let signature = sign(text.as_bytes());
        text.push_str("signature ");
        hex(&mut text, &signature);
        text.push('\n');
        text
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.digests.len()
    }

    /// Where a chunk begins, and how long it is. None beyond the last one.
    #[must_use]
    pub fn chunk(&self, index: usize) -> Option<(u64, usize)> {
        self.digests.get(index)?;
        let start = index as u64 * u64::from(self.chunk);
        let len = u64::from(self.chunk).min(self.size - start);
        Some((start, usize::try_from(len).unwrap_or(usize::MAX)))
    }

    /// Whether these bytes are that chunk.
    #[must_use]
    pub fn is_chunk(&self, index: usize, bytes: &[u8]) -> bool {
        self.chunk(index).is_some_and(|(_, len)| len == bytes.len())
            && self
                .digests
                .get(index)
                .is_some_and(|digest| Sha256::digest(bytes).as_slice() == digest)
    }

    /// How much memory the root needs where it is made: what is unpacked, or the file as it is.
    #[must_use]
    pub fn memory(&self) -> u64 {
        if self.kind.is_archive() { self.unpacked } else { self.size }
    }
}

/// Makes a list of what is written to it, which goes on to another writer.
#[derive(Debug)]
pub struct Chunker<W> {
    inner: W,
    chunk: u32,
    size: u64,
    hasher: Sha256,
    digests: Vec<[u8; 32]>,
}

impl<W: Write> Chunker<W> {
    /// Chunks of that many bytes, from 4 KiB to 16 MiB.
    #[must_use]
    pub fn new(inner: W, chunk: u32) -> Self {
        let chunk = chunk.clamp(*CHUNKS.start(), *CHUNKS.end());
        Self { inner, chunk, size: 0, hasher: Sha256::new(), digests: Vec::new() }
    }

    /// The writer, and the list: of `system` in `version`, as `file` of this `kind`, that needs `unpacked` bytes.
    ///
    /// # Errors
    /// [`Error::List`] for what a list has no place for: names with white space, nothing at all.
    pub fn finish(
        mut self,
        (system, version): (&str, &str),
        (file, kind): (&str, Kind),
        unpacked: u64,
    ) -> Result<(W, ChunkList)> {
        if !self.size.is_multiple_of(u64::from(self.chunk)) {
            self.digests.push(self.hasher.finalize().into());
        }
        let list = ChunkList {
            system: system.to_owned(),
            version: version.to_owned(),
            file: file.to_owned(),
            kind,
            unpacked,
            size: self.size,
            chunk: self.chunk,
            digests: self.digests,
        };
        // what cannot be read back is no list
        ChunkList::parse(list.text().as_bytes())?;
        Ok((self.inner, list))
    }
}

impl<W: Write> Write for Chunker<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        let mut rest = bytes.get(..taken).unwrap_or(bytes);
        let chunk = u64::from(self.chunk);
        while !rest.is_empty() {
            let room = chunk - self.size % chunk;
            let room = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.hasher.update(now);
            self.size += now.len() as u64;
            if self.size.is_multiple_of(chunk) {
                self.digests.push(std::mem::take(&mut self.hasher).finalize().into());
            }
            rest = later;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn name((value, line): (&str, usize)) -> Result<String> {
    let is_fine = (1..=LONGEST_NAME).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_graphic());
    let problem = || format!("names have 1 to {LONGEST_NAME} printable characters without spaces");
    is_fine.then(|| value.to_owned()).ok_or_else(|| Error::List { line, problem: problem() })
}

fn number_of<T: FromStr>((value, line): (&str, usize)) -> Result<T> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits && (value == "0" || !value.starts_with('0'));
    let number = canonical.then(|| value.parse().ok()).flatten();
    number.ok_or_else(|| Error::List { line, problem: format!("{value:?} is no such number") })
}

fn hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, two) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = *<&[u8; 2]>::try_from(two).ok()?;
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}
