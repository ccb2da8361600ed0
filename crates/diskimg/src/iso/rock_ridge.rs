//! Rock Ridge: what a record says beyond ISO 9660 (SUSP 1.12 and RRIP 1.12).
//!
//! Entries are `signature (2), length, version, data`. Those that do not fit into a record go to a
//! continuation area, to which a `CE` entry points; Linux demands that each stretch of it lies
//! within one sector.

use super::SECTOR_LEN;
use super::numbers::{both32, short_date};
use super::outline::Special;
use kiln_tree::Metadata;

/// The longest entry: its length has 8 bits.
const MOST: usize = 255;
/// Bytes of a `CE` entry.
pub(super) const CE_LEN: usize = 28;
/// Where in a `CE` entry the sector is.
pub(super) const CE_SECTOR: usize = 4;

/// File types of `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Directory = 0o040_000,
    File = 0o100_000,
    Symlink = 0o120_000,
    CharDevice = 0o020_000,
    BlockDevice = 0o060_000,
    Fifo = 0o010_000,
    Socket = 0o140_000,
}

impl Type {
    pub(super) fn of(special: Special) -> Self {
        match special {
            Special::CharDevice(..) => Self::CharDevice,
            Special::BlockDevice(..) => Self::BlockDevice,
            Special::Fifo => Self::Fifo,
            Special::Socket => Self::Socket,
        }
    }
}

/// Entries one after the other.
#[derive(Default)]
pub(super) struct Entries(pub(super) Vec<u8>);

impl Entries {
    fn push(&mut self, signature: [u8; 2], data: &[&[u8]]) {
        let len = 4 + data.iter().map(|part| part.len()).sum::<usize>();
        self.0.extend_from_slice(&signature);
        self.0.extend_from_slice(&[u8::try_from(len).unwrap_or(u8::MAX), 1]);
        for part in data {
            self.0.extend_from_slice(part);
        }
    }

    /// `SP`: says that there are such entries, in the first record of the root (SUSP 5.3).
    pub(super) fn sharing(&mut self) {
        self.push(*b"SP", &[&[0xbe, 0xef, 0]]);
    }

    /// `ER`: says that they are those of Rock Ridge, in the same record (SUSP 5.5, RRIP 4.3). The
    /// texts are prescribed.
    pub(super) fn reference(&mut self) {
        const ID: &[u8] = b"IEEE_P1282";
        const DESCRIPTION: &[u8] = b"THE IEEE P1282 PROTOCOL PROVIDES SUPPORT FOR POSIX FILE \
                                     SYSTEM SEMANTICS";
        const SOURCE: &[u8] = b"PLEASE CONTACT THE IEEE STANDARDS DEPARTMENT, PISCATAWAY, NJ, \
                                USA FOR THE P1282 SPECIFICATION";
        let len = |text: &[u8]| u8::try_from(text.len()).unwrap_or(u8::MAX);
        let lengths = [len(ID), len(DESCRIPTION), len(SOURCE), 1];
        self.push(*b"ER", &[&lengths, ID, DESCRIPTION, SOURCE]);
    }

    /// `PX`: mode, names, owner and a number by which names of one file are known (RRIP 4.1.1).
    pub(super) fn posix(&mut self, kind: Type, meta: &Metadata, links: u32, serial: u32) {
        let mode = kind as u32 | u32::from(meta.mode & 0o7777);
        let [mode, links, uid, gid, serial] = [mode, links, meta.uid, meta.gid, serial].map(both32);
        self.push(*b"PX", &[&mode, &links, &uid, &gid, &serial]);
    }

    /// `TF`: the time of the last change (RRIP 4.1.6).
    pub(super) fn time(&mut self, mtime: u32) {
        const MODIFY: u8 = 2;
        self.push(*b"TF", &[&[MODIFY], &short_date(mtime)]);
    }

    /// `NM`: the name (RRIP 4.1.4).
    pub(super) fn name(&mut self, name: &[u8]) {
        const CONTINUE: u8 = 1;
        let mut rest = name;
        while let Some((now, later)) = rest.split_at_checked(MOST - 5).filter(|it| !it.1.is_empty())
        {
            self.push(*b"NM", &[&[CONTINUE], now]);
            rest = later;
        }
        self.push(*b"NM", &[&[0], rest]);
    }

    /// `PN`: a device's numbers (RRIP 4.1.2): the halves of a number that every system has made up
    /// in its own way. Linux takes a first half of 0 for `major << 8 | minor`, as others do whose
    /// numbers have 16 bits, and anything else for the major number.
    pub(super) fn device(&mut self, special: Special) {
        if let Special::CharDevice(major, minor) | Special::BlockDevice(major, minor) = special {
            let (high, low) = match (major, minor) {
                (1..=0xfff, 0..=0xff) => (0, major << 8 | minor),
                _ => (major, minor),
            };
            self.push(*b"PN", &[&both32(high), &both32(low)]);
        }
    }

