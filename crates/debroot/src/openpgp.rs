//! Signatures of release files (RFC 9580, section 7: the cleartext signature framework).

use pgp::composed::{CleartextSignedMessage, Deserializable, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag, VerifyingKey};

use crate::{Error, Result};

/// A text that somebody trusted has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signed {
    /// Only what is signed, lines ended by `\n`.
    pub text: String,
    /// The fingerprints of the keys whose signatures are good, in hexadecimal digits.
    pub signers: Vec<String>,
}

/// Checks a clear-signed text against a keyring (certificates one after the other, in binary or in
/// ASCII armour). Signatures by keys that are not in the keyring, or are there but expired or
/// revoked at `now` (seconds since 1970), count for nothing; one by a usable key must be there;
/// and one by a usable key that does not fit the text refuses it, whatever the others say.
///
/// # Errors
/// [`Error::Signature`], with `origin` as the name of the file.
pub fn verify(message: &[u8], keyring: &[u8], now: u64, origin: &str) -> Result<Signed> {
    let wrong = |reason: String| Error::Signature { origin: origin.into(), reason };
    let certificates = read_keyring(keyring)
        .map_err(|reason| wrong(format!("the keyring cannot be read: {reason}")))?;
    let message = std::str::from_utf8(message)
        .map_err(|error| wrong(format!("it is no UTF-8 text: {error}")))?;
    let (message, _) = CleartextSignedMessage::from_string(message)
        .map_err(|error| wrong(format!("it is no clear-signed text: {error}")))?;
    let text = message.signed_text();
    let mut signers = Vec::new();
    let mut unusable = Vec::new();
    for signature in message.signatures() {
        for certificate in &certificates {
            match judge(signature, certificate, &text, now) {
                Verdict::NotTheirs => {}
                Verdict::Good(fingerprint) => signers.push(fingerprint),
                Verdict::Unusable(reason) => unusable.push(reason),
                Verdict::Bad(key) => {
                    return Err(wrong(format!(
                        "the signature by {key} does not fit the text: somebody has changed it"
                    )));
                }
            }
        }
    }
    if signers.is_empty() {
        let mut by: Vec<String> = message.signatures().iter().flat_map(issuers).collect();
        by.sort_unstable();
        by.dedup();
        return Err(wrong(match (unusable.is_empty(), by.is_empty()) {
            (false, _) => unusable.join("; "),
            (true, true) => "nobody has signed it".into(),
            (true, false) => {
                format!("it is signed by {}, and the keyring has no such key", by.join(" and "))
            }
        }));
    }
    Ok(Signed { text: text.replace("\r\n", "\n"), signers })
}

fn read_keyring(keyring: &[u8]) -> Result<Vec<SignedPublicKey>, String> {
    let certificates: Result<Vec<_>, _> = if keyring.starts_with(b"-----BEGIN") {
        match SignedPublicKey::from_armor_many(keyring) {
            Ok((certificates, _)) => certificates.collect(),
            Err(error) => return Err(error.to_string()),
        }
    } else {
        match SignedPublicKey::from_bytes_many(keyring) {
            Ok(certificates) => certificates.collect(),
            Err(error) => return Err(error.to_string()),
        }
    };
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("it has no key".into()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(error.to_string()),
    }
}

enum Verdict {
    NotTheirs,
    Good(String),
    Unusable(String),
    Bad(String),
}

