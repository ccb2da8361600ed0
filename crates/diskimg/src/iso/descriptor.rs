//! Volume descriptors (ECMA-119 chapter 8).

use super::hierarchy::Hierarchy;
use super::numbers::{NO_DATE, both16, both32, long_date};
use super::{Options, SECTOR_LEN};
use crate::field::{narrow32, put};

/// `CD001`, which each descriptor has after its type.
pub(super) const STANDARD_ID: &[u8; 5] = b"CD001";
pub(super) const TYPE_BOOT: u8 = 0;
pub(super) const TYPE_PRIMARY: u8 = 1;
pub(super) const TYPE_SUPPLEMENTARY: u8 = 2;
pub(super) const TYPE_TERMINATOR: u8 = 255;
/// What says that a supplementary descriptor is Joliet's: UCS-2 level 3 (Joliet 1, section 3.1).
pub(super) const JOLIET_ESCAPE: &[u8; 3] = b"%/E";
/// The texts of a descriptor: where, how many bytes.
pub(super) const VOLUME_ID: (usize, usize) = (40, 32);

/// Where the path tables are.
pub(super) struct PathTables {
    pub(super) little: u64,
    pub(super) big: u64,
}

/// A descriptor of which only type and identifier are set.
pub(super) fn blank(kind: u8) -> [u8; SECTOR_LEN] {
    let mut sector = [0; SECTOR_LEN];
    put(&mut sector, 0, &[kind]);
    put(&mut sector, 1, STANDARD_ID);
    put(&mut sector, 6, &[1]);
    sector
}

/// The primary descriptor or, with `joliet`, the supplementary one.
pub(super) fn emit(
    options: &Options,
    hierarchy: &Hierarchy,
    root_mtime: u32,
    tables: &PathTables,
    sectors: u64,
    joliet: bool,
) -> [u8; SECTOR_LEN] {
    let mut sector = blank(if joliet { TYPE_SUPPLEMENTARY } else { TYPE_PRIMARY });
    let texts = [
        ((8, 32), &options.system_id),
        (VOLUME_ID, &options.volume_id),
        ((190, 128), &options.volume_set_id),
        ((318, 128), &options.publisher),
        ((446, 128), &options.preparer),
        ((574, 128), &options.application),
        // Files with the copyright, an abstract and a bibliography: none. (37 bytes; UTF-16 fills 36.)
        ((702, 37), &String::new()),
        ((739, 37), &String::new()),
        ((776, 37), &String::new()),
    ];
    for ((at, len), text) in texts {
        let bytes = if joliet { wide(text, len) } else { padded(text.as_bytes(), len) };
        put(&mut sector, at, &bytes);
    }
    put(&mut sector, 80, &both32(narrow32(sectors)));
    if joliet {
        put(&mut sector, 88, JOLIET_ESCAPE);
    }
    put(&mut sector, 120, &both16(1));
    put(&mut sector, 124, &both16(1));
    put(&mut sector, 128, &both16(2048));
    put(&mut sector, 132, &both32(narrow32(hierarchy.path_table_len())));
    put(&mut sector, 140, &narrow32(tables.little).to_le_bytes());
    put(&mut sector, 148, &narrow32(tables.big).to_be_bytes());
    put(&mut sector, 156, &hierarchy.root_record(root_mtime));
    let made = long_date(options.time);
    put(&mut sector, 813, &made);
    put(&mut sector, 830, &made);
    put(&mut sector, 847, &NO_DATE);
    put(&mut sector, 864, &NO_DATE);
    put(&mut sector, 881, &[1]);
    sector
}

fn padded(text: &[u8], len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = text.iter().copied().take(len).collect();
    bytes.resize(len, b' ');
    bytes
}

fn wide(text: &str, len: usize) -> Vec<u8> {
    let units = text.encode_utf16().chain(std::iter::repeat(u16::from(b' ')));
    let mut bytes: Vec<u8> = units.take(len / 2).flat_map(u16::to_be_bytes).collect();
    bytes.resize(len, 0);
    bytes
}

/// What is wrong with the texts of a descriptor.
pub(super) fn check(options: &Options, problems: &mut Vec<String>) {
    let mut text = |what: &str, text: &str, most: usize| {
        let len = text.chars().count();
        if len > most {
            problems.push(format!("the {what} has {len} characters, at most {most}"));
        }
        let good = |c: char| c.is_ascii_graphic() || c == ' ';
        if let Some(bad) = text.chars().find(|c| !good(*c)) {
            problems.push(format!("the {what} {text:?} has a {bad:?}, expected ASCII"));
        }
    };
    text("volume label", &options.volume_id, 32);
    text("system identifier", &options.system_id, 32);
    text("volume set identifier", &options.volume_set_id, 128);
    text("publisher", &options.publisher, 128);
    text("preparer", &options.preparer, 128);
    text("application", &options.application, 128);
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    if options.volume_id.trim().is_empty() {
        problems.push("the volume label is empty".to_owned());
    } else if let Some(bad) = options.volume_id.chars().find(|c| c.is_ascii_graphic() && !label(*c))
    {
        let id = &options.volume_id;
        problems.push(format!(
            "the volume label {id:?} has a {bad:?}, expected letters, digits, '_', '-', '.', ' '"
        ));
    }
}
