//! The image hash, and the signature of it at the end of the file.

use cms::content_info::ContentInfo;
use cms::signed_data::EncapsulatedContentInfo;
use der::asn1::{Any, ObjectIdentifier, OctetString, SetOfVec};
use der::{Decode, Encode};
use sha2::{Digest, Sha256};
use x509_cert::attr::Attributes;

use super::pkcs7::{attribute, signed_data};
use super::{Certificate, DIGEST_INFO, Signer, der_error};
use crate::boot::pe::{self, Image};
use crate::content::Sink;
use crate::error::Problems;
use crate::field::{index, narrow32};
use crate::{Error, Result};

pub(super) const INDIRECT_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.4");
pub(super) const SIGNED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
pub(super) const MESSAGE_DIGEST: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// What the certificates and each of them begin at a multiple of.
pub(super) const ALIGNMENT: usize = 8;
/// Bytes before the message: length, revision and type.
pub(super) const ENTRY_HEADER: usize = 8;
/// The revision 2.0 and the type of PKCS#7 messages (WIN_CERT_TYPE_PKCS_SIGNED_DATA).
pub(super) const ENTRY_KIND: [u8; 4] = [0x00, 0x02, 0x02, 0x00];

/// The start of SpcIndirectDataContent, before DigestInfo: the whole has 104 bytes; the data is an
/// SpcPeImageData (1.3.6.1.4.1.311.2.1.15) without flags, whose file is the text "<<<Obsolete>>>" in
/// UTF-16, as the specification demands.
const INDIRECT: [u8; 55] = [
    0x30, 0x68, 0x30, 0x33, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x0f,
    0x30, 0x25, 0x03, 0x01, 0x00, 0xa0, 0x20, 0xa2, 0x1e, 0x80, 0x1c, 0, b'<', 0, b'<', 0, b'<', 0,
    b'O', 0, b'b', 0, b's', 0, b'o', 0, b'l', 0, b'e', 0, b't', 0, b'e', 0, b'>', 0, b'>', 0, b'>',
];

/// The SHA-256 image hash of an executable with the zero bytes that signing adds before
/// certificates: what a signature covers, and what can be put into `db` or `dbx` instead of a
/// certificate. Reads all of it once.
///
/// # Errors
/// [`Error::Io`] when a file cannot be read.
pub fn image_hash(image: &Image) -> Result<[u8; 32]> {
    let len = image.unsigned_len();
    let padding = len.next_multiple_of(ALIGNMENT as u64) - len;
    let regions = pe::regions(image.headers(), len + padding);
    let in_order =
        regions.windows(2).all(|pair| matches!(pair, [first, second] if first.end <= second.start));
    if in_order {
        let mut hasher = Hasher { regions, sha256: Sha256::new(), at: 0 };
        image.write_unsigned(&mut hasher)?;
        hasher.hole(padding)?;
        return Ok(hasher.sha256.finalize().into());
    }
    // Sections that overlap or leave gaps: no linker of ours makes such, but the rule covers them.
    let mut bytes = Vec::new();
    image.write_unsigned(&mut bytes)?;
    bytes.hole(padding)?;
    let mut sha256 = Sha256::new();
    for region in regions {
        let range = index(region.start)..index(region.end);
        sha256.update(bytes.get(range).unwrap_or_default());
    }
    Ok(sha256.finalize().into())
}

/// Hashes those bytes that lie in regions, which are in order.
struct Hasher {
    regions: Vec<std::ops::Range<u64>>,
    sha256: Sha256,
    at: u64,
}

impl Sink for Hasher {
    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.at + bytes.len() as u64;
        for region in &self.regions {
            let (start, stop) = (region.start.max(self.at), region.end.min(end));
            if start < stop {
                let range = index(start - self.at)..index(stop - self.at);
                self.sha256.update(bytes.get(range).unwrap_or_default());
            }
        }
        self.at = end;
        Ok(())
    }

    fn hole(&mut self, mut len: u64) -> Result<()> {
        const ZEROES: [u8; 4096] = [0; 4096];
        while len > 0 {
            let count = len.min(ZEROES.len() as u64);
            self.data(ZEROES.get(..index(count)).unwrap_or_default())?;
            len -= count;
        }
        Ok(())
    }
}

/// SpcIndirectDataContent with an image hash.
fn indirect_data(hash: &[u8; 32]) -> Vec<u8> {
    [INDIRECT.as_slice(), DIGEST_INFO.as_slice(), hash.as_slice()].concat()
}

