//! Which of several images runs on a machine.

use oci_spec::image::{Arch, Os, Platform};

use crate::{Error, Result};

/// Reads `os/architecture` or `os/architecture/variant`, in Go's words: `linux/arm64`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn platform(text: &str) -> Result<Platform> {
    let mut parts = text.split('/');
    let (Some(os), Some(architecture), variant, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Error::invalid(text, "a platform is os/architecture[/variant]"));
    };
    if [Some(os), Some(architecture), variant].contains(&Some("")) {
        return Err(Error::invalid(text, "a part of this platform is empty"));
    }
    let mut platform = Platform::default();
    platform.set_os(Os::from(os));
    platform.set_architecture(Arch::from(architecture));
    platform.set_variant(variant.map(str::to_owned));
    Ok(platform)
}

/// A platform as [`platform`] reads it.
pub(crate) fn shown(platform: &Platform) -> String {
    let base = format!("{}/{}", platform.os(), platform.architecture());
    match platform.variant() {
        Some(variant) => format!("{base}/{variant}"),
        None => base,
    }
}

/// How well an image serves: 0 is best, `None` not at all. A processor runs what was made for an
/// earlier variant of it.
pub(crate) fn distance(wanted: &Platform, offered: &Platform) -> Option<u32> {
    if wanted.os() != offered.os() || wanted.architecture() != offered.architecture() {
        return None;
    }
    let (most, there) = (variant(wanted), variant(offered));
    match (most, there) {
        (Some(most), Some(there)) => most.checked_sub(there),
        // Variants with no order, which must be equal.
        _ => (wanted.variant() == offered.variant()).then_some(0),
    }
}

/// The number of a variant; without one it is that which everything has (`GOARM`, `GOAMD64`).
fn variant(platform: &Platform) -> Option<u32> {
    match platform.variant().as_deref() {
        Some(text) => text.strip_prefix('v')?.parse().ok(),
        None => match platform.architecture() {
            Arch::ARM => Some(7),
            Arch::ARM64 => Some(8),
            _ => Some(1),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_variant_serves_and_a_later_one_does_not() {
        let of = |wanted: &str, offered: &str| {
            distance(&platform(wanted).unwrap(), &platform(offered).unwrap())
        };
        assert_eq!(of("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(of("linux/amd64", "linux/arm64"), None);
        assert_eq!(of("linux/amd64", "windows/amd64"), None);
        assert_eq!(of("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(of("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(of("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(of("linux/amd64/v3", "linux/amd64"), Some(2));
        assert_eq!(of("linux/amd64", "linux/amd64/v3"), None);
        for bad in ["linux", "", "linux/", "a/b/c/d", "linux/arm/"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }
}
