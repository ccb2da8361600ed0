//! Names that ISO 9660 and Joliet can hold, without two that are the same.

use std::collections::{BTreeMap, BTreeSet};

use super::IsoNames;

/// The version that ends the identifier of every file.
const VERSION: &[u8] = b";1";

/// Identifiers of the names of one directory (with whether each is a directory itself), in their
/// order. What is a good name already keeps it.
pub(super) fn iso(names: &[(&[u8], bool)], form: IsoNames) -> Vec<Vec<u8>> {
    let mapped: Vec<Parts> = names.iter().map(|(name, dir)| Parts::of(name, *dir, form)).collect();
    let mut taken: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut found: Vec<Option<Vec<u8>>> = mapped
        .iter()
        .zip(names)
        .map(|(parts, (name, _))| {
            let text = parts.text();
            (text == *name || text.strip_suffix(b".") == Some(name)).then(|| {
                taken.insert(parts.key());
                text
            })
        })
        .collect();
    // How far numbering has come, so that thousands of like names do not each begin at 1.
    let mut numbers: BTreeMap<&Parts, u32> = BTreeMap::new();
    for (parts, found) in mapped.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
        if taken.insert(parts.key()) {
            *found = Some(parts.text());
            continue;
        }
        let number = numbers.entry(parts).or_insert(0);
        loop {
            *number = number.saturating_add(1);
            let numbered = parts.numbered(*number, form);
            if taken.insert(numbered.key()) {
                *found = Some(numbered.text());
                break;
            }
        }
    }
    let version = |(text, (_, dir)): (Vec<u8>, &(&[u8], bool))| {
        if *dir { text } else { [text.as_slice(), VERSION].concat() }
    };
    found.into_iter().map(Option::unwrap_or_default).zip(names).map(version).collect()
}

/// A name that was made to fit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Parts {
    base: Vec<u8>,
    /// `None` for a directory.
    extension: Option<Vec<u8>>,
}

impl Parts {
    fn of(name: &[u8], directory: bool, form: IsoNames) -> Self {
        let fit = |part: &[u8], most: usize| -> Vec<u8> {
            let one = |byte: &u8| match byte.to_ascii_uppercase() {
                byte @ (b'A'..=b'Z' | b'0'..=b'9') => byte,
                _ => b'_',
            };
            // A character of several bytes is one underscore.
            let starts = part.iter().filter(|byte| !(0x80..0xc0).contains(*byte));
            starts.take(most).map(one).collect()
        };
        let mut parts = if directory {
            Self { base: fit(name, most_of_base(form, None)), extension: None }
        } else {
            // A leading dot begins no extension.
            let dot = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
            let (base, extension) = match dot {
                Some(at) => (name.get(..at), name.get(at + 1..)),
                None => (Some(name), None),
            };
            let most = match form {
                IsoNames::Short => 3,
                IsoNames::Long => 12,
            };
            let extension = fit(extension.unwrap_or_default(), most);
            let base = fit(base.unwrap_or_default(), most_of_base(form, Some(extension.len())));
            Self { base, extension: Some(extension) }
        };
        if parts.base.is_empty() {
            parts.base.push(b'_');
        }
        parts
    }

    fn numbered(&self, number: u32, form: IsoNames) -> Self {
        let digits = number.to_string();
        let most = most_of_base(form, self.extension.as_ref().map(Vec::len));
        let mut base = self.base.clone();
        base.truncate(most.saturating_sub(digits.len()));
        base.extend_from_slice(digits.as_bytes());
        Self { base, extension: self.extension.clone() }
    }

    fn text(&self) -> Vec<u8> {
        match &self.extension {
            None => self.base.clone(),
            Some(extension) => [&self.base, &b"."[..], extension].concat(),
        }
    }

    /// What must be there once: a directory and a file without an extension must differ too.
    fn key(&self) -> Vec<u8> {
        let extension = self.extension.as_deref().unwrap_or_default();
        [&self.base, &b"."[..], extension].concat()
    }
}

fn most_of_base(form: IsoNames, extension: Option<usize>) -> usize {
    match (form, extension) {
        (IsoNames::Short, _) => 8,
        (IsoNames::Long, None) => 31,
        (IsoNames::Long, Some(extension)) => 30_usize.saturating_sub(extension),
    }
}