/// An executable that waits for its signature.
#[derive(Debug, Clone)]
pub struct Request {
    image: Image,
    certificate: Certificate,
    hash: [u8; 32],
    attributes: Attributes,
    to_be_signed: Vec<u8>,
}

impl Request {
    /// Prepares the signature of an executable by the key of a certificate. Reads all of it once.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read.
    pub fn new(image: Image, certificate: &Certificate) -> Result<Self> {
        let hash = image_hash(&image)?;
        let error = || der_error("pkcs7");
        // The digest is that of the content without its tag and length.
        let content = indirect_data(&hash);
        let digest = Sha256::digest(content.get(2..).unwrap_or_default());
        let digest = OctetString::new(digest.to_vec()).map_err(error())?;
        let attributes = SetOfVec::try_from(vec![
            attribute(CONTENT_TYPE, Any::encode_from(&INDIRECT_DATA).map_err(error())?)?,
            attribute(MESSAGE_DIGEST, Any::encode_from(&digest).map_err(error())?)?,
        ])
        .map_err(error())?;
        let to_be_signed = attributes.to_der().map_err(error())?;
        Ok(Self { image, certificate: certificate.clone(), hash, attributes, to_be_signed })
    }

    /// The executable's image hash.
    #[must_use]
    pub fn image_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The bytes to be signed with RSA PKCS#1 v1.5 and SHA-256: signed attributes in DER.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// The executable with the signature, after those that it has.
    ///
    /// # Errors
    /// [`Error::Plan`] when the signature is not one of these bytes by the certificate's key.
    pub fn attach(self, signature: &[u8]) -> Result<Image> {
        let mut problems = Problems(Vec::new());
        let expected = self.certificate.signature_len();
        if signature.len() != expected {
            problems.0.push(format!(
                "the signature has {} bytes, but one by the key of {} has {expected}",
                signature.len(),
                self.certificate.subject()
            ));
        } else if !self.certificate.has_signed(&self.to_be_signed, signature) {
            problems.0.push(format!(
                "the signature is not one of this executable by the key of {}",
                self.certificate.subject()
            ));
        }
        problems.check("signature")?;
        let error = || der_error("pkcs7");
        let content = EncapsulatedContentInfo {
            econtent_type: INDIRECT_DATA,
            econtent: Some(Any::from_der(&indirect_data(&self.hash)).map_err(error())?),
        };
        let message = signed_data(content, Some(self.attributes), &self.certificate, signature)?;
        let message = ContentInfo {
            content_type: SIGNED_DATA,
            content: Any::encode_from(&message).map_err(error())?,
        };
        let message = message.to_der().map_err(error())?;
        let mut table = self.image.certificates().to_vec();
        table.resize(table.len().next_multiple_of(ALIGNMENT), 0);
        let len = narrow32((ENTRY_HEADER + message.len()) as u64);
        table.extend_from_slice(&len.to_le_bytes());
        table.extend_from_slice(&ENTRY_KIND);
        table.extend_from_slice(&message);
        table.resize(table.len().next_multiple_of(ALIGNMENT), 0);
        let len = self.image.unsigned_len();
        let padding = len.next_multiple_of(ALIGNMENT as u64) - len;
        self.image.padded(index(padding)).with_certificates(table)
    }
}

/// Signs an executable. Reads all of it once.
///
/// # Errors
/// [`Error::Io`] when a file cannot be read; [`Error::Malformed`] when the executable's headers have
/// no place for a signature.
pub fn sign(image: Image, signer: &Signer) -> Result<Image> {
    let request = Request::new(image, signer.certificate())?;
    let signature = signer.key().sign(request.to_be_signed())?;
    request.attach(&signature)
}

/// The messages of a certificate table.
pub(super) fn messages(table: &[u8]) -> Result<Vec<&[u8]>> {
    let bad = |at: usize, reason: &str| Error::malformed("certificate table", at as u64, reason);
    let mut messages = Vec::new();
    let mut at = 0;
    while at < table.len() {
        let len = crate::field::u32_le(table, at).map(|len| index(u64::from(len)));
        let len = len.filter(|len| *len >= ENTRY_HEADER).ok_or_else(|| bad(at, "no length"))?;
        let entry = at.checked_add(len).and_then(|end| table.get(at..end));
        let entry = entry.ok_or_else(|| bad(at, "an entry ends after the table"))?;
        if entry.get(4..8) == Some(ENTRY_KIND.as_slice()) {
            messages.push(entry.get(ENTRY_HEADER..).unwrap_or_default());
        }
        at = (at + len).next_multiple_of(ALIGNMENT);
    }
    Ok(messages)
}
