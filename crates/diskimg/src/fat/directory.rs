//! Directory entries and their times.

use super::attribute;
use super::names::{self, ShortName};
use crate::field::{narrow16, put};

/// A time as FAT stores it: local time without a zone, taken as UTC here, in steps of two seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) date: u16,
    pub(crate) time: u16,
}

impl Stamp {
    /// From seconds since 1970. FAT knows no time before 1980, so an earlier one becomes its start.
    pub(crate) fn from_unix(seconds: u32) -> Self {
        const SECONDS_1980: u32 = 315_532_800;
        let seconds = u64::from(seconds.max(SECONDS_1980));
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Howard Hinnant's civil-from-days, for days after 1970 only: years begin in March, so that
        // the leap day is a year's last.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let date = ((year - 1980) << 9) | (month << 5) | day;
        let time = ((rest / 3600) << 11) | ((rest / 60 % 60) << 5) | (rest % 60 / 2);
        Self { date: narrow16(date), time: narrow16(time) }
    }
}

/// What a short entry says.
pub(crate) struct Entry {
    pub(crate) name: ShortName,
    pub(crate) attributes: u8,
    pub(crate) stamp: Stamp,
    pub(crate) cluster: u32,
    pub(crate) len: u32,
}

impl Entry {
    pub(crate) fn emit(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let [c0, c1, c2, c3] = self.cluster.to_le_bytes();
        put(&mut bytes, 0, &self.name);
        put(&mut bytes, 11, &[self.attributes]);
        put(&mut bytes, 14, &self.stamp.time.to_le_bytes());
        put(&mut bytes, 16, &self.stamp.date.to_le_bytes());
        put(&mut bytes, 18, &self.stamp.date.to_le_bytes());
        put(&mut bytes, 20, &[c2, c3]);
        put(&mut bytes, 22, &self.stamp.time.to_le_bytes());
        put(&mut bytes, 24, &self.stamp.date.to_le_bytes());
        put(&mut bytes, 26, &[c0, c1]);
        put(&mut bytes, 28, &self.len.to_le_bytes());
        bytes
    }
}

/// A file of a directory that is written anew.
pub(crate) struct DirectoryFile {
    pub(crate) name: String,
    pub(crate) cluster: u32,
    pub(crate) len: u32,
}

/// A directory of these files, as [`Volume`](super::Volume) writes it when nothing has a time;
/// `None` when it is longer than a sector.
pub(crate) fn directory_sector(own: u32, above: u32, files: &[DirectoryFile]) -> Option<[u8; 512]> {
    let stamp = Stamp::from_unix(0);
    let mut bytes = Vec::new();
    for (name, cluster) in [(b".          ", own), (b"..         ", above)] {
        let attributes = attribute::DIRECTORY;
        let entry = Entry { name: *name, attributes, stamp, cluster, len: 0 };
        bytes.extend_from_slice(&entry.emit());
    }
    let texts: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    for (file, alias) in files.iter().zip(names::aliases(&texts)) {
        if names::exact(&file.name).is_none() {
            bytes.extend(names::long_entries(&file.name, &alias).iter().flatten());
        }
        let (attributes, cluster, len) = (attribute::ARCHIVE, file.cluster, file.len);
        bytes.extend_from_slice(&Entry { name: alias, attributes, stamp, cluster, len }.emit());
    }
    let mut sector = [0; 512];
    sector.get_mut(..bytes.len())?.copy_from_slice(&bytes);
    Some(sector)
}

/// How many entries a name takes: the short one and those of the long name, if it needs them.
pub(crate) fn entries_for(name: &str) -> u64 {
    if names::exact(name).is_some() {
        return 1;
    }
    1 + name.encode_utf16().count().div_ceil(names::UNITS_PER_ENTRY) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        // date -u -d … +%s
        for (seconds, date, time) in [
            (0, (0, 1, 1), (0, 0, 0)),
            (315_532_800, (0, 1, 1), (0, 0, 0)),
            (951_782_399, (20, 2, 28), (23, 59, 58)),
            (951_782_400, (20, 2, 29), (0, 0, 0)),
            (1_700_000_000, (43, 11, 14), (22, 13, 20)),
            (u32::MAX, (126, 2, 7), (6, 28, 14)),
        ] {
            let (year, month, day) = date;
            let (hour, minute, second): (u16, u16, u16) = time;
            let expected = Stamp {
                date: (year << 9) | (month << 5) | day,
                time: (hour << 11) | (minute << 5) | (second / 2),
            };
            assert_eq!(Stamp::from_unix(seconds), expected, "{seconds}");
        }
    }
}
