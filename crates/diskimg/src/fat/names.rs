//! File names: what VFAT can hold, and the 8.3 alias that every long name needs.

use std::collections::BTreeSet;

/// A name of eight and three bytes, space-padded, as a directory stores it.
pub(crate) type ShortName = [u8; 11];

/// UTF-16 units that a long name may have.
const LONG_UNITS: usize = 255;
/// UTF-16 units in one long-name entry.
pub(crate) const UNITS_PER_ENTRY: usize = 13;

/// Reads a name of the tree; says what is wrong with it for VFAT.
pub(crate) fn check(name: &[u8]) -> Result<&str, String> {
    let Ok(text) = str::from_utf8(name) else {
        return Err("it is not UTF-8".to_owned());
    };
    if let Some(bad) = text.chars().find(|c| c.is_ascii_control() || "\"*/:<>?\\|".contains(*c)) {
        return Err(format!("it contains {bad:?}"));
    }
    if text.ends_with(['.', ' ']) {
        return Err("it ends in a dot or a space, which Windows drops".to_owned());
    }
    let units = text.encode_utf16().count();
    if units > LONG_UNITS {
        return Err(format!("it has {units} UTF-16 units, at most {LONG_UNITS}"));
    }
    Ok(text)
}

/// The name under which a reader that ignores case looks it up.
pub(crate) fn fold(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).collect()
}

/// The name as 8.3, when it is one to the letter: such a name needs no long entry.
pub(crate) fn exact(name: &str) -> Option<ShortName> {
    let (short, lossless) = shorten(name);
    (lossless && !name.bytes().any(|byte| byte.is_ascii_lowercase())).then_some(short)
}

/// The 8.3 name that a name has when only its case is given up.
fn caseless(name: &str) -> Option<ShortName> {
    let (short, lossless) = shorten(name);
    lossless.then_some(short)
}

/// The aliases of a directory's names, in their order. As Linux makes them (`fs/fat/namei_vfat.c`,
/// `vfat_create_shortname`): the name in upper case when that is lossless, `BASENA~1` to `~9`, then
/// two letters and four hexadecimal digits. Where Linux takes the digits from the clock, they come
/// from the name.
pub(crate) fn aliases(names: &[&str]) -> Vec<ShortName> {
    // Names that are 8.3 but for their case come first: no alias may take their place.
    let mut taken: BTreeSet<ShortName> = names.iter().filter_map(|name| caseless(name)).collect();
    names
        .iter()
        .map(|name| {
            caseless(name).unwrap_or_else(|| {
                let alias = tailed(name, &taken);
                taken.insert(alias);
                alias
            })
        })
        .collect()
}

fn tailed(name: &str, taken: &BTreeSet<ShortName>) -> ShortName {
    let (short, _) = shorten(name);
    let base = short.iter().take(8).take_while(|byte| **byte != b' ').count();
    let with = |keep: usize, tail: &[u8]| {
        let mut alias = short;
        if let Some(place) = alias.get_mut(keep..8) {
            place.fill(b' ');
            for (to, from) in place.iter_mut().zip(tail) {
                *to = *from;
            }
        }
        alias
    };
    for digit in b'1'..=b'9' {
        let alias = with(base.min(6), &[b'~', digit]);
        if !taken.contains(&alias) {
            return alias;
        }
    }
    // A directory has at most 65,536 entries, so of 9 × 65,536 aliases one is free.
    let hash = crc32fast::hash(name.as_bytes());
    for attempt in 0..9 * 65_536_u32 {
        let digits = hash.wrapping_sub(attempt.wrapping_mul(11)) & 0xffff;
        let mut tail = *b"0000~1";
        for (to, from) in tail.iter_mut().zip(format!("{digits:04X}").bytes()) {
            *to = from;
        }
        tail[5] = b'1' + (attempt / 65_536).to_le_bytes()[0];
        let alias = with(base.min(2), &tail);
        if !taken.contains(&alias) {
            return alias;
        }
    }
    short
}

/// The upper-case 8.3 form, and whether nothing but case was lost.
fn shorten(name: &str) -> (ShortName, bool) {
    let skipped = |c: char| c == '.' || c == ' ';
    // The last dot begins the extension, unless nothing but dots and spaces is before it.
    let (base, extension) = match name.rsplit_once('.') {
        Some((base, extension)) if !base.chars().all(skipped) => (base, extension),
        _ => (name, ""),
    };
    let mut short = [b' '; 11];
    let mut lossless = true;
    for (part, from, room) in [(base, 0, 8), (extension, 8, 3)] {
        let mut at = 0;
        for c in part.chars() {
            if skipped(c) {
                lossless = false;
                continue;
            }
            let Some(place) = short.get_mut(from + at).filter(|_| at < room) else {
                lossless = false;
                break;
            };
            *place = match u8::try_from(c) {
                Ok(byte) if byte.is_ascii_graphic() && !b"+,;=[]".contains(&byte) => {
                    byte.to_ascii_uppercase()
                }
                _ => {
                    lossless = false;
                    b'_'
                }
            };
            at += 1;
        }
    }
    (short, lossless)
}

