//! Bundles as directories, of images of either format.

use std::io::Write;
use std::path::Path;

use kiln_tree::Tree;
use oci_spec::runtime::Spec;

use super::{Options, Users, spec};
#[cfg(feature = "appc")]
use crate::appc::{Container, Rendering};
use crate::host::{self, Unpack};
use crate::image::Image;
use crate::{Error, Result};

/// An image, in whichever format it came.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Packaged<'image> {
    /// One of the OCI, or of Docker.
    Oci(&'image Image),
    /// One of appc (ACI), with all that it depends upon.
    #[cfg(feature = "appc")]
    Appc(&'image Rendering),
}

/// What was made of an image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Bundle {
    /// What everything in the root is in the image.
    pub root: Tree,
    /// What `config.json` says.
    pub spec: Spec,
    /// What the image asks for that is not in the bundle: mount points without a mount, isolators that no
    /// runtime can be told of or that the options have no room for, what is to run before and after.
    pub left: Vec<String>,
}

/// Makes a bundle in a new or empty directory: the root in `rootfs`, and `config.json`, which is written
/// last. After an error neither is there.
///
/// # Errors
/// As [`host::unpack`], and [`spec`].
pub fn make(
    image: Packaged<'_>,
    directory: &Path,
    unpack: &Unpack,
    options: &Options,
) -> Result<Bundle> {
    let rootfs = directory.join("rootfs");
    let root = match image {
        Packaged::Oci(image) => host::unpack(image, &rootfs, unpack),
        #[cfg(feature = "appc")]
        Packaged::Appc(image) => image.unpack(&rootfs, unpack),
    }?;
    let described = config(image, &root, options).and_then(|(spec, bytes, left)| {
        write(directory, &bytes)?;
        Ok((spec, left))
    });
    match described {
        Ok((spec, left)) => Ok(Bundle { root, spec, left }),
        Err(error) => {
            // What went wrong first is what is told.
            let _ = std::fs::remove_dir_all(&rootfs);
            Err(error)
        }
    }
}

fn config(
    image: Packaged<'_>,
    root: &Tree,
    options: &Options,
) -> Result<(Spec, Vec<u8>, Vec<String>)> {
    let options = Options { root: "rootfs".into(), ..options.clone() };
    match image {
        Packaged::Oci(image) => {
            let (spec, bytes) = spec(&image.config, &Users::of_tree(root)?, &options)?;
            Ok((spec, bytes, Vec::new()))
        }
        #[cfg(feature = "appc")]
        Packaged::Appc(image) => {
            let manifest = &image.image().manifest;
            let container = Container::alone(manifest, root, &options)?;
            let (spec, bytes) = container.spec()?;
            Ok((spec, bytes, left(manifest, &container)))
        }
    }
}

#[cfg(feature = "appc")]
fn left(manifest: &crate::appc::ImageManifest, container: &Container) -> Vec<String> {
    let points = manifest.app.iter().flat_map(|app| &app.mount_points);
    let at = |path: &str| kiln_tree::TreePath::new(path).ok();
    let mounted = |path: &str| {
        container.options.mounts.iter().any(|mount| at(&mount.destination) == at(path))
    };
    let points = points
        .filter(|point| !mounted(&point.path))
        .map(|point| format!("mount point {} at {}", point.name, point.path.escape_default()));
    let isolators = container.left.iter().map(|isolator| format!("isolator {}", isolator.name()));
    let handlers = [("pre-start", &container.pre_start), ("post-stop", &container.post_stop)];
    let handlers = handlers.into_iter().filter(|(_, exec)| exec.is_some());
    points.chain(isolators).chain(handlers.map(|(name, _)| name.to_owned())).collect()
}

fn write(directory: &Path, bytes: &[u8]) -> Result<()> {
    let path = directory.join("config.json");
    let failed = || Error::io("write", &path);
    let mut beside = tempfile::Builder::new()
        .prefix(".part-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(failed())?;
    beside.write_all(bytes).map_err(failed())?;
    beside.persist_noclobber(&path).map_err(|error| failed()(error.error))?;
    Ok(())
}
