//! Layers: tar archives, compressed or not, each a difference to what is below it (image
//! specification, layer.md).

mod ahead;
mod apply;
#[cfg(any(feature = "gzip", feature = "zstd"))]
mod blocks;
mod compression;
mod difference;
mod pack;
mod place;
mod spool;

use std::io::{self, Read};
use std::thread::Scope;

use kiln_tree::Source;
use oci_spec::image::{Descriptor, Digest, MediaType};

pub(crate) use ahead::Ahead;
#[cfg(feature = "appc")]
pub(crate) use apply::{ALONE, Refused, kept};
#[cfg(any(feature = "appc", feature = "host"))]
pub(crate) use apply::{Apply, Content, Rules, Sink};
pub use apply::{Devices, Options};
pub use compression::Compression;
pub(crate) use compression::Decoder;
#[cfg(feature = "appc")]
pub(crate) use compression::Encoder;
pub use difference::Difference;
pub use pack::{Packed, check, write, write_difference};
#[cfg(feature = "appc")]
pub(crate) use pack::{append_root, append_tree};
#[cfg(feature = "appc")]
pub(crate) use place::{below, inside};
pub use spool::Spool;

use crate::digest::Checked;
use crate::limits::Limits;
use crate::{Error, Result};

/// The prefix of the names of whiteouts.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of all that a directory has from the layers below.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// A layer: its descriptor, the digest of its archive before compression, and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layer {
    /// What a manifest says of it.
    pub descriptor: Descriptor,
    /// The digest of the archive, decompressed (config.md, "Layer DiffID").
    pub diff_id: Digest,
    /// Its bytes, compressed as they are.
    pub source: Source,
}

impl Layer {
    /// A layer of bytes that are somewhere already.
    #[must_use]
    pub fn new(descriptor: Descriptor, diff_id: Digest, source: Source) -> Self {
        Self { descriptor, diff_id, source }
    }

    /// How the bytes are compressed. That is seen in the bytes: media types have been known to lie. Bytes
    /// with the archive's own digest are the archive, though its first name may begin as gzip does.
    ///
    /// # Errors
    /// When the bytes cannot be read.
    pub fn compression(&self) -> Result<Compression> {
        let digest = self.descriptor.digest();
        if *digest == self.diff_id {
            return Ok(Compression::None);
        }
        Compression::of_source(&self.source).map_err(Error::stream(digest))
    }

    /// Opens the archive, decompressed. Both digests are checked while it is read; the error comes at
    /// the end, or as soon as there is a byte too many.
    ///
    /// # Errors
    /// [`Error::Stream`]; [`Error::Document`] for a compression that this build cannot read.
    pub fn open(&self, limits: &Limits) -> Result<Unpacked> {
        let digest = self.descriptor.digest();
        let compression = self.compression()?;
        let source = self.source.open().map_err(Error::stream(digest))?;
        let blob = Checked::new(source, digest, Some(self.descriptor.size()))?;
        let decoder = Decoder::new(blob, compression, digest)?;
        let counted = Counted { decoder, ratio: limits.ratio, count: 0 };
        Ok(Unpacked { archive: Checked::new(counted, &self.diff_id, None)? })
    }

    /// The media type of a layer with this compression.
    #[must_use]
    pub fn media_type(compression: Compression) -> MediaType {
        match compression {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

/// A layer's archive, decompressed, being read and checked.
pub struct Unpacked {
    archive: Checked<Counted>,
}

impl std::fmt::Debug for Unpacked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Unpacked").field("read", &self.archive.count()).finish_non_exhaustive()
    }
}

impl Unpacked {
    /// Reads what follows the archive's end, so that both digests are checked.
    ///
    /// # Errors
    /// Of the digests, as [`Error::Blob`] in the error.
    pub fn finish(&mut self) -> io::Result<()> {
        self.archive.drain()
    }

    /// Has other threads read ahead.
    fn ahead<'scope>(self, scope: &'scope Scope<'scope, '_>) -> io::Result<Ahead> {
        let (counted, mut expected) = self.archive.into_parts();
        Ahead::start(scope, counted, move |bytes| {
            let looked = match bytes {
                Some(bytes) => expected.update(bytes),
                None => expected.end(),
            };
            looked.map_err(Error::into_io)
        })
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.archive.read(buffer)
    }
}

/// Compares what comes out of a decoder with what went in, of which all is read.
struct Counted {
    decoder: Decoder,
    ratio: u64,
    count: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            // The decoder may not have read the end of the blob.
            self.decoder.blob().drain()?;
        }
        self.count = self.count.saturating_add(count as u64);
        let packed = self.decoder.blob().count();
        if self.count > Limits::RATIO_FROM && self.count > packed.saturating_mul(self.ratio) {
            let text = format!(
                "{packed} bytes became {} bytes: more than {} times as many are refused",
                self.count, self.ratio
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}
