//! An executable as a file that is written later.

use std::io::Read;
use std::ops::Range;

use kiln_tree::Source;
use sha2::{Digest, Sha256};

use super::headers::HEAD;
use super::{Checksum, Headers, Section};
use crate::container::BlockSource;
use crate::content::{Content, Sink};
#[cfg(feature = "sign")]
use crate::field::narrow32;
use crate::field::{index, put};
use crate::{Error, Limits, Result};

/// An executable: its headers in memory, the rest where it is.
#[derive(Debug, Clone)]
pub struct Image {
    headers: Headers,
    /// The first bytes of the file, all headers among them.
    head: Vec<u8>,
    /// What follows.
    body: Vec<Source>,
    /// The certificate table, which ends the file.
    certificates: Vec<u8>,
}

impl Image {
    /// An executable from a file. Files are read into memory (unlike the parts of a unified kernel
    /// image), so this is for boot loaders and kernels.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no executable or something follows its certificates;
    /// [`Error::Limit`] when it is longer than the limits allow; [`Error::Io`].
    pub fn read(file: &Source, limits: &Limits) -> Result<Self> {
        if file.len() > limits.file_len {
            let (found, limit) = (file.len(), limits.file_len);
            return Err(Error::Limit { format: "pe", what: "the file's length", found, limit });
        }
        let bytes = file.read().map_err(Error::io("read an executable"))?;
        Self::from_parts(bytes.to_vec(), Vec::new())
    }

    /// From the first bytes, all headers and any certificate table among them, and what follows.
    pub(crate) fn from_parts(mut head: Vec<u8>, body: Vec<Source>) -> Result<Self> {
        let rest = body.iter().map(Source::len).fold(0, u64::saturating_add);
        let headers = Headers::parse(&head, rest.saturating_add(head.len() as u64))?;
        let Range { start, end } = headers.certificates;
        let mut certificates = Vec::new();
        if start < end {
            // Certificates elsewhere than at the end would have to be hashed around.
            if end != head.len() as u64 || !body.is_empty() {
                let reason = "the certificate table does not end the file";
                return Err(Error::malformed("pe", start, reason));
            }
            certificates = head.split_off(index(start));
        }
        Ok(Self { headers, head, body, certificates })
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The certificate table; empty when the executable is not signed.
    #[must_use]
    pub fn certificates(&self) -> &[u8] {
        &self.certificates
    }

    /// The file's length without certificates, in bytes.
    pub(crate) fn unsigned_len(&self) -> u64 {
        let body = self.body.iter().map(Source::len).fold(0, u64::saturating_add);
        body.saturating_add(self.head.len() as u64)
    }

    /// The file without certificates.
    pub(crate) fn write_unsigned(&self, sink: &mut dyn Sink) -> Result<()> {
        sink.data(&self.head)?;
        self.body.iter().try_for_each(|part| part.write_to(sink))
    }

    /// The same with so many zero bytes before the certificates.
    #[cfg(feature = "sign")]
    pub(crate) fn padded(mut self, len: usize) -> Self {
        if len > 0 {
            self.body.push(Source::from(vec![0; len]));
        }
        self
    }

    /// The same with this certificate table. The checksum becomes 0, which is none.
    #[cfg(feature = "sign")]
    pub(crate) fn with_certificates(mut self, certificates: Vec<u8>) -> Result<Self> {
        let start = self.unsigned_len();
        let at = self.headers.security_at().ok_or_else(|| {
            let at = self.headers.optional as u64;
            Error::malformed("pe", at, "its headers have no place for a certificate table")
        })?;
        let end = start.saturating_add(certificates.len() as u64);
        if end > u64::from(u32::MAX) {
            let (what, limit) = ("the file's length", u64::from(u32::MAX));
            return Err(Error::Limit { format: "pe", what, found: end, limit });
        }
        put(&mut self.head, at, &narrow32(start).to_le_bytes());
        put(&mut self.head, at + 4, &narrow32(certificates.len() as u64).to_le_bytes());
        put(&mut self.head, self.headers.checksum_at(), &[0; 4]);
        self.headers.certificates = start..end;
        self.headers.checksum = 0;
        self.certificates = certificates;
        Ok(self)
    }

    /// The same with the checksum of its optional header, which the firmware does not look at but
    /// some tools do. Reads all of it once.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read.
    pub fn checksummed(mut self) -> Result<Self> {
        put(&mut self.head, self.headers.checksum_at(), &[0; 4]);
        let mut sum = Checksum::default();
        self.write_to(&mut sum)?;
        self.headers.checksum = sum.finish();
        put(&mut self.head, self.headers.checksum_at(), &self.headers.checksum.to_le_bytes());
        Ok(self)
    }

    /// The executable as a file for a tree; its large parts are read when an image is written.
    #[must_use]
    pub fn source(&self) -> Source {
        let mut parts = vec![Source::from(self.head.as_slice())];
        parts.extend(self.body.iter().cloned());
        if !self.certificates.is_empty() {
            parts.push(Source::from(self.certificates.as_slice()));
        }
        Source::Concat(parts.into())
    }
}

impl Content for Image {
    fn len(&self) -> u64 {
        self.unsigned_len().saturating_add(self.certificates.len() as u64)
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        self.write_unsigned(sink)?;
        sink.data(&self.certificates)
    }
}

/// A section with its content's digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SectionDigest {
    /// The section.
    pub section: Section,
    /// SHA-256 of its content, filling up left out. (That of a section that is longer in memory than
    /// in the file, as `.linux` is, cannot be told from its content.)
    pub sha256: [u8; 32],
}

/// Reads an executable that may be hostile: its headers and, piece by piece, its sections' digests.
///
/// # Errors
/// [`Error::Malformed`] when it is none; [`Error::Limit`] when its sections together are longer
/// than it and the limits allow (they could all be the same bytes).
pub fn read_sections(
    file: &mut dyn BlockSource,
    limits: &Limits,
) -> Result<(Headers, Vec<SectionDigest>)> {
    let mut head = vec![0; index(file.len().min(HEAD))];
    file.read_at(0, &mut head)?;
    let headers = Headers::parse(&head, file.len())?;
    let lengths = headers.sections.iter().map(|it| it.content()).map(|it| it.end - it.start);
    let (found, limit) = (lengths.sum::<u64>(), file.len().max(limits.file_len));
    if found > limit {
        return Err(Error::Limit { format: "pe", what: "its sections' length", found, limit });
    }
    let mut buffer = vec![0; 64 << 10];
    let mut digests = Vec::with_capacity(headers.sections.len());
    for section in &headers.sections {
        let mut sha256 = Sha256::new();
        let Range { mut start, end } = section.content();
        while start < end {
            let count = (end - start).min(buffer.len() as u64);
            let part = buffer.get_mut(..index(count)).unwrap_or_default();
            file.read_at(start, part)?;
            sha256.update(part);
            start += count;
        }
        digests.push(SectionDigest { section: section.clone(), sha256: sha256.finalize().into() });
    }
    Ok((headers, digests))
}

/// The first bytes of a file, for a look at what it is.
pub(crate) fn head(file: &Source, action: &str) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let reader = file.open().map_err(Error::io(action))?;
    reader.take(HEAD).read_to_end(&mut head).map_err(Error::io(action))?;
    Ok(head)
}