    /// `SL`: where a symbolic link leads, by components (RRIP 4.1.3). Slashes that mean nothing
    /// (doubled, at the end) have no form here and are dropped.
    pub(super) fn symlink(&mut self, target: &[u8]) {
        const CONTINUE: u8 = 1;
        // An empty component that goes on, at the end of an entry: libarchive puts no slash between
        // the components of two entries, Linux puts it there unless the component goes on.
        const SEPARATOR: [u8; 2] = [CONTINUE, 0];
        let mut components: Vec<u8> = Vec::new();
        let mut flush_at = Vec::new();
        let mut continued = true;
        let mut add = |flags: u8, text: &[u8]| {
            // A component of its own entry when it does not fit into the last one.
            let open = components.len() - flush_at.last().copied().unwrap_or(0);
            if open + 2 + text.len() > MOST - 5 - SEPARATOR.len() {
                if !continued {
                    components.extend_from_slice(&SEPARATOR);
                }
                flush_at.push(components.len());
            }
            continued = flags == CONTINUE;
            components.extend_from_slice(&[flags, u8::try_from(text.len()).unwrap_or(u8::MAX)]);
            components.extend_from_slice(text);
        };
        if target.starts_with(b"/") {
            add(8, b"");
        }
        for component in target.split(|byte| *byte == b'/').filter(|it| !it.is_empty()) {
            match component {
                b"." => add(2, b""),
                b".." => add(4, b""),
                mut rest => {
                    while let Some((now, later)) =
                        rest.split_at_checked(200).filter(|it| !it.1.is_empty())
                    {
                        add(CONTINUE, now);
                        rest = later;
                    }
                    add(0, rest);
                }
            }
        }
        let mut start = 0;
        for end in flush_at {
            let part = components.get(start..end).unwrap_or_default();
            self.push(*b"SL", &[&[CONTINUE], part]);
            start = end;
        }
        self.push(*b"SL", &[&[0], components.get(start..).unwrap_or_default()]);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many bytes of the first whole entries fit into so many bytes.
    pub(super) fn fitting(entries: &[u8], room: usize) -> usize {
        let mut end = 0;
        while let Some(len) = entries.get(end + 2) {
            let next = end + usize::from(*len);
            if next > room || *len == 0 {
                break;
            }
            end = next;
        }
        end
    }
}

/// The continuation area of a directory.
#[derive(Default)]
pub(super) struct Continuation {
    pub(super) bytes: Vec<u8>,
    /// `CE` entries in the area: where their sector is, and which sector of the area it is.
    pub(super) links: Vec<(usize, u32)>,
}

impl Continuation {
    /// Takes entries and gives the `CE` entry that points to them, in which the sector is that of
    /// the area, to be made one of the volume.
    pub(super) fn add(&mut self, entries: &[u8]) -> ([u8; CE_LEN], u32) {
        let mut used = self.bytes.len() % SECTOR_LEN;
        if used + entries.len() > SECTOR_LEN {
            self.bytes.resize(self.bytes.len() + SECTOR_LEN - used, 0);
            used = 0;
        }
        let sector = u32::try_from(self.bytes.len() / SECTOR_LEN).unwrap_or(u32::MAX);
        let whole = entries.len() <= SECTOR_LEN;
        let now =
            if whole { entries.len() } else { Entries::fitting(entries, SECTOR_LEN - CE_LEN) };
        let (now, later) = entries.split_at_checked(now).unwrap_or((entries, &[]));
        let mut len = now.len();
        self.bytes.extend_from_slice(now);
        if !later.is_empty() {
            let at = self.bytes.len();
            // The room for the entry is taken before what it points to is.
            self.bytes.resize(at + CE_LEN, 0);
            let (entry, next) = self.add(later);
            crate::field::put(&mut self.bytes, at, &entry);
            self.links.push((at + CE_SECTOR, next));
            len += CE_LEN;
        }
        let mut entry = [0; CE_LEN];
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        crate::field::put(&mut entry, 0, &[b'C', b'E', 28, 1]);
        crate::field::put(&mut entry, 4, &both32(sector));
        crate::field::put(&mut entry, 12, &both32(narrow(used)));
        crate::field::put(&mut entry, 20, &both32(narrow(len)));
        (entry, sector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_symlink() {
        let mut entries = Entries::default();
        entries.symlink(b"/usr//../lib/");
        assert_eq!(entries.0, b"SL\x13\x01\0\x08\0\0\x03usr\x04\0\0\x03lib");
    }

    #[test]
    fn long_names_and_targets_are_continued() {
        let mut entries = Entries::default();
        entries.name(&[b'n'; 255]);
        assert_eq!(entries.0.len(), 255 + 10);
        assert_eq!(entries.0[..5], *b"NM\xff\x01\x01");
        let mut entries = Entries::default();
        entries.symlink(&[&[b'a'; 255][..], b"/", &[b'b'; 255]].concat());
        let first = usize::from(entries.0[2]);
        assert_eq!(entries.0[4], 1);
        assert!(entries.0[first..].starts_with(b"SL"));
        let mut area = Continuation::default();
        let mut entries = Entries::default();
        entries.symlink(&b"abc/".repeat(1000));
        area.add(&entries.0);
        // Sectors full of whole entries, each with a link to the next.
        assert_eq!(area.links.len(), entries.0.len() / 2000);
    }
}
