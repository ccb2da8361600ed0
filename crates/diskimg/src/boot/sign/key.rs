//! Private keys, and keys with their certificates.

use std::fmt;

use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use rsa::rand_core::{CryptoRng, Error as RandomError, RngCore};
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha256};

use super::{Certificate, digest_info};
use crate::error::Problems;
use crate::{Error, Result};

/// Lengths of keys that firmware takes, in bits.
const BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A private RSA key of 2048 to 4096 bits.
#[derive(Clone)]
pub struct PrivateKey(RsaPrivateKey);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PrivateKey({} bits)", self.0.n().bits())
    }
}

impl PrivateKey {
    /// Reads a key: PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`), in PEM or DER, not
    /// encrypted.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is none, [`Error::Unsupported`] when it is encrypted, of another
    /// kind or too short.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |reason: String| Error::malformed("private key", 0, reason);
        if let Some(reason) = super::no_form(bytes) {
            return Err(bad(reason.to_owned()));
        }
        let key = match std::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN") => {
                // What stands before and after, such as parameters, is none of ours.
                let begins = |label: &str| text.find(&format!("-----BEGIN {label}-----"));
                if begins("ENCRYPTED PRIVATE KEY").is_some() || text.contains("Proc-Type: 4,ENC") {
                    return Err(Error::unsupported("private key", "an encrypted key"));
                }
                let from = |at: usize| text.get(at..).unwrap_or_default();
                if let Some(at) = begins("PRIVATE KEY") {
                    RsaPrivateKey::from_pkcs8_pem(from(at)).map_err(|it| bad(it.to_string()))?
                } else if let Some(at) = begins("RSA PRIVATE KEY") {
                    RsaPrivateKey::from_pkcs1_pem(from(at)).map_err(|it| bad(it.to_string()))?
                } else {
                    let reason = "there is neither PRIVATE KEY nor RSA PRIVATE KEY in it";
                    return Err(bad(reason.to_owned()));
                }
            }
            _ => RsaPrivateKey::from_pkcs8_der(bytes)
                .or_else(|error| RsaPrivateKey::from_pkcs1_der(bytes).map_err(|_| error))
                .map_err(|error| bad(error.to_string()))?,
        };
        Self::checked(key)
    }

    /// Makes a key of 2048, 3072 or 4096 bits from random bytes: `random` fills the slices that it
    /// is given. The same bytes give the same key, so they must be secret and unpredictable; one
    /// that always gives the same byte never comes to an end.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another number of bits.
    pub fn generate(bits: usize, random: &mut dyn FnMut(&mut [u8])) -> Result<Self> {
        if !BITS.contains(&bits) || !bits.is_multiple_of(1024) {
            let what = format!("{bits} bits (expected 2048, 3072 or 4096)");
            return Err(Error::unsupported("private key", what));
        }
        let key = RsaPrivateKey::new(&mut Random(random), bits)
            .map_err(|error| Error::malformed("private key", 0, error.to_string()))?;
        Self::checked(key)
    }

    fn checked(key: RsaPrivateKey) -> Result<Self> {
        let bits = key.n().bits();
        if !BITS.contains(&bits) {
            let what = format!("a key of {bits} bits (expected 2048 to 4096)");
            return Err(Error::unsupported("private key", what));
        }
        key.validate().map_err(|error| Error::malformed("private key", 0, error.to_string()))?;
        Ok(Self(key))
    }

    /// The key in PEM, as PKCS#8.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it cannot be encoded, which does not happen.
    pub fn to_pem(&self) -> Result<String> {
        self.0
            .to_pkcs8_pem(LineEnding::LF)
            .map(|text| text.to_string())
            .map_err(|error| Error::malformed("private key", 0, error.to_string()))
    }

    /// Its public half.
    pub(super) fn public(&self) -> RsaPublicKey {
        self.0.to_public_key()
    }

    /// The signature of bytes: RSA PKCS#1 v1.5 with SHA-256.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the key cannot do it.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let digest = digest_info(&Sha256::digest(bytes).into());
        self.0
            .sign(Pkcs1v15Sign::new_unprefixed(), &digest)
            .map_err(|error| Error::malformed("private key", 0, error.to_string()))
    }
}

/// The caller's randomness for a crate that wants a generator.
struct Random<'random>(&'random mut dyn FnMut(&mut [u8]));

impl RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        (self.0)(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        (self.0)(bytes);
        Ok(())
    }
}

/// What the `rsa` crate asks for: the caller has been told.
impl CryptoRng for Random<'_> {}

/// A private key with its certificate.
#[derive(Debug, Clone)]
pub struct Signer {
    key: PrivateKey,
    certificate: Certificate,
}

impl Signer {
    /// A key and its certificate.
    ///
    /// # Errors
    /// [`Error::Plan`] when the certificate is of another key.
    pub fn new(key: PrivateKey, certificate: Certificate) -> Result<Self> {
        let mut problems = Problems(Vec::new());
        if key.public() != *certificate.key() {
            problems.0.push(format!(
                "the certificate of {} is not that of the private key",
                certificate.subject()
            ));
        }
        problems.check("signer")?;
        Ok(Self { key, certificate })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }
}