/// Identifiers in Joliet's form: UTF-16, big-endian, of one plane; `*/:;?\` and control characters
/// become `_`. Names that are then the same are numbered.
///
/// # Errors
/// The names with more than `most` units: their places and numbers of units.
pub(super) fn joliet(
    names: &[(&[u8], bool)],
    most: usize,
) -> Result<Vec<Vec<u8>>, Vec<(usize, usize)>> {
    let mapped: Vec<Vec<u16>> = names.iter().map(|(name, _)| joliet_units(name)).collect();
    let long: Vec<(usize, usize)> = mapped
        .iter()
        .enumerate()
        .filter(|(_, units)| units.len() > most)
        .map(|(at, units)| (at, units.len()))
        .collect();
    if !long.is_empty() {
        return Err(long);
    }
    let mut taken: BTreeSet<Vec<u16>> = BTreeSet::new();
    let mut identifiers = Vec::with_capacity(names.len());
    // Those that are as they were come first, so that numbering changes none of them.
    let kept: Vec<bool> = mapped
        .iter()
        .zip(names)
        .map(|(units, (name, _))| String::from_utf16_lossy(units).as_bytes() == *name)
        .collect();
    for (units, _) in mapped.iter().zip(&kept).filter(|(_, kept)| **kept) {
        taken.insert(units.clone());
    }
    for ((mut units, kept), (_, directory)) in mapped.into_iter().zip(kept).zip(names) {
        let mut number = 0_u32;
        let whole = units.clone();
        while !kept && !taken.insert(units.clone()) {
            number = number.saturating_add(1);
            let suffix: Vec<u16> = format!("~{number}").encode_utf16().collect();
            units.clone_from(&whole);
            units.truncate(most.saturating_sub(suffix.len()));
            units.extend(suffix);
        }
        let version = if *directory { &[][..] } else { VERSION };
        let version = version.iter().map(|byte| u16::from(*byte));
        identifiers.push(units.into_iter().chain(version).flat_map(u16::to_be_bytes).collect());
    }
    Ok(identifiers)
}

fn joliet_units(name: &[u8]) -> Vec<u16> {
    let underscore = u16::from(b'_');
    let mut units = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            let fits =
                !matches!(character, '*' | '/' | ':' | ';' | '?' | '\\') && !character.is_control();
            let unit = u16::try_from(u32::from(character)).ok().filter(|_| fits);
            units.push(unit.unwrap_or(underscore));
        }
        if !chunk.invalid().is_empty() {
            units.push(underscore);
        }
    }
    units
}

/// What records are sorted by (ECMA-119 9.3): the identifier without its version. A shorter name
/// precedes those that it begins, because `.` precedes all that a name may have.
pub(super) fn sort_key(identifier: &[u8], joliet: bool) -> &[u8] {
    let version: &[u8] = if joliet { b"\0;\x001" } else { VERSION };
    identifier.strip_suffix(version).unwrap_or(identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str], form: IsoNames) -> Vec<String> {
        let names: Vec<(&[u8], bool)> = names
            .iter()
            .map(|name| (name.trim_end_matches('/').as_bytes(), name.ends_with('/')))
            .collect();
        iso(&names, form).into_iter().map(|name| String::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn names_are_made_to_fit_and_numbered() {
        assert_eq!(
            texts(
                &["isolinux.cfg", "README", "Readme", "readme.", "Grüße.tar.gz", ".x", "a.b/"],
                IsoNames::Short
            ),
            [
                "ISOLINUX.CFG;1",
                "README.;1",
                "README1.;1",
                "README2.;1",
                "GR__E_TA.GZ;1",
                "_X.;1",
                "A_B"
            ]
        );
        let long = "a-rather-long-name-of-a-kernel-module-0.ko.xz";
        let other = "a-rather-long-name-of-a-kernel-module-1.ko.xz";
        assert_eq!(
            texts(&[long, other], IsoNames::Long),
            ["A_RATHER_LONG_NAME_OF_A_KERN.XZ;1", "A_RATHER_LONG_NAME_OF_A_KER1.XZ;1"]
        );
        // A good name keeps it even when another would become the same.
        assert_eq!(texts(&["-.TXT", "_.TXT"], IsoNames::Short), ["_1.TXT;1", "_.TXT;1"]);
        // A directory and a file.
        assert_eq!(texts(&["A", "a/"], IsoNames::Short), ["A.;1", "A1"]);
    }

    #[test]
    fn many_like_names() {
        let names: Vec<String> =
            (0..2000).map(|at| format!("module-with-a-name-{at}.ko")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let texts = texts(&names, IsoNames::Short);
        let distinct: BTreeSet<&String> = texts.iter().collect();
        assert_eq!(distinct.len(), 2000);
        assert!(texts.iter().all(|text| text.len() <= 14), "{texts:?}");
    }

    #[test]
    fn joliet_names() {
        let text = |identifier: &Vec<u8>| {
            let units: Vec<u16> =
                identifier.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).unwrap()
        };
        let names: [(&[u8], bool); 5] = [
            ("Grüße 你好".as_bytes(), false),
            (b"a:b", false),
            (b"a_b", false),
            (b"bad\xff", true),
            ("🦀".as_bytes(), true),
        ];
        let found: Vec<String> = joliet(&names, 64).unwrap().iter().map(text).collect();
        assert_eq!(found, ["Grüße 你好;1", "a_b~1;1", "a_b;1", "bad_", "_"]);
        assert_eq!(joliet(&[(&[b'x'; 65], false)], 64), Err(vec![(0, 65)]));
    }
}
