//! The input of a reader: plain bytes with compressed members among them.
//!
//! The kernel takes a member for what its first bytes say, decompresses it to its end and goes on
//! behind it. So each member is one frame, and whatever follows is judged anew.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use crate::cpio::{Member, Position};
use crate::{Error, Result};

/// Input that knows how far it was read.
pub(crate) struct Input<R> {
    input: BufReader<R>,
    read: u64,
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.read += count as u64;
    }
}

/// The codec at work. `Gone` stands for a moment while the input moves from one to the next, and
/// for good when a codec failed to start.
enum Codec<R> {
    Gone,
    Plain(Input<R>),
    #[cfg(feature = "gzip")]
    Gzip(Box<BufReader<flate2::bufread::GzDecoder<Input<R>>>>),
    #[cfg(feature = "zstd")]
    Zstd(BufReader<zstd::stream::read::Decoder<'static, Input<R>>>),
}

impl<R: Read> Codec<R> {
    fn reader(&mut self) -> Option<&mut dyn BufRead> {
        match self {
            Self::Gone => None,
            Self::Plain(input) => Some(input),
            #[cfg(feature = "gzip")]
            Self::Gzip(decoder) => Some(decoder.as_mut()),
            #[cfg(feature = "zstd")]
            Self::Zstd(decoder) => Some(decoder),
        }
    }
}

pub(crate) struct Decoder<R> {
    codec: Codec<R>,
    member: Option<Member>,
    /// Bytes of the input before the member, and bytes of the member itself so far.
    before: u64,
    inside: u64,
}

impl<R> fmt::Debug for Decoder<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Decoder").field("member", &self.member).finish_non_exhaustive()
    }
}

/// The compressions that a kernel may know, by their first bytes (`lib/decompress.c`).
const MAGICS: [([u8; 2], &str); 8] = [
    ([0x1f, 0x8b], "gzip"),
    ([0x1f, 0x9e], "gzip"),
    ([0x42, 0x5a], "bzip2"),
    ([0x5d, 0x00], "lzma"),
    ([0xfd, 0x37], "xz"),
    ([0x89, 0x4c], "lzo"),
    ([0x02, 0x21], "lz4"),
    ([0x28, 0xb5], "zstd"),
];

impl<R: Read> Decoder<R> {
    pub(crate) fn new(input: R) -> Self {
        let input = Input { input: BufReader::with_capacity(128 * 1024, input), read: 0 };
        Self { codec: Codec::Plain(input), member: None, before: 0, inside: 0 }
    }

    pub(crate) fn position(&self) -> Position {
        let offset = match (&self.codec, self.member) {
            (Codec::Plain(input), None) => input.read,
            _ => self.inside,
        };
        Position { member: self.member, offset }
    }

    /// Fails with the place and, in a member, what its codec says.
    fn failure(&self, error: io::Error) -> Error {
        match self.member {
            // A codec's complaint about its input is about the image, not about the system.
            Some(Member { compression, .. }) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let inside = if compression == "gzip" { "a gzip member" } else { "a zstd member" };
                Error::Truncated { at: self.position(), inside }
            }
            Some(Member { compression, .. }) => {
                let reason = format!("the {compression} data is damaged: {error}");
                Error::Malformed { at: self.position(), reason }
            }
            None => Error::Io { action: "read the archive", source: error },
        }
    }

    fn available(&mut self) -> Result<&[u8]> {
        loop {
            let Some(reader) = self.codec.reader() else { return Ok(&[]) };
            match reader.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(error)),
            }
        }
        // Asked again, a filled buffer is given as it is.
        match self.codec.reader() {
            Some(reader) => reader.fill_buf().map_err(Error::io("read the archive")),
            None => Ok(&[]),
        }
    }

    fn consume(&mut self, count: usize) {
        if let Some(reader) = self.codec.reader() {
            reader.consume(count);
        }
        self.inside += count as u64;
    }

    pub(crate) fn peek(&mut self) -> Result<Option<u8>> {
        Ok(self.available()?.first().copied())
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let available = self.available()?;
        let count = available.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), available.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }

    /// Skips at most `count` bytes; 0 at the end.
    pub(crate) fn skip(&mut self, count: u64) -> Result<u64> {
        let available = self.available()?.len();
        let skipped = usize::try_from(count).unwrap_or(usize::MAX).min(available);
        self.consume(skipped);
        Ok(skipped as u64)
    }

    /// Skips NULs; 0 when the next byte is none.
    pub(crate) fn skip_nuls(&mut self) -> Result<u64> {
        let count = self.available()?.iter().take_while(|byte| **byte == 0).count();
        self.consume(count);
        Ok(count as u64)
    }

    /// Goes into the compressed member that begins here.
    pub(crate) fn enter(&mut self) -> Result<()> {
        let at = self.position();
        let start = self.available()?;
        let found = MAGICS.iter().find(|(magic, _)| start.starts_with(magic));
        let Some((_, compression)) = found else {
            let bytes = start.get(..start.len().min(6)).unwrap_or_default();
            let reason = format!(
                "\"{}\" is neither a newc entry nor a compressed archive",
                bytes.escape_ascii()
            );
            return Err(Error::Malformed { at, reason });
        };
        let compression = *compression;
        let known = match compression {
            "gzip" => cfg!(feature = "gzip"),
            "zstd" => cfg!(feature = "zstd"),
            other => {
                let reason = format!("a member compressed with {other}, which is not supported");
                return Err(Error::Malformed { at, reason });
            }
        };
        if !known {
            let what = format!("{at}: reading a {compression} member");
            return Err(Error::FeatureMissing { what, feature: compression });
        }
        self.codec = match std::mem::replace(&mut self.codec, Codec::Gone) {
            #[cfg(feature = "gzip")]
            Codec::Plain(input) if compression == "gzip" => {
                Codec::Gzip(Box::new(BufReader::new(flate2::bufread::GzDecoder::new(input))))
            }
            #[cfg(feature = "zstd")]
            Codec::Plain(input) if compression == "zstd" => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)
                    .map_err(Error::io("start the zstd decoder"))?;
                // More memory than this for a window, and the kernel would not read it either.
                decoder
                    .window_log_max(crate::compress::WINDOW_LOG_MAX)
                    .map_err(Error::io("start the zstd decoder"))?;
                Codec::Zstd(BufReader::with_capacity(128 * 1024, decoder.single_frame()))
            }
            other => other,
        };
        self.before = at.offset;
        self.inside = 0;
        self.member = Some(Member { compression, offset: at.offset });
        Ok(())
    }

    /// Leaves the member, which is at its end.
    pub(crate) fn leave(&mut self) -> Result<()> {
        let input = match std::mem::replace(&mut self.codec, Codec::Gone) {
            #[cfg(feature = "gzip")]
            Codec::Gzip(decoder) => decoder.into_inner().into_inner(),
            #[cfg(feature = "zstd")]
            Codec::Zstd(decoder) => decoder.into_inner().finish(),
            Codec::Plain(input) => input,
            Codec::Gone => return Ok(()),
        };
        // A member without a byte in it would be entered again and again.
        if input.read <= self.before {
            let reason = "an empty compressed member".into();
            return Err(Error::Malformed { at: self.position(), reason });
        }
        self.member = None;
        self.codec = Codec::Plain(input);
        Ok(())
    }
}
