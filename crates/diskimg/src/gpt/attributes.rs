//! Attribute bits by the names of systemd-repart, udisks and UEFI.

use super::{GROW_FILE_SYSTEM, LEGACY_BIOS_BOOTABLE, NO_AUTO, NO_BLOCK_IO, READ_ONLY, REQUIRED};

const KNOWN: [(&str, u64); 6] = [
    ("required", REQUIRED),
    ("no-block-io", NO_BLOCK_IO),
    ("legacy-bios-bootable", LEGACY_BIOS_BOOTABLE),
    ("grow-file-system", GROW_FILE_SYSTEM),
    ("read-only", READ_ONLY),
    ("no-auto", NO_AUTO),
];

/// The bit of a name (`read-only`) or of a number (`48` to `63`, which each type gives a meaning).
#[must_use]
pub fn parse_attribute(text: &str) -> Option<u64> {
    if let Some((_, bit)) = KNOWN.iter().find(|(name, _)| *name == text) {
        return Some(*bit);
    }
    let number: u32 = text.parse().ok().filter(|number| (48..64).contains(number))?;
    1_u64.checked_shl(number)
}

/// The names of the bits that are set, the lowest first; a bit without a name is its number.
#[must_use]
pub fn attribute_names(bits: u64) -> Vec<String> {
    let set = (0..64_u32).filter(|number| bits >> number & 1 == 1);
    set.map(|number| {
        let known = KNOWN.iter().find(|(_, bit)| bit.trailing_zeros() == number);
        known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, bit) in KNOWN {
            assert_eq!(parse_attribute(name), Some(bit));
            assert_eq!(attribute_names(bit), [name]);
        }
        assert_eq!(parse_attribute("50"), Some(1 << 50));
        assert_eq!(attribute_names(1 << 63 | 1 << 50 | 1), ["required", "50", "no-auto"]);
        for bad in ["", "3", "64", "Read-only"] {
            assert_eq!(parse_attribute(bad), None, "{bad}");
        }
    }
}