/// The checksum that ties long entries to their alias (Microsoft's FAT specification, "Long
/// Directory Entries").
pub(crate) fn checksum(short: &[u8]) -> u8 {
    short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The long-name entries of a name, in the order in which they are stored: the last part first.
pub(crate) fn long_entries(name: &str, short: &ShortName) -> Vec<[u8; 32]> {
    const PLACES: [usize; UNITS_PER_ENTRY] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    let units: Vec<u16> = name.encode_utf16().collect();
    let sum = checksum(short);
    let mut entries: Vec<[u8; 32]> = (1_u8..)
        .zip(units.chunks(UNITS_PER_ENTRY))
        .map(|(number, part)| {
            let mut entry = [0; 32];
            entry[0] = number;
            entry[11] = super::attribute::LONG_NAME;
            entry[13] = sum;
            // After the name one zero, then ones.
            let padded = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
            for (at, unit) in PLACES.into_iter().zip(padded) {
                crate::field::put(&mut entry, at, &unit.to_le_bytes());
            }
            entry
        })
        .collect();
    if let Some(last) = entries.last_mut() {
        last[0] |= 0x40;
    }
    entries.reverse();
    entries
}

/// The UTF-16 units of a stored long-name entry.
pub(crate) fn units_of(entry: &[u8]) -> [u16; UNITS_PER_ENTRY] {
    const PLACES: [usize; UNITS_PER_ENTRY] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
    PLACES.map(|at| crate::field::u16_le(entry, at).unwrap_or(0))
}

/// A volume label as stored, or what is wrong with it.
pub(crate) fn label(text: &str) -> Result<ShortName, String> {
    let fits = |byte: u8| {
        byte == b' '
            || byte.is_ascii_graphic()
                && !byte.is_ascii_lowercase()
                && !b"\"*+,./:;<=>?[\\]|".contains(&byte)
    };
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > 11 || !bytes.iter().all(|byte| fits(*byte)) {
        return Err(format!(
            "label {text:?}: expected 1 to 11 upper-case letters, digits or signs other than \
             \"*+,./:;<=>?[\\]|"
        ));
    }
    if bytes.starts_with(b" ") || bytes.ends_with(b" ") {
        return Err(format!("label {text:?}: it begins or ends in a space"));
    }
    let mut label = [b' '; 11];
    for (to, from) in label.iter_mut().zip(bytes) {
        *to = *from;
    }
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &ShortName) -> String {
        String::from_utf8_lossy(name).into_owned()
    }

    #[test]
    fn aliases_as_linux_makes_them() {
        // Worked out by hand from vfat_create_shortname.
        for (name, expected) in [
            ("vmlinuz", "VMLINUZ    "),
            ("vmlinuz-6.1.0-56-amd64", "VMLINU~10-5"),
            ("LDLINUX.SYS", "LDLINUX SYS"),
            ("ldlinux.c32", "LDLINUX C32"),
            ("initrd.img-6.1", "INITRD~11  "),
            (".hidden", "HIDDEN~1   "),
            ("a+b.txt", "A_B~1   TXT"),
            ("long file name.text", "LONGFI~1TEX"),
            ("x.tar.gz", "XTAR~1  GZ "),
            ("Grüße.txt", "GR__E~1 TXT"),
            ("..dots.conf", "DOTS~1  CON"),
        ] {
            assert_eq!(shown(&aliases(&[name])[0]), expected, "{name}");
        }
        let twice = aliases(&["long file a.txt", "long file b.txt"]);
        assert_eq!([shown(&twice[0]), shown(&twice[1])], ["LONGFI~1TXT", "LONGFI~2TXT"]);
    }

    #[test]
    fn many_names_of_one_beginning_all_get_an_alias() {
        let names: Vec<String> = (0..3000).map(|at| format!("linux-image-{at}.text")).collect();
        let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = aliases(&borrowed);
        let unique: BTreeSet<_> = found.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert_eq!(shown(&found[8]), "LINUX-~9TEX");
        assert_eq!(&found[9][6..8], b"~1");
    }

    #[test]
    fn an_alias_never_takes_the_place_of_a_name() {
        let names = ["longfilename.txt", "longfi~1.txt", "LONGFI~2.TXT"];
        assert_eq!(shown(&aliases(&names)[0]), "LONGFI~3TXT");
    }

    #[test]
    fn only_a_name_to_the_letter_needs_no_long_entry() {
        assert!(exact("README.TXT").is_some());
        assert!(exact("BOOT").is_some());
        for name in ["readme.txt", "README.text", "A B", "A.B.C", ".A", "A+B", "Ä"] {
            assert!(exact(name).is_none(), "{name}");
        }
    }

    #[test]
    fn long_entries_golden() {
        // "Long Directory Entries" of the specification: The quick brown.fox, alias THEQUI~1.FOX.
        let entries = long_entries("The quick brown.fox", b"THEQUI~1FOX");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0][0], entries[1][0]), (0x42, 0x01));
        assert_eq!(entries[1][1..11], *b"T\0h\0e\0 \0q\0");
        assert_eq!(entries[0][1..11], *b"w\0n\0.\0f\0o\0");
        assert_eq!(entries[0][14..20], [b'x', 0, 0, 0, 0xff, 0xff]);
        assert_eq!(entries[0][13], checksum(b"THEQUI~1FOX"));
        // A name of exactly 13 units has no terminator.
        assert_eq!(long_entries("thirteen.long", b"THIRTE~1LON").len(), 1);
    }

    #[test]
    fn bad_names_and_labels() {
        for bad in [&b"a:b"[..], b"a\nb", b"dot.", b"space ", b"\xff", "ä".repeat(256).as_bytes()]
        {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert!(check("Grüße, Welt; =[].txt".as_bytes()).is_ok());
        assert_eq!(label("KILN").unwrap(), *b"KILN       ");
        for bad in ["", "lower", "TWELVE BYTES", "A.B", " A", "Ä"] {
            assert!(label(bad).is_err(), "{bad}");
        }
    }
}
