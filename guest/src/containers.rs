//! Containers of the images that a system brings in one archive: each image is unpacked once, each
//! container has a root of its own above it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kiln_oci::bundle::{self, Users};
use kiln_oci::layer::{self, Devices};
use kiln_oci::{Image, Limits, docker, host};
use kiln_tree::{Node, Tree};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sha2::{Digest, Sha256};

use crate::files;

/// The images of an archive, and where they are unpacked.
#[derive(Debug)]
pub struct Images {
    archive: docker::Archive,
    directory: PathBuf,
}

/// An image that is unpacked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Unpacked {
    /// The image.
    pub image: Image,
    /// Its files. Containers share them: nobody writes here.
    pub root: PathBuf,
}

fn sentence(what: &str, path: &Path) -> impl FnOnce(io::Error) -> String {
    let shown = format!("{what} {}", path.display());
    move |error| format!("{shown}: {error}")
}

impl Images {
    /// The images of an archive of `docker save`, to be unpacked in a directory.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(archive: &Path, directory: &Path) -> Result<Self, String> {
        let archive = docker::Archive::open(archive, Limits::default());
        let archive = archive.map_err(|error| error.to_string())?;
        fs::create_dir_all(directory).map_err(sentence("make", directory))?;
        Ok(Self { archive, directory: directory.into() })
    }

    /// The same images, to be unpacked in another directory.
    ///
    /// # Errors
    /// A sentence: the directory cannot be made.
    pub fn unpacked_below(&self, directory: &Path) -> Result<Self, String> {
        fs::create_dir_all(directory).map_err(sentence("make", directory))?;
        Ok(Self { archive: self.archive.clone(), directory: directory.into() })
    }

    /// Whether an image of this name and tag is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.archive.tags().iter().any(|tags| tags.iter().any(|tag| tag == name))
    }

    /// An image by its name and tag, unpacked unless it was before.
    ///
    /// # Errors
    /// A sentence: there is no such image; it is broken; the disk is full.
    pub fn unpacked(&self, name: &str) -> Result<Unpacked, String> {
        self.unpack(Some(name))
    }

    /// The same of the only image that there is.
    ///
    /// # Errors
    /// A sentence: there are several; it is broken; the disk is full.
    pub fn single(&self) -> Result<Unpacked, String> {
        self.unpack(None)
    }

    fn unpack(&self, name: Option<&str>) -> Result<Unpacked, String> {
        let image = self.archive.image(name).map_err(|error| error.to_string())?;
        let root = self.directory.join(image.digest().digest());
        // It is renamed to its place when it is whole.
        if !root.is_dir() {
            let mut options = host::Unpack::default();
            options.layers = layer::Options::default();
            options.layers.devices = Devices::Skip;
            (options.owners, options.xattrs) = (true, true);
            host::unpack(&image, &root, &options)
                .map_err(|error| format!("{}: {error}", name.unwrap_or("the image")))?;
        }
        Ok(Unpacked { image, root })
    }

    /// Removes what was unpacked of images that are not among these. Gives how many there were.
    pub fn retain(&self, images: &[Unpacked]) -> usize {
        let kept: BTreeSet<&Path> = images.iter().map(|image| image.root.as_path()).collect();
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let others =
            entries.map(|entry| entry.path()).filter(|path| !kept.contains(path.as_path()));
        others.filter(|path| fs::remove_dir_all(path).is_ok()).count()
    }
}

/// Makes the bundle of a container below a directory: `NAME-DIGEST`, another one whenever anything about
/// the container is another, so that who compares paths compares containers. What the container writes
/// goes to `written`, which must be on a file system that overlayfs takes (no overlay itself), and is kept
/// there. Gives the bundle's path.
///
/// # Errors
/// A sentence.
pub fn bundle(
    directory: &Path,
    name: &str,
    unpacked: &Unpacked,
    mut options: bundle::Options,
    written: &Path,
) -> Result<PathBuf, String> {
    options.root = "rootfs".into();
    let users = users(&unpacked.root).map_err(sentence("read users of", &unpacked.root))?;
    let (_, config) = bundle::spec(&unpacked.image.config, &users, &options)
        .map_err(|error| format!("{name}: {error}"))?;
    let digest = digest(&[unpacked.image.digest().digest().as_bytes(), &config].concat());
    let place = directory.join(format!("{name}-{digest}"));
    let (root, work) = (place.join("rootfs"), written.join("work"));
    let upper = written.join("upper");
    fs::create_dir_all(&root).map_err(sentence("make", &root))?;
    if !is_mounted(&root) {
        overlay(&unpacked.root, &upper, &work, &root, MountFlags::empty())?;
    }
    let file = place.join("config.json");
    files::replace(&file, &config, 0o600, false).map_err(sentence("write", &file))?;
    Ok(place)
}

/// Removes the bundles of a directory that are not among these, with their mounts. Containers that still
/// run of one keep their root.
pub fn retain_bundles(directory: &Path, bundles: &BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if bundles.contains(&path) {
            continue;
        }
        let root = path.join("rootfs");
        let gone = !is_mounted(&root) || unmount(&root, UnmountFlags::DETACH).is_ok();
        // A file system that is still mounted there is not to be emptied.
        if gone && fs::remove_dir(&root).is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// A short name for bytes: another one for others.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn users(root: &Path) -> io::Result<Users> {
    let mut tree = Tree::new();
    for name in ["etc/passwd", "etc/group"] {
        match files::read(&root.join(name))? {
            Some(text) => tree.insert(name, Node::file(text)).map_err(io::Error::other)?,
            None => continue,
        }
    }
    Users::of_tree(&tree).map_err(io::Error::other)
}

/// Puts a root together: a directory that nobody writes to, and above it one that has what is written. `upper` and `work` must be on one file system, which overlayfs takes (no overlay
/// itself). Directories that are not there are made.
///
/// # Errors
/// A sentence.
pub fn overlay(
    lower: &Path,
    upper: &Path,
    work: &Path,
    target: &Path,
    flags: MountFlags,
) -> Result<(), String> {
    for path in [upper, work, target] {
        fs::create_dir_all(path).map_err(sentence("make", path))?;
    }
    let mut data = Vec::new();
    for (key, path) in [("lowerdir=", lower), (",upperdir=", upper), (",workdir=", work)] {
        data.extend_from_slice(key.as_bytes());
        // overlayfs(5): these separate options and layers
        for byte in path.as_os_str().as_bytes() {
            if matches!(byte, b',' | b':' | b'\\') {
                data.push(b'\\');
            }
            data.push(*byte);
        }
    }
    let data = CString::new(data).map_err(|error| error.to_string())?;
    mount("overlay", target, "overlay", flags, data.as_c_str())
        .map_err(io::Error::from)
        .map_err(sentence("mount an overlay on", target))
}

/// Whether a file system is mounted at a path.
fn is_mounted(path: &Path) -> bool {
    let number = |path: &Path| rustix::fs::stat(path).map(|found| found.st_dev);
    let parent = path.parent().unwrap_or(path);
    matches!((number(path), number(parent)), (Ok(own), Ok(above)) if own != above)
}
