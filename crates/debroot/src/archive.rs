//! Archives: where packages come from and who vouches for them.

/// Where the public archive of Debian is for everybody.
const DEBIAN: &str = "http://deb.debian.org/debian";
/// Where its security updates are.
const DEBIAN_SECURITY: &str = "http://deb.debian.org/debian-security";

/// One suite of an archive. Plain data; nothing of it is taken from the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Archive {
    /// Where it is: `dists/` and `pool/` are below.
    pub uri: String,
    /// The suite, by its name or code name: `bookworm`.
    pub suite: String,
    /// The components: `main`.
    pub components: Vec<String>,
    /// The architecture, as Debian calls it: `amd64`.
    pub architecture: String,
    /// The OpenPGP certificates whose signatures are trusted, in binary or armoured.
    pub keyring: Vec<u8>,
}

impl Archive {
    /// A suite of an archive with its component `main`.
    pub fn new(
        uri: impl Into<String>,
        suite: impl Into<String>,
        architecture: impl Into<String>,
        keyring: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            uri: uri.into(),
            suite: suite.into(),
            components: vec!["main".into()],
            architecture: architecture.into(),
            keyring: keyring.into(),
        }
    }

    /// The same with other components.
    #[must_use]
    pub fn with_components<T: Into<String>>(
        mut self,
        components: impl IntoIterator<Item = T>,
    ) -> Self {
        self.components = components.into_iter().map(Into::into).collect();
        self
    }
}

/// A release of Debian as it is commonly used: the release itself, its updates, and its security
/// updates, each with the component `main`. The keyring is mostly that of the package
/// `debian-archive-keyring`.
#[must_use]
pub fn debian(suite: &str, architecture: &str, keyring: &[u8]) -> Vec<Archive> {
    [
        (DEBIAN, suite.to_owned()),
        (DEBIAN, format!("{suite}-updates")),
        (DEBIAN_SECURITY, format!("{suite}-security")),
    ]
    .map(|(uri, suite)| Archive::new(uri, suite, architecture, keyring))
    .into()
}

#[cfg(feature = "archive")]
pub use read::read;

#[cfg(feature = "archive")]
mod read {
    use std::fs::{self, File};
    use std::io::{BufReader, Read};
    use std::path::Path;

    use super::Archive;
    use crate::fetch::Fetch;
    use crate::index::Index;
    use crate::release::Release;
    use crate::{Error, Result, digest, download, openpgp};

    /// The longest release file that is read, in bytes.
    const RELEASE_LIMIT: u64 = 1 << 26;
    /// The longest index that is unpacked, in bytes.
    const INDEX_LIMIT: u64 = 1 << 30;

    /// Reads what archives have: fetches their release files, checks signatures and dates against
    /// `now` (seconds since 1970), fetches the indexes that the release files vouch for, unless
    /// they are in `store` already, and reads them. Indexes are kept in `store` by their digest
    /// and checked on every use; those of before can be removed at any time.
    ///
    /// # Errors
    /// [`Error::Signature`], [`Error::Release`], [`Error::Digest`], [`Error::Syntax`], those of
    /// `fetch`; [`Error::Release`] too for archives of different architectures.
    pub fn read(archives: &[Archive], now: u64, store: &Path, fetch: &dyn Fetch) -> Result<Index> {
        let architecture = archives.first().map_or("", |archive| archive.architecture.as_str());
        let mut index = Index::new(architecture);
        for archive in archives {
            if archive.architecture != architecture {
                return Err(Error::Release {
                    origin: archive.uri.clone(),
                    reason: format!(
                        "all archives are read for one architecture, and this is for {}, not \
                         {architecture}",
                        archive.architecture
                    ),
                });
            }
            add(&mut index, archive, now, store, fetch)?;
        }
        Ok(index)
    }

