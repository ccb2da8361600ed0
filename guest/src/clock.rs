//! The clock: reading it, stepping it, and what it cannot be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::{SETTINGS, files};

/// 2020-01-01: older than any image of ours. For images that do not say when they were made.
const OLDEST: u64 = 1_577_836_800;

/// The file that says when the image was made.
pub(crate) fn epoch() -> PathBuf {
    Path::new(SETTINGS).join("epoch")
}

/// Seconds since 1970 before which the clock is wrong.
pub(crate) fn least(epoch: &Path) -> u64 {
    let text = files::read(epoch).ok().flatten();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(OLDEST)
}

/// The time since 1970; nothing for a clock before that.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Sets the clock.
pub(crate) fn set(time: Duration) -> Result<(), String> {
    let value = Timespec::try_from(time).map_err(|_| format!("{time:?} is no time"))?;
    clock_settime(ClockId::Realtime, value).map_err(|error| format!("set the clock: {error}"))
}

/// Sets the clock forward to the image's own time where it is before that. Without such a file
/// nothing is done.
pub(crate) fn not_before(epoch: &Path) -> Result<(), String> {
    match files::read(epoch) {
        Ok(None) => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", epoch.display())),
        Ok(Some(text)) if text.trim().parse::<u64>().is_err() => {
            return Err(format!("{}: expected seconds since 1970", epoch.display()));
        }
        Ok(Some(_)) => {}
    }
    let least = least(epoch);
    if now().as_secs() < least { set(Duration::from_secs(least)) } else { Ok(()) }
}

/// Writes the time down as [`not_before`] reads it, for the next boot of a machine whose clock does not
/// go on without power.
pub(crate) fn keep(path: &Path) -> Result<(), String> {
    files::replace(path, format!("{}\n", now().as_secs()).as_bytes(), 0o644, true)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// A time for people (RFC 3339): `2026-11-21T17:00:00Z`.
pub(crate) fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March put the leap day last; eras of 400 years have 146,097 days.
    let day = days.saturating_add(719_468);
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era.saturating_mul(400) + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_date_says_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (978_307_199, "2000-12-31T23:59:59Z"),
            (978_307_200, "2001-01-01T00:00:00Z"),
            (1_795_280_400, "2026-11-21T17:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(shown(Duration::from_secs(seconds)), text);
        }
        let _ = shown(Duration::MAX);
    }

    #[test]
    fn an_epoch_is_seconds_and_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("epoch");
        assert_eq!(least(&path), OLDEST);
        assert_eq!(not_before(&path), Ok(()));
        std::fs::write(&path, "1700000000\n").unwrap();
        assert_eq!(least(&path), 1_700_000_000);
        // The clock of this machine is after that, so that nothing is set.
        assert_eq!(not_before(&path), Ok(()));
        keep(&path).unwrap();
        assert!(least(&path) > 1_700_000_000);
        assert_eq!(not_before(&path), Ok(()));
        std::fs::write(&path, "yesterday\n").unwrap();
        assert!(not_before(&path).is_err());
    }
}
