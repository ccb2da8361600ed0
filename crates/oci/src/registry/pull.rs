//! Images out of registries, into a layout.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_tree::Source;
use oci_spec::distribution::Reference;
use oci_spec::image::{Descriptor, ImageIndex, MediaType, Platform};
use ureq::http::StatusCode;

use super::Client;
use super::http::{Ask, Failed, header};
use crate::digest::{self, Hash};
use crate::image::{Image, manifest_of};
use crate::layout::{Layout, is_index, is_manifest};
use crate::{Error, Result, json, platform};

/// What we can read.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

impl Client {
    /// Pulls the image for a platform into a layout under a name. Blobs that the layout has are not
    /// asked for; a transfer that breaks off is taken up where it ended.
    ///
    /// # Errors
    /// [`Error::Registry`] with the address for one that does not answer or refuses;
    /// [`Error::Blob`] for one that gives other bytes than it promised; [`Error::Missing`] with the
    /// platforms that there are; those of the layout.
    pub fn pull(
        &self,
        reference: &Reference,
        wanted: &Platform,
        layout: &mut Layout,
        name: Option<&str>,
    ) -> Result<Image> {
        let by = reference.digest().or_else(|| reference.tag()).unwrap_or("latest");
        let (mut descriptor, mut bytes) = self.manifest(reference, by, None)?;
        let mut depth = 0;
        while is_index(descriptor.media_type()) {
            depth += 1;
            if depth > self.options.limits.nesting {
                return Err(Error::document(descriptor.digest(), "indexes in indexes, too deep"));
            }
            let origin = descriptor.digest().to_string();
            let index: ImageIndex = json::parse(&origin, &bytes)?;
            let inner = choose(&origin, &index, wanted)?;
            (descriptor, bytes) =
                self.manifest(reference, inner.digest().as_ref(), Some(&inner))?;
            descriptor.set_platform(inner.platform().clone());
        }
        let manifest = manifest_of(descriptor.digest().as_ref(), &bytes)?;
        if manifest.config().size() > self.options.limits.config {
            let limit = self.options.limits.config;
            let reason = format!("a configuration longer than {limit} bytes");
            return Err(Error::document(manifest.config().digest(), reason));
        }
        if manifest.layers().len() > self.options.limits.manifests {
            let reason = format!("it has {} layers", manifest.layers().len());
            return Err(Error::document(descriptor.digest(), reason));
        }
        let mut blobs: Vec<&Descriptor> = Vec::new();
        for blob in std::iter::once(manifest.config()).chain(manifest.layers()) {
            if !blobs.iter().any(|known| known.digest() == blob.digest()) {
                blobs.push(blob);
            }
        }
        self.blobs(reference, &blobs, layout)?;
        let source = |blob: &Descriptor| {
            let path = layout.blob_path(blob);
            Ok(Source::File { path, len: blob.size() })
        };
        let config = crate::store::checked_document(
            &source(manifest.config())?,
            manifest.config(),
            self.options.limits.config,
        )?;
        let limits = &self.options.limits;
        let image = Image::of_documents(descriptor, bytes, config, &mut { source }, limits)?;
        layout.add(&image, name)?;
        Ok(image)
    }

    /// A manifest or index, checked against its digest if that is known.
    fn manifest(
        &self,
        reference: &Reference,
        by: &str,
        promised: Option<&Descriptor>,
    ) -> Result<(Descriptor, Vec<u8>)> {
        let url = self.url(reference, &format!("manifests/{by}"));
        let ask = Ask { method: "GET", url: &url, headers: &[("accept", ACCEPT)] };
        let limit = self.options.limits.manifest;
        let (media_type, said, bytes) = self.persist(&url, || {
            let response = self.once(reference, ask)?;
            if response.status() != StatusCode::OK {
                return Err(self.refused(ask, response));
            }
            let media_type = header(&response, "content-type").unwrap_or_default();
            let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
            let said = header(&response, "docker-content-digest").map(str::to_owned);
            let mut reader = response.into_body().into_reader();
            match json::read(&url, &mut reader, limit) {
                Ok(bytes) => Ok((media_type, said, bytes)),
                Err(Error::Stream { source, .. }) => Err(Failed::Again(source.to_string())),
                Err(error) => Err(Failed::For(error)),
            }
        })?;
        let known = match promised {
            Some(descriptor) => Some(descriptor.digest().clone()),
            // What the reference says counts, then what the registry says of itself.
            None => match (by.contains(':'), said) {
                (true, _) => Some(digest::parse(by)?),
                (false, Some(said)) => Some(digest::parse(&said)?),
                (false, None) => None,
            },
        };
        let own = match &known {
            Some(known) => {
                let mut hash = Hash::like(known)?;
                hash.update(&bytes);
                hash.finish()?
            }
            None => digest::of(&bytes)?,
        };
        if let Some(known) = known.filter(|known| *known != own) {
            let reason = format!("{url} gave {} bytes with digest {own}", bytes.len());
            return Err(Error::blob(&known, reason));
        }
        // Its own word counts before the header's, which proxies change.
        let inside: serde_json::Value = json::parse(&url, &bytes)?;
        let own_type = inside.get("mediaType").and_then(serde_json::Value::as_str);
        let media_type = MediaType::from(own_type.unwrap_or(&media_type));
        if !is_index(&media_type) && !is_manifest(&media_type) {
            let shown = crate::error::shown(media_type.as_ref().as_bytes());
            let reason = format!("it is no image but {shown:?}");
            return Err(Error::Registry { url, reason });
        }
        Ok((Descriptor::new(media_type, bytes.len() as u64, own), bytes))
    }

