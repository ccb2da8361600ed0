//! Who says what a system is: signatures of Ed25519 (RFC 8032), as `kiln::sign` makes them.

use std::path::Path;

use ed25519_dalek::pkcs8::DecodePublicKey as _;
use ed25519_dalek::{Signature, VerifyingKey};

use super::{Error, read};

/// Public keys of whom to believe.
#[derive(Debug, Clone)]
pub struct Keys(Vec<VerifyingKey>);

impl Keys {
    /// Reads a file of keys, one after the other as PEM (RFC 8410), such as `openssl pkey -pubout` writes.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Unsigned`] where there is no key in it, or one of another kind.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = read(path)?;
        let wrong = |problem| Error::Unsigned { path: path.to_owned(), problem };
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("a key is a text (PEM)"))?;
        let mut keys = Vec::new();
        for part in text.split_inclusive(END) {
            if part.contains(BEGIN) {
                let key = VerifyingKey::from_public_key_pem(part.trim());
                keys.push(key.map_err(|_| wrong("a key is none of Ed25519"))?);
            }
        }
        if keys.is_empty() {
            return Err(wrong("it has no key"));
        }
        Ok(Self(keys))
    }

    /// Whether one of the keys has signed this.
    pub(crate) fn verify(&self, bytes: &[u8], signature: &[u8]) -> Result<(), &'static str> {
        let Ok(signature) = Signature::from_slice(signature) else {
            return Err("it is no signature: those have 64 bytes");
        };
        match self.0.iter().any(|key| key.verify_strict(bytes, &signature).is_ok()) {
            true => Ok(()),
            false => Err("it is of something else, or by a key that is not trusted here"),
        }
    }
}

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

#[cfg(test)]
mod tests {
    use std::fs;

    use ed25519_dalek::pkcs8::EncodePublicKey as _;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
    use ed25519_dalek::{Signer as _, SigningKey};
    use kiln_diskimg::slots::{Part, Release};

    use super::super::{Directory, RELEASE, SIGNATURE};
    use super::*;

    fn public(key: &SigningKey) -> String {
        key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
    }

    #[test]
    fn a_system_is_believed_that_a_trusted_key_has_signed() {
        let work = tempfile::tempdir().unwrap();
        let path = |name: &str| work.path().join(name);
        let [old, new, other] = [1, 2, 3].map(|seed| SigningKey::from_bytes(&[seed; 32]));
        fs::write(path("keys"), format!("of 2025:\n{}\n{}", public(&old), public(&new))).unwrap();
        let keys = Keys::read(&path("keys")).unwrap();
        let release = Release::new("2", Part::of(b"kernel"), Part::of(b"initramfs")).to_string();
        fs::write(path(RELEASE), &release).unwrap();
        let open = || Directory::open_signed(work.path(), &keys);
        let said = |open: Result<Directory, Error>| open.unwrap_err().to_string();
        assert!(said(open()).contains("release.sig: there is none"));
        for key in [&old, &new] {
            let signature = key.sign(release.as_bytes()).to_bytes();
            fs::write(path(SIGNATURE), signature).unwrap();
            assert_eq!(open().unwrap().release().version, "2");
            fs::write(path(SIGNATURE), &signature[..63]).unwrap();
            assert!(said(open()).contains("64 bytes"));
        }
        fs::write(path(SIGNATURE), other.sign(release.as_bytes()).to_bytes()).unwrap();
        assert!(said(open()).contains("not trusted here"));
        fs::write(path(SIGNATURE), new.sign(release.as_bytes()).to_bytes()).unwrap();
        fs::write(path(RELEASE), release.replace("version 2", "version 3")).unwrap();
        assert!(said(open()).contains("of something else"));
    }

    #[test]
    fn what_is_no_key_is_told() {
        let work = tempfile::tempdir().unwrap();
        let file = work.path().join("keys");
        let said = || Keys::read(&file).unwrap_err().to_string();
        assert!(said().contains("No such file"));
        for (text, expected) in [
            (&b""[..], "it has no key"),
            (b"\xff", "a key is a text"),
            (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "none of Ed25519"),
        ] {
            fs::write(&file, text).unwrap();
            assert!(said().contains(expected), "{}", said());
        }
    }
}
