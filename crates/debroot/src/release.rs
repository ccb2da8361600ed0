//! Release files: what an archive consists of, by digest (Debian's repository format).

use std::collections::BTreeMap;

use crate::control::{self, Paragraph};
use crate::index::is_pool_path;
use crate::{Error, Result, digest};

/// What a release file says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// `stable`, `oldstable-security`.
    pub suite: Option<String>,
    /// `bookworm`.
    pub codename: Option<String>,
    /// When it was made, in seconds since 1970.
    pub date: Option<u64>,
    /// Until when it may be used, in seconds since 1970.
    pub valid_until: Option<u64>,
    /// Whether files can be had by their digest.
    pub by_hash: bool,
    /// Whether packages of the architecture `all` are listed with those of the others.
    pub all_with_others: bool,
    /// `amd64`, `all`.
    pub architectures: Vec<String>,
    /// `main`; an archive may call it `updates/main`.
    pub components: Vec<String>,
    /// The other files by their path below the release file, with digest and size in bytes.
    pub files: BTreeMap<String, (String, u64)>,
}

impl Release {
    /// Reads a release file without its signature. `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Syntax`] with the line, [`Error::Release`] without SHA-256 digests.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let mut paragraphs = control::paragraphs(text, origin);
        let paragraph = paragraphs.next().transpose()?.unwrap_or_default();
        if paragraphs.next().transpose()?.is_some() {
            return Err(wrong(origin, "it has more than one paragraph".into()));
        }
        let words = |name: &str| {
            let value = paragraph.get(name).unwrap_or_default();
            value.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let time = |name: &str| {
            let Some(field) = paragraph.field(name) else { return Ok(None) };
            seconds(field.value).map(Some).ok_or_else(|| {
                let reason = format!("{name}: {:?} is no date and time in UTC", field.value);
                Error::syntax(origin, field.line, reason)
            })
        };
        let no_support = words("No-Support-for-Architecture-all");
        Ok(Self {
            suite: paragraph.get("Suite").map(str::to_owned),
            codename: paragraph.get("Codename").map(str::to_owned),
            date: time("Date")?,
            valid_until: time("Valid-Until")?,
            by_hash: paragraph.get("Acquire-By-Hash") == Some("yes"),
            all_with_others: no_support.iter().any(|word| word == "Packages"),
            architectures: words("Architectures"),
            components: words("Components"),
            files: files(&paragraph, origin)?,
        })
    }

    /// Whether it may be used at `now`, in seconds since 1970, for a suite that was asked for by
    /// its name or code name.
    ///
    /// # Errors
    /// [`Error::Release`].
    pub fn check(&self, suite: &str, now: u64, origin: &str) -> Result<()> {
        let names = [&self.suite, &self.codename];
        if !names.into_iter().flatten().any(|name| name == suite) {
            let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
            let reason = format!("it is of the suite {}, not {suite}", names.join(" or "));
            return Err(wrong(origin, reason));
        }
        match self.valid_until {
            Some(until) if now > until => Err(wrong(
                origin,
                format!(
                    "it was valid until {}, and it is {} now: the archive is no longer kept up to \
                     date, or the clock is wrong",
                    date(until),
                    date(now)
                ),
            )),
            _ => Ok(()),
        }
    }
}

fn wrong(origin: &str, reason: String) -> Error {
    Error::Release { origin: origin.into(), reason }
}

fn files(paragraph: &Paragraph<'_>, origin: &str) -> Result<BTreeMap<String, (String, u64)>> {
    let Some(field) = paragraph.field("SHA256") else {
        return Err(wrong(origin, "it has no SHA256 digests, and no others are trusted".into()));
    };
    let lines = field.value.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut files = BTreeMap::new();
    for (number, line) in lines.enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let entry = match words.as_slice() {
            [sha256, size, path] if digest::is_digest(sha256) && is_pool_path(path) => {
                size.parse().ok().map(|size| ((*path).to_owned(), ((*sha256).to_owned(), size)))
            }
            _ => None,
        };
        let Some((path, file)) = entry else {
            let reason = format!("SHA256: {line:?} is no digest, size and path");
            return Err(Error::syntax(origin, field.line + 1 + number, reason));
        };
        files.insert(path, file);
    }
    Ok(files)
}

/// `Sat, 11 Jul 2026 10:16:37 UTC` as seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000" | "Z"] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hours, minutes, seconds] = clock.as_slice() else { return None };
    let possible = (1..=31).contains(&day) && *hours < 24 && *minutes < 60 && *seconds < 61;
    if !possible || !(1970..=9999).contains(&year) {
        return None;
    }
    // Days since 1970 by the civil calendar, years counted from March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = (365 * year + leaps + (153 * month + 2) / 5 + day).checked_sub(719_469)?;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// Seconds since 1970 as a date and time for people.
pub(crate) fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hours, minutes) = (seconds % 86_400 / 3600, seconds % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_there_and_back() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", 0),
            ("Thu, 29 Feb 2024 23:59:59 UTC", 1_709_251_199),
            ("Fri, 01 Mar 2024 00:00:00 +0000", 1_709_251_200),
            ("Sat, 11 Jul 2026 10:16:37 UTC", 1_783_764_997),
            ("Sat, 1 Jan 2000 0:00:00 GMT", 946_684_800),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        assert_eq!(date(1_783_764_997), "2026-07-11 10:16 UTC");
        assert_eq!(date(1_709_251_199), "2024-02-29 23:59 UTC");
        for nonsense in ["", "Sat, 11 Jul 2026 10:16:37", "Sat, 11 Jul 2026 25:16:37 UTC"] {
            assert_eq!(seconds(nonsense), None);
        }
    }
}
