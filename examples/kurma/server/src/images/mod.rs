//! Images: taken in, found by name, removed.
//!
//! An image is a directory called by its digest, with its files below `rootfs`, which nobody writes to, and
//! `image.json` beside them. It is made beside and renamed, so whatever is there is whole.

mod import;
mod users;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_oci::Limits;
use kiln_oci::appc::{Identifier, ImageId, ImageManifest, PodImage};
use kurma_client::Image;
use kurma_client::rpc::{CONFLICT, Fault, INTERNAL_ERROR, INVALID_PARAMS, NOT_FOUND};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::files;

type Result<T, E = Fault> = std::result::Result<T, E>;

/// The images of a machine.
#[derive(Debug)]
pub struct Images {
    directory: PathBuf,
    limits: Limits,
    all: Mutex<BTreeMap<String, Kept>>,
    /// Held while an image is put into its place or taken away.
    work: Mutex<()>,
}

/// An image, as its file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    image: Image,
    /// When it came, in seconds since 1970.
    created: u64,
}

/// An image that an app can be of.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) id: ImageId,
    pub(crate) manifest: ImageManifest,
    /// Its files, those of the images that it depends on among them.
    pub(crate) root: PathBuf,
}

fn failed(problem: impl ToString) -> Fault {
    Fault::new(INTERNAL_ERROR, problem.to_string())
}

impl Kept {
    fn manifest(&self) -> Result<ImageManifest> {
        let text = serde_json::to_vec(&self.image.manifest).map_err(failed)?;
        ImageManifest::parse(&self.image.hash, &text).map_err(failed)
    }

    /// Whether it has a name, and these labels.
    fn is(&self, name: &str, labels: &BTreeMap<Identifier, String>) -> bool {
        self.image.name() == name
            && labels.iter().all(|(label, value)| self.image.label(label.as_str()) == Some(value))
    }
}

impl Images {
    /// The images that a directory has; what was begun there and not ended is removed.
    ///
    /// # Errors
    /// A sentence: the directory cannot be made or read.
    pub fn open(directory: impl Into<PathBuf>, limits: Limits) -> Result<Self, String> {
        let directory = directory.into();
        fs::create_dir_all(&directory).map_err(files::sentence("make", &directory))?;
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(files::sentence("read", &directory))? {
            let path = entry.map_err(files::sentence("read", &directory))?.path();
            let kept = fs::read(path.join("image.json")).unwrap_or_default();
            match serde_json::from_slice::<Kept>(&kept) {
                Ok(kept)
                    if path.file_name().is_some_and(|name| name == kept.image.hash.as_str()) =>
                {
                    all.insert(kept.image.hash.clone(), kept);
                }
                _ if path.is_dir() => {
                    let _ = fs::remove_dir_all(&path);
                }
                _ => {
                    let _ = fs::remove_file(&path);
                }
            }
        }
        let (all, work) = (Mutex::new(all), Mutex::new(()));
        Ok(Self { directory, limits, all, work })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file for an archive that comes in, on the file system that it is unpacked to.
    pub(crate) fn spool(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::with_prefix_in(".incoming-", &self.directory)
    }

    /// All images, by name.
    pub(crate) fn list(&self) -> Vec<Image> {
        let mut images: Vec<Image> = self.lock().values().map(|kept| kept.image.clone()).collect();
        images.sort_by(|one, other| (one.name(), &one.hash).cmp(&(other.name(), &other.hash)));
        images
    }

    /// An image by its digest, a beginning of it that no other has, or its name, with a version or without:
    /// the one that came last.
    fn kept(&self, asked: &str) -> Result<Kept> {
        let all = self.lock();
        if let Some(kept) = all.get(asked) {
            return Ok(kept.clone());
        }
        let (name, version) = match asked.rsplit_once(':') {
            Some((name, version)) if !version.contains('/') => (name, Some(version)),
            _ => (asked, None),
        };
        let named = all.values().filter(|kept| {
            let image = &kept.image;
            image.name() == name
                && version.is_none_or(|version| image.label("version") == Some(version))
        });
        if let Some(kept) = named.max_by_key(|kept| kept.created) {
            return Ok(kept.clone());
        }
        let begins = |kept: &&Kept| {
            let digits = asked.strip_prefix("sha512-").unwrap_or(asked);
            let own = kept.image.hash.strip_prefix("sha512-").unwrap_or(&kept.image.hash);
            digits.len() >= 6 && own.starts_with(digits)
        };
        let mut begun = all.values().filter(begins);
        match (begun.next(), begun.next()) {
            (Some(kept), None) => Ok(kept.clone()),
            (Some(_), Some(_)) => Err(Fault::new(
                CONFLICT,
                format!("the digests of several images begin with {asked:?}"),
            )),
            _ => Err(missing(asked)),
        }
    }

    pub(crate) fn get(&self, asked: &str) -> Result<Image> {
        Ok(self.kept(asked)?.image)
    }

    /// An image that an app is to be of.
    pub(crate) fn find(&self, asked: &str) -> Result<Found> {
        let kept = self.kept(asked)?;
        self.found(&kept)
    }

    /// The image that a manifest asks for.
    pub(crate) fn find_for(&self, image: &PodImage) -> Result<Found> {
        if let Some(id) = &image.id {
            let kept = self.lock().get(id.as_str()).cloned();
            let kept = kept.ok_or_else(|| missing(id.as_str()))?;
            if image.name.as_ref().is_some_and(|name| !kept.is(name.as_str(), &image.labels)) {
                let what = format!(
                    "the image {id} is another one than its app says: {}",
                    kept.image.name()
                );
                return Err(Fault::new(INVALID_PARAMS, what));
            }
            return self.found(&kept);
        }
        let name = image.name.as_ref().map(Identifier::as_str).unwrap_or_default();
        let kept = {
            let all = self.lock();
            let fitting = all.values().filter(|kept| kept.is(name, &image.labels));
            fitting.max_by_key(|kept| kept.created).cloned()
        };
        self.found(&kept.ok_or_else(|| missing(name))?)
    }

    fn found(&self, kept: &Kept) -> Result<Found> {
        let root = self.directory.join(&kept.image.hash).join("rootfs");
        let id = kept.image.hash.parse().map_err(failed)?;
        Ok(Found { id, manifest: kept.manifest()?, root })
    }

    /// Removes an image that is not among these in use. Images that were made upon it have its files.
    pub(crate) fn delete(&self, asked: &str, in_use: &[String]) -> Result<()> {
        let _work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept(asked)?;
        if in_use.contains(&kept.image.hash) {
            let what = format!("a pod is made of the image {}", kept.image.name());
            return Err(Fault::new(CONFLICT, what));
        }
        let path = self.directory.join(&kept.image.hash);
        let gone = self.directory.join(format!(".gone-{}", kept.image.hash));
        fs::rename(&path, &gone)
            .map_err(|error| failed(files::sentence("remove", &path)(error)))?;
        self.lock().remove(&kept.image.hash);
        fs::remove_dir_all(&gone).map_err(|error| failed(files::sentence("remove", &gone)(error)))
    }
}

fn missing(asked: &str) -> Fault {
    let shown: String = asked.chars().take(160).collect();
    Fault::new(NOT_FOUND, format!("there is no image {shown:?}"))
}
