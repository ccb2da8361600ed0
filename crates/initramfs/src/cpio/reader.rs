//! Archives read as a kernel reads them: several in a row, compressed or not, NULs in between.

use std::fmt;
use std::io::{self, Read};

use super::header::{Format, HEADER_LEN, Header, NAME_SIZE_MAX, S_IFLNK, S_IFREG, TRAILER, pad4};
use super::writer::add;
use crate::decode::Decoder;
use crate::{Error, Result};

/// How much a reader takes from an input that may be hostile.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// The number of entries. Default: 4 million.
    pub entries: u64,
    /// The bytes of all archives after decompression. Default: 64 GiB.
    pub unpacked: u64,
    /// The bytes of contents that [`unpack`](super::unpack) holds in memory. Default: 4 GiB.
    pub in_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 4 << 20, unpacked: 64 << 30, in_memory: 4 << 30 }
    }
}

/// A compressed part of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// How it is compressed: `gzip` or `zstd`.
    pub compression: &'static str,
    /// Where in the input it begins, in bytes.
    pub offset: u64,
}

/// A place in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The compressed member that the place is in.
    pub member: Option<Member>,
    /// Bytes from the start of the input, or of the decompressed member.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "offset {}", self.offset)?;
        if let Some(Member { compression, offset }) = self.member {
            write!(out, " of the {compression} member at {offset}")?;
        }
        Ok(())
    }
}

/// Why a kernel drops an entry without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ignored {
    /// A name of no bytes or of more than 4096, the NUL counted.
    NameSize,
    /// The target of a symbolic link of more than 4096 bytes.
    SymlinkSize,
    /// Content of something that is neither a file nor a symbolic link.
    Content,
}

impl fmt::Display for Ignored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NameSize => "its name has no byte or more than 4095",
            Self::SymlinkSize => "the target of the symbolic link has more than 4096 bytes",
            Self::Content => "it has content and is neither a file nor a symbolic link",
        })
    }
}

/// An entry, whose content is read from the [`Reader`] (which implements [`Read`]) until the next
/// one is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The numbers.
    pub header: Header,
    /// The name up to its first NUL; empty when the name itself is why the entry is ignored.
    pub name: Vec<u8>,
    /// Where the header is.
    pub position: Position,
    /// How many trailers came before: hard links never reach across one.
    pub archive: u32,
    /// Why a kernel would not make this entry.
    pub ignored: Option<Ignored>,
}

impl Entry {
    /// Whether this is the entry that ends an archive.
    #[must_use]
    pub fn is_trailer(&self) -> bool {
        self.name == TRAILER
    }
}

/// Reads the entries of an initramfs, and as [`Read`] the content of the last one.
///
/// Gzip and zstd members are decompressed on the way with the features of those names. Trailers
/// are entries too, because nothing but a further entry may follow one.
#[derive(Debug)]
pub struct Reader<R: Read> {
    input: Decoder<R>,
    limits: Limits,
    entries: u64,
    unpacked: u64,
    archive: u32,
    /// Bytes of content that were not read yet.
    left: u64,
    /// NULs after the content.
    padding: u64,
    /// Sum so far and the sum expected, of an entry that has one.
    check: Option<(u32, u32, Position)>,
    failed: bool,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which is buffered here.
    pub fn new(input: R, limits: Limits) -> Self {
        Self {
            input: Decoder::new(input),
            limits,
            entries: 0,
            unpacked: 0,
            archive: 0,
            left: 0,
            padding: 0,
            check: None,
            failed: false,
        }
    }

