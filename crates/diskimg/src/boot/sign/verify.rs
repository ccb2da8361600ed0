//! Whether a signature is good, and whose it is.

use std::fmt;

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::OctetString;
use der::{Decode, Encode};
use sha2::{Digest, Sha256};

use super::authenticode::{INDIRECT_DATA, MESSAGE_DIGEST, SIGNED_DATA, image_hash, messages};
use super::{Certificate, DIGEST_INFO, SHA256, der_error};
use crate::boot::pe::Image;
use crate::{Error, Result};

/// How many certificates may lie between that of the signer and a trusted one.
const MAX_CHAIN: usize = 8;
/// How many signatures of an executable are looked at.
const MAX_SIGNATURES: usize = 32;

/// What is to be thought of an executable's signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// One is by the certificate, or by one that leads to it, and the executable is as it was.
    Signed,
    /// There is none.
    Unsigned,
    /// The executable is not what was signed.
    Altered,
    /// None is by the certificate: the subjects of those that signed.
    Others(Vec<String>),
    /// One that claims to be by the certificate was not made by its key.
    Forged,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signed => out.write_str("signed"),
            Self::Unsigned => out.write_str("not signed"),
            Self::Altered => out.write_str("altered after it was signed"),
            Self::Others(names) => write!(out, "signed by {}", names.join(" and ")),
            Self::Forged => out.write_str("signature not made by its certificate's key"),
        }
    }
}

/// Checks an executable's signatures: is one of them by `trusted` or by a certificate that leads to
/// it, and is the executable what was signed? As the firmware does, it takes no time and no
/// constraints into account.
///
/// # Errors
/// [`Error::Malformed`] when a signature is none; [`Error::Unsupported`] for algorithms other than
/// RSA with SHA-256, if no other signature is good; [`Error::Io`].
pub fn verify(image: &Image, trusted: &Certificate) -> Result<Verdict> {
    let messages = messages(image.certificates())?;
    if messages.is_empty() {
        return Ok(Verdict::Unsigned);
    }
    let (found, limit) = (messages.len() as u64, MAX_SIGNATURES as u64);
    if found > limit {
        return Err(Error::Limit { format: "pkcs7", what: "signatures", found, limit });
    }
    let hash = image_hash(image)?;
    let mut others = Vec::new();
    let mut worse = None;
    for message in messages {
        match check(message, &hash, trusted) {
            Ok(Verdict::Signed) => return Ok(Verdict::Signed),
            Ok(Verdict::Others(names)) => others.extend(names),
            other => worse = worse.or(Some(other)),
        }
    }
    worse.unwrap_or(Ok(Verdict::Others(others)))
}

/// One message.
fn check(message: &[u8], hash: &[u8; 32], trusted: &Certificate) -> Result<Verdict> {
    let error = || der_error("pkcs7");
    // What follows is filling.
    let message = super::first_value(message, 0);
    let message = message.ok_or_else(|| error()(der::ErrorKind::Overlength.into()))?;
    let outer = ContentInfo::from_der(message).map_err(error())?;
    if outer.content_type != SIGNED_DATA {
        return Err(Error::unsupported("pkcs7", "a message other than SignedData"));
    }
    let data: SignedData = outer.content.decode_as().map_err(error())?;
    let content = &data.encap_content_info;
    let (INDIRECT_DATA, Some(indirect)) = (content.econtent_type, &content.econtent) else {
        return Err(Error::unsupported("pkcs7", "content other than SpcIndirectDataContent"));
    };
    let indirect = indirect.value();
    // The digest of the image ends the content.
    let at = indirect.len().saturating_sub(hash.len());
    let (before, signed_hash) = indirect.split_at(at);
    if !before.ends_with(&DIGEST_INFO) {
        return Err(Error::unsupported("pkcs7", "an image hash other than SHA-256"));
    }
    let certificates: Vec<Certificate> = data
        .certificates
        .iter()
        .flat_map(|set| set.0.iter())
        .filter_map(|choice| match choice {
            CertificateChoices::Certificate(parsed) => {
                Certificate::from_parsed(parsed.clone()).ok()
            }
            CertificateChoices::Other(_) => None,
        })
        .collect();
    let mut names = Vec::new();
    for info in data.signer_infos.0.iter() {
        let Some(signer) = signer_of(info, &certificates, trusted) else {
            names.push(claimed(info));
            continue;
        };
        if !leads_to(signer, &certificates, trusted) {
            names.push(signer.subject());
            continue;
        }
        if info.digest_alg.oid != SHA256 {
            return Err(Error::unsupported("pkcs7", "a digest other than SHA-256"));
        }
        if !attributes_hold(info, indirect, signer)? {
            return Ok(Verdict::Forged);
        }
        let same = signed_hash == hash;
        return Ok(if same { Verdict::Signed } else { Verdict::Altered });
    }
    Ok(Verdict::Others(names))
}

/// The certificate that a signature names.
fn signer_of<'set>(
    info: &SignerInfo,
    certificates: &'set [Certificate],
    trusted: &'set Certificate,
) -> Option<&'set Certificate> {
    let SignerIdentifier::IssuerAndSerialNumber(wanted) = &info.sid else { return None };
    certificates.iter().chain([trusted]).find(|certificate| {
        let of = &certificate.parsed.tbs_certificate;
        of.issuer == wanted.issuer && of.serial_number == wanted.serial_number
    })
}

/// Whom a signature names, when its certificate is not there.
fn claimed(info: &SignerInfo) -> String {
    match &info.sid {
        SignerIdentifier::IssuerAndSerialNumber(of) => {
            format!("number {} of {}", of.serial_number, of.issuer)
        }
        SignerIdentifier::SubjectKeyIdentifier(_) => "a key that is not named".to_owned(),
    }
}

/// Whether certificates lead from one to the trusted one.
fn leads_to(signer: &Certificate, all: &[Certificate], trusted: &Certificate) -> bool {
    let mut current = signer;
    for _ in 0..MAX_CHAIN {
        if current == trusted || trusted.has_issued(current) {
            return true;
        }
        let Some(issuer) = all.iter().find(|it| *it != current && it.has_issued(current)) else {
            return false;
        };
        current = issuer;
    }
    false
}

/// Whether the signature is one of the attributes, and these of the content.
fn attributes_hold(info: &SignerInfo, content: &[u8], signer: &Certificate) -> Result<bool> {
    let error = || der_error("pkcs7");
    let Some(attributes) = &info.signed_attrs else {
        return Ok(signer.has_signed(content, info.signature.as_bytes()));
    };
    let digest = attributes
        .iter()
        .find(|attribute| attribute.oid == MESSAGE_DIGEST)
        .and_then(|attribute| attribute.values.get(0))
        .and_then(|value| value.decode_as::<OctetString>().ok());
    let right = digest.is_some_and(|it| it.as_bytes() == Sha256::digest(content).as_slice());
    let bytes = attributes.to_der().map_err(error())?;
    Ok(right && signer.has_signed(&bytes, info.signature.as_bytes()))
}
