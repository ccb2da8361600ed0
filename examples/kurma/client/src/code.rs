//! What somebody types once, by which a client and a server come to know each other.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Bytes of the authority's fingerprint: 120 bits, as whoever wants to be taken for it has years to look for
/// another with the same.
const FINGERPRINT: usize = 15;
/// Bytes of the secret: 80 bits, as whoever guesses has a few tries.
const SECRET: usize = 10;
/// Bytes of both.
const WHOLE: usize = FINGERPRINT + SECRET;
/// Characters between two dashes.
const GROUP: usize = 5;
/// Crockford's base32: none of its characters is taken for another.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A code of one use: which authority the server's certificate is from, and a secret that the server knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; WHOLE]);

/// Why a text is no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a code has 8 groups of 5 letters and digits, as the server shows it")]
pub struct NoCode;

fn fingerprint(authority: &[u8]) -> [u8; FINGERPRINT] {
    let digest = Sha256::digest(authority);
    let mut bytes = [0; FINGERPRINT];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    bytes
}

impl Code {
    /// A code for an authority's certificate (DER), of random bytes.
    #[must_use]
    pub fn new(authority: &[u8], random: [u8; SECRET]) -> Self {
        let mut whole = [0; WHOLE];
        let both = fingerprint(authority).into_iter().chain(random);
        whole.iter_mut().zip(both).for_each(|(to, from)| *to = from);
        Self(whole)
    }

    /// Whether this is the authority (DER) whose server the code is of.
    #[must_use]
    pub fn is_of(&self, authority: &[u8]) -> bool {
        self.0.starts_with(&fingerprint(authority))
    }

    /// What the server is told, as text.
    #[must_use]
    pub fn secret(&self) -> String {
        text(self.0.get(FINGERPRINT..).unwrap_or_default())
    }
}

fn text(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
    let places: Vec<usize> = (0..bytes.len() * 8).collect();
    let value =
        |bits: &[usize]| bits.iter().fold(0, |value, at| value << 1 | usize::from(bit(*at)));
    let characters = places.chunks(5).filter_map(|bits| ALPHABET.get(value(bits)));
    characters.map(|byte| char::from(*byte)).collect()
}

/// As it is shown.
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in text(&self.0).chars().enumerate() {
            if at > 0 && at % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{character}")?;
        }
        Ok(())
    }
}

/// The secret is not for logs.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

/// As somebody types it: letters of either case, O for 0, I and L for 1, with dashes and spaces or without.
impl FromStr for Code {
    type Err = NoCode;

    fn from_str(text: &str) -> Result<Self, NoCode> {
        let mut bytes = [0; WHOLE];
        let mut count = 0;
        for byte in text.bytes().filter(|byte| !b"- ".contains(byte)) {
            let byte = match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                byte => byte,
            };
            let value = ALPHABET.iter().position(|one| *one == byte).ok_or(NoCode)?;
            for bit in (0..5).rev() {
                let to = bytes.get_mut(count / 8).ok_or(NoCode)?;
                *to = *to << 1 | u8::from(value >> bit & 1 == 1);
                count += 1;
            }
        }
        if count == WHOLE * 8 { Ok(Self(bytes)) } else { Err(NoCode) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        let code = Code::new(b"authority", [0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let shown = code.to_string();
        assert_eq!((shown.len(), shown.split('-').count()), (47, 8), "{shown}");
        assert_eq!(shown.parse::<Code>().unwrap(), code);
        assert!(shown.replace('-', "").ends_with(&code.secret()));
        assert_eq!(code.secret(), "ZW0020G30G2GC1R8");
        let typed = shown.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        assert_eq!(typed.parse::<Code>().unwrap(), code);
        assert!(code.is_of(b"authority") && !code.is_of(b"another"));
        assert!(!format!("{code:?}").contains("ZW"));
    }

    #[test]
    fn what_is_no_code() {
        let shown = Code::new(b"authority", [7; SECRET]).to_string();
        for bad in ["", "U", &shown[1..], &format!("{shown}0"), &shown.replacen('-', "_", 1), "ü"]
        {
            assert_eq!(bad.parse::<Code>(), Err(NoCode), "{bad}");
        }
    }
}
