//! Signature lists: what the databases of Secure Boot consist of (UEFI 2.10, section 32.4.1).
//!
//! A list has a header (type, 16 bytes; length of the list, of its own header and of each of its
//! signatures, 4 bytes each) and signatures of one length: the owner (16 bytes) and the data.

use crate::field::{array, index, narrow32, u32_le};
use crate::guid::Guid;
use crate::{Error, Limits, Result};

/// The type of certificates in DER (EFI_CERT_X509_GUID).
pub const X509: Guid = Guid::from_u128(0xa5c059a1_94e4_4aa7_87b5_ab155c2bf072);
/// The type of SHA-256 image hashes (EFI_CERT_SHA256_GUID).
pub const SHA256: Guid = Guid::from_u128(0xc1c41626_504c_4092_aca9_41f936934328);
const HEADER: usize = 28;
const OWNER: usize = 16;

/// Something that is trusted or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signature {
    /// What the data is: [`X509`], [`SHA256`] or a further type.
    pub kind: Guid,
    /// Who added it, for people.
    pub owner: Guid,
    /// The certificate or hash.
    pub data: Vec<u8>,
}

impl Signature {
    /// A certificate in DER.
    #[must_use]
    pub fn certificate(owner: Guid, der: impl Into<Vec<u8>>) -> Self {
        Self { kind: X509, owner, data: der.into() }
    }

    /// The image hash of one executable.
    #[must_use]
    pub fn image_hash(owner: Guid, hash: [u8; 32]) -> Self {
        Self { kind: SHA256, owner, data: hash.to_vec() }
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        match self.kind {
            X509 => {
                // The firmware takes DER only: a SEQUENCE that is as long as the data.
                let len = match self.data.as_slice() {
                    [0x30, 0x82, high, low, ..] => {
                        Some(usize::from(u16::from_be_bytes([*high, *low])) + 4)
                    }
                    [0x30, 0x81, len, ..] => Some(usize::from(*len) + 3),
                    _ => None,
                };
                let right = len == Some(self.data.len());
                (!right).then(|| "a certificate is not in DER".to_owned())
            }
            SHA256 if self.data.len() != 32 => {
                Some(format!("a SHA-256 hash has {} bytes", self.data.len()))
            }
            _ => None,
        }
    }
}

/// The signatures as lists: neighbours of one type and length share one.
#[must_use]
pub fn emit(signatures: &[Signature]) -> Vec<u8> {
    let mut out = Vec::new();
    for list in
        signatures.chunk_by(|one, next| one.kind == next.kind && one.data.len() == next.data.len())
    {
        let Some(first) = list.first() else { continue };
        let each = OWNER + first.data.len();
        out.extend_from_slice(&first.kind.to_disk());
        for number in [HEADER + each * list.len(), 0, each] {
            out.extend_from_slice(&narrow32(number as u64).to_le_bytes());
        }
        for signature in list {
            out.extend_from_slice(&signature.owner.to_disk());
            out.extend_from_slice(&signature.data);
        }
    }
    out
}

/// Reads lists that may be hostile.
///
/// # Errors
/// [`Error::Malformed`] with the byte; [`Error::Limit`] when there are more than the limits allow
/// files.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Vec<Signature>> {
    let bad = |at: usize, reason: &str| Error::malformed("signature list", at as u64, reason);
    let mut signatures = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let short = || bad(at, "the header is cut short");
        let kind = Guid::from_disk(array(bytes, at).ok_or_else(short)?);
        let number = |place| u32_le(bytes, at + place).map(|it| index(u64::from(it)));
        let (len, header, each) = (
            number(16).ok_or_else(short)?,
            number(20).ok_or_else(short)?,
            number(24).ok_or_else(short)?,
        );
        let end = at.checked_add(len).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| bad(at, "the list ends after the data"))?;
        let start = at.checked_add(HEADER).and_then(|start| start.checked_add(header));
        let content = start.and_then(|start| bytes.get(start..end));
        let content = content.ok_or_else(|| bad(at, "the list is shorter than its headers"))?;
        if each < OWNER || content.is_empty() || content.len() % each != 0 {
            return Err(bad(at, "the list is no multiple of its signatures' length"));
        }
        for signature in content.chunks_exact(each) {
            if signatures.len() >= limits.files {
                let (found, limit) = (signatures.len() as u64 + 1, limits.files as u64);
                let format = "signature list";
                return Err(Error::Limit { format, what: "signatures", found, limit });
            }
            let owner = Guid::from_disk(array(signature, 0).unwrap_or_default());
            let data = signature.get(OWNER..).unwrap_or_default().to_vec();
            signatures.push(Signature { kind, owner, data });
        }
        at = end;
    }
    Ok(signatures)
}
