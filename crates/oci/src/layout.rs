//! Image layouts (image specification, image-layout.md): a directory, or the same in a tar archive.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_tree::{Source, Tree};
use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, ImageIndex, MediaType, Platform, SCHEMA_VERSION,
};

use crate::digest::Checked;
use crate::image::Image;
use crate::layer::{self, Compression, Layer};
use crate::limits::Limits;
use crate::store::{Store, blob_name};
use crate::{Error, Result, json, platform};

pub(crate) const MARKER: &str = "oci-layout";
pub(crate) const MARKER_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(crate) const INDEX: &str = "index.json";

/// A layout that is there.
#[derive(Debug, Clone)]
pub struct Layout {
    store: Store,
    index: ImageIndex,
    limits: Limits,
}

/// An image of a layout, before its documents are read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its name (annotation `org.opencontainers.image.ref.name`).
    pub name: Option<String>,
    /// What describes its manifest.
    pub descriptor: Descriptor,
}

impl Layout {
    /// Opens a directory, or a tar archive that is not compressed and is read where it lies.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Missing`] and [`Error::Document`] for what is no layout;
    /// [`Error::Entry`] for a broken archive.
    pub fn open(path: impl AsRef<Path>, limits: Limits) -> Result<Self> {
        let store = Store::open(path.as_ref(), &limits)?;
        let origin = |name| format!("{}: {name}", store.path.display());
        let marker: serde_json::Value =
            json::parse(&origin(MARKER), &store.document(MARKER, limits.manifest)?)?;
        let version = marker.get("imageLayoutVersion").and_then(serde_json::Value::as_str);
        if version != Some("1.0.0") {
            return Err(Error::document(origin(MARKER), "its imageLayoutVersion is not 1.0.0"));
        }
        let index = json::parse(&origin(INDEX), &store.document(INDEX, limits.manifest)?)?;
        Ok(Self { store, index, limits })
    }

    /// Opens a directory, and makes an empty layout of it if there is none.
    ///
    /// # Errors
    /// As [`Layout::open`].
    pub fn create(path: impl AsRef<Path>, limits: Limits) -> Result<Self> {
        let path = path.as_ref();
        if !path.join(INDEX).exists() {
            let blobs = path.join("blobs/sha256");
            fs::create_dir_all(&blobs).map_err(Error::io("create directory", &blobs))?;
            place(&path.join(MARKER), &mut &MARKER_TEXT[..])?;
            place(&path.join(INDEX), &mut json::write(&empty())?.as_slice())?;
        }
        Self::open(path, limits)
    }

