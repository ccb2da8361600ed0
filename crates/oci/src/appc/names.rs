//! Names by the rules of the specification (types.md).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use oci_spec::image::Digest;

use crate::error::shown;
use crate::{Error, Result};

/// The highest version of the specification that is known.
pub const VERSION: &str = "0.8.11";

/// Longer ones are refused: they become names of files and of control groups.
const LONGEST: usize = 255;

/// What is wrong with a name made of lower-case letters, digits, and these characters one by one
/// between them.
fn check(text: &str, between: &[u8], what: &str) -> Result<()> {
    let invalid = |reason: String| Err(Error::invalid(shown(text.as_bytes()), reason));
    if text.len() > LONGEST {
        return invalid(format!("{what} has at most {LONGEST} characters"));
    }
    let mut last = None;
    for byte in text.bytes() {
        let inner = between.contains(&byte);
        if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || inner) {
            let between: Vec<String> =
                between.iter().map(|byte| char::from(*byte).to_string()).collect();
            let between = between.join(" ");
            return invalid(format!("{what} has a-z, 0-9 and {between} alone"));
        }
        // Between two letters or digits there is at most one of them.
        if inner && last.is_none_or(|last| between.contains(&last)) {
            return invalid(format!("{what} has a letter or digit before and after each other"));
        }
        last = Some(byte);
    }
    match last {
        None => invalid(format!("{what} is not empty")),
        Some(last) if between.contains(&last) => {
            invalid(format!("{what} ends with a letter or digit"))
        }
        Some(_) => Ok(()),
    }
}

macro_rules! name {
    ($(#[$about:meta])* $name:ident, $between:expr, $what:expr) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Reads one.
            ///
            /// # Errors
            /// [`Error::Invalid`].
            pub fn new(text: impl Into<String>) -> Result<Self> {
                let text = text.into();
                check(&text, $between, $what)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// An AC Identifier: `example.com/reduce-worker`. Images, labels, annotations and isolators have
    /// such names (types.md, "AC Identifier Type").
    Identifier,
    b"-._~/",
    "an AC identifier"
);
name!(
    /// An AC Name: `reduce-worker`. Apps, volumes, mount points and ports have such names (types.md,
    /// "AC Name Type").
    Name,
    b"-",
    "an AC name"
);

/// The ID of an image: the SHA-512 of its archive before compression (types.md, "Image ID Type").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(String);

impl ImageId {
    /// The text: `sha512-` and 128 hexadecimal digits in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn of_digest(digest: &Digest) -> Self {
        Self(format!("sha512-{}", digest.digest()))
    }
}

impl FromStr for ImageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| Err(Error::invalid(shown(text.as_bytes()), reason));
        let Some(digits) = text.strip_prefix("sha512-") else {
            return invalid("an image ID begins with sha512-");
        };
        if digits.len() != 128 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return invalid("after sha512- an image ID has 128 hexadecimal digits");
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl AsRef<str> for ImageId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Whether a version is one of those whose manifests are understood (types.md, "AC Version Type"): of
/// major version 0, and no later than ours.
pub(super) fn version(text: &str) -> Result<(), String> {
    let (core, rest) = match text.find(['-', '+']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let numbers: Option<Vec<u64>> = core
        .split('.')
        .map(|part| {
            let plain = part == "0" || !part.starts_with('0');
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|_| plain && digits)
        })
        .collect();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    match numbers.as_deref() {
        Some([0, minor, patch]) if rest.len() != 1 && rest.bytes().all(word) => {
            if (*minor, *patch) > (8, 11) {
                return Err(format!("version {text} is later than {VERSION}, which is known"));
            }
            Ok(())
        }
        Some([_, _, _]) if rest.len() != 1 && rest.bytes().all(word) => {
            Err(format!("version {text} is of another major version than {VERSION}"))
        }
        _ => Err(format!("{:?} is no version", shown(text.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// types.md, "AC Identifier Type": `^[a-z0-9]+([-._~/][a-z0-9]+)*$`, which does not have its own
    /// example `example.com/~user/app_v1`: there are two others next to each other.
    #[test]
    fn identifiers_and_names_are_those_of_the_specification() {
        for good in ["database", "example.com/ourapp", "a~b_c.d/e-f", "0"] {
            assert_eq!(Identifier::new(good).unwrap().as_str(), good);
        }
        for good in ["database", "product-database-release", "0"] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for (bad, reason) in [
            ("", "is not empty"),
            ("-a", "before and after"),
            ("a-", "ends with"),
            ("a--b", "before and after"),
            ("A", "alone"),
            ("a b", "alone"),
            ("../a", "before and after"),
            ("a/../b", "before and after"),
        ] {
            let error = Identifier::new(bad).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(Name::new(bad).is_err());
        }
        assert_eq!(
            Name::new("a.b").unwrap_err().to_string(),
            "a.b: an AC name has a-z, 0-9 and - alone"
        );
        assert!(Name::new("a".repeat(256)).is_err());
    }

    /// types.md, "Image ID Type".
    #[test]
    fn image_ids_are_whole_sums_of_sha512() {
        let digits = "0123456789abcdef".repeat(8);
        let id: ImageId = format!("sha512-{digits}").parse().unwrap();
        assert_eq!(format!("sha512-{}", digits.to_uppercase()).parse::<ImageId>().unwrap(), id);
        for bad in [format!("sha256-{digits}"), "sha512-".into(), "sha512-abcd".into()] {
            assert!(bad.parse::<ImageId>().is_err(), "{bad}");
        }
        assert!(format!("sha512-{}x", &digits[1..]).parse::<ImageId>().is_err());
    }

    /// types.md, "AC Version Type".
    #[test]
    fn versions_are_those_up_to_ours() {
        for good in ["0.8.11", "0.8.11+git", "0.5.1", "0.8.4-rc.1", "0.0.0"] {
            version(good).unwrap();
        }
        for (bad, reason) in [
            ("0.8.12", "is later than"),
            ("0.9.0", "is later than"),
            ("1.0.0", "another major"),
            ("0.8", "no version"),
            ("0.08.1", "no version"),
            ("0.8.1-", "no version"),
            ("", "no version"),
        ] {
            assert!(version(bad).unwrap_err().contains(reason), "{bad}");
        }
    }
}
