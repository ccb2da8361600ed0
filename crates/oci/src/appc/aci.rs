//! Images as they are kept: an archive of a manifest and a root (aci.md, "Image Archives").

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_tree::{Metadata, Source, Tree, TreePath};

use super::image::ImageManifest;
use super::names::ImageId;
use super::place::{Member, member};
use super::stream::{self, Packing};
use crate::digest::Hash;
use crate::layer::{Apply, Content, Devices, Options, Refused, Rules, Sink};
use crate::tar::{Entry, Type};
use crate::{Error, Limits, Result, json};

/// An image (ACI), all of which has been looked at, and whose bytes stay where they are. It is small:
/// a clone shares the manifest.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Aci {
    /// The SHA-512 of the archive, decompressed.
    pub id: ImageId,
    /// What it says of itself.
    pub manifest: Arc<ImageManifest>,
    /// The manifest's bytes.
    pub manifest_bytes: Arc<[u8]>,
    /// How it is compressed.
    pub packing: Packing,
    /// Its bytes, compressed as they are.
    pub source: Source,
    /// Where it is, for messages.
    pub(super) origin: Arc<str>,
    /// The file that each further name is one of.
    pub(super) links: Arc<BTreeMap<TreePath, TreePath>>,
}

impl Aci {
    /// Looks at an image in a file: all of it is read once, by the rules by which it is unpacked, and
    /// none of its contents are kept. What is wrong with it is found here, device nodes aside, about
    /// which whoever unpacks it decides.
    ///
    /// # Errors
    /// [`Error::Entry`] for what is broken, hostile, twice there, or neither manifest nor root;
    /// [`Error::Document`] and [`Error::Manifest`] for a manifest that is none; [`Error::Missing`]
    /// without a manifest or root; [`Error::Io`].
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        let path = path.as_ref();
        let len = std::fs::metadata(path).map_err(Error::io("look at", path))?.len();
        let source = Source::File { path: path.into(), len };
        Self::of_source(&path.display().to_string(), source, limits)
    }

    /// The same image in another file: the one that was looked at, now that it has been moved or copied
    /// to where it is kept. It is not read again here; who unpacks it compares its ID.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that is not there.
    pub fn moved_to(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let len = std::fs::metadata(path).map_err(Error::io("look at", path))?.len();
        let source = Source::File { path: path.into(), len };
        Ok(Self { source, origin: path.display().to_string().into(), ..self })
    }

    /// Looks at an image whose bytes are anywhere. `origin` is what messages call it.
    ///
    /// # Errors
    /// As [`Aci::open`].
    pub fn of_source(origin: &str, source: Source, limits: &Limits) -> Result<Self> {
        let packing = Packing::of_source(&source).map_err(Error::stream(origin))?;
        let mut hash = Hash::sha512();
        let mut scan = Scan::of(origin, limits);
        let options = Options { limits: limits.clone(), devices: Devices::Keep };
        let look = |bytes: Option<&[u8]>| {
            hash.update(bytes.unwrap_or_default());
            Ok(())
        };
        stream::read(origin, &source, packing, limits, look, |archive| {
            let mut apply = Apply::onto(Tree::new(), Rules::Roots, &options);
            let prepare = &mut |entry, content: &mut dyn Read| scan.entry(entry, content);
            apply.entries(origin, &None, archive, prepare, &mut Nowhere)
        })?;
        let missing = |what: &str| Error::Missing {
            place: origin.into(),
            what: what.into(),
            there: Vec::new(),
        };
        let manifest_bytes = scan.manifest.ok_or_else(|| missing("manifest"))?;
        if !scan.rootfs {
            return Err(missing("rootfs"));
        }
        let manifest = ImageManifest::parse(&format!("{origin}: manifest"), &manifest_bytes)?;
        Ok(Self {
            id: ImageId::of_digest(&hash.finish()?),
            manifest: Arc::new(manifest),
            manifest_bytes: manifest_bytes.into(),
            packing,
            source,
            origin: origin.into(),
            links: Arc::new(scan.links),
        })
    }

    /// The archive's bytes, where they are as they are: offsets in it are offsets in a file.
    pub(super) fn plain(&self) -> Option<(PathBuf, u64)> {
        match (self.packing, &self.source) {
            (Packing::Plain, Source::File { path, .. }) => Some((path.clone(), 0)),
            (Packing::Plain, Source::Range { path, offset, .. }) => Some((path.clone(), *offset)),
            _ => None,
        }
    }
}

/// What is kept of an archive that is only looked at.
struct Scan<'limits> {
    origin: &'limits str,
    limits: &'limits Limits,
    manifest: Option<Vec<u8>>,
    rootfs: bool,
    /// Directories with an entry, which may be there only once. What has another kind is found by
    /// whoever applies it.
    directories: BTreeSet<TreePath>,
    top: bool,
    links: BTreeMap<TreePath, TreePath>,
}

impl<'limits> Scan<'limits> {
    fn of(origin: &'limits str, limits: &'limits Limits) -> Self {
        Self {
            origin,
            limits,
            manifest: None,
            rootfs: false,
            directories: BTreeSet::new(),
            top: false,
            links: BTreeMap::new(),
        }
    }

    fn entry(&mut self, entry: Entry, content: &mut dyn Read) -> Result<Option<Entry>, Refused> {
        match member(entry, self.limits)? {
            Member::Top => {
                if std::mem::replace(&mut self.top, true) {
                    return Err("it is there twice".into());
                }
                Ok(None)
            }
            Member::Manifest => {
                if self.manifest.is_some() {
                    return Err("there is a manifest already".into());
                }
                let origin = format!("{}: manifest", self.origin);
                self.manifest = Some(json::read(&origin, content, self.limits.manifest)?);
                Ok(None)
            }
            Member::Root(path, target, entry) => {
                self.rootfs = true;
                if entry.kind == Type::Directory && !self.directories.insert(path.clone()) {
                    return Err("it is there twice".into());
                }
                if let Some(target) = target {
                    let file = self.links.get(&target).cloned().unwrap_or(target);
                    self.links.insert(path, file);
                }
                Ok(Some(*entry))
            }
        }
    }
}

/// Where nothing is kept.
struct Nowhere;

impl Sink for Nowhere {
    /// The content is passed over by whoever reads the next entry.
    fn file(
        &mut self,
        _: &TreePath,
        _: &Metadata,
        content: Content<'_>,
    ) -> Result<io::Result<Source>> {
        Ok(Ok(Source::Range { path: PathBuf::new(), offset: 0, len: content.len }))
    }
}
