//! The compressions of image formats: one block in, one block out.

use crate::{Error, Result};

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Raw deflate (RFC 1951) that looks back no further than 4 KiB, as qcow2 has it: QEMU inflates
    /// with `windowBits` -12.
    Deflate4k,
    /// Deflate in a zlib wrapper (RFC 1950), window 32 KiB.
    Zlib,
    /// A part of a deflate stream that ends at a byte, window 32 KiB.
    #[cfg_attr(not(feature = "zlib"), expect(dead_code, reason = "gzip needs the feature"))]
    DeflatePart,
    /// One zstd frame (RFC 8878) of a level.
    Zstd(i32),
    /// The same with a checksum of what is in it.
    ZstdChecked(i32),
}

impl Method {
    /// Fails when this build cannot do it.
    pub(crate) fn check(self, format: &'static str) -> Result<()> {
        let (present, feature) = match self {
            Self::Deflate4k | Self::DeflatePart | Self::Zlib => (cfg!(feature = "zlib"), "zlib"),
            Self::Zstd(_) | Self::ZstdChecked(_) => (cfg!(feature = "zstd"), "zstd"),
        };
        if present { Ok(()) } else { Err(lacking(format, feature)) }
    }
}

fn lacking(format: &'static str, feature: &str) -> Error {
    Error::unsupported(format, format!("compression without the cargo feature `{feature}`"))
}

/// Compresses block after block with the same memory.
pub(crate) enum Packer {
    #[cfg(feature = "zlib")]
    Deflate4k(Box<super::deflate::Encoder>),
    #[cfg(feature = "zlib")]
    DeflatePart(Box<super::deflate::Encoder>),
    #[cfg(feature = "zlib")]
    Zlib(libdeflater::Compressor),
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
    #[cfg(not(all(feature = "zlib", feature = "zstd")))]
    Lacking,
}

/// libdeflate's level for VMDK's grains: as small as zlib's level 6 in a third of its time.
#[cfg(feature = "zlib")]
const ZLIB_LEVEL: i32 = 6;

impl Packer {
    pub(crate) fn new(method: Method) -> Result<Self> {
        match method {
            #[cfg(feature = "zlib")]
            Method::Deflate4k => Ok(Self::Deflate4k(Box::new(super::deflate::Encoder::new(4096)))),
            #[cfg(feature = "zlib")]
            Method::Zlib => {
                let level = libdeflater::CompressionLvl::new(ZLIB_LEVEL).unwrap_or_default();
                Ok(Self::Zlib(libdeflater::Compressor::new(level)))
            }
            #[cfg(feature = "zlib")]
            Method::DeflatePart => {
                Ok(Self::DeflatePart(Box::new(super::deflate::Encoder::new(32 << 10))))
            }
            #[cfg(feature = "zstd")]
            Method::Zstd(level) | Method::ZstdChecked(level) => {
                let checked = matches!(method, Method::ZstdChecked(_));
                let flag = zstd::zstd_safe::CParameter::ChecksumFlag(checked);
                zstd::bulk::Compressor::new(level)
                    .and_then(|mut encoder| encoder.set_parameter(flag).map(|()| encoder))
                    .map(Self::Zstd)
                    .map_err(Error::io("start a zstd encoder"))
            }
            #[cfg(not(all(feature = "zlib", feature = "zstd")))]
            _ => Ok(Self::Lacking),
        }
    }

    /// Appends the compressed block to `out`.
    pub(crate) fn pack(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match self {
            #[cfg(feature = "zlib")]
            Self::Deflate4k(encoder) => {
                encoder.compress(block, out);
                Ok(())
            }
            #[cfg(feature = "zlib")]
            Self::DeflatePart(encoder) => {
                encoder.compress_part(block, out);
                Ok(())
            }
            #[cfg(feature = "zlib")]
            Self::Zlib(encoder) => {
                let bound = encoder.zlib_compress_bound(block.len());
                append(out, bound, |room| {
                    encoder.zlib_compress(block, room).map_err(|error| error.to_string())
                })
            }
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => {
                let bound = zstd::zstd_safe::compress_bound(block.len());
                append(out, bound, |room| {
                    encoder.compress_to_buffer(block, room).map_err(|error| error.to_string())
                })
            }
            #[cfg(not(all(feature = "zlib", feature = "zstd")))]
            Self::Lacking => {
                let _ = (block, out);
                Err(lacking("image", "zlib or zstd"))
            }
        }
    }
}

#[cfg(any(feature = "zlib", feature = "zstd"))]
fn append(
    out: &mut Vec<u8>,
    bound: usize,
    pack: impl FnOnce(&mut [u8]) -> Result<usize, String>,
) -> Result<()> {
    let start = out.len();
    out.resize(start.saturating_add(bound), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let len = pack(room).map_err(|error| Error::io("compress")(std::io::Error::other(error)))?;
    out.truncate(start.saturating_add(len));
    Ok(())
}

/// What is around a compressed block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapping {
    /// Raw deflate.
    Deflate,
    /// zlib.
    Zlib,
    /// A zstd frame.
    Zstd,
}

/// Decompresses block after block with the same memory.
#[derive(Default)]
pub(crate) struct Unpacker {
    #[cfg(feature = "zlib")]
    inflate: Option<libdeflater::Decompressor>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Unpacker {
    /// Decompresses a block that may be followed by other bytes. Nothing is allocated for what it
    /// claims; gives how many bytes it has, which fit into `out`, or what is wrong with it.
    #[cfg_attr(
        not(any(feature = "zlib", feature = "zstd")),
        expect(clippy::needless_pass_by_ref_mut, clippy::unused_self, reason = "with no codec")
    )]
    pub(crate) fn unpack(
        &mut self,
        wrapping: Wrapping,
        packed: &[u8],
        out: &mut [u8],
    ) -> Result<Result<usize, String>> {
        match wrapping {
            #[cfg(feature = "zlib")]
            Wrapping::Deflate | Wrapping::Zlib => {
                let decoder = self.inflate.get_or_insert_with(libdeflater::Decompressor::new);
                let done = if wrapping == Wrapping::Zlib {
                    decoder.zlib_decompress(packed, out)
                } else {
                    decoder.deflate_decompress(packed, out)
                };
                Ok(done.map_err(|error| error.to_string()))
            }
            #[cfg(feature = "zstd")]
            Wrapping::Zstd => {
                let decoder = match &mut self.zstd {
                    Some(decoder) => decoder,
                    empty => empty.insert(
                        zstd::bulk::Decompressor::new()
                            .map_err(Error::io("start a zstd decoder"))?,
                    ),
                };
                let frame = match zstd::zstd_safe::find_frame_compressed_size(packed) {
                    Ok(len) => packed.get(..len).unwrap_or(packed),
                    Err(_) => return Ok(Err("no whole zstd frame".to_owned())),
                };
                Ok(decoder.decompress_to_buffer(frame, out).map_err(|error| error.to_string()))
            }
            #[cfg(not(all(feature = "zlib", feature = "zstd")))]
            _ => {
                let _ = (packed, out);
                let feature = if wrapping == Wrapping::Zstd { "zstd" } else { "zlib" };
                Err(lacking("image", feature))
            }
        }
    }
}
