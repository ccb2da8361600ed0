//! Two systems on one boot partition, of which one is replaced while the other runs.
//!
//! A slot is a kernel and an initramfs with their command line. The partition is made once, by
//! [`Plan`], with both slots in it, the second one empty. From then on nothing of its file system
//! changes but the content of files: they have fixed lengths and places, with room for larger systems.
//! [`upgrade`] says which sectors have to be written, in which order, so that a machine that loses its
//! power at any moment starts the old system or the new one, whole.
//!
//! | file | what | changed |
//! |---|---|---|
//! | `slots/state` | sector 0: where everything is; sectors 1 and 2: what is in slot a and slot b | a sector at once |
//! | `slots/a/linux` | the kernel, zeroes after it | while nobody starts it |
//! | `slots/a/initrd.0` to `.7` | the initramfs, in as many of the pieces as it needs | while nobody starts it |
//! | `syslinux/slot-a.cfg`, `loader/entries/slot-a.conf` | its entry for either loader | while nobody starts it |
//! | `syslinux/syslinux.cfg`, `loader/loader.conf` | which slot is started: one sector each | a sector at once |
//! | the vector behind `ldlinux.sys` | which slot SYSLINUX starts once | two sectors, either one suffices |
//! | `loader/entries/slot-try+1-0.conf` | what systemd-boot starts once: it renames the file to `+0-1` | the name: one sector |
//!
//! # Once
//! A new slot is first started once: SYSLINUX takes the order out of its vector, systemd-boot counts
//! down in the name of the entry, both before the kernel runs. If nobody calls [`mark_good`] then, the
//! next start is the old one again.
//!
//! # What is assumed of the disk
//! A sector of 512 bytes is written whole or not at all, and what was flushed stays. Between two
//! flushes sectors may arrive in any order, or not.
//!
//! # Example
//! This example shows how to make a partition, and to put another system into its second slot.
//!
//! ```
//! use std::io::Cursor;
//! use kiln_diskimg::slots::{self, Options, Part, Plan, Release, Slot, System};
//! use kiln_diskimg::{ByteLen, Content, Limits};
//!
//! let mut options = Options::new(ByteLen::mib(2));
//! options.kernel = ByteLen::mib(1);
//! let system = System::new("1", vec![1; 300_000], vec![2; 200_000], "console=ttyS0");
//! # let systemd_boot = vec![0; 1000];
//! let volume = Plan::new(options, system).systemd_boot(systemd_boot).volume()?;
//! let mut disk = Vec::new();
//! volume.write_to(&mut disk)?;
//! let mut disk = Cursor::new(disk);
//!
//! let (kernel, initrd) = (vec![3; 400_000], vec![4; 500_000]);
//! let mut release = Release::new("2", Part::of(&kernel), Part::of(&initrd));
//! release.command_line = "console=ttyS0".to_owned();
//! let found = slots::read_device(&mut disk, &Limits::default())?;
//! let steps = slots::upgrade(&found, Some(Slot::A), &release)?;
//! slots::perform(&steps, &mut disk, &mut Cursor::new(kernel), &mut Cursor::new(initrd))?;
//!
//! let found = slots::read_device(&mut disk, &Limits::default())?;
//! assert_eq!(found.next(slots::Firmware::Uefi), Some(Slot::B));
//! assert_eq!(found.default_of(slots::Firmware::Uefi), Some(Slot::A));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod change;
mod entries;
mod layout;
mod perform;
mod pieces;
mod places;
mod read;
mod record;
mod release;
mod text;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

pub use change::{Copy, Step, mark_good, roll_back, settle, upgrade};
pub use layout::{Options, Plan, System};
pub use perform::{ReadSeek, perform, verify};
pub use places::{BiosPlaces, Places, Run, SlotPlaces, UefiPlaces};
pub use read::{Found, read, read_device};
pub use record::Record;
pub use release::Release;

pub(crate) const FORMAT: &str = "slots";

/// One of the two places for a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Slot {
    /// The one that an installation fills.
    A,
    /// The other one.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `a` or `b`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.letter())
    }
}

/// A word that names no slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a nor b")]
pub struct ParseSlotError(String);

impl FromStr for Slot {
    type Err = ParseSlotError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|slot| text.chars().eq([slot.letter()]));
        found.ok_or_else(|| ParseSlotError(text.chars().take(32).collect()))
    }
}

/// What starts the machine, which decides who reads the boot partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Firmware {
    /// A PC's BIOS: SYSLINUX.
    Bios,
    /// UEFI: systemd-boot.
    Uefi,
}

/// A kernel or an initramfs that is not at hand: its length and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Bytes.
    pub len: u64,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
}

impl Part {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u64, sha256: Sha256::digest(bytes).into() }
    }

    /// That of all that a reader gives.
    ///
    /// # Errors
    /// The reader's.
    pub fn of_reader(reader: &mut dyn std::io::Read) -> std::io::Result<Self> {
        let (mut hash, mut len) = (Sha256::new(), 0_u64);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self { len, sha256: hash.finalize().into() }),
                Ok(count) => {
                    hash.update(buffer.get(..count).unwrap_or_default());
                    len = len.saturating_add(count as u64);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The word of a slot's command line that says which one it is, and of which disk.
///
/// ```
/// use kiln_diskimg::slots::{self, Slot};
///
/// let word = slots::argument(Slot::B, 0x00c0_ffee);
/// assert_eq!(word, "kiln.slot=b.00c0ffee");
/// assert_eq!(slots::running(&format!("quiet {word} panic=5")), Some((Slot::B, 0x00c0_ffee)));
/// ```
#[must_use]
pub fn argument(slot: Slot, id: u32) -> String {
    format!("{ARGUMENT}{slot}.{id:08x}")
}

const ARGUMENT: &str = "kiln.slot=";

/// A command line whose kernel starts the machine anew when it panics, or a system that is tried would
/// stay so: with `panic=5` where it says nothing of that.
///
/// ```
/// use kiln_diskimg::slots;
///
/// assert_eq!(slots::restarting("quiet"), "quiet panic=5");
/// assert_eq!(slots::restarting("quiet panic=10"), "quiet panic=10");
/// ```
#[must_use]
pub fn restarting(command_line: &str) -> String {
    match command_line.split_whitespace().any(|word| word.starts_with("panic=")) {
        true => command_line.to_owned(),
        false => format!("{command_line} panic=5"),
    }
}

/// The slot that a kernel with this command line was started from, and the identifier of its
/// [places](Places::id). The last word counts.
#[must_use]
pub fn running(command_line: &str) -> Option<(Slot, u32)> {
    let words = command_line.split_whitespace().rev();
    let value = words.filter_map(|word| word.strip_prefix(ARGUMENT)).next()?;
    let (slot, id) = value.split_once('.')?;
    let id = Some(id).filter(|id| id.len() == 8 && id.bytes().all(|c| c.is_ascii_hexdigit()))?;
    Some((slot.parse().ok()?, u32::from_str_radix(id, 16).ok()?))
}
