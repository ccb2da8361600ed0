//! A manifest and a tree as an image: the same ones give the same bytes.

use std::io::{BufWriter, IntoInnerError, Write};

use kiln_tree::Tree;

use super::aci::Aci;
use super::image::ImageManifest;
use super::names::ImageId;
use crate::digest::Summed;
use crate::layer::{self, Compression, Encoder};
use crate::tar::{self, Entry};
use crate::{Error, Limits, Result};

/// Writes an image, and gives its ID. The manifest comes first, so that whoever reads it as a stream
/// has it at once.
///
/// # Errors
/// [`Error::Unpackable`] with all that [`layer::check`] finds; [`Error::Manifest`] for a manifest that is
/// none; [`Error::Invalid`] for a compression that images do not have; a file that cannot be read; what
/// the writer says.
pub fn write<W: Write>(
    manifest: &ImageManifest,
    root: &Tree,
    compression: Compression,
    out: W,
) -> Result<(W, ImageId)> {
    if !matches!(compression, Compression::None | Compression::Gzip) {
        return Err(Error::invalid(format!("{compression:?}"), "images are compressed by gzip"));
    }
    let problems = layer::check(root);
    if !problems.is_empty() {
        return Err(Error::Unpackable(problems));
    }
    let bytes = manifest.to_bytes()?;
    let encoder = Encoder::new(out, compression)?;
    let mut archive = tar::Writer::new(BufWriter::with_capacity(64 << 10, Summed::sha512(encoder)));
    let mut entry = Entry::file(b"manifest".to_vec());
    (entry.mode, entry.size) = (0o644, bytes.len() as u64);
    archive.append(&entry, &mut bytes.as_slice()).map_err(Error::stream("manifest"))?;
    layer::append_root(&mut archive, b"rootfs/", root)?;
    layer::append_tree(&mut archive, b"rootfs/", root)?;
    let summed = archive
        .finish()
        .and_then(|buffered| buffered.into_inner().map_err(IntoInnerError::into_error))
        .map_err(Error::stream("image"))?;
    let (encoder, digest, _) = summed.finish()?;
    let out = encoder.finish().map_err(Error::stream("image"))?;
    Ok((out, ImageId::of_digest(&digest)))
}

/// Writes an image in memory.
///
/// # Errors
/// As [`write()`]; [`Error::Entry`] for what is deeper than [`Limits::depth`].
pub fn pack(manifest: &ImageManifest, root: &Tree, compression: Compression) -> Result<Aci> {
    let (bytes, _) = write(manifest, root, compression, Vec::new())?;
    let limits = Limits {
        ratio: u64::MAX,
        bytes: u64::MAX,
        entries: u64::MAX,
        names: u64::MAX,
        ..Limits::default()
    };
    Aci::of_source(manifest.name.as_str(), bytes.into(), &limits)
}
