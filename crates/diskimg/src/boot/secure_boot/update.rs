//! Signed updates of the databases: the content of `.auth` files.
//!
//! EFI_VARIABLE_AUTHENTICATION_2 (UEFI 2.10, section 8.2.2): the time (16 bytes), then a certificate
//! entry (length, 4 bytes; revision 0x0200; type 0x0ef1; EFI_CERT_TYPE_PKCS7_GUID; a PKCS#7
//! message), then the new value.

use super::{Database, Signature, Timestamp, attribute, signatures};
use crate::Result;
use crate::boot::sign::{Certificate, Signer, detached};
use crate::error::Problems;
use crate::field::narrow32;
use crate::guid::Guid;

const PKCS7: Guid = Guid::from_u128(0x4aafd29d_68df_49ee_8aa9_347d375665a7);
/// Bytes of the certificate entry before its message.
const ENTRY_HEADER: usize = 24;

/// A new value of a database, to be signed by the key that may change it: `PK` by itself, `KEK` by
/// `PK`, `db` and `dbx` by one of `KEK`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Update {
    /// Which database.
    pub database: Database,
    /// What it should have; nothing removes it.
    pub signatures: Vec<Signature>,
    /// Whether they are added to those that it has. Default: they replace them.
    pub append: bool,
    /// The time in seconds since 1970, which must be later than that of the last update unless this
    /// one adds. Default: the year 2000.
    pub time: u64,
}

impl Update {
    /// A new value of a database.
    #[must_use]
    pub fn new(database: Database, signatures: Vec<Signature>) -> Self {
        Self { database, signatures, append: false, time: 946_684_800 }
    }

    /// The bytes to be signed with RSA PKCS#1 v1.5 and SHA-256: name, vendor, attributes, time and
    /// value.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) when something in it cannot be right.
    pub fn to_be_signed(&self) -> Result<Vec<u8>> {
        let time = self.checked()?;
        let mut attributes = attribute::DATABASE;
        if self.append {
            attributes |= attribute::APPEND;
        }
        let mut out: Vec<u8> =
            self.database.name().encode_utf16().flat_map(u16::to_le_bytes).collect();
        out.extend_from_slice(&self.database.vendor().to_disk());
        out.extend_from_slice(&attributes.to_le_bytes());
        out.extend_from_slice(&time.emit());
        out.extend_from_slice(&signatures::emit(&self.signatures));
        Ok(out)
    }

    /// The update with a signature made elsewhere.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) when the signature is not one of it by the certificate's
    /// key.
    pub fn attach(&self, certificate: &Certificate, signature: &[u8]) -> Result<Vec<u8>> {
        let mut problems = Problems(Vec::new());
        if !certificate.has_signed(&self.to_be_signed()?, signature) {
            problems.0.push(format!(
                "the signature is not one of this update by the key of {}",
                certificate.subject()
            ));
        }
        problems.check("signature")?;
        let message = detached(certificate, signature)?;
        let mut out = self.checked()?.emit().to_vec();
        let len = narrow32((ENTRY_HEADER + message.len()) as u64);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&[0x00, 0x02, 0xf1, 0x0e]);
        out.extend_from_slice(&PKCS7.to_disk());
        out.extend_from_slice(&message);
        out.extend_from_slice(&signatures::emit(&self.signatures));
        Ok(out)
    }

    /// The update, signed.
    ///
    /// # Errors
    /// As [`Update::to_be_signed`].
    pub fn sign(&self, signer: &Signer) -> Result<Vec<u8>> {
        let signature = signer.key().sign(&self.to_be_signed()?)?;
        self.attach(signer.certificate(), &signature)
    }

    fn checked(&self) -> Result<Timestamp> {
        let mut problems = Problems(Vec::new());
        let name = self.database.name();
        for problem in self.signatures.iter().filter_map(Signature::problem) {
            problems.0.push(format!("{name}: {problem}"));
        }
        if self.database == Database::PlatformKey && (self.append || self.signatures.len() > 1) {
            problems.0.push("PK can have one certificate only".to_owned());
        }
        let time = Timestamp::from_unix(self.time);
        if time.is_none() {
            problems.0.push(format!("{name}: the time {} is after the year 9999", self.time));
        }
        problems.check("update")?;
        Ok(time.unwrap_or_default())
    }
}
