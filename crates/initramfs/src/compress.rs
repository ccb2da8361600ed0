//! Compression as the kernel wants it: one frame, no more window than it has memory for.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use crate::{Error, Result};

/// The base-2 logarithm of the largest zstd window that every kernel decompresses (128 MiB).
#[cfg(feature = "zstd")]
pub(crate) const WINDOW_LOG_MAX: u32 = 27;

/// How an archive is compressed.
///
/// As text: `none`, `gzip`, `gzip:LEVEL`, `zstd`, `zstd:LEVEL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952, which every kernel with an initramfs reads. Needs the feature `gzip`.
    Gzip {
        /// From 0 (stored) to 9 (small).
        level: u32,
    },
    /// RFC 8878, read by kernels with `CONFIG_RD_ZSTD`. Needs the feature `zstd`.
    Zstd {
        /// From 1 (fast) to 22 (small).
        level: i32,
    },
}

const EXPECTED: &str = "none, gzip, gzip:0 to gzip:9, zstd, or zstd:1 to zstd:22";

impl Compression {
    /// The usual trade of gzip: level 6.
    pub const GZIP: Self = Self::Gzip { level: 6 };
    /// The usual trade of zstd: level 3.
    pub const ZSTD: Self = Self::Zstd { level: 3 };

    /// Whether this build can do it at all, with this level.
    ///
    /// # Errors
    /// [`Error::FeatureMissing`], [`Error::Compression`].
    pub fn check(self) -> Result<()> {
        let (fits, present, feature) = match self {
            Self::None => return Ok(()),
            Self::Gzip { level } => (level <= 9, cfg!(feature = "gzip"), "gzip"),
            Self::Zstd { level } => ((1..=22).contains(&level), cfg!(feature = "zstd"), "zstd"),
        };
        if !fits {
            return Err(Error::Compression { given: self.to_string(), expected: EXPECTED });
        }
        if !present {
            return Err(Error::FeatureMissing { what: format!("compression {self}"), feature });
        }
        Ok(())
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => out.write_str("none"),
            Self::Gzip { level } => write!(out, "gzip:{level}"),
            Self::Zstd { level } => write!(out, "zstd:{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Compression { given: text.into(), expected: EXPECTED };
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let compression = match (name, level) {
            ("none", None) => Self::None,
            ("gzip", None) => Self::GZIP,
            ("gzip", Some(level)) => Self::Gzip { level: level.into() },
            ("zstd", None) => Self::ZSTD,
            ("zstd", Some(level)) => Self::Zstd { level: level.into() },
            _ => return Err(wrong()),
        };
        compression.check()?;
        Ok(compression)
    }
}

enum Codec<W: Write> {
    Plain(W),
    #[cfg(feature = "gzip")]
    Gzip(Evenly<flate2::write::GzEncoder<W>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// How much an [`Evenly`] hands on at once, in bytes.
#[cfg(feature = "gzip")]
const EVENLY: usize = 64 * 1024;

/// Hands on what is written to it in pieces of one length. What an encoder of gzip makes of its input
/// depends, with some of flate2's backends, on how the writes were cut; and which backend there is
/// is decided by whoever else uses flate2.
#[cfg(feature = "gzip")]
struct Evenly<W> {
    out: W,
    waiting: Vec<u8>,
}

#[cfg(feature = "gzip")]
impl<W: Write> Evenly<W> {
    fn new(out: W) -> Self {
        Self { out, waiting: Vec::with_capacity(EVENLY) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (now, _) = bytes.split_at(bytes.len().min(EVENLY.saturating_sub(self.waiting.len())));
        self.waiting.extend_from_slice(now);
        if self.waiting.len() >= EVENLY {
            self.out.write_all(&self.waiting)?;
            self.waiting.clear();
        }
        Ok(now.len())
    }

    fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&self.waiting)?;
        Ok(self.out)
    }
}

/// Compresses what is written to it into one frame in `W`: the same bytes for the same input,
/// whatever the machine and however the writes were cut.
#[must_use = "a frame without its end is damaged: call finish"]
pub struct Encoder<W: Write>(Codec<W>);

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl<W: Write> Encoder<W> {
    /// Begins a frame.
    ///
    /// # Errors
    /// As [`Compression::check`]; [`Error::Io`].
    pub fn new(out: W, compression: Compression) -> Result<Self> {
        compression.check()?;
        Ok(Self(match compression {
            #[cfg(feature = "gzip")]
            Compression::Gzip { level } => {
                // No name and no time; 3 is Unix (RFC 1952 section 2.3.1).
                let header = flate2::GzBuilder::new().mtime(0).operating_system(3);
                Codec::Gzip(Evenly::new(header.write(out, flate2::Compression::new(level))))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd { level } => {
                let start = || {
                    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
                    // The kernel verifies the checksum, and so notices a damaged image.
                    encoder.include_checksum(true)?;
                    encoder.long_distance_matching(false)?;
                    Ok(encoder)
                };
                Codec::Zstd(start().map_err(Error::io("start the zstd encoder"))?)
            }
            _ => Codec::Plain(out),
        }))
    }

    /// Ends the frame and gives the destination back.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<W> {
        match self.0 {
            Codec::Plain(out) => Ok(out),
            #[cfg(feature = "gzip")]
            Codec::Gzip(encoder) => {
                let ended = encoder.finish().and_then(flate2::write::GzEncoder::finish);
                ended.map_err(Error::io("write the archive"))
            }
            #[cfg(feature = "zstd")]
            Codec::Zstd(encoder) => encoder.finish().map_err(Error::io("write the archive")),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Codec::Plain(out) => out.write(bytes),
            #[cfg(feature = "gzip")]
            Codec::Gzip(encoder) => encoder.write(bytes),
            #[cfg(feature = "zstd")]
            Codec::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Flushes the destination, not the frame: a cut of the frame at each flush would make its
    /// bytes depend on the caller.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Codec::Plain(out) => out.flush(),
            #[cfg(feature = "gzip")]
            Codec::Gzip(encoder) => encoder.out.get_mut().flush(),
            #[cfg(feature = "zstd")]
            Codec::Zstd(encoder) => encoder.get_mut().flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["none", "gzip:0", "gzip:9", "zstd:1", "zstd:22"] {
            match text.parse::<Compression>() {
                Ok(compression) => assert_eq!(compression.to_string(), text),
                Err(error) => assert!(matches!(error, Error::FeatureMissing { .. }), "{error}"),
            }
        }
        for text in ["", "none:1", "gzip:10", "zstd:0", "zstd:23", "xz", "gzip:", "gzip:-1"] {
            let error = text.parse::<Compression>().unwrap_err();
            assert!(matches!(error, Error::Compression { .. }), "{text}: {error}");
        }
    }

    /// RFC 1952 section 2.3: no flags, no time, Unix.
    #[cfg(feature = "gzip")]
    #[test]
    fn gzip_header() {
        let mut encoder = Encoder::new(Vec::new(), Compression::GZIP).unwrap();
        encoder.write_all(b"x").unwrap();
        let bytes = encoder.finish().unwrap();
        assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    }

    /// RFC 8878 section 3.1.1.1: one frame with a checksum and a window of at most 2^27 bytes.
    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_window() {
        let mut encoder = Encoder::new(Vec::new(), Compression::Zstd { level: 22 }).unwrap();
        // Writes in pieces and flushes leave no trace.
        encoder.write_all(&[7; 300_000]).unwrap();
        encoder.flush().unwrap();
        encoder.write_all(&[8; 300_000]).unwrap();
        let bytes = encoder.finish().unwrap();
        assert_eq!(bytes[..4], [0x28, 0xb5, 0x2f, 0xfd]);
        assert_eq!(bytes[4] & 0b0010_0100, 0b0000_0100, "single segment off, checksum on");
        let window_log = 10 + (bytes[5] >> 3);
        assert!(window_log <= 27, "window log {window_log}");

        let mut again = Encoder::new(Vec::new(), Compression::Zstd { level: 22 }).unwrap();
        again.write_all(&[[7; 300_000], [8; 300_000]].concat()).unwrap();
        assert!(again.finish().unwrap() == bytes);
    }
}
