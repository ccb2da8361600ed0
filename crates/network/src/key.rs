//! Keys of WireGuard.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ParseError;

/// A public key: 32 bytes, in base64 as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; 32]);

impl FromStr for Key {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        // What was given may be a private key that stands in the wrong place: it is not repeated.
        bytes.map(Self).ok_or_else(|| {
            ParseError("expected a key: 44 characters of base64, as wg genkey prints it".into())
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(feature = "serde")]
crate::text::as_text!(Key);

/// A private or shared key. It is never shown: `Debug` and `Display` say `(hidden)`, and nothing
/// serialises it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// A key of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the kernel.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// No key: what the kernel has before it is given one.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0 == [0; 32]
    }
}

impl FromStr for Secret {
    type Err = ParseError;

    /// The text of a key file; white space around it is nothing.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.trim().parse::<Key>().map(|key| Self(key.0))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(hidden)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_a_wrong_one_not_repeated() {
        let text = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        let key: Key = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        let secret: Secret = format!("{text}\n").parse().unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "(hidden) (hidden)");
        let error = "yAnz5TF+lXX".parse::<Secret>().unwrap_err().to_string();
        assert!(!error.contains("yAnz5"), "{error}");
    }
}
