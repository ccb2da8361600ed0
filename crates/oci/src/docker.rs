//! Archives of `docker save` and `docker load`: several images with their tags in one file.
//!
//! Up to Docker 24 layers lie decompressed beside each other; from 25 on the archive is a layout
//! (see [`crate::layout`]) too. `manifest.json` leads to either.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use kiln_tree::Source;
use oci_spec::image::{Descriptor, Digest};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::archive::Members;
use crate::digest::Hash;
use crate::image::{Image, config_of};
use crate::layer::{Compression, Layer};
use crate::layout::{self, INDEX, MARKER, MARKER_TEXT};
use crate::limits::Limits;
use crate::store::{Store, blob_name};
use crate::{Error, Result, digest, json};

const MANIFEST: &str = "manifest.json";

/// An image of the archive, as `manifest.json` has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default, deserialize_with = "or_null")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    layers: Vec<String>,
}

/// Go writes an empty list as null.
fn or_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(from)?.unwrap_or_default())
}

/// An archive that is there.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Store,
    items: Vec<Item>,
    limits: Limits,
}

impl Archive {
    /// Opens an archive that is not compressed, to be read where it lies (or a directory into which
    /// one was unpacked).
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Entry`] for a broken archive; [`Error::Missing`] where there is no
    /// `manifest.json`, as in archives of Docker before 1.10.
    pub fn open(path: impl AsRef<Path>, limits: Limits) -> Result<Self> {
        let store = Store::open(path.as_ref(), &limits)?;
        let origin = format!("{}: {MANIFEST}", store.path.display());
        let items: Vec<Item> = json::parse(&origin, &store.document(MANIFEST, limits.manifest)?)?;
        if items.len() > limits.manifests {
            return Err(Error::document(origin, format!("it lists {} images", items.len())));
        }
        Ok(Self { store, items, limits })
    }

    /// The tags of each image, in the order in which they stand.
    #[must_use]
    pub fn tags(&self) -> Vec<&[String]> {
        self.items.iter().map(|item| item.repo_tags.as_slice()).collect()
    }

    /// An image by one of its tags; without one there must be a single image.
    ///
    /// # Errors
    /// [`Error::Missing`] with the tags that are there, and as [`Archive::images`].
    pub fn image(&self, tag: Option<&str>) -> Result<Image> {
        let missing = |what: String| {
            let there = self.items.iter().flat_map(|item| item.repo_tags.clone()).collect();
            Error::Missing { place: self.store.path.display().to_string(), what, there }
        };
        match tag {
            Some(tag) => {
                let found =
                    self.items.iter().find(|item| item.repo_tags.iter().any(|name| name == tag));
                self.read(found.ok_or_else(|| missing(format!("image {tag}")))?)
            }
            None => match self.items.as_slice() {
                [item] => self.read(item),
                _ => Err(missing("single image; say which".into())),
            },
        }
    }

    /// All images with their tags.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Document`] and [`Error::Blob`] for the first that is broken.
    pub fn images(&self) -> Result<Vec<(Vec<String>, Image)>> {
        self.items.iter().map(|item| Ok((item.repo_tags.clone(), self.read(item)?))).collect()
    }

    /// The archive has no manifest in the specification's sense, so one is made: the same archive
    /// gives the same.
    fn read(&self, item: &Item) -> Result<Image> {
        let origin = format!("{}: {}", self.store.path.display(), item.config);
        let config_bytes = self.store.document(&item.config, self.limits.config)?;
        if let Some(promised) = named_digest(&item.config) {
            let found = digest::of(&config_bytes)?;
            if found != promised {
                return Err(Error::blob(&promised, format!("the digest of its bytes is {found}")));
            }
        }
        let config = config_of(&origin, &config_bytes)?;
        let diff_ids = config.rootfs().diff_ids();
        if diff_ids.len() != item.layers.len() || diff_ids.len() > self.limits.manifests {
            let (ids, layers) = (diff_ids.len(), item.layers.len());
            let reason = format!("it has {ids} diff_ids, and {MANIFEST} {layers} layers");
            return Err(Error::document(origin, reason));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in item.layers.iter().zip(diff_ids) {
            let diff_id = digest::parse(diff_id)?;
            layers.push(described(name, diff_id, self.store.get(name)?)?);
        }
        Image::assemble(config, config_bytes, layers, &BTreeMap::new())
    }
}

/// The digest that a member has as its name.
fn named_digest(name: &str) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"))?;
    format!("sha256:{hex}").parse().ok()
}

