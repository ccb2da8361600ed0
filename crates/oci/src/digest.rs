//! Digests, and readers that check them while they read.

use std::io::{self, Read, Write};

use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256, Sha512};

use crate::{Error, Result};

/// A digest that is being computed.
pub(crate) enum Hash {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hash {
    pub(crate) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    #[cfg(feature = "appc")]
    pub(crate) fn sha512() -> Self {
        Self::Sha512(Sha512::new())
    }

    /// The algorithm of a digest (image specification, descriptor.md, "Registered algorithms").
    pub(crate) fn like(digest: &Digest) -> Result<Self> {
        match digest.algorithm() {
            DigestAlgorithm::Sha256 => Ok(Self::Sha256(Sha256::new())),
            DigestAlgorithm::Sha512 => Ok(Self::Sha512(Sha512::new())),
            other => Err(Error::blob(digest, format!("digests by {other} are not known"))),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Result<Digest> {
        match self {
            Self::Sha256(hash) => digest("sha256", &hash.finalize()),
            Self::Sha512(hash) => digest("sha512", &hash.finalize()),
        }
    }
}

fn digest(algorithm: &str, bytes: &[u8]) -> Result<Digest> {
    use std::fmt::Write;
    let mut text = format!("{algorithm}:");
    for byte in bytes {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
    }
    parse(&text)
}

/// A digest of text.
pub(crate) fn parse(text: &str) -> Result<Digest> {
    text.parse()
        .map_err(|error| Error::invalid(crate::error::shown(text.as_bytes()), format!("{error}")))
}

/// The SHA-256 digest of bytes.
pub(crate) fn of(bytes: &[u8]) -> Result<Digest> {
    let mut hash = Hash::sha256();
    hash.update(bytes);
    hash.finish()
}

/// What bytes must be: their digest, and their length where one is promised.
pub(crate) struct Expected {
    /// None once it is known how it ends.
    hash: Option<Hash>,
    digest: Digest,
    size: Option<u64>,
    read: u64,
}

impl Expected {
    pub(crate) fn new(digest: &Digest, size: Option<u64>) -> Result<Self> {
        let hash = Some(Hash::like(digest)?);
        Ok(Self { hash, digest: digest.clone(), size, read: 0 })
    }

    /// Looks at the next bytes. It fails as soon as there is one too many.
    pub(crate) fn update(&mut self, bytes: &[u8]) -> Result<()> {
        self.read = self.read.saturating_add(bytes.len() as u64);
        if let Some(size) = self.size.filter(|size| *size < self.read) {
            let reason = format!("it is longer than the {size} bytes that were promised");
            return Err(Error::blob(&self.digest, reason));
        }
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        Ok(())
    }

    /// There are no more.
    pub(crate) fn end(&mut self) -> Result<()> {
        let Some(hash) = self.hash.take() else { return Ok(()) };
        if let Some(size) = self.size.filter(|size| *size != self.read) {
            let reason = format!("it ends after {} of {size} bytes", self.read);
            return Err(Error::blob(&self.digest, reason));
        }
        let found = hash.finish()?;
        if found != self.digest {
            let reason = format!("the digest of its {} bytes is {found}", self.read);
            return Err(Error::blob(&self.digest, reason));
        }
        Ok(())
    }
}

/// A reader of bytes that are looked at while they are read. It fails at the end, or as soon as there is
/// a byte too many.
pub(crate) struct Checked<R> {
    inner: R,
    expected: Expected,
}

impl<R: Read> Checked<R> {
    pub(crate) fn new(inner: R, digest: &Digest, size: Option<u64>) -> Result<Self> {
        Ok(Self { inner, expected: Expected::new(digest, size)? })
    }

    /// How many bytes have been read.
    pub(crate) fn count(&self) -> u64 {
        self.expected.read
    }

    /// The reader, and what is to be made sure of by whoever reads it.
    pub(crate) fn into_parts(self) -> (R, Expected) {
        (self.inner, self.expected)
    }

    /// Reads what is left, to have it checked.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        let looked = match count {
            0 => self.expected.end(),
            _ => self.expected.update(buffer.get(..count).unwrap_or_default()),
        };
        looked.map_err(Error::into_io)?;
        Ok(count)
    }
}

/// A writer that computes the digest and the length of what goes through it.
pub(crate) struct Summed<W> {
    inner: W,
    hash: Hash,
    count: u64,
}

impl<W> Summed<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Hash::sha256(), count: 0 }
    }

    #[cfg(feature = "appc")]
    pub(crate) fn sha512(inner: W) -> Self {
        Self { inner, hash: Hash::sha512(), count: 0 }
    }

    pub(crate) fn finish(self) -> Result<(W, Digest, u64)> {
        Ok((self.inner, self.hash.finish()?, self.count))
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.count = self.count.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_promised_or_an_error_that_names_it() {
        let digest = of(b"hello\n").unwrap();
        // `printf 'hello\n' | sha256sum`
        let known = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(digest.to_string(), known);
        let check = |bytes: &[u8], size| {
            let mut read = Vec::new();
            Checked::new(bytes, &digest, size).unwrap().read_to_end(&mut read).map(|_| read)
        };
        assert_eq!(check(b"hello\n", Some(6)).unwrap(), b"hello\n");
        assert_eq!(check(b"hello\n", None).unwrap(), b"hello\n");
        for (bytes, size, reason) in [
            (&b"hello"[..], Some(6), "it ends after 5 of 6 bytes"),
            (b"hello\nx", Some(6), "it is longer than the 6 bytes that were promised"),
            (b"jello\n", Some(6), "the digest of its 6 bytes is sha256:"),
            (b"", None, "the digest of its 0 bytes is sha256:e3b0c44298fc1c149afbf4c8996fb924"),
        ] {
            let error = check(bytes, size).unwrap_err().to_string();
            assert!(error.starts_with(known) && error.contains(reason), "{error}");
        }
    }
}
