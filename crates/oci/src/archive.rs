//! A layout as one tar archive (`oci-archive`), written as a stream.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::io::{Read, Write};

use kiln_tree::Source;
use oci_spec::image::Descriptor;

use crate::digest::Checked;
use crate::image::Image;
use crate::layout::{self, INDEX, MARKER, MARKER_TEXT};
use crate::store::blob_name;
use crate::tar::{self, Entry, Type};
use crate::{Error, Result, json};

/// Writes images with their names. The same images give the same bytes; a blob that several have is
/// there once. [`Layout::open`](crate::Layout::open) reads it.
///
/// # Errors
/// [`Error::Blob`] for a layer that is not what it should be; [`Error::Stream`].
pub fn write<W: Write>(out: W, images: &[(Option<&str>, &Image)]) -> Result<W> {
    let mut members = Members::default();
    let mut index = layout::empty();
    for (name, image) in images {
        members.add_blobs(image);
        layout::list(&mut index, image, *name);
    }
    members.add_document(MARKER, MARKER_TEXT.to_vec());
    members.add_document(INDEX, json::write(&index)?);
    members.write(out)
}

/// What goes into an archive, by name.
#[derive(Default)]
pub(crate) struct Members(BTreeMap<String, Member>);

enum Member {
    Document(Vec<u8>),
    Blob(Box<Descriptor>, Source),
    /// A layer's archive, decompressed, of this length.
    Unpacked(Box<crate::Layer>, u64),
    Link(String),
}

impl Members {
    pub(crate) fn add_document(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        self.0.insert(name.into(), Member::Document(bytes));
    }

    pub(crate) fn add_link(&mut self, name: String, target: String) {
        self.0.insert(name, Member::Link(target));
    }

    /// A layer as it is decompressed, which is read here once to know how long it is.
    pub(crate) fn add_unpacked(&mut self, name: String, layer: &crate::Layer) -> Result<()> {
        if let Place::Vacant(place) = self.0.entry(name) {
            let digest = layer.descriptor.digest();
            let mut archive = layer.open(&unbounded())?;
            let length = std::io::copy(&mut archive, &mut std::io::sink())
                .and_then(|length| archive.finish().map(|()| length))
                .map_err(Error::stream(digest))?;
            place.insert(Member::Unpacked(Box::new(layer.clone()), length));
        }
        Ok(())
    }

    pub(crate) fn add_blobs(&mut self, image: &Image) {
        for (descriptor, source) in image.blobs().into_values() {
            self.0
                .insert(blob_name(descriptor.digest()), Member::Blob(Box::new(descriptor), source));
        }
        self.add_document(blob_name(image.digest()), image.manifest_bytes.clone());
    }

    pub(crate) fn write<W: Write>(self, out: W) -> Result<W> {
        let mut archive = tar::Writer::new(out);
        for (name, member) in self.0 {
            let mut entry = file(&name);
            let mut content: Box<dyn Read> = match member {
                Member::Document(bytes) => {
                    entry.size = bytes.len() as u64;
                    Box::new(std::io::Cursor::new(bytes))
                }
                Member::Blob(descriptor, source) => {
                    let digest = descriptor.digest();
                    entry.size = descriptor.size();
                    let reader = source.open().map_err(Error::stream(digest))?;
                    Box::new(Checked::new(reader, digest, Some(descriptor.size()))?)
                }
                Member::Unpacked(layer, length) => {
                    entry.size = length;
                    Box::new(layer.open(&unbounded())?)
                }
                Member::Link(target) => {
                    entry.kind = Type::Symlink;
                    entry.link = target.into_bytes();
                    entry.mode = 0o777;
                    Box::new(std::io::empty())
                }
            };
            archive.append(&entry, &mut content).map_err(Error::stream(&name))?;
        }
        archive.finish().map_err(Error::stream("the archive"))
    }
}

/// What is copied and not unpacked takes no memory.
fn unbounded() -> crate::Limits {
    crate::Limits { ratio: u64::MAX, ..crate::Limits::default() }
}

fn file(name: &str) -> Entry {
    Entry { mode: 0o644, ..Entry::file(name.as_bytes().to_vec()) }
}