/// A layer of which only the digest of its archive is known.
fn described(name: &str, diff_id: Digest, source: Source) -> Result<Layer> {
    let mut compression = Compression::of_source(&source).map_err(Error::stream(name))?;
    let mut digest = diff_id.clone();
    if compression != Compression::None {
        digest = match named_digest(name) {
            Some(digest) => digest,
            None => {
                let mut hash = Hash::sha256();
                let mut reader = source.open().map_err(Error::stream(name))?;
                let mut buffer = vec![0; 64 << 10];
                loop {
                    match reader.read(&mut buffer).map_err(Error::stream(name))? {
                        0 => break hash.finish()?,
                        count => hash.update(buffer.get(..count).unwrap_or_default()),
                    }
                }
            }
        };
        // It may be the archive itself, whose first name only begins like that.
        if digest == diff_id {
            compression = Compression::None;
        }
    }
    let descriptor = Descriptor::new(Layer::media_type(compression), source.len(), digest);
    Ok(Layer::new(descriptor, diff_id, source))
}

/// How an archive is arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Form {
    /// Layers decompressed, and what Docker before 1.10 wants: every version reads it.
    #[default]
    Legacy,
    /// A layout with layers as they are: Docker 25 and later write it, and others read it.
    Layout,
}

/// Writes images with their tags (`name:tag`). The same images give the same bytes; layers that
/// several have are there once.
///
/// # Errors
/// [`Error::Invalid`] for a tag that is none; [`Error::Blob`] for a layer that is not what it should
/// be; [`Error::Stream`].
pub fn write<W: Write>(out: W, images: &[(Vec<String>, &Image)], form: Form) -> Result<W> {
    let mut members = Members::default();
    let mut items = Vec::new();
    let mut repositories: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    let mut index = layout::empty();
    for (tags, image) in images {
        let (item, top) = match form {
            Form::Legacy => legacy(&mut members, image)?,
            Form::Layout => {
                members.add_blobs(image);
                for tag in tags {
                    layout::list(&mut index, image, Some(tag));
                }
                if tags.is_empty() {
                    layout::list(&mut index, image, None);
                }
                let blob = |layer: &Layer| blob_name(layer.descriptor.digest());
                let layers: Vec<String> = image.layers.iter().map(blob).collect();
                let top = image.layers.last().map(|layer| hex(&layer.diff_id));
                let config = blob_name(image.manifest.config().digest());
                (Item { config, repo_tags: Vec::new(), layers }, top)
            }
        };
        for tag in tags {
            let (name, short) = split(tag)?;
            if let Some(top) = &top {
                repositories.entry(name).or_default().insert(short, top.clone());
            }
        }
        items.push(Item { repo_tags: tags.clone(), ..item });
    }
    if form == Form::Layout {
        members.add_document(MARKER, MARKER_TEXT.to_vec());
        members.add_document(INDEX, json::write(&index)?);
    }
    members.add_document(MANIFEST, json::write(&items)?);
    members.add_document("repositories", json::write(&repositories)?);
    members.write(out)
}

fn hex(digest: &Digest) -> String {
    digest.digest().to_owned()
}

fn split(tag: &str) -> Result<(&str, &str)> {
    match tag.rsplit_once(':') {
        Some((name, short)) if !name.is_empty() && !short.is_empty() && !short.contains('/') => {
            Ok((name, short))
        }
        _ => Err(Error::invalid(tag, "a tag of an archive is name:tag")),
    }
}

/// Puts the members of an image, as Docker 1.10 to 24 and 1.0 to 1.9 look for them; gives the
/// identifier of its top layer besides.
fn legacy(members: &mut Members, image: &Image) -> Result<(Item, Option<String>)> {
    let config = format!("{}.json", hex(image.manifest.config().digest()));
    let mut layers = Vec::new();
    let mut parent: Option<String> = None;
    let settings: serde_json::Value = json::parse(&config, &image.config_bytes)?;
    for (number, layer) in image.layers.iter().enumerate() {
        let name = format!("{}.tar", hex(&layer.diff_id));
        members.add_unpacked(name.clone(), layer)?;
        let is_top = number.saturating_add(1) == image.layers.len();
        // Any identifier will do that is another where anything below, or the image, is another.
        let own = if is_top { config.as_str() } else { "" };
        let text = format!("{} {name} {own}", parent.as_deref().unwrap_or_default());
        let id = hex(&digest::of(text.as_bytes())?);
        let mut about = json!({ "id": id, "created": "1970-01-01T00:00:00Z" });
        if let Some(about) = about.as_object_mut() {
            if let Some(parent) = &parent {
                about.insert("parent".into(), json!(parent));
            }
            for key in ["architecture", "os", "created", "config", "author"] {
                if let Some(value) = settings.get(key).filter(|_| is_top) {
                    about.insert(key.into(), value.clone());
                }
            }
        }
        members.add_document(format!("{id}/VERSION"), b"1.0".to_vec());
        members.add_document(format!("{id}/json"), json::write(&about)?);
        members.add_link(format!("{id}/layer.tar"), format!("../{name}"));
        layers.push(name);
        parent = Some(id);
    }
    members.add_document(config.clone(), image.config_bytes.clone());
    Ok((Item { config, repo_tags: Vec::new(), layers }, parent))
}
