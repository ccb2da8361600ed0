//! Images come in: an ACI, an OCI image's archive, or one of `docker save`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::PoisonError;
use std::time::SystemTime;

use kiln_oci::appc::{self, Aci, Dependency, Identifier, ImageManifest, Rendering};
use kiln_oci::host::{self, Unpack};
use kiln_oci::layer::{self, Devices};
use kiln_oci::{Platform, docker, layout};
use kurma_client::Image;
use kurma_client::rpc::{Fault, INVALID_PARAMS};
use tempfile::{NamedTempFile, TempDir};

use super::{Images, Kept, Result, failed};
use crate::files::{self, sentence};

/// The archive of an image that others may depend on.
const ARCHIVE: &str = "image.aci";
/// How many entries of an archive are looked at to see what it is.
const LOOKED_AT: usize = 10_000;

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Aci,
    Docker,
    Layout,
}

/// What an image is, once it is unpacked.
struct Unpacked {
    hash: String,
    manifest: ImageManifest,
}

fn refused(error: impl ToString) -> Fault {
    Fault::new(INVALID_PARAMS, error.to_string())
}

impl Images {
    /// Takes an image in. What it is is found out from what it has.
    pub(crate) fn import(&self, archive: NamedTempFile) -> Result<Image> {
        let form = form(archive.path()).map_err(refused)?;
        let beside = tempfile::Builder::new().prefix(".making-").tempdir_in(&self.directory);
        let beside = beside.map_err(failed)?;
        let root = beside.path().join("rootfs");
        let unpacked = match form {
            Form::Aci => self.aci(archive.path(), &root)?,
            Form::Docker | Form::Layout => self.oci(archive.path(), form, &root)?,
        };
        if let Some(kept) = self.lock().get(&unpacked.hash) {
            return Ok(kept.image.clone());
        }
        if form == Form::Aci {
            archive.persist(beside.path().join(ARCHIVE)).map_err(failed)?;
        }
        self.keep(beside, unpacked)
    }

    /// Unpacks an ACI upon those that it depends on.
    fn aci(&self, path: &Path, root: &Path) -> Result<Unpacked> {
        let aci = Aci::open(path, &self.limits).map_err(refused)?;
        let (hash, manifest) = (aci.id.to_string(), aci.manifest.as_ref().clone());
        check_platform(&manifest)?;
        if self.lock().contains_key(&hash) {
            return Ok(Unpacked { hash, manifest });
        }
        let mut find = |wanted: &Dependency| self.dependency(wanted);
        let rendering = Rendering::new(aci, &self.limits, &mut find).map_err(refused)?;
        rendering.unpack(root, &how(&self.limits)).map_err(refused)?;
        Ok(Unpacked { hash, manifest })
    }

    /// An image that is here, for one that depends on it.
    fn dependency(&self, wanted: &Dependency) -> kiln_oci::Result<Option<Aci>> {
        let fits = |kept: &&Kept| match &wanted.image_id {
            Some(id) => kept.image.hash == id.as_str(),
            None => kept.is(wanted.image_name.as_str(), &wanted.labels),
        };
        let found = self.lock().values().filter(fits).max_by_key(|kept| kept.created).cloned();
        let archive = found.map(|kept| self.directory.join(kept.image.hash).join(ARCHIVE));
        match archive.filter(|path| path.exists()) {
            Some(path) => Aci::open(path, &self.limits).map(Some),
            None => Ok(None),
        }
    }

    /// Unpacks an image of the OCI, and says of it what an ACI would.
    fn oci(&self, path: &Path, form: Form, root: &Path) -> Result<Unpacked> {
        let (name, image) = match form {
            Form::Docker => {
                let archive = docker::Archive::open(path, self.limits.clone()).map_err(refused)?;
                let image = archive.image(None).map_err(refused)?;
                let tag = archive.tags().first().and_then(|tags| tags.first().cloned());
                (tag, image)
            }
            _ => {
                let layout = layout::Layout::open(path, self.limits.clone()).map_err(refused)?;
                let image = layout.image(None, &Platform::default()).map_err(refused)?;
                let names = layout.images().map_err(refused)?;
                (names.into_iter().next().and_then(|one| one.name), image)
            }
        };
        let hash = format!("sha512-{}", files::sha512(path).map_err(failed)?);
        let tree = host::unpack(&image, root, &how(&self.limits)).map_err(refused)?;
        let (name, version) = named(name.as_deref().unwrap_or("image")).map_err(refused)?;
        let (mut manifest, _) = appc::from_image(&image, &tree, name).map_err(refused)?;
        if let (Some(version), Ok(label)) = (version, "version".parse()) {
            manifest.labels.insert(label, version);
        }
        check_platform(&manifest)?;
        Ok(Unpacked { hash, manifest })
    }

