//! Rock Ridge's entries of a record.

use kiln_tree::Metadata;

use super::record::Record;
use crate::Result;
use crate::container::BlockSource;
use crate::field::{index, u32_le};
use crate::found::FileKind;
use crate::iso::SECTOR;
use crate::iso::numbers::parse_short_date;

/// How many stretches of continuation are followed, as Linux does.
const MOST_CONTINUATIONS: usize = 32;

/// What the entries say.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pub(super) name: Option<Vec<u8>>,
    /// Where the directory is that stands elsewhere.
    pub(super) child: Option<u32>,
    /// Whether this is a directory that belongs elsewhere.
    pub(super) relocated: bool,
    pub(super) serial: Option<u32>,
    /// Mode with type, owner, group.
    posix: Option<(u32, u32, u32)>,
    mtime: Option<u32>,
    device: Option<(u32, u32)>,
    target: Option<Vec<u8>>,
    /// Whether the target's last component goes on.
    open: bool,
}

impl Attributes {
    pub(super) fn read(source: &mut dyn BlockSource, system_use: Option<&[u8]>) -> Result<Self> {
        let mut attributes = Self::default();
        let mut area = system_use.unwrap_or_default().to_vec();
        for _ in 0..MOST_CONTINUATIONS {
            let Some((sector, offset, len)) = attributes.entries(&area) else { break };
            // Linux reads no further than the sector.
            if u64::from(offset) + u64::from(len) > SECTOR {
                break;
            }
            area = vec![0; index(u64::from(len))];
            let start = u64::from(sector) * SECTOR + u64::from(offset);
            source.read_at(start, &mut area)?;
        }
        Ok(attributes)
    }

    /// Takes in the entries of an area; gives the place of the next one, if they say that there is.
    fn entries(&mut self, area: &[u8]) -> Option<(u32, u32, u32)> {
        let mut next = None;
        let mut rest = area;
        while let [a, b, len, _, ..] = *rest {
            let Some((entry, later)) = rest.split_at_checked(usize::from(len)).filter(|_| len >= 4)
            else {
                break;
            };
            rest = later;
            let data = entry.get(4..).unwrap_or_default();
            let word = |at| u32_le(data, at);
            match &[a, b] {
                b"CE" => next = word(0).zip(word(8)).zip(word(16)).map(|((a, b), c)| (a, b, c)),
                b"ST" => break,
                // Bits 1 and 2: `.` and `..`.
                b"NM" if data.first().is_some_and(|flags| flags & 6 == 0) => {
                    let name = self.name.get_or_insert_default();
                    name.extend_from_slice(data.get(1..).unwrap_or_default());
                }
                b"PX" => {
                    self.posix = word(0).zip(word(16)).zip(word(24)).map(|((m, u), g)| (m, u, g));
                    self.serial = word(32);
                }
                b"PN" => self.device = word(0).zip(word(8)),
                b"TF" => self.mtime = modified(data).or(self.mtime),
                b"SL" => self.components(data.get(1..).unwrap_or_default()),
                b"CL" => self.child = word(0),
                b"RE" => self.relocated = true,
                _ => {}
            }
        }
        next
    }

    fn components(&mut self, mut rest: &[u8]) {
        let target = self.target.get_or_insert_default();
        while let [flags, len, ..] = *rest {
            let Some(text) = rest.get(2..2 + usize::from(len)) else { return };
            rest = rest.get(2 + usize::from(len)..).unwrap_or_default();
            if !self.open && !target.is_empty() && target.last() != Some(&b'/') {
                target.push(b'/');
            }
            match flags & 0x0e {
                2 => target.push(b'.'),
                4 => target.extend_from_slice(b".."),
                8 => target.push(b'/'),
                _ => target.extend_from_slice(text),
            }
            self.open = flags & 1 != 0;
        }
    }

    pub(super) fn kind(&self) -> Option<FileKind> {
        let (major, minor) = match self.device.unwrap_or((0, 0)) {
            (0, low) if low > 0xff => (low >> 8, low & 0xff),
            pair => pair,
        };
        Some(match self.posix?.0 & 0o170_000 {
            0o040_000 => FileKind::Directory,
            0o120_000 => FileKind::Symlink(self.target.clone().unwrap_or_default()),
            0o020_000 => FileKind::CharDevice(major, minor),
            0o060_000 => FileKind::BlockDevice(major, minor),
            0o010_000 => FileKind::Fifo,
            0o140_000 => FileKind::Socket,
            _ => FileKind::File,
        })
    }

    pub(super) fn meta(&self, record: &Record) -> Metadata {
        let mtime = self.mtime.or_else(|| parse_short_date(&record.date)).unwrap_or(0);
        match self.posix {
            Some((mode, uid, gid)) => {
                let bits = u16::try_from(mode & 0o7777).unwrap_or(0);
                Metadata::new(bits).owned_by(uid, gid).modified_at(mtime)
            }
            None => {
                let mode = if record.is_directory() { 0o555 } else { 0o444 };
                Metadata::new(mode).modified_at(mtime)
            }
        }
    }
}

/// The time of modification of a `TF` entry: dates follow in the order of their flags' bits.
fn modified(data: &[u8]) -> Option<u32> {
    let flags = *data.first()?;
    if flags & 2 == 0 || flags & 0x80 != 0 {
        return None;
    }
    let before = usize::from(flags & 1);
    parse_short_date(data.get(1 + 7 * before..)?)
}