    /// The next entry; `None` at the end. What was left of the content is skipped.
    ///
    /// # Errors
    /// What a kernel would complain about ([`Error::Malformed`]), an input that ends too early
    /// ([`Error::Truncated`]), [`Error::Limit`], [`Error::Io`], [`Error::FeatureMissing`] for a
    /// compression that this build lacks. After an error there are no more entries.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        if self.failed {
            return Ok(None);
        }
        let entry = self.advance();
        self.failed = entry.is_err();
        entry
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        self.skip_content()?;
        loop {
            self.skip_nuls()?;
            let next = self.input.peek()?;
            let position = self.input.position();
            match (next, position.member) {
                (None, None) => return Ok(None),
                (None, Some(_)) => self.input.leave()?,
                (Some(b'0'), _) if position.offset & 3 == 0 => {
                    return self.entry(position).map(Some);
                }
                (Some(b'0'), _) => {
                    let reason = "broken padding: expected the entry at a multiple of 4".into();
                    return Err(Error::Malformed { at: position, reason });
                }
                (Some(_), None) => self.input.enter()?,
                (Some(byte), Some(_)) => {
                    let reason = format!(
                        "junk within the compressed archive: byte {byte:#04x}, expected '0'"
                    );
                    return Err(Error::Malformed { at: position, reason });
                }
            }
        }
    }

    fn entry(&mut self, position: Position) -> Result<Entry> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            let limit = self.limits.entries;
            return Err(Error::Limit { at: position, what: "entries", limit });
        }
        let malformed = |reason| Error::Malformed { at: position, reason };
        let mut bytes = [0; HEADER_LEN];
        self.exactly(&mut bytes, "a header")?;
        let header = Header::parse(&bytes).map_err(|error| malformed(error.to_string()))?;
        let archive = self.archive;
        let name_len = u64::from(header.name_size);
        self.left = u64::from(header.file_size);
        self.padding = pad4(self.left);
        if header.name_size == 0 || header.name_size > NAME_SIZE_MAX {
            // What follows is skipped as one piece, name and all.
            let name_padding = pad4(HEADER_LEN as u64 + name_len);
            self.left += name_len + name_padding;
            let ignored = Some(Ignored::NameSize);
            return Ok(Entry { header, name: Vec::new(), position, archive, ignored });
        }
        let mut name = vec![0; header.name_size as usize];
        self.exactly(&mut name, "a name")?;
        if name.last() != Some(&0) {
            return Err(malformed("malformed archive: the name does not end with a NUL".into()));
        }
        self.skip(pad4(HEADER_LEN as u64 + name_len), "the padding of a name")?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        let ignored = match header.file_type() {
            S_IFREG => None,
            S_IFLNK => (header.file_size > NAME_SIZE_MAX).then_some(Ignored::SymlinkSize),
            _ => (header.file_size > 0).then_some(Ignored::Content),
        };
        if header.format == Format::Crc && header.file_type() == S_IFREG {
            self.check = Some((0, header.check, position));
        }
        if name == TRAILER {
            self.archive = self.archive.saturating_add(1);
        }
        Ok(Entry { header, name, position, archive, ignored })
    }

    fn skip_content(&mut self) -> Result<()> {
        let mut sink = [0; 8192];
        while self.left > 0 && self.check.is_some() {
            self.content(&mut sink)?;
        }
        self.verify()?;
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        self.skip(rest, "a content")
    }

    /// Reads content, noting its sum.
    fn content(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..want).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let count = self.some(buffer, "a content")?;
        self.left -= count as u64;
        if let Some((sum, ..)) = &mut self.check {
            *sum = add(*sum, buffer.get(..count).unwrap_or_default());
        }
        if self.left == 0 {
            self.verify()?;
        }
        Ok(count)
    }

    fn verify(&mut self) -> Result<()> {
        match self.check.take() {
            Some((found, expected, at)) if found != expected && self.left == 0 => {
                let reason = format!("bad data checksum: {found:#010x}, expected {expected:#010x}");
                Err(Error::Malformed { at, reason })
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, bytes: u64) -> Result<()> {
        self.unpacked += bytes;
        let limit = self.limits.unpacked;
        if self.unpacked > limit {
            let at = self.input.position();
            return Err(Error::Limit { at, what: "bytes of archives", limit });
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<usize> {
        let count = self.input.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            return Err(Error::Truncated { at: self.input.position(), inside });
        }
        self.count(count as u64)?;
        Ok(count)
    }

    fn exactly(&mut self, buffer: &mut [u8], inside: &'static str) -> Result<()> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            filled += self.some(rest, inside)?;
        }
        Ok(())
    }

    fn skip(&mut self, mut count: u64, inside: &'static str) -> Result<()> {
        while count > 0 {
            let skipped = self.input.skip(count)?;
            if skipped == 0 {
                return Err(Error::Truncated { at: self.input.position(), inside });
            }
            self.count(skipped)?;
            count -= skipped;
        }
        Ok(())
    }

    fn skip_nuls(&mut self) -> Result<()> {
        loop {
            let skipped = self.input.skip_nuls()?;
            if skipped == 0 {
                return Ok(());
            }
            self.count(skipped)?;
        }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Ok(0);
        }
        self.content(buffer).map_err(|error| {
            self.failed = true;
            match error {
                Error::Io { source, .. } => source,
                other => io::Error::new(io::ErrorKind::InvalidData, other),
            }
        })
    }
}
