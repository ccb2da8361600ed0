//! X.509 certificates: read, and made for keys of one's own.

use std::fmt;
use std::time::Duration;

use der::asn1::{
    Any, BitString, GeneralizedTime, ObjectIdentifier, OctetString, SetOfVec, UtcTime,
};
use der::pem::PemLabel;
use der::referenced::OwnedToRef;
use der::{Decode, Encode, EncodePem, Tag};
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::{RsaPublicKey, traits::PublicKeyParts};
use sha2::{Digest, Sha256};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};
use x509_cert::{TbsCertificate, Version};

use super::{PrivateKey, SHA256_WITH_RSA, algorithm, der_error, digest_info};
use crate::error::Problems;
use crate::{Error, Result};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");

/// A certificate of an RSA key.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    pub(super) parsed: x509_cert::Certificate,
    der: Vec<u8>,
    key: RsaPublicKey,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Certificate({})", self.subject())
    }
}

/// What a self-signed certificate says.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Profile {
    /// The name of whom it is for (its common name): 1 to 64 characters.
    pub name: String,
    /// From when it is valid, in seconds since 1970. Default: the year 2000. The firmware does not
    /// look at it, because it cannot trust the machine's clock.
    pub not_before: u64,
    /// Until when. Default: the end of 2049.
    pub not_after: u64,
}

impl Profile {
    /// A name, valid from 2000 to 2049.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), not_before: 946_684_800, not_after: 2_524_607_999 }
    }
}

/// Unpacks the text first: `DecodePem` of der 0.7 reads on for ever in one that is too short.
fn first_pem(bytes: &[u8]) -> der::Result<x509_cert::Certificate> {
    let (label, content) = der::pem::decode_vec(bytes)?;
    x509_cert::Certificate::validate_pem_label(label)?;
    from_der(&content)
}

fn from_der(bytes: &[u8]) -> der::Result<x509_cert::Certificate> {
    if super::first_value(bytes, 0).is_none() {
        return Err(der::ErrorKind::Overlength.into());
    }
    x509_cert::Certificate::from_der(bytes)
}

impl Certificate {
    /// Reads a certificate in PEM (the first one) or DER.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is none; [`Error::Unsupported`] when its key is not RSA.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if let Some(reason) = super::no_form(bytes) {
            return Err(Error::malformed("certificate", 0, reason));
        }
        let parsed = if bytes.starts_with(&[0x30]) { from_der(bytes) } else { first_pem(bytes) };
        Self::from_parsed(parsed.map_err(der_error("certificate"))?)
    }

    pub(super) fn from_parsed(parsed: x509_cert::Certificate) -> Result<Self> {
        let der = parsed.to_der().map_err(der_error("certificate"))?;
        let info = parsed.tbs_certificate.subject_public_key_info.owned_to_ref();
        let key = RsaPublicKey::try_from(info).map_err(|error| {
            Error::unsupported("certificate", format!("a key other than RSA ({error})"))
        })?;
        Ok(Self { parsed, der, key })
    }

    /// Makes a certificate of a key, signed by itself: the same key and profile, the same bytes.
    ///
    /// # Errors
    /// [`Error::Plan`] when the profile cannot be expressed.
    pub fn self_signed(key: &PrivateKey, profile: &Profile) -> Result<Self> {
        let mut problems = Problems(Vec::new());
        let characters = profile.name.chars().count();
        if !(1..=64).contains(&characters) || profile.name.chars().any(char::is_control) {
            problems.0.push(format!(
                "the name {:?} has {characters} characters, expected 1 to 64 without control \
                 characters",
                profile.name
            ));
        }
        if profile.not_before >= profile.not_after {
            problems.0.push("it would be valid until before it is valid".to_owned());
        }
        problems.check("certificate")?;
        let error = || der_error("certificate");
        let name = Any::new(Tag::Utf8String, profile.name.as_bytes()).map_err(error())?;
        let name = AttributeTypeAndValue { oid: COMMON_NAME, value: name };
        let name = SetOfVec::try_from(vec![name]).map_err(error())?;
        let name = RdnSequence(vec![RelativeDistinguishedName(name)]);
        let info = SubjectPublicKeyInfoOwned::from_key(key.public())
            .map_err(|error| Error::malformed("certificate", 0, error.to_string()))?;
        // Two certificates of one issuer must differ in their number: one for each key and name.
        let mut serial = Sha256::new();
        serial.update(info.to_der().map_err(error())?);
        serial.update(&profile.name);
        serial.update(profile.not_before.to_le_bytes());
        serial.update(profile.not_after.to_le_bytes());
        let mut serial: [u8; 32] = serial.finalize().into();
        // Positive, and of the same length always.
        serial[0] = serial[0] & 0x3f | 0x40;
        let serial = serial.get(..16).unwrap_or_default();
        // It is for signing programs, not for further certificates.
        let constraints = Extension {
            extn_id: BASIC_CONSTRAINTS,
            critical: true,
            extn_value: OctetString::new([0x30, 0x00]).map_err(error())?,
        };
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(serial).map_err(error())?,
            signature: algorithm(SHA256_WITH_RSA),
            issuer: name.clone(),
            validity: Validity {
                not_before: time(profile.not_before)?,
                not_after: time(profile.not_after)?,
            },
            subject: name,
            subject_public_key_info: info,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(vec![constraints]),
        };
        let signature = key.sign(&tbs_certificate.to_der().map_err(error())?)?;
        Self::from_parsed(x509_cert::Certificate {
            tbs_certificate,
            signature_algorithm: algorithm(SHA256_WITH_RSA),
            signature: BitString::from_bytes(&signature).map_err(error())?,
        })
    }

    /// The certificate in DER.
    #[must_use]
    pub fn to_der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it cannot be encoded, which does not happen to one that was read.
    pub fn to_pem(&self) -> Result<String> {
        self.parsed.to_pem(der::pem::LineEnding::LF).map_err(der_error("certificate"))
    }

    /// Whom it is for, as RFC 4514 writes names (`CN=Kiln db`).
    #[must_use]
    pub fn subject(&self) -> String {
        self.parsed.tbs_certificate.subject.to_string()
    }

    pub(super) fn key(&self) -> &RsaPublicKey {
        &self.key
    }

    /// Bytes of a signature by its key.
    pub(super) fn signature_len(&self) -> usize {
        self.key.size()
    }

    /// Whether its key made this signature of bytes (RSA PKCS#1 v1.5 with SHA-256).
    #[must_use]
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let digest = digest_info(&Sha256::digest(bytes).into());
        self.key.verify(Pkcs1v15Sign::new_unprefixed(), &digest, signature).is_ok()
    }

    /// Whether it is the issuer of another certificate: its name and its signature.
    pub(super) fn has_issued(&self, other: &Self) -> bool {
        let issued = &other.parsed;
        issued.tbs_certificate.issuer == self.parsed.tbs_certificate.subject
            && issued.signature_algorithm.oid == SHA256_WITH_RSA
            && issued
                .tbs_certificate
                .to_der()
                .is_ok_and(|tbs| self.has_signed(&tbs, issued.signature.raw_bytes()))
    }
}

/// A point in time as certificates hold it: with two digits of the year until 2049 (RFC 5280,
/// section 4.1.2.5).
fn time(seconds: u64) -> Result<Time> {
    let since = Duration::from_secs(seconds);
    UtcTime::from_unix_duration(since)
        .map(Time::from)
        .or_else(|_| GeneralizedTime::from_unix_duration(since).map(Time::from))
        .map_err(der_error("certificate"))
}
