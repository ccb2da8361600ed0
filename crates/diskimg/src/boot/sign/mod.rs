//! Signatures of executables, as UEFI Secure Boot checks them.
//!
//! A signature covers the image hash of Microsoft's Authenticode: everything but the checksum, the
//! place of the certificate table and the certificates themselves. It is a PKCS#7 message with the
//! signer's certificate at the end of the file. Nothing in it depends on time or chance: RSA with
//! PKCS#1 v1.5 padding, SHA-256, no signing time.
//!
//! The private key may be elsewhere: [`Request::new`] gives the bytes to be signed, and
//! [`Request::attach`] takes the signature.
//!
//! RSA is computed by the `rsa` crate, of which it is known that how long a signature takes tells
//! something about the key to who can measure it (RUSTSEC-2023-0071). Sign where nobody can, or
//! detached.
//!
//! # Example
//! This example shows how to sign with a key that is somewhere else.
//!
//! ```
//! use kiln_diskimg::boot::pe::Image;
//! use kiln_diskimg::boot::sign::{Certificate, Request};
//!
//! # fn sign_elsewhere(_: &[u8]) -> Vec<u8> { Vec::new() }
//! fn sign(image: Image, certificate: &Certificate) -> kiln_diskimg::Result<Image> {
//!     let request = Request::new(image, certificate)?;
//!     let signature = sign_elsewhere(request.to_be_signed());
//!     request.attach(&signature)
//! }
//! ```

mod authenticode;
mod certificate;
mod key;
mod pkcs7;
mod verify;

pub use authenticode::{Request, image_hash, sign};
pub use certificate::{Certificate, Profile};
pub use key::{PrivateKey, Signer};
pub(crate) use pkcs7::detached;
pub use verify::{Verdict, verify};

use der::asn1::{Any, ObjectIdentifier};
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::Error;

/// The start of a DigestInfo with SHA-256, before the digest (RFC 8017, section 9.2, note 1).
const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");

fn algorithm(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: Some(Any::null()) }
}

fn digest_info(digest: &[u8; 32]) -> Vec<u8> {
    [DIGEST_INFO.as_slice(), digest.as_slice()].concat()
}

/// An error of DER as one of ours.
fn der_error(format: &'static str) -> impl Fn(der::Error) -> Error {
    move |error| {
        let offset = error.position().map_or(0, |at| u64::from(u32::from(at)));
        Error::malformed(format, offset, error.kind().to_string())
    }
}

/// Values within values that are looked into; certificates have a dozen.
const DEEPEST: u32 = 32;

/// The first value of some DER (X.690) with its header, if each value in it ends within what it is part
/// of. The reader takes memory for a value before it looks whether there is so much: up to 256 MiB,
/// at the word of a few bytes.
fn first_value(der: &[u8], depth: u32) -> Option<&[u8]> {
    let [tag, length, rest @ ..] = der else { return None };
    // 8.1.3: itself, or of how many bytes; one without end (0x80) is not in DER
    let (length, rest) = if *length < 0x80 {
        (usize::from(*length), rest)
    } else {
        let count = Some(usize::from(length & 0x7f)).filter(|count| (1..=4).contains(count))?;
        let (bytes, rest) = rest.split_at_checked(count)?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let value = rest.get(..length)?;
    let is_made_of_values = tag & 0x20 != 0;
    if is_made_of_values {
        let mut inner = value;
        while !inner.is_empty() && depth < DEEPEST {
            inner = inner.get(first_value(inner, depth + 1)?.len()..)?;
        }
        if !inner.is_empty() {
            return None;
        }
    }
    der.get(..der.len() - rest.len() + length)
}

/// What is wrong with a file that should be PEM or DER, where that can be said better than by what
/// reads it.
fn no_form(bytes: &[u8]) -> Option<&'static str> {
    let has = |mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    if bytes.is_empty() {
        Some("the file is empty")
    } else if has(b"-----BEGIN ") {
        (!has(b"-----END ")).then_some("there is a BEGIN and no END: the file is cut short")
    } else {
        (!bytes.starts_with(&[0x30])).then_some("the file is neither PEM nor DER")
    }
}

#[cfg(test)]
mod tests {
    use super::first_value;

    fn fits(der: &[u8]) -> bool {
        first_value(der, 0) == Some(der)
    }

    #[test]
    fn a_value_ends_within_what_it_is_part_of() {
        // SEQUENCE { SEQUENCE { NULL, OCTET STRING of one byte }, INTEGER }
        let good = [0x30, 0x0a, 0x30, 0x05, 0x05, 0x00, 0x04, 0x01, 0xff, 0x02, 0x01, 0x07];
        assert!(fits(&good));
        // what follows is not looked at
        assert_eq!(first_value(&[&good[..], &[0xff; 3]].concat(), 0), Some(&good[..]));
        for end in 1..good.len() {
            assert!(!fits(&good[..end]), "{end}");
        }
        // one that says to be longer than what it is in, though not than the whole
        let mut longer = good;
        longer[7] = 0x02;
        assert!(!fits(&longer));
        // 191 MiB, 2^40 bytes, and no length at all
        assert!(!fits(&[0x30, 0x06, 0x0c, 0x84, 0x0b, 0x69, 0x6c, 0x6e]));
        assert!(!fits(&[0x0c, 0x85, 0x01, 0, 0, 0, 0]));
        assert!(!fits(&[0x30, 0x80, 0x00, 0x00]));
        // lengths of more than a byte
        let long = [&[0x0c, 0x82, 0x01, 0x00][..], &[b'a'; 256]].concat();
        assert!(fits(&long));
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |inner: Vec<u8>, _| {
                let length = u8::try_from(inner.len()).unwrap();
                [&[0x30, length][..], &inner].concat()
            })
        };
        assert!(fits(&nested(32)));
        assert!(!fits(&nested(40)));
    }
}