fn judge(signature: &Signature, certificate: &SignedPublicKey, text: &str, now: u64) -> Verdict {
    let primary = &certificate.primary_key;
    if made_by(signature, primary) {
        let name = fingerprint(primary);
        return match primary_state(certificate, now) {
            Err(reason) => Verdict::Unusable(format!("the key {name} {reason}")),
            Ok(()) => check(signature, primary, text, now, name),
        };
    }
    for subkey in &certificate.public_subkeys {
        if !made_by(signature, subkey) {
            continue;
        }
        let name = fingerprint(subkey);
        let state = primary_state(certificate, now).and_then(|()| {
            // The latest self-signature counts; a revocation counts for ever.
            let bound: Vec<&Signature> = subkey
                .signatures
                .iter()
                .filter(|binding| binding.verify_subkey_binding(primary, &subkey.key).is_ok())
                .collect();
            if bound.iter().any(|sig| sig.typ() == Some(SignatureType::SubkeyRevocation)) {
                return Err("is revoked".into());
            }
            let latest = latest(
                bound.into_iter().filter(|sig| sig.typ() == Some(SignatureType::SubkeyBinding)),
            );
            let Some(binding) = latest else { return Err("is bound to no certificate".into()) };
            let both_ways = binding
                .embedded_signature()
                .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
            if !binding.key_flags().sign() || !both_ways {
                return Err("is not meant for signatures".into());
            }
            expiry(binding, subkey.created_at().as_secs(), now)
        });
        return match state {
            Err(reason) => Verdict::Unusable(format!("the key {name} {reason}")),
            Ok(()) => check(signature, subkey, text, now, name),
        };
    }
    Verdict::NotTheirs
}

/// Whether the certificate as a whole may be used.
fn primary_state(certificate: &SignedPublicKey, now: u64) -> Result<(), String> {
    let primary = &certificate.primary_key;
    let details = &certificate.details;
    if details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok())
    {
        return Err("is revoked".into());
    }
    let direct =
        details.direct_signatures.iter().filter(|direct| direct.verify_key(primary).is_ok());
    let users = details.users.iter().flat_map(|user| {
        user.signatures.iter().filter(|signature| {
            signature.is_certification()
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        })
    });
    match latest(direct.chain(users)) {
        None => Err("has no signature of its own".into()),
        Some(own) => expiry(own, primary.created_at().as_secs(), now),
    }
}

fn latest<'certificate>(
    signatures: impl Iterator<Item = &'certificate Signature>,
) -> Option<&'certificate Signature> {
    signatures.max_by_key(|signature| signature.created().map(|created| created.as_secs()))
}

fn expiry(binding: &Signature, created: u32, now: u64) -> Result<(), String> {
    match binding.key_expiration_time() {
        Some(lifetime) if lifetime.as_secs() != 0 => {
            let end = u64::from(created) + u64::from(lifetime.as_secs());
            if now < end { Ok(()) } else { Err(format!("expired {}", crate::release::date(end))) }
        }
        _ => Ok(()),
    }
}

fn check(
    signature: &Signature,
    key: &impl VerifyingKey,
    text: &str,
    now: u64,
    name: String,
) -> Verdict {
    if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
        return Verdict::Unusable(format!("what {name} has signed is no text"));
    }
    let strong = matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    );
    if !strong {
        return Verdict::Unusable(format!("the signature by {name} uses a weak digest"));
    }
    if signature.verify(key, text.as_bytes()).is_err() {
        return Verdict::Bad(name);
    }
    if let (Some(created), Some(lifetime)) =
        (signature.created(), signature.signature_expiration_time())
        && lifetime.as_secs() != 0
    {
        let end = u64::from(created.as_secs()) + u64::from(lifetime.as_secs());
        if now >= end {
            let end = crate::release::date(end);
            return Verdict::Unusable(format!("the signature by {name} expired {end}"));
        }
    }
    Verdict::Good(name)
}

fn made_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        signature.issuer_key_id().iter().any(|id| **id == key.legacy_key_id())
    } else {
        fingerprints.iter().any(|fingerprint| **fingerprint == key.fingerprint())
    }
}

fn fingerprint(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

fn issuers(signature: &Signature) -> Vec<String> {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        signature.issuer_key_id().iter().map(|id| format!("{id}").to_uppercase()).collect()
    } else {
        fingerprints.iter().map(|fingerprint| format!("{fingerprint:X}")).collect()
    }
}
