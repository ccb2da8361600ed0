//! Bills of materials: what is in an image, in the two formats that tools ask for.
//!
//! Both are made of a [`Manifest`] alone, so they say nothing that it does not, can be made at any
//! time after the build, and are the same bytes for the same manifest and [`Context`]. Each names
//! the image, the packages and other inputs, the artifacts, and the files with their digests,
//! origins and reasons.
//!
//! The documents are serde structs of ours, no more than what is written: of the crates at hand,
//! `spdx-rs` takes time and identifiers from the clock and from randomness by default, and
//! `cyclonedx-bom` ends at version 1.5; both are models for reading any document. Whether what
//! comes out is right is for the field's own validators to say; the tests ask them.
//!
//! | | [`spdx`] | [`cyclonedx`] |
//! |---|---|---|
//! | format | SPDX 2.3, JSON | CycloneDX 1.6, JSON |
//! | image | package `SPDXRef-Image`, with a verification code | `metadata.component` |
//! | package | package with purl, SHA-256 of the `.deb` | component with purl, SHA-256 of the `.deb` |
//! | file | file with SHA-1 and SHA-256, `GENERATED_FROM` its package | component inside its package's |
//! | links, devices, directories | only counted: SPDX files have contents | components without digests |
//! | reason | `comment` | property `kiln:why` |

mod cyclonedx;
mod spdx;

use std::time::{Duration, SystemTime};

use crate::manifest::{Manifest, PackageRecord};
use crate::{Result, digest};

pub use self::cyclonedx::cyclonedx;
pub use self::spdx::spdx;

/// 1980-01-01 00:00:00 UTC, in seconds since 1970: before all images, and a time that every file
/// system can hold.
pub const EPOCH: u64 = 315_532_800;
/// The last second of the year 9999, after which the formats have no way to write a time.
const LAST: u64 = 253_402_300_799;
/// Who made the document.
const TOOL: &str = "kiln";
const TOOL_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a document says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Context {
    /// When it was made, in seconds since 1970; later than the year 9999 counts as its end. The
    /// caller decides: [`EPOCH`], `SOURCE_DATE_EPOCH` or the clock.
    pub created: u64,
    /// What the identifiers of all documents of one maker begin with: an absolute URI without a
    /// fragment. The rest follows from the manifest.
    pub namespace: String,
}

impl Default for Context {
    /// [`EPOCH`], and the namespace that SPDX gives to those who have no site of their own.
    fn default() -> Self {
        Self { created: EPOCH, namespace: "https://spdx.org/spdxdocs".into() }
    }
}

impl Context {
    /// The time as the formats want it, `1980-01-01T00:00:00Z`.
    fn timestamp(&self) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.created.min(LAST));
        humantime::format_rfc3339_seconds(time).to_string()
    }

    /// A UUID (RFC 9562, version 8) that two documents share only if they say the same.
    fn uuid(&self, manifest: &Manifest, format: &str) -> Result<uuid::Uuid> {
        let text = manifest.to_json()?;
        let created = self.created.to_string();
        let parts = [format, TOOL_VERSION, &self.namespace, &created, &text];
        let digest = digest::of_parts(parts.map(str::as_bytes));
        let number = u128::from_str_radix(digest.get(..32).unwrap_or_default(), 16);
        let bytes = number.unwrap_or_default().to_be_bytes();
        Ok(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The package URL of a Debian package (purl specification, type `deb`).
#[must_use]
pub fn purl(package: &PackageRecord) -> String {
    format!(
        "pkg:deb/debian/{}@{}?arch={}",
        percent_encoded(&package.name),
        percent_encoded(&package.version),
        percent_encoded(&package.architecture)
    )
}

/// Everything but letters, digits, `.-_~` and the colon, which purl never encodes, as `%XX`.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
        out
    })
}

/// What is known about a licence.
enum Licence<'a> {
    /// An SPDX expression of licences that SPDX lists.
    Expression(&'a str),
    /// Somebody's words.
    Words(&'a str),
    Unknown,
}

impl<'a> Licence<'a> {
    fn of(package: &'a PackageRecord) -> Self {
        let Some(words) = package.licence.as_deref().filter(|words| !words.trim().is_empty())
        else {
            return Self::Unknown;
        };
        let Ok(expression) = ::spdx::Expression::parse(words) else {
            return Self::Words(words);
        };
        // References to licences that the document would have to carry the text of.
        let is_listed = expression.requirements().all(|term| {
            let addition = term.req.addition.as_ref();
            term.req.license.id().is_some() && addition.is_none_or(|it| it.id().is_some())
        });
        if is_listed { Self::Expression(words) } else { Self::Words(words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the purl specification for `deb`, and its rules for characters.
    #[test]
    fn purls() {
        let purl = |name: &str, version: &str, architecture: &str| {
            super::purl(&PackageRecord {
                name: name.into(),
                version: version.into(),
                architecture: architecture.into(),
                ..PackageRecord::default()
            })
        };
        assert_eq!(purl("curl", "7.50.3-1", "i386"), "pkg:deb/debian/curl@7.50.3-1?arch=i386");
        assert_eq!(
            purl("libstdc++6", "1:12.2~rc1-14+deb12u1", "amd64"),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2~rc1-14%2Bdeb12u1?arch=amd64"
        );
    }

    #[test]
    fn times() {
        let at = |created| Context { created, ..Context::default() }.timestamp();
        assert_eq!(Context::default().timestamp(), "1980-01-01T00:00:00Z");
        assert_eq!(at(1_709_208_000), "2024-02-29T12:00:00Z");
        assert_eq!(at(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn licences() {
        let of = |licence: &str| {
            let package =
                PackageRecord { licence: Some(licence.into()), ..PackageRecord::default() };
            match Licence::of(&package) {
                Licence::Expression(_) => "expression",
                Licence::Words(_) => "words",
                Licence::Unknown => "unknown",
            }
        };
        assert_eq!(of("GPL-2.0-or-later WITH Classpath-exception-2.0 OR MIT"), "expression");
        assert_eq!(of("GPL-2+ and BSD-3-clause"), "words");
        assert_eq!(of("LicenseRef-ours"), "words");
        assert_eq!(of(" "), "unknown");
    }
}
