//! What loaders read: configurations of one sector, of which one letter says which slot is started,
//! and entries of slots.

use sha2::{Digest as _, Sha256};

use super::places::Places;
use super::{Slot, argument};
use crate::boot::bls::Entry;
use crate::field::index;
use crate::{Limits, Result};

/// Bytes of a configuration.
pub(super) const CONFIG: u64 = 512;
/// Bytes of an entry.
pub(super) const ENTRY: u64 = 4096;
/// Bytes that a command line may have. The kernel takes 2047, and loaders put words before it that say
/// where its initramfs is.
pub(super) const COMMAND_LINE: usize = 1700;

pub(super) const STATE: &str = "slots/state";
pub(super) const SYSLINUX: &str = "syslinux";
pub(super) const SYSLINUX_CONFIG: &str = "syslinux/syslinux.cfg";
pub(super) const LDLINUX: &str = "syslinux/ldlinux.sys";
pub(super) const LOADER_CONFIG: &str = "loader/loader.conf";
pub(super) const ENTRIES: &str = "loader/entries";

pub(super) fn kernel(slot: Slot) -> String {
    format!("slots/{slot}/linux")
}

pub(super) fn piece(slot: Slot, piece: usize) -> String {
    format!("slots/{slot}/initrd.{piece}")
}

pub(super) fn bios_entry(slot: Slot) -> String {
    format!("syslinux/{}.cfg", label(slot))
}

pub(super) fn uefi_entry(slot: Slot) -> String {
    format!("{ENTRIES}/{}.conf", label(slot))
}

/// What SYSLINUX calls a slot.
pub(super) fn label(slot: Slot) -> String {
    format!("slot-{slot}")
}

/// A text at the beginning of a file of so many bytes. Loaders skip empty lines.
pub(super) fn filled(text: &str, len: u64) -> Option<Vec<u8>> {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.len() as u64 > len {
        return None;
    }
    bytes.resize(index(len), b'\n');
    Some(bytes)
}

/// What comes before the letter in a configuration, and after it.
const BIOS_DEFAULT: (&str, &str) = ("DEFAULT slot-", "\n");
/// Of the entries, sorted as systemd-boot does it, the first that matches is started: the one that is
/// tried once comes first while it has a try left, and last when it has none.
const UEFI_DEFAULT: (&str, &str) = ("default slot-[", "t]*\n");

/// SYSLINUX's configuration. Should what it starts not be there, it tries again what it always starts.
pub(super) fn bios_config(serial: Option<(u8, u32)>, default: Slot) -> Option<Vec<u8>> {
    let (before, after) = BIOS_DEFAULT;
    let serial = serial.map(|(unit, speed)| format!("SERIAL {unit} {speed}\n")).unwrap_or_default();
    let mut text = format!("{serial}PROMPT 0\nTIMEOUT 50\n{before}{default}{after}");
    for slot in Slot::ALL {
        text += &format!("INCLUDE /{}\n", bios_entry(slot));
    }
    filled(&text, CONFIG)
}

/// systemd-boot's configuration.
pub(super) fn uefi_config(default: Slot) -> Option<Vec<u8>> {
    let (before, after) = UEFI_DEFAULT;
    filled(&format!("timeout 0\n{before}{default}{after}"), CONFIG)
}

/// Where the letter is.
fn letter_of(config: &[u8], (before, after): (&str, &str)) -> Option<usize> {
    let text = std::str::from_utf8(config).ok()?;
    let at = text.find(before)?.checked_add(before.len())?;
    let starts = text.lines().any(|line| line.starts_with(before.trim_end_matches('\n')));
    (starts && text.get(at.checked_add(1)?..)?.starts_with(after)).then_some(at)
}

fn default_of(config: &[u8], around: (&str, &str)) -> Option<Slot> {
    let at = letter_of(config, around)?;
    let letter = config.get(at).copied().map(char::from)?;
    Slot::ALL.into_iter().find(|slot| slot.letter() == letter)
}

fn with_default(config: &[u8], around: (&str, &str), slot: Slot) -> Option<Vec<u8>> {
    let at = letter_of(config, around)?;
    let mut config = config.to_vec();
    *config.get_mut(at)? = u8::try_from(slot.letter()).ok()?;
    Some(config)
}

/// Which slot SYSLINUX starts by its configuration.
pub(super) fn bios_default(config: &[u8]) -> Option<Slot> {
    default_of(config, BIOS_DEFAULT)
}

/// The same configuration with another slot.
pub(super) fn with_bios_default(config: &[u8], slot: Slot) -> Option<Vec<u8>> {
    with_default(config, BIOS_DEFAULT, slot)
}

