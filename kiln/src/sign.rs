//! Checksums of files, and a signature of them: what a release has beside its files.
//!
//! Keys are those of Ed25519 (RFC 8032) as PEM files of PKCS #8 (RFC 8410), as `openssl genpkey -algorithm
//! ed25519` makes them. Anybody verifies a signature with OpenSSL:
//!
//! ```sh
//! openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
//! sha256sum --check SHA256SUMS
//! ```

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
    KeypairBytes,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::{Error, Result, digest};

/// A key to sign with.
pub struct Key(SigningKey);

impl fmt::Debug for Key {
    /// Nothing of it belongs into a log.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key")
    }
}

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] for what is no such key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let key = SigningKey::from_pkcs8_pem(&text).map_err(|error| {
            let text = format!("{error}; it has to be a key of Ed25519 (PEM, PKCS #8)");
            Error::input(path.display().to_string(), text)
        })?;
        Ok(Self(key))
    }

    /// Makes a key, in a file that only its owner reads.
    ///
    /// # Errors
    /// [`Error::Io`], also when the file is there: a key is never written over.
    pub fn make(path: &Path) -> Result<Self> {
        let mut secret = [0; 32];
        let random = Path::new("/dev/urandom");
        let mut source = std::fs::File::open(random).map_err(Error::io("open", random))?;
        source.read_exact(&mut secret).map_err(Error::io("read", random))?;
        // Without its public half, which OpenSSL before 3.2 does not read in such a file.
        let pair = KeypairBytes { secret_key: secret, public_key: None };
        let text = pair
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| Error::input(path.display().to_string(), error.to_string()))?;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.map_err(Error::io("create", path))?;
        file.write_all(text.as_bytes()).map_err(Error::io("write", path))?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// The public half, as PEM.
    ///
    /// # Errors
    /// [`Error::Input`] when it cannot be written down.
    pub fn public(&self) -> Result<String> {
        let text = self.0.verifying_key().to_public_key_pem(LineEnding::LF);
        text.map_err(|error| Error::input("public key", error.to_string()))
    }

    /// Signs bytes: the same bytes and key, the same signature.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

/// Verifies a signature by a public key in PEM.
///
/// # Errors
/// [`Error::Input`] for another signature or key, and what is none.
pub fn verify(public: &str, bytes: &[u8], signature: &[u8]) -> Result<()> {
    let key = VerifyingKey::from_public_key_pem(public);
    let key = key.map_err(|error| Error::input("public key", error.to_string()))?;
    let signature = Signature::from_slice(signature);
    let verified = signature.and_then(|signature| key.verify_strict(bytes, &signature));
    verified.map_err(|_| Error::input("signature", "it is not of these bytes by this key"))
}

/// Checksums of files by their names, as `sha256sum --check` reads them, sorted.
///
/// # Errors
/// [`Error::Io`]; [`Error::Input`] for a name that such a list has no place for.
pub fn sums<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> Result<String> {
    let mut lines = Vec::new();
    for (name, path) in files {
        if name.is_empty() || name.contains(['\n', '\\']) {
            return Err(Error::input(format!("{name:?}"), "a list of checksums has no such name"));
        }
        lines.push((name, digest::of_file(path)?));
    }
    lines.sort_unstable();
    Ok(lines.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    /// RFC 8032, section 7.1, test 2, with the key as RFC 8410 has it.
    #[test]
    fn known_answer() {
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            digits
                .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
                .collect()
        };
        let secret = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = Key(SigningKey::from_bytes(secret.as_slice().try_into().unwrap()));
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(key.sign(&[0x72]).to_vec(), hex(signature));
        verify(&key.public().unwrap(), &[0x72], &hex(signature)).unwrap();
        for (bytes, signature) in [(0x73, hex(signature)), (0x72, hex(signature)[1..].to_vec())] {
            assert!(verify(&key.public().unwrap(), &[bytes], &signature).is_err());
        }
    }

    #[test]
    fn openssl_and_sha256sum_verify_what_was_signed() {
        let work = tempfile::tempdir().unwrap();
        let path = |name: &str| work.path().join(name);
        let key = Key::make(&path("key")).unwrap();
        assert_eq!(std::fs::metadata(path("key")).unwrap().permissions().mode() & 0o777, 0o600);
        let error = Key::make(&path("key")).unwrap_err().to_string();
        assert!(error.contains("File exists"), "{error}");
        std::fs::write(path("b c"), "b").unwrap();
        std::fs::write(path("a"), "a").unwrap();
        let sums = sums([("b c", path("b c").as_path()), ("a", path("a").as_path())]).unwrap();
        std::fs::write(path("SHA256SUMS"), &sums).unwrap();
        let check = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(work.path()).output();
            let output = output.unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        assert!(check("sha256sum", &["--check", "--strict", "SHA256SUMS"]).0);
        if crate::command::find("openssl").is_none() {
            assert!(std::env::var_os("CI").is_none(), "openssl");
            eprintln!("skipped: openssl");
            return;
        }
        // A key of ours, and one of OpenSSL's.
        assert!(check("openssl", &["genpkey", "-algorithm", "ed25519", "-out", "theirs"]).0);
        for key in [Key::read(&path("key")).unwrap(), key, Key::read(&path("theirs")).unwrap()] {
            std::fs::write(path("pub"), key.public().unwrap()).unwrap();
            std::fs::write(path("sig"), key.sign(sums.as_bytes())).unwrap();
            let verify = [
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                "pub",
                "-rawin",
                "-in",
                "SHA256SUMS",
                "-sigfile",
                "sig",
            ];
            let (good, said) = check("openssl", &verify);
            assert!(good && said.contains("Verified Successfully"), "{said}");
        }
        assert!(check("openssl", &["pkey", "-in", "key", "-noout"]).0, "OpenSSL reads our key");
        let error = Key::read(&path("a")).unwrap_err().to_string();
        assert!(error.contains("it has to be a key of Ed25519"), "{error}");
    }
}