    /// Puts what was unpacked into its place, whole.
    fn keep(&self, beside: TempDir, unpacked: Unpacked) -> Result<Image> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let text = unpacked.manifest.to_bytes().map_err(failed)?;
        let manifest = serde_json::from_slice(&text).map_err(failed)?;
        let size = size(beside.path()).map_err(failed)?;
        let image = Image::new(unpacked.hash, manifest, size);
        let kept = Kept { image: image.clone(), created: now.as_secs() };
        let text = serde_json::to_vec(&kept).map_err(failed)?;
        let path = beside.path().join("image.json");
        files::replace(&path, &text).map_err(|error| failed(sentence("write", &path)(error)))?;
        // what has its place after a power failure has its contents too
        let synced = File::open(&path).and_then(|file| Ok(rustix::fs::syncfs(&file)?));
        synced.map_err(|error| failed(sentence("sync", &path)(error)))?;
        let target = self.directory.join(&image.hash);
        let _work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock().contains_key(&image.hash) {
            return Ok(image);
        }
        fs::rename(beside.path(), &target)
            .map_err(|error| failed(sentence("make", &target)(error)))?;
        let _ = beside.keep();
        self.lock().insert(image.hash.clone(), kept);
        Ok(image)
    }
}

/// The name and the version that the tag of an image says: `example.com/web:1.0`, with or without a digest.
fn named(tag: &str) -> kiln_oci::Result<(Identifier, Option<String>)> {
    let tag = tag.split('@').next().unwrap_or(tag);
    let (name, version) = match tag.rsplit_once(':') {
        Some((name, version)) if !version.contains('/') => (name, Some(version.to_owned())),
        _ => (tag, None),
    };
    let plain = |one: char| match one.to_ascii_lowercase() {
        one if one.is_ascii_alphanumeric() || "-._~/".contains(one) => one,
        _ => '-',
    };
    let name: String = name.chars().map(plain).collect();
    Ok((Identifier::new(name)?, version))
}

fn how(limits: &kiln_oci::Limits) -> Unpack {
    let mut unpack = Unpack::default();
    unpack.layers = layer::Options::default();
    unpack.layers.limits = limits.clone();
    unpack.layers.devices = Devices::Skip;
    (unpack.owners, unpack.xattrs) = (true, true);
    unpack
}

/// Sees that an image is for this machine, as far as it says.
fn check_platform(manifest: &ImageManifest) -> Result<()> {
    for (label, own) in [("os", "linux"), ("arch", arch())] {
        if let Some(other) = manifest.labels.get(label).filter(|value| *value != own) {
            let what = format!("the image {} is for {other}, and this is {own}", manifest.name);
            return Err(Fault::new(INVALID_PARAMS, what));
        }
    }
    Ok(())
}

/// This machine, as images call it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

/// Finds out what an archive is by the names in it.
fn form(path: &Path) -> io::Result<Form> {
    let none = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut file = File::open(path)?;
    let mut first = [0; 262];
    let count = (&mut file).take(262).read(&mut first)?;
    // tar's mark (POSIX, ustar); what is compressed is an ACI or nothing
    if count < first.len() || !first.ends_with(b"ustar") {
        return Ok(Form::Aci);
    }
    let mut archive = tar::Archive::new(File::open(path)?);
    let mut layout = false;
    for entry in archive.entries_with_seek()?.take(LOOKED_AT) {
        let entry = entry?;
        let name = entry.path_bytes();
        match name.strip_prefix(b"./").unwrap_or(&name) {
            b"manifest.json" => return Ok(Form::Docker),
            b"oci-layout" | b"index.json" => layout = true,
            name if name == b"manifest" || name.starts_with(b"rootfs") => return Ok(Form::Aci),
            _ => {}
        }
    }
    match layout {
        true => Ok(Form::Layout),
        false => {
            Err(none("this is neither an ACI nor an archive of an OCI image or of `docker save`"))
        }
    }
}

/// The bytes of the files in a directory.
fn size(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;

    let mut bytes = 0_u64;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes = bytes.saturating_add(about.blocks().saturating_mul(512));
        if about.is_dir() {
            bytes = bytes.saturating_add(size(&entry.path())?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tags() {
        for (tag, name, version) in [
            ("busybox", "busybox", None),
            ("docker.io/library/busybox:1.36", "docker.io/library/busybox", Some("1.36")),
            ("localhost:5000/my_app", "localhost-5000/my_app", None),
            ("h/a:1@sha256:00", "h/a", Some("1")),
        ] {
            let (found, tagged) = named(tag).unwrap();
            assert_eq!((found.as_str(), tagged.as_deref()), (name, version));
        }
    }
}
