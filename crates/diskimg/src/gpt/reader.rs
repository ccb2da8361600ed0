//! Reads a table from an image that may be hostile or cut short.

use super::header::{Entry, Header};
use crate::container::BlockSource;
use crate::field::index;
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

/// A table as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// The header that was used.
    pub header: Header,
    /// The used entries with their numbers, counted from 1.
    pub entries: Vec<(u32, Entry)>,
    /// What is wrong although the table could be read: a damaged copy, partitions out of range or
    /// on top of each other.
    pub complaints: Vec<String>,
}

/// Reads the primary table or, if that is damaged, the backup at the end of the disk.
///
/// # Errors
/// [`Error::Malformed`] when neither is intact, [`Error::Limit`] when there are more entries than
/// the limits allow.
pub fn read(source: &mut dyn BlockSource, limits: &Limits) -> Result<Gpt> {
    let last = (source.len() / SECTOR).saturating_sub(1);
    let primary = read_at(source, 1, limits);
    let backup = read_at(source, last, limits);
    let mut complaints = Vec::new();
    let (header, entries) = match (primary, backup) {
        (Ok(primary), Ok(backup)) => {
            if primary.1 != backup.1 {
                complaints.push("the primary and the backup table differ".to_owned());
            }
            if primary.0.other_lba != last {
                complaints.push(format!(
                    "the primary header puts the backup at LBA {}, expected {last}",
                    primary.0.other_lba
                ));
            }
            primary
        }
        (Ok(primary), Err(error)) => {
            complaints.push(format!("backup table: {error}"));
            primary
        }
        (Err(error), Ok(backup)) => {
            complaints.push(format!("primary table: {error}"));
            backup
        }
        (Err(error), Err(_)) => return Err(error),
    };
    complain(&header, &entries, &mut complaints);
    Ok(Gpt { header, entries, complaints })
}

fn complain(header: &Header, entries: &[(u32, Entry)], complaints: &mut Vec<String>) {
    let mut ranges: Vec<(u64, u64, u32)> = Vec::new();
    for (number, entry) in entries {
        if entry.first > entry.last
            || entry.first < header.first_usable
            || entry.last > header.last_usable
        {
            complaints.push(format!(
                "partition {number}: sectors {} to {} are not within the usable {} to {}",
                entry.first, entry.last, header.first_usable, header.last_usable
            ));
        } else {
            ranges.push((entry.first, entry.last, *number));
        }
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if let [(_, end, a), (start, _, b)] = pair
            && start <= end
        {
            complaints.push(format!("partitions {a} and {b} overlap at LBA {start}"));
        }
    }
}

fn read_at(
    source: &mut dyn BlockSource,
    lba: u64,
    limits: &Limits,
) -> Result<(Header, Vec<(u32, Entry)>)> {
    let offset = lba.saturating_mul(SECTOR);
    let mut sector = [0; 512];
    source.read_at(offset, &mut sector)?;
    let header = Header::parse(&sector)
        .map_err(|reason| Error::malformed("gpt", offset, format!("LBA {lba}: {reason}")))?;
    let bytes = entries(source, &header, limits)?;
    let len = index(u64::from(header.entry_len));
    let entries = (1..)
        .zip(bytes.chunks_exact(len))
        .filter_map(|(number, bytes)| Some((number, Entry::parse(bytes)?)))
        .collect();
    Ok((header, entries))
}

/// The bytes of all entries that a header speaks of, their checksum verified.
pub(super) fn entries(
    source: &mut dyn BlockSource,
    header: &Header,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let (lba, offset) = (header.own_lba, header.own_lba.saturating_mul(SECTOR));
    // UEFI: 128 × 2ⁿ bytes. Nobody uses another size; a bound keeps the table small.
    let len = u64::from(header.entry_len);
    if !(128..=4096).contains(&len) || !len.is_power_of_two() {
        let reason = format!("entries of {len} bytes, expected 128, 256 … 4096");
        return Err(Error::malformed("gpt", offset.saturating_add(84), reason));
    }
    let (found, limit) = (u64::from(header.entry_count), limits.partitions as u64);
    if found > limit {
        return Err(Error::Limit { format: "gpt", what: "number of entries", found, limit });
    }
    let mut bytes = vec![0; index(found * len)];
    source.read_at(header.entries_lba.saturating_mul(SECTOR), &mut bytes)?;
    let computed = crc32fast::hash(&bytes);
    if computed != header.entries_crc {
        let reason = format!(
            "LBA {lba}: the checksum of the entries is {:08x}, expected {computed:08x}",
            header.entries_crc
        );
        return Err(Error::malformed("gpt", offset.saturating_add(88), reason));
    }
    Ok(bytes)
}
