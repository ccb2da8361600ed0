//! Identifiers, and where they come from when nobody names them: a seed, never the clock or the
//! system's randomness.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// A GUID, its sixteen bytes in the order in which they are printed (RFC 9562).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The GUID that marks an unused partition entry.
    pub const NIL: Self = Self([0; 16]);

    /// From the text's number (`0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B`).
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    /// As UEFI stores it: the first three groups little-endian (UEFI 2.10, appendix A).
    #[must_use]
    pub const fn to_disk(self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        let [i, j, k, l, m, n, o, p] = rest;
        [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
    }

    /// Reads what [`Guid::to_disk`] gives.
    #[must_use]
    pub const fn from_disk(bytes: [u8; 16]) -> Self {
        // The mapping is its own inverse.
        Self(Self(bytes).to_disk())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                out.write_str("-")?;
            }
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Guid {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// A GUID that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no GUID: expected 8-4-4-4-12 hexadecimal digits")]
pub struct ParseGuidError(String);

impl FromStr for Guid {
    type Err = ParseGuidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseGuidError(text.chars().take(64).collect());
        let groups: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        let digits = groups.concat();
        if lengths != [8, 4, 4, 4, 12] || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        u128::from_str_radix(&digits, 16).map(Self::from_u128).map_err(|_| error())
    }
}

/// What identifiers are derived from. Equal seeds give equal images; different images should have
/// different seeds, because two disks of one GUID in one machine confuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed from any bytes: a name with a version, or a digest of what goes into the image.
    #[must_use]
    pub fn new(from: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(from.as_ref()).into())
    }

    /// The GUID for a purpose, marked as version 8 (custom) of RFC 9562.
    #[must_use]
    pub fn guid(&self, purpose: &str) -> Guid {
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().zip(self.derive(purpose)) {
            *place = byte;
        }
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(bytes)
    }

    /// The 32-bit number for a purpose; never zero.
    #[must_use]
    pub fn number(&self, purpose: &str) -> u32 {
        let [a, b, c, d, ..] = self.derive(purpose);
        u32::from_be_bytes([a, b, c, d]).max(1)
    }

    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.0).chain_update(purpose).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // UEFI 2.10 section 5.3.3: the EFI System Partition's type, and its bytes on disk.
    const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

    #[test]
    fn text_and_disk_order() {
        let guid: Guid = ESP.parse().unwrap();
        assert_eq!(guid.to_string(), ESP);
        assert_eq!(guid.to_disk()[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(Guid::from_disk(guid.to_disk()), guid);
        for bad in [
            "",
            "c12a7328",
            &ESP[1..],
            &ESP.replace('a', "g"),
            "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        ] {
            assert!(bad.parse::<Guid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_again_and_differs_by_purpose() {
        let seed = Seed::new("image 1");
        assert_eq!(seed.guid("disk"), Seed::new("image 1").guid("disk"));
        assert_ne!(seed.guid("disk"), seed.guid("partition 1"));
        assert_ne!(seed.guid("disk"), Seed::new("image 2").guid("disk"));
        assert_eq!(seed.guid("disk").to_string().as_bytes()[14], b'8');
    }
}