/// Which slot systemd-boot starts by its configuration.
pub(super) fn uefi_default(config: &[u8]) -> Option<Slot> {
    default_of(config, UEFI_DEFAULT)
}

/// The same configuration with another slot.
pub(super) fn with_uefi_default(config: &[u8], slot: Slot) -> Option<Vec<u8>> {
    with_default(config, UEFI_DEFAULT, slot)
}

/// What loaders are told about a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entries {
    /// For SYSLINUX.
    pub(super) bios: Vec<u8>,
    /// For systemd-boot.
    pub(super) uefi: Vec<u8>,
    /// The same, to be tried before all others.
    pub(super) once: Vec<u8>,
}

impl Entries {
    /// No entry at all.
    pub(super) fn none() -> Self {
        let blank = || filled("", ENTRY).unwrap_or_default();
        Self { bios: blank(), uefi: blank(), once: blank() }
    }

    /// Those of a system with such an initramfs.
    ///
    /// # Errors
    /// What a loader would read differently; a room that is too small for it.
    pub(super) fn new(
        places: &Places,
        slot: Slot,
        version: &str,
        command_line: &str,
        initrd: u64,
    ) -> Result<Self> {
        let problem = |text: String| crate::Error::Plan {
            what: "entries of a slot",
            problems: crate::Problems(vec![text]),
        };
        let pieces = places.initrd_of(slot, initrd).ok_or_else(|| {
            problem(format!("an initramfs of {initrd} bytes, but at most {}", places.initrd))
        })?;
        if command_line.len() > COMMAND_LINE {
            let len = command_line.len();
            return Err(problem(format!("a command line of {len} bytes, at most {COMMAND_LINE}")));
        }
        let pieces: Vec<String> =
            pieces.iter().map(|(index, _)| format!("/{}", piece(slot, *index))).collect();
        let options = [command_line.trim(), &argument(slot, places.id)];
        let options = options.iter().filter(|text| !text.is_empty()).copied();
        let options = options.collect::<Vec<_>>().join(" ");
        let mut entry = Entry::new(places.title.as_str());
        entry.version = Some(version.to_owned());
        entry.sort_key = Some("1".to_owned());
        entry.linux = Some(format!("/{}", kernel(slot)));
        entry.initrds.clone_from(&pieces);
        entry.options.clone_from(&options);
        let uefi = entry.to_text()?;
        entry.sort_key = Some("0".to_owned());
        let once = entry.to_text()?;
        let initrd = if pieces.is_empty() {
            String::new()
        } else {
            format!("  INITRD {}\n", pieces.join(","))
        };
        let bios = format!(
            "LABEL {}\n  LINUX /{}\n{initrd}  APPEND {options}\n",
            label(slot),
            kernel(slot)
        );
        let long = || problem(format!("the entry for slot {slot} is longer than {ENTRY} bytes"));
        let fill = |text: &str| filled(text, ENTRY).ok_or_else(long);
        Ok(Self { bios: fill(&bios)?, uefi: fill(&uefi)?, once: fill(&once)? })
    }
}

/// Of the entries that a slot has itself.
pub(super) fn digest(bios: &[u8], uefi: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(bios).chain_update(uefi).finalize().into()
}

/// The slot that an entry for systemd-boot starts.
pub(super) fn started_by(entry: &[u8]) -> Option<Slot> {
    let entry = Entry::parse(entry, &Limits::default()).ok()?;
    let linux = entry.linux?;
    Slot::ALL.into_iter().find(|slot| linux.strip_prefix('/') == Some(kernel(*slot).as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_says_which_slot_is_started() {
        let bios = bios_config(Some((0, 115_200)), Slot::A).unwrap();
        assert_eq!(bios.len(), 512);
        let changed = with_bios_default(&bios, Slot::B).unwrap();
        let differ: Vec<_> = bios.iter().zip(&changed).filter(|(one, two)| one != two).collect();
        assert_eq!(differ, [(&b'a', &b'b')]);
        assert_eq!((bios_default(&bios), bios_default(&changed)), (Some(Slot::A), Some(Slot::B)));
        let uefi = uefi_config(Slot::B).unwrap();
        assert!(uefi.starts_with(b"timeout 0\ndefault slot-[bt]*\n"));
        let back = with_uefi_default(&uefi, Slot::A).unwrap();
        assert_eq!((uefi_default(&uefi), uefi_default(&back)), (Some(Slot::B), Some(Slot::A)));
        for bad in [&b""[..], b"DEFAULT slot-", b"# DEFAULT slot-a\n", b"DEFAULT slot-ab\n"] {
            assert_eq!(bios_default(bad), None, "{}", bad.escape_ascii());
        }
        assert_eq!(bios_default(b"DEFAULT slot-c\n"), None);
    }
}
