//! Images into registries.

use kiln_tree::Source;
use oci_spec::distribution::Reference;
use oci_spec::image::Descriptor;
use ureq::SendBody;
use ureq::http::StatusCode;

use super::Client;
use super::challenge::escaped;
use super::http::{Ask, Failed, header, origin};
use crate::digest::Checked;
use crate::image::Image;
use crate::{Error, Result};

impl Client {
    /// Pushes an image under a tag: the blobs that the registry lacks, then the manifest.
    ///
    /// # Errors
    /// [`Error::Registry`]; [`Error::Blob`] for a layer whose bytes are not what they should be.
    pub fn push(&self, image: &Image, reference: &Reference) -> Result<()> {
        for (descriptor, source) in image.blobs().into_values() {
            let done = self.upload(reference, &descriptor, &source);
            done.map_err(|error| match error {
                Error::Registry { url, reason } => Error::Registry {
                    url,
                    reason: format!("blob {}: {reason}", descriptor.digest()),
                },
                other => other,
            })?;
        }
        let by = reference.tag().unwrap_or_else(|| image.digest().as_ref());
        let url = self.url(reference, &format!("manifests/{by}"));
        let media_type = image.descriptor.media_type().to_string();
        let ask = Ask { method: "PUT", url: &url, headers: &[("content-type", &media_type)] };
        let said = self.persist(&url, || {
            let mut bytes = image.manifest_bytes.as_slice();
            let length = bytes.len().to_string();
            let headers = [("content-type", media_type.as_str()), ("content-length", &length)];
            let ask = Ask { headers: &headers, ..ask };
            let response = self.send(reference, ask, SendBody::from_reader(&mut bytes))?;
            match response.status() {
                StatusCode::CREATED => {
                    Ok(header(&response, "docker-content-digest").map(str::to_owned))
                }
                _ => Err(self.refused(ask, response)),
            }
        })?;
        match said {
            Some(said) if said != image.digest().as_ref() => {
                let reason = format!("it took manifest {} for {said}", image.digest());
                Err(Error::Registry { url, reason })
            }
            _ => Ok(()),
        }
    }

    fn upload(&self, reference: &Reference, blob: &Descriptor, source: &Source) -> Result<()> {
        let digest = blob.digest();
        let url = self.url(reference, &format!("blobs/{digest}"));
        let ask = Ask { method: "HEAD", url: &url, headers: &[] };
        let there = self.persist(&url, || {
            let response = self.once(reference, ask)?;
            match response.status() {
                StatusCode::OK => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(self.refused(ask, response)),
            }
        })?;
        if there {
            return Ok(());
        }
        let start = self.url(reference, "blobs/uploads/");
        // An upload that broke off is begun anew, because the bytes must be read anew.
        self.persist(&start, || {
            let ask = Ask { method: "POST", url: &start, headers: &[("content-length", "0")] };
            let response = self.once(reference, ask)?;
            if response.status() != StatusCode::ACCEPTED {
                return Err(self.refused(ask, response));
            }
            let wrong = |reason: &str| {
                Failed::For(Error::Registry { url: start.clone(), reason: reason.into() })
            };
            let location =
                header(&response, "location").ok_or_else(|| wrong("it says no place"))?;
            let mut place = match location.strip_prefix('/') {
                Some(path) => format!("{}/{path}", origin(&start)),
                None => location.to_owned(),
            };
            if !place.starts_with("https://") && origin(&place) != origin(&start) {
                return Err(wrong("it sends us elsewhere without TLS"));
            }
            place.push(if place.contains('?') { '&' } else { '?' });
            place.push_str("digest=");
            place.push_str(&escaped(digest.as_ref()));
            let length = blob.size().to_string();
            let headers =
                [("content-type", "application/octet-stream"), ("content-length", length.as_str())];
            let ask = Ask { method: "PUT", url: &place, headers: &headers };
            let reader =
                source.open().map_err(|error| Failed::For(Error::stream(digest)(error)))?;
            let mut reader =
                Checked::new(reader, digest, Some(blob.size())).map_err(Failed::For)?;
            let sent = self.send(reference, ask, SendBody::from_reader(&mut reader));
            let response = match sent {
                Ok(response) => response,
                // An error of the bytes comes out of the client as one of the connection.
                Err(failed) => {
                    let reader =
                        source.open().map_err(|error| Failed::For(Error::stream(digest)(error)))?;
                    let checked = Checked::new(reader, digest, Some(blob.size()));
                    let whole =
                        checked.and_then(|mut all| all.drain().map_err(Error::stream(digest)));
                    whole.map_err(Failed::For)?;
                    return Err(failed);
                }
            };
            match response.status() {
                StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
                _ => Err(self.refused(ask, response)),
            }
        })
    }
}
