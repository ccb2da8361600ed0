//! How a layer is compressed.

#[cfg(any(feature = "gzip", feature = "zstd"))]
use std::io::BufReader;
use std::io::{self, Read, Write};

use kiln_tree::Source;
use oci_spec::image::Digest;

#[cfg(any(feature = "gzip", feature = "zstd"))]
use super::blocks::Blocks;
use crate::digest::Checked;
use crate::{Error, Result};

/// A compression of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip (RFC 1952), which everything reads.
    Gzip,
    /// zstd (RFC 8878): an image with it wants Docker 23, containerd 1.5, or later.
    Zstd,
}

/// Of libdeflate: two thirds to three quarters of the time of its level 6, for 1 to 3 % more bytes.
#[cfg(feature = "gzip")]
const GZIP_LEVEL: i32 = 4;
/// zstd's own default.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;
/// How much of an archive is a member of a gzip file, 32 times what a match may lie back.
#[cfg(feature = "gzip")]
const GZIP_BLOCK: usize = 1 << 20;
/// How much is a frame of zstd, twice what a match may lie back.
#[cfg(feature = "zstd")]
const ZSTD_BLOCK: usize = 4 << 20;

impl Compression {
    /// What bytes look like.
    pub(crate) fn of_source(source: &Source) -> io::Result<Self> {
        let mut magic = Vec::new();
        source.open()?.take(4).read_to_end(&mut magic)?;
        Ok(Self::of_magic(&magic))
    }

    /// The compression of bytes that begin so.
    fn of_magic(bytes: &[u8]) -> Self {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
            || (bytes.first().is_some_and(|first| first & 0xf0 == 0x50)
                && bytes.get(1..4) == Some(&[0x2a, 0x4d, 0x18]))
        {
            Self::Zstd
        } else {
            Self::None
        }
    }

    #[cfg(not(all(feature = "gzip", feature = "zstd")))]
    fn missing(self, what: impl ToString) -> Error {
        Error::document(what, format!("this build lacks the feature for {self:?}"))
    }
}

type Blob = Checked<Box<dyn Read + Send>>;

/// A blob, decompressed.
pub(crate) enum Decoder {
    Plain(Box<Blob>),
    #[cfg(feature = "gzip")]
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Blob>>>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::Decoder<'static, BufReader<Blob>>>),
}

impl Decoder {
    pub(crate) fn new(blob: Blob, compression: Compression, digest: &Digest) -> Result<Self> {
        #[cfg(any(feature = "gzip", feature = "zstd"))]
        let buffered = |blob| BufReader::with_capacity(128 << 10, blob);
        let _ = digest;
        match compression {
            Compression::None => Ok(Self::Plain(Box::new(blob))),
            #[cfg(feature = "gzip")]
            Compression::Gzip => {
                let decoder = flate2::bufread::MultiGzDecoder::new(buffered(blob));
                Ok(Self::Gzip(Box::new(decoder)))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let mut decoder =
                    zstd::Decoder::with_buffer(buffered(blob)).map_err(Error::stream(digest))?;
                // RFC 8878, 3.1.1.1.2: 8 MiB is what every decoder should take; `zstd -19` uses as
                // much, `--long` 128 MiB, and more is memory that a stranger decides about.
                decoder.window_log_max(27).map_err(Error::stream(digest))?;
                Ok(Self::Zstd(Box::new(decoder)))
            }
            #[cfg(not(all(feature = "gzip", feature = "zstd")))]
            other => Err(other.missing(digest)),
        }
    }

    /// The blob, of which the decoder may not have read the end.
    pub(crate) fn blob(&mut self) -> &mut Blob {
        match self {
            Self::Plain(blob) => blob,
            #[cfg(feature = "gzip")]
            Self::Gzip(decoder) => decoder.get_mut().get_mut(),
            #[cfg(feature = "zstd")]
            Self::Zstd(decoder) => decoder.get_mut().get_mut(),
        }
    }
}

impl Read for Decoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(blob) => blob.read(buffer),
            #[cfg(feature = "gzip")]
            Self::Gzip(decoder) => decoder.read(buffer),
            #[cfg(feature = "zstd")]
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// A compressor with fixed settings: no name, no time, blocks of a fixed length.
pub(crate) enum Encoder<W: Write> {
    Plain(W),
    #[cfg(any(feature = "gzip", feature = "zstd"))]
    Blocks(Blocks<W>),
}

impl<W: Write> Encoder<W> {
    pub(crate) fn new(out: W, compression: Compression) -> Result<Self> {
        match compression {
            Compression::None => Ok(Self::Plain(out)),
            #[cfg(feature = "gzip")]
            Compression::Gzip => Ok(Self::Blocks(Blocks::new(out, GZIP_BLOCK, gzip))),
            #[cfg(feature = "zstd")]
            Compression::Zstd => Ok(Self::Blocks(Blocks::new(out, ZSTD_BLOCK, zstd))),
            #[cfg(not(all(feature = "gzip", feature = "zstd")))]
            other => Err(other.missing("layer")),
        }
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            #[cfg(any(feature = "gzip", feature = "zstd"))]
            Self::Blocks(blocks) => blocks.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            #[cfg(any(feature = "gzip", feature = "zstd"))]
            Self::Blocks(blocks) => blocks.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            #[cfg(any(feature = "gzip", feature = "zstd"))]
            Self::Blocks(blocks) => blocks.flush(),
        }
    }
}

/// A member of a gzip file (RFC 1952, section 2.2).
#[cfg(feature = "gzip")]
fn gzip(block: &[u8]) -> io::Result<Vec<u8>> {
    let level = libdeflater::CompressionLvl::new(GZIP_LEVEL)
        .map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut compressor = libdeflater::Compressor::new(level);
    let mut member = vec![0; compressor.gzip_compress_bound(block.len())];
    let len = compressor.gzip_compress(block, &mut member).map_err(io::Error::other)?;
    member.truncate(len);
    Ok(member)
}

/// A frame (RFC 8878, section 3.1).
#[cfg(feature = "zstd")]
fn zstd(block: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(block, ZSTD_LEVEL)
}