    /// Blobs, several at a time. The first error in their order is given.
    fn blobs(&self, reference: &Reference, blobs: &[&Descriptor], layout: &Layout) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let first = || match failed.lock() {
            Ok(failed) => failed,
            Err(poisoned) => poisoned.into_inner(),
        };
        std::thread::scope(|scope| {
            for _ in 0..self.options.parallel.clamp(1, blobs.len().max(1)) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(blob) = blobs.get(number) else { return };
                        if first().is_some() {
                            return;
                        }
                        if let Err(error) = self.blob(reference, blob, &layout.blob_path(blob)) {
                            let mut failed = first();
                            if failed.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
                                *failed = Some((number, error));
                            }
                        }
                    }
                });
            }
        });
        match first().take() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn blob(&self, reference: &Reference, blob: &Descriptor, path: &Path) -> Result<()> {
        if fs::metadata(path).is_ok_and(|found| found.len() == blob.size()) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".part-{name}-{}", std::process::id()));
        let done = self
            .fetch(reference, blob, &beside)
            .and_then(|()| fs::rename(&beside, path).map_err(Error::io("rename to", path)));
        if done.is_err() {
            let _ = fs::remove_file(&beside);
        }
        done
    }

    fn fetch(&self, reference: &Reference, blob: &Descriptor, beside: &Path) -> Result<()> {
        let digest = blob.digest();
        let url = self.url(reference, &format!("blobs/{digest}"));
        let mut file = File::create(beside).map_err(Error::io("create", beside))?;
        let mut hash = Hash::like(digest)?;
        let mut got = 0_u64;
        self.persist(&url, || {
            let range = format!("bytes={got}-");
            let headers = [("range", range.as_str())];
            let headers = if got > 0 { headers.as_slice() } else { &[] };
            let ask = Ask { method: "GET", url: &url, headers };
            let response = self.once(reference, ask)?;
            let status = response.status();
            if status == StatusCode::OK && got > 0 {
                // It knows no ranges, and begins from the start.
                file = File::create(beside)
                    .map_err(|error| Failed::For(Error::io("create", beside)(error)))?;
                hash = Hash::like(digest).map_err(Failed::For)?;
                got = 0;
            } else if status != StatusCode::OK
                && !(status == StatusCode::PARTIAL_CONTENT && got > 0)
            {
                return Err(self.refused(ask, response));
            }
            let mut reader = response.into_body().into_reader();
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = match reader.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        let reason = format!("after {got} of {} bytes: {error}", blob.size());
                        return Err(Failed::Again(reason));
                    }
                };
                got = got.saturating_add(count as u64);
                if got > blob.size() {
                    let reason = format!("{url} gives more than its {} bytes", blob.size());
                    return Err(Failed::For(Error::blob(digest, reason)));
                }
                let bytes = buffer.get(..count).unwrap_or_default();
                hash.update(bytes);
                file.write_all(bytes)
                    .map_err(|error| Failed::For(Error::io("write", beside)(error)))?;
            }
            if got < blob.size() {
                return Err(Failed::Again(format!(
                    "it ended after {got} of {} bytes",
                    blob.size()
                )));
            }
            Ok(())
        })?;
        let found = hash.finish()?;
        if found != *digest {
            let reason = format!("{url} gave {got} bytes with digest {found}");
            return Err(Error::blob(digest, reason));
        }
        file.sync_data().map_err(Error::io("write", beside))
    }
}

fn choose(origin: &str, index: &ImageIndex, wanted: &Platform) -> Result<Descriptor> {
    let nearest = index
        .manifests()
        .iter()
        .filter(|one| is_index(one.media_type()) || is_manifest(one.media_type()))
        .filter_map(|one| {
            let distance = match one.platform() {
                Some(offered) => platform::distance(wanted, offered)?,
                None => u32::MAX,
            };
            Some((distance, one))
        })
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, one)) => Ok(one.clone()),
        None => {
            let there = index.manifests().iter().filter_map(|one| one.platform().as_ref());
            Err(Error::Missing {
                place: origin.into(),
                what: format!("image for {}", platform::shown(wanted)),
                there: there.map(platform::shown).collect(),
            })
        }
    }
}
