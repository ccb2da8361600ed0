//! `/etc/ld.so.cache`: names of libraries and where `ldconfig` found them.
//!
//! The format of glibc 2.2 and later (`glibc-ld.so.cache1.1`, `sysdeps/generic/dl-cache.h`), alone
//! or behind the old `ld.so-1.7.0` one. Numbers are in the byte order of the machine it is for.

use std::collections::HashMap;

use super::object::Arch;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const HEADER_LEN: usize = 48;
const ENTRY_LEN: usize = 24;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
/// The section tag of the names of glibc-hwcaps subdirectories.
const EXTENSION_HWCAPS: u32 = 1;
/// The upper half of a `hwcap` that is an index into these names.
const HWCAP_EXTENSION: u32 = 1 << 30;

/// The libraries of one architecture, by name.
pub(super) type Cache = HashMap<Vec<u8>, Vec<u8>>;

/// The entry flags of libraries for an architecture (`FLAG_*` of `sysdeps/generic/ldconfig.h`).
fn flags(arch: Arch) -> Option<u32> {
    Some(match (arch.machine, arch.is_64) {
        (3, _) => 0x0003,
        (21, true) => 0x0503,
        (22, true) => 0x0403,
        (40, _) => 0x0903,
        (62, true) => 0x0303,
        (62, false) => 0x0803,
        (183, true) => 0x0a03,
        (243, true) => 0x1003,
        (258, true) => 0x1203,
        _ => return None,
    })
}

/// What the loader would find for `arch` with these glibc-hwcaps subdirectories, best first.
/// `None` when the bytes are no cache.
pub(super) fn parse(bytes: &[u8], arch: Arch, hwcaps: &[Vec<u8>]) -> Option<Cache> {
    let start = match bytes.strip_prefix(OLD_MAGIC) {
        None => 0,
        Some(_) => {
            // An old cache of `count` entries of 12 bytes comes first, the new one is aligned.
            let count = word(bytes, 12, arch)? as usize;
            (16_usize.checked_add(count.checked_mul(12)?)?).next_multiple_of(8)
        }
    };
    let bytes = bytes.get(start..)?;
    if !bytes.starts_with(MAGIC) {
        return None;
    }
    let correct = flags(arch)?;
    let count = word(bytes, 20, arch)? as usize;
    let names = extension(bytes, arch).unwrap_or_default();
    // By name: the path, and how good it is (lower is better).
    let mut found: HashMap<&[u8], (usize, &[u8])> = HashMap::new();
    let entries = bytes.get(HEADER_LEN..)?.chunks_exact(ENTRY_LEN).take(count);
    for entry in entries {
        let flags = word(entry, 0, arch)?;
        // 1 is "any ELF library", which old caches have.
        if flags != correct && flags != 1 {
            continue;
        }
        let (Some(name), Some(path)) = (
            string(bytes, word(entry, 4, arch)? as usize),
            string(bytes, word(entry, 8, arch)? as usize),
        ) else {
            continue;
        };
        let (low, high) = if arch.big_endian { (20, 16) } else { (16, 20) };
        let (low, high) = (word(entry, low, arch)?, word(entry, high, arch)?);
        let rank = if high & HWCAP_EXTENSION != 0 {
            let name = names.get(low as usize);
            match name.and_then(|name| hwcaps.iter().position(|hwcap| hwcap == name)) {
                Some(rank) => rank,
                None => continue,
            }
        } else if (low, high) == (0, 0) {
            hwcaps.len() + usize::from(flags != correct)
        } else {
            // A subdirectory of the legacy scheme, gone since glibc 2.37.
            continue;
        };
        let best = found.entry(name).or_insert((rank, path));
        if rank < best.0 {
            *best = (rank, path);
        }
    }
    Some(found.into_iter().map(|(name, (_, path))| (name.to_vec(), path.to_vec())).collect())
}

