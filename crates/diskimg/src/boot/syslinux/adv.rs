//! The auxiliary data vector: what a running system leaves for SYSLINUX, and SYSLINUX for itself.
//!
//! Two sectors behind `ldlinux.sys`, twice the same, so that one is whole whenever the other is being
//! written. SYSLINUX takes the first that is whole. (`libinstaller/setadv.c` and `core/adv.inc` of its
//! sources; numbers are little-endian.)
//!
//! | at | what |
//! |---|---|
//! | 0 | magic `5A2D2FA5` |
//! | 4 | checksum: all dwords from here to the end mark sum to `A3041767` |
//! | 8 | items, each a tag, a length and so many bytes; tag 0 ends them |
//! | 508 | magic `DD28BF64` |

use crate::field::{put, u32_le};

const SECTOR: usize = 512;
const HEAD: u32 = 0x5a2d_2fa5;
const TOTAL: u32 = 0xa304_1767;
const TAIL: u32 = 0xdd28_bf64;
/// Where items begin, and where the end mark is.
const ITEMS: usize = 8;
const END: usize = SECTOR - 4;
/// The item that is started once: what somebody would type at the prompt.
const BOOT_ONCE: u8 = 1;

/// One of the two copies of the vector, both of which have the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adv {
    /// Tags with their bytes, in order.
    items: Vec<(u8, Vec<u8>)>,
}

impl Adv {
    /// Reads the two copies: the first that is whole counts. `None` where none is, which SYSLINUX
    /// takes for an empty vector.
    #[must_use]
    pub fn parse(copies: [&[u8]; 2]) -> Option<Self> {
        copies.into_iter().find_map(Self::parse_one)
    }

    fn parse_one(copy: &[u8]) -> Option<Self> {
        let words = copy.get(4..END)?.chunks_exact(4).filter_map(|word| u32_le(word, 0));
        let whole = copy.len() == SECTOR
            && u32_le(copy, 0) == Some(HEAD)
            && u32_le(copy, END) == Some(TAIL)
            && words.fold(0, u32::wrapping_add) == TOTAL;
        let mut left = copy.get(ITEMS..END).filter(|_| whole)?;
        let mut items = Vec::new();
        while let [tag, len, rest @ ..] = left {
            if *tag == 0 {
                break;
            }
            let Some((bytes, rest)) = rest.split_at_checked(usize::from(*len)) else { break };
            items.push((*tag, bytes.to_vec()));
            left = rest;
        }
        Some(Self { items })
    }

    /// What SYSLINUX starts once, and forgets before it does.
    #[must_use]
    pub fn boot_once(&self) -> Option<&str> {
        let (_, bytes) = self.items.iter().find(|(tag, _)| *tag == BOOT_ONCE)?;
        std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
    }

    /// The same with something else to start once, or nothing. Other items stay. `None` when the
    /// text has more than 255 bytes, or there is no room for it.
    #[must_use]
    pub fn with_boot_once(&self, label: Option<&str>) -> Option<Self> {
        let mut items = self.items.clone();
        items.retain(|(tag, _)| *tag != BOOT_ONCE);
        items.extend(label.map(|label| (BOOT_ONCE, label.as_bytes().to_vec())));
        let room = items.iter().map(|(_, bytes)| bytes.len() + 2).sum::<usize>() <= END - ITEMS;
        let short = items.iter().all(|(_, bytes)| bytes.len() <= 255);
        (room && short).then_some(Self { items })
    }

    /// The bytes of each copy.
    #[must_use]
    pub fn emit(&self) -> [u8; 512] {
        let mut copy = [0; SECTOR];
        let mut at = ITEMS;
        for (tag, bytes) in &self.items {
            put(&mut copy, at, &[*tag, bytes.len().to_le_bytes()[0]]);
            put(&mut copy, at + 2, bytes);
            at += bytes.len() + 2;
        }
        let words = copy.get(ITEMS..END).unwrap_or_default().chunks_exact(4);
        let sum = words.filter_map(|word| u32_le(word, 0)).fold(TOTAL, u32::wrapping_sub);
        put(&mut copy, 0, &HEAD.to_le_bytes());
        put(&mut copy, 4, &sum.to_le_bytes());
        put(&mut copy, END, &TAIL.to_le_bytes());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_vector_is_its_marks_and_the_sum() {
        let copy = Adv::default().emit();
        assert_eq!(copy[..8], [0xa5, 0x2f, 0x2d, 0x5a, 0x67, 0x17, 0x04, 0xa3]);
        assert!(copy[8..508].iter().all(|byte| *byte == 0));
        assert_eq!(copy[508..], [0x64, 0xbf, 0x28, 0xdd]);
        assert_eq!(Adv::parse([&copy, &[]]), Some(Adv::default()));
    }

    #[test]
    fn the_first_whole_copy_counts() {
        let once = Adv::default().with_boot_once(Some("slot-b")).unwrap();
        assert_eq!(once.boot_once(), Some("slot-b"));
        let (armed, empty) = (once.emit(), Adv::default().emit());
        assert_eq!(armed[8..16], *b"\x01\x06slot-b");
        assert_eq!(Adv::parse([&armed, &empty]), Some(once.clone()));
        assert_eq!(Adv::parse([&empty, &armed]), Some(Adv::default()));
        let mut broken = empty;
        broken[100] ^= 1;
        assert_eq!(Adv::parse([&broken, &armed]), Some(once));
        assert_eq!(Adv::parse([&broken, &broken]), None);
    }

    #[test]
    fn other_items_stay_and_what_does_not_fit_is_refused() {
        let mut adv = Adv { items: vec![(2, vec![7; 200])] };
        adv = adv.with_boot_once(Some("one")).unwrap().with_boot_once(Some("two")).unwrap();
        let read = Adv::parse([&adv.emit(), &[]]).unwrap();
        assert_eq!((read.boot_once(), read.items.len()), (Some("two"), 2));
        assert_eq!(read.with_boot_once(None).unwrap().items, [(2, vec![7; 200])]);
        assert_eq!(adv.with_boot_once(Some(&"x".repeat(256))), None);
        let full = Adv { items: vec![(2, vec![0; 250]), (3, vec![0; 240])] };
        assert_eq!(full.with_boot_once(Some("three more")), None);
    }
}