    /// The images, those of indexes in the index among them, in the order in which they stand.
    ///
    /// # Errors
    /// For a nested index that is missing, broken, too deep, or one too many.
    pub fn images(&self) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        for descriptor in self.index.manifests() {
            self.descend(descriptor, None, 0, &mut found)?;
        }
        Ok(found)
    }

    fn descend(
        &self,
        descriptor: &Descriptor,
        name: Option<&String>,
        depth: usize,
        found: &mut Vec<Listed>,
    ) -> Result<()> {
        let origin = self.store.path.display();
        if depth > self.limits.nesting || found.len() >= self.limits.manifests {
            let reason = format!("{} leads to too many manifests", descriptor.digest());
            return Err(Error::document(origin, reason));
        }
        let annotations = descriptor.annotations().as_ref();
        let own = annotations.and_then(|annotations| annotations.get(ANNOTATION_REF_NAME));
        let name = own.or(name);
        if is_index(descriptor.media_type()) {
            let bytes = self.store.blob_document(descriptor, self.limits.manifest)?;
            let index: ImageIndex = json::parse(descriptor.digest().as_ref(), &bytes)?;
            for inner in index.manifests() {
                self.descend(inner, name, depth.saturating_add(1), found)?;
            }
        } else if is_manifest(descriptor.media_type()) {
            found.push(Listed { name: name.cloned(), descriptor: descriptor.clone() });
        }
        Ok(())
    }

    /// An image by its name or the digest of its manifest, for a platform. Without a name there must
    /// be images of one name only. Layers are not read, only looked for.
    ///
    /// # Errors
    /// [`Error::Missing`] with what is there instead; [`Error::Blob`] and [`Error::Document`].
    pub fn image(&self, name: Option<&str>, wanted: &Platform) -> Result<Image> {
        let images = self.images()?;
        let by_digest = |listed: &&Listed| Some(listed.descriptor.digest().as_ref()) == name;
        if let Some(listed) = images.iter().find(by_digest) {
            return self.read(&listed.descriptor);
        }
        let names: BTreeSet<&str> =
            images.iter().map(|listed| listed.name.as_deref().unwrap_or("(no name)")).collect();
        let missing = |what: String, there: Vec<String>| {
            let place = self.store.path.display().to_string();
            Err(Error::Missing { place, what, there })
        };
        let there = || names.iter().map(ToString::to_string).collect();
        if name.is_none() && names.len() > 1 {
            return missing("single name; say which".into(), there());
        }
        let named: Vec<&Listed> = images
            .iter()
            .filter(|listed| name.is_none() || listed.name.as_deref() == name)
            .collect();
        if named.is_empty() {
            return missing(format!("image {}", name.unwrap_or("at all")), there());
        }
        let nearest = named
            .iter()
            .filter_map(|listed| {
                let offered = listed.descriptor.platform().as_ref();
                let distance = match offered {
                    Some(offered) => platform::distance(wanted, offered)?,
                    None => u32::MAX,
                };
                Some((distance, *listed))
            })
            .min_by_key(|(distance, _)| *distance);
        match nearest {
            Some((_, listed)) => self.read(&listed.descriptor),
            None => {
                let offered =
                    named.iter().filter_map(|listed| listed.descriptor.platform().as_ref());
                let what = format!("image for {}", platform::shown(wanted));
                missing(what, offered.map(platform::shown).collect())
            }
        }
    }

    fn read(&self, descriptor: &Descriptor) -> Result<Image> {
        let manifest = self.store.blob_document(descriptor, self.limits.manifest)?;
        let about = crate::image::manifest_of(descriptor.digest().as_ref(), &manifest)?;
        let config = self.store.blob_document(about.config(), self.limits.config)?;
        let mut layer = |descriptor: &Descriptor| self.store.blob(descriptor);
        Image::of_documents(descriptor.clone(), manifest, config, &mut layer, &self.limits)
    }

    /// Puts an image into the layout, each blob beside its place first and only if it is not there,
    /// its digest checked while it is copied. An image of the same name and platform is no longer
    /// listed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an archive; [`Error::Blob`] for a layer that is not what it should be;
    /// [`Error::Io`].
    pub fn add(&mut self, image: &Image, name: Option<&str>) -> Result<()> {
        if self.store.is_archive() {
            let path = self.store.path.display();
            return Err(Error::invalid(path, "nothing is added to an archive"));
        }
        for (descriptor, source) in image.blobs().into_values() {
            self.add_blob(&descriptor, &source)?;
        }
        self.add_blob(&image.descriptor, &Source::from(image.manifest_bytes.clone()))?;
        list(&mut self.index, image, name);
        self.save()
    }

    /// Packs a tree as a layer, right where it belongs. It is a part of no image until one that is built
    /// of it is added.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an archive; as [`layer::write`]; [`Error::Io`].
    pub fn pack(&self, tree: &Tree, compression: Compression) -> Result<Layer> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if self.store.is_archive() {
            let path = self.store.path.display();
            return Err(Error::invalid(path, "nothing is added to an archive"));
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("blobs/sha256/.part-layer-{}-{number}", std::process::id());
        let beside = self.store.path.join(name);
        let packed = (|| {
            let file = File::create(&beside).map_err(Error::io("create", &beside))?;
            let (file, packed) = layer::write(tree, compression, file)?;
            file.sync_data().map_err(Error::io("write", &beside))?;
            let layer = packed.layer(Source::from(Vec::new()));
            let (path, len) = (self.blob_path(&layer.descriptor), layer.descriptor.size());
            fs::rename(&beside, &path).map_err(Error::io("rename to", &path))?;
            Ok(Layer { source: Source::File { path, len }, ..layer })
        })();
        if packed.is_err() {
            let _ = fs::remove_file(&beside);
        }
        packed
    }

    fn save(&self) -> Result<()> {
        place(&self.store.path.join(INDEX), &mut json::write(&self.index)?.as_slice())
    }

    /// Where a blob of the layout is, or would be.
    pub(crate) fn blob_path(&self, descriptor: &Descriptor) -> PathBuf {
        self.store.path.join(blob_name(descriptor.digest()))
    }

    pub(crate) fn add_blob(&self, descriptor: &Descriptor, source: &Source) -> Result<()> {
        let path = self.blob_path(descriptor);
        if fs::metadata(&path).is_ok_and(|found| found.len() == descriptor.size()) {
            return Ok(());
        }
        let digest = descriptor.digest();
        let reader = source.open().map_err(Error::stream(digest))?;
        place(&path, &mut Checked::new(reader, digest, Some(descriptor.size()))?)
    }
}

pub(crate) fn empty() -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_schema_version(SCHEMA_VERSION);
    index.set_media_type(Some(MediaType::ImageIndex));
    index
}

/// Lists an image in an index.
pub(crate) fn list(index: &mut ImageIndex, image: &Image, name: Option<&str>) {
    let mut descriptor = image.descriptor.clone();
    let mut annotations = descriptor.annotations().clone().unwrap_or_default();
    annotations.remove(ANNOTATION_REF_NAME);
    if let Some(name) = name {
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.to_owned());
    }
    descriptor.set_annotations((!annotations.is_empty()).then_some(annotations));
    let named = |descriptor: &Descriptor| {
        descriptor.annotations().as_ref().and_then(|all| all.get(ANNOTATION_REF_NAME).cloned())
    };
    let mut manifests = index.manifests().clone();
    manifests.retain(|other| {
        let same = match name {
            Some(_) => {
                named(other) == named(&descriptor) && other.platform() == descriptor.platform()
            }
            None => other.digest() == descriptor.digest() && named(other).is_none(),
        };
        !same
    });
    manifests.push(descriptor);
    index.set_manifests(manifests);
}

pub(crate) fn is_index(media_type: &MediaType) -> bool {
    matches!(
        media_type.as_ref(),
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

pub(crate) fn is_manifest(media_type: &MediaType) -> bool {
    matches!(
        media_type.as_ref(),
        "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

/// Writes a file beside its place, and renames it once all of it is there.
pub(crate) fn place(path: &Path, content: &mut dyn io::Read) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Two writers at a time must not share a file; the name is gone before anybody sees it.
    let beside = path.with_file_name(format!(".part-{name}-{}", std::process::id()));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
    }
    let written = (|| {
        let mut file = File::create(&beside).map_err(Error::io("create", &beside))?;
        io::copy(content, &mut file).map_err(Error::stream(path.display()))?;
        file.flush().and_then(|()| file.sync_data()).map_err(Error::io("write", &beside))?;
        fs::rename(&beside, path).map_err(Error::io("rename to", path))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