/// The names of glibc-hwcaps subdirectories, in the order of their indices.
fn extension(bytes: &[u8], arch: Arch) -> Option<Vec<Vec<u8>>> {
    let at = word(bytes, 32, arch)? as usize;
    let header = bytes.get(at..).filter(|_| at != 0)?;
    if word(header, 0, arch)? != EXTENSION_MAGIC {
        return None;
    }
    let count = word(header, 4, arch)? as usize;
    let section = header
        .get(8..)?
        .chunks_exact(16)
        .take(count)
        .find(|section| word(section, 0, arch) == Some(EXTENSION_HWCAPS))?;
    let (start, len) = (word(section, 8, arch)? as usize, word(section, 12, arch)? as usize);
    let offsets = bytes.get(start..start.checked_add(len)?)?.chunks_exact(4);
    Some(
        offsets
            .map(|offset| {
                let name = word(offset, 0, arch).and_then(|at| string(bytes, at as usize));
                name.unwrap_or_default().to_vec()
            })
            .collect(),
    )
}

fn word(bytes: &[u8], at: usize, arch: Arch) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(if arch.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
}

fn string(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    rest.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: Arch = Arch { is_64: true, big_endian: false, machine: 62 };

    /// Three entries for one name: generic, x86-64-v3, and one of another machine.
    fn sample() -> Vec<u8> {
        let strings =
            b"libz.so.1\0/lib/libz.so.1\0/lib/v3/libz.so.1\0/lib32/libz.so.1\0x86-64-v3\0";
        let at = |text: &[u8]| {
            let start = HEADER_LEN + 3 * ENTRY_LEN;
            let found = strings.windows(text.len()).position(|window| window == text).unwrap();
            u32::try_from(start + found).unwrap()
        };
        let mut bytes = MAGIC.to_vec();
        let strings_len = u32::try_from(strings.len()).unwrap();
        let extension = (HEADER_LEN + 3 * ENTRY_LEN + strings.len()).next_multiple_of(4);
        let extension = u32::try_from(extension).unwrap();
        for word in [3, strings_len, 2, extension, 0, 0, 0] {
            bytes.extend(u32::to_le_bytes(word));
        }
        for (flags, path, hwcap) in [
            (0x303_u32, &b"/lib/v3/libz.so.1\0"[..], u64::from(HWCAP_EXTENSION) << 32),
            (0x303, b"/lib/libz.so.1\0", 0),
            (0x003, b"/lib32/libz.so.1\0", 0),
        ] {
            bytes.extend(flags.to_le_bytes());
            bytes.extend(at(b"libz.so.1\0").to_le_bytes());
            bytes.extend(at(path).to_le_bytes());
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend(hwcap.to_le_bytes());
        }
        bytes.extend_from_slice(strings);
        bytes.resize(extension as usize, 0);
        let names = extension + 8 + 16;
        for word in [EXTENSION_MAGIC, 1, EXTENSION_HWCAPS, 0, names, 4, at(b"x86-64-v3\0")] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes
    }

    #[test]
    fn the_best_entry_of_the_machine_is_found() {
        let look = |hwcaps: &[Vec<u8>], arch| {
            let cache = parse(&sample(), arch, hwcaps).unwrap();
            String::from_utf8(cache[&b"libz.so.1"[..]].clone()).unwrap()
        };
        assert_eq!(look(&[], X86_64), "/lib/libz.so.1");
        assert_eq!(look(&[b"x86-64-v2".to_vec()], X86_64), "/lib/libz.so.1");
        assert_eq!(look(&[b"x86-64-v3".to_vec()], X86_64), "/lib/v3/libz.so.1");
        assert_eq!(look(&[], Arch { is_64: false, machine: 3, ..X86_64 }), "/lib32/libz.so.1");
    }

    #[test]
    fn damage_is_no_cache() {
        assert!(parse(b"", X86_64, &[]).is_none());
        assert!(parse(b"ld.so-1.7.0\0\xff\xff\xff\xff", X86_64, &[]).is_none());
        let bytes = sample();
        for len in 0..bytes.len() {
            let _ = parse(&bytes[..len], X86_64, &[]);
        }
    }
}