    fn add(
        index: &mut Index,
        archive: &Archive,
        now: u64,
        store: &Path,
        fetch: &dyn Fetch,
    ) -> Result<()> {
        let base = format!("{}/dists/{}", archive.uri.trim_end_matches('/'), archive.suite);
        let origin = format!("{base}/InRelease");
        let signed = release_file(&origin, store, fetch)?;
        let signed = openpgp::verify(&signed, &archive.keyring, now, &origin)?;
        let release = Release::parse(&signed.text, &origin)?;
        release.check(&archive.suite, now, &origin)?;
        let mut architectures = vec![archive.architecture.as_str()];
        if !release.all_with_others && release.architectures.iter().any(|name| name == "all") {
            architectures.push("all");
        }
        for component in &archive.components {
            let known = |name: &String| {
                name == component || name.rsplit('/').next() == Some(component.as_str())
            };
            if !release.components.iter().any(known) {
                return Err(Error::Release {
                    origin,
                    reason: format!(
                        "it has no component {component}; there is {}",
                        release.components.join(", ")
                    ),
                });
            }
            for architecture in &architectures {
                let name = format!("{component}/binary-{architecture}/Packages");
                let found = [".xz", ".gz", ""].iter().find_map(|suffix| {
                    let path = format!("{name}{suffix}");
                    let (sha256, size) = release.files.get(&path)?;
                    Some((path, sha256, *size))
                });
                let Some((path, sha256, size)) = found else {
                    if *architecture == "all" {
                        continue;
                    }
                    return Err(Error::Release {
                        origin,
                        reason: format!(
                            "it lists no {name}; its architectures are {}",
                            release.architectures.join(", ")
                        ),
                    });
                };
                let uri = match path.rsplit_once('/') {
                    Some((directory, _)) if release.by_hash => {
                        format!("{base}/{directory}/by-hash/SHA256/{sha256}")
                    }
                    _ => format!("{base}/{path}"),
                };
                let kept = store.join(sha256);
                let check = |file: &Path| {
                    let (found, length) = digest::of_file(file)?;
                    if found == *sha256 && length == size {
                        return Ok(());
                    }
                    Err(Error::Digest {
                        package: format!("{base}/{path}"),
                        path: file.into(),
                        expected: sha256.clone(),
                        found,
                    })
                };
                if kept.exists() {
                    check(&kept)?;
                } else {
                    download::get(fetch, &uri, &kept, size, &check)?;
                }
                let text = unpack(&kept, &path)?;
                index.add(archive.uri.trim_end_matches('/'), &text, &format!("{base}/{path}"))?;
            }
        }
        Ok(())
    }

    /// Release files are not kept: they are what says whether the rest is still true.
    fn release_file(uri: &str, store: &Path, fetch: &dyn Fetch) -> Result<Vec<u8>> {
        fs::create_dir_all(store).map_err(Error::io("create directory", store))?;
        let beside = tempfile::Builder::new()
            .prefix(".part-")
            .tempfile_in(store)
            .map_err(Error::io("create a file in", store))?
            .into_temp_path();
        fetch.fetch(uri, &beside, RELEASE_LIMIT)?;
        let mut bytes = Vec::new();
        File::open(&beside)
            .and_then(|file| file.take(RELEASE_LIMIT).read_to_end(&mut bytes))
            .map_err(Error::io("read", &*beside))?;
        Ok(bytes)
    }

    fn unpack(path: &Path, name: &str) -> Result<String> {
        let file = BufReader::new(File::open(path).map_err(Error::io("open", path))?);
        let reader: Box<dyn Read> = match name.rsplit_once('.') {
            Some((_, "xz")) => Box::new(crate::xz::Reader::new(file)),
            Some((_, "gz")) => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            _ => Box::new(file),
        };
        let mut text = Vec::new();
        reader.take(INDEX_LIMIT + 1).read_to_end(&mut text).map_err(Error::io("unpack", path))?;
        if text.len() as u64 > INDEX_LIMIT {
            let reason = format!("it unpacks to more than {INDEX_LIMIT} bytes");
            return Err(Error::Release { origin: path.display().to_string(), reason });
        }
        String::from_utf8(text).map_err(|error| Error::Release {
            origin: path.display().to_string(),
            reason: format!("it is no UTF-8 text: {error}"),
        })
    }
}
