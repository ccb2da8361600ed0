//! The bytes of an image's archive, decompressed, counted and looked at.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_tree::Source;

use crate::layer::{ALONE, Ahead};
use crate::{Error, Limits, Result};

/// How archives are compressed (aci.md, "Image Archives").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952), which `actool` writes.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz, with a dictionary of at most 64 MiB, as its highest preset has.
    Xz,
}

/// In KiB: a dictionary of 64 MiB and what the decoder needs besides.
const XZ_MEMORY: u32 = (64 << 10) + 1024;

impl Packing {
    /// That of bytes that begin so.
    pub(super) fn of_magic(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // The digit is how long blocks are. A tar archive may begin with a name that begins so.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
                Self::Bzip2
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }

    pub(super) fn of_source(source: &Source) -> io::Result<Self> {
        let mut magic = Vec::new();
        source.open()?.take(10).read_to_end(&mut magic)?;
        Ok(Self::of_magic(&magic))
    }
}

/// Counts what is read.
struct Metered {
    inner: Box<dyn Read + Send>,
    count: Arc<AtomicU64>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Compares what comes out of a decoder with what went in.
struct Bounded {
    decoder: Box<dyn Read + Send>,
    packed: Arc<AtomicU64>,
    count: u64,
    /// How long the archive may be at all.
    longest: u64,
    ratio: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.count = self.count.saturating_add(count as u64);
        let packed = self.packed.load(Ordering::Relaxed);
        let refuse = |text| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        if self.count > Limits::RATIO_FROM && self.count > packed.saturating_mul(self.ratio) {
            return refuse(format!(
                "{packed} bytes became {} bytes: more than {} times as many are refused",
                self.count, self.ratio
            ));
        }
        if self.count > self.longest {
            return refuse(format!("the archive is longer than {} bytes", self.longest));
        }
        Ok(count)
    }
}

/// What files may hold, and as much again for headers, names and what follows the end of the archive.
fn longest(limits: &Limits) -> u64 {
    let headers = limits.entries.saturating_mul(1536).saturating_add(limits.names);
    limits.bytes.saturating_add(headers).saturating_add(limits.manifest).saturating_add(1 << 20)
}

fn decoder(
    origin: &str,
    source: &Source,
    packing: Packing,
    limits: &Limits,
) -> Result<impl Read + Send + use<>> {
    let packed = Arc::new(AtomicU64::new(0));
    let inner = source.open().map_err(Error::stream(origin))?;
    let metered = Metered { inner, count: Arc::clone(&packed) };
    let inner = BufReader::with_capacity(128 << 10, metered);
    let decoder: Box<dyn Read + Send> = match packing {
        Packing::Plain => Box::new(inner),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(inner)),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(inner)),
        Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(inner, true, XZ_MEMORY)),
    };
    Ok(Bounded { decoder, packed, count: 0, longest: longest(limits), ratio: limits.ratio })
}

/// A reader of which somebody sees all that is read, and the end.
struct Watched<R, L> {
    inner: R,
    look: L,
}

impl<R: Read, L: FnMut(Option<&[u8]>) -> io::Result<()>> Read for Watched<R, L> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        let seen = buffer.get(..count).filter(|seen| !seen.is_empty());
        (self.look)(seen)?;
        Ok(count)
    }
}

/// Has somebody read an archive, decompressed, while somebody else looks at its bytes: by threads where
/// that is worth it.
pub(super) fn read<T>(
    origin: &str,
    source: &Source,
    packing: Packing,
    limits: &Limits,
    look: impl FnMut(Option<&[u8]>) -> io::Result<()> + Send,
    read: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let decoder = decoder(origin, source, packing, limits)?;
    if source.len() < ALONE {
        return read(&mut Watched { inner: decoder, look });
    }
    std::thread::scope(|scope| {
        let mut ahead = Ahead::start(scope, decoder, look).map_err(Error::stream(origin))?;
        read(&mut ahead)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressions_are_told_by_their_first_bytes() {
        for (bytes, packing) in [
            (&b"\x1f\x8b\x08"[..], Packing::Gzip),
            (b"BZh91AY&SY", Packing::Bzip2),
            // One of nothing: the end of the stream comes at once.
            (b"BZh9\x17\x72\x45\x38\x50\x90", Packing::Bzip2),
            (b"BZh9/rootfs", Packing::Plain),
            (b"\xfd7zXZ\0", Packing::Xz),
            (b"manifest\0\0", Packing::Plain),
            (b"", Packing::Plain),
        ] {
            assert_eq!(Packing::of_magic(bytes), packing, "{bytes:?}");
        }
    }
}
