//! The format of dm-log-writes, which QEMU's driver `blklogwrites` writes too.
//!
//! Linux, `drivers/md/dm-log-writes.c` and `Documentation/admin-guide/device-mapper/log-writes.rst`;
//! numbers are little-endian. The first sector says how many entries there are and how long a sector
//! is; each entry is a sector (where, how many sectors, flags, length of a note) and the data.

use std::io::Read;

use super::{Event, Log, SECTOR};
use crate::field::{index, u32_le, u64_le};
use crate::{Error, Limits, Result};

const FORMAT: &str = "dm-log-writes";
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

impl Log {
    /// Reads a log. A write that was to be kept at once (FUA) has a flush behind it here only where the
    /// log has one.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no such log, or one that is cut short; [`Error::Limit`] when
    /// what was written is more than the limits allow for a file.
    pub fn read(mut from: impl Read, limits: &Limits) -> Result<Self> {
        let mut offset = 0_u64;
        let mut take = |len: u64| -> Result<Vec<u8>> {
            let at = offset;
            offset = offset.saturating_add(len);
            let mut bytes = Vec::new();
            let read = (&mut from).take(len).read_to_end(&mut bytes);
            read.map_err(Error::io(format!("read {len} bytes at byte {at} of a log")))?;
            if bytes.len() as u64 == len {
                return Ok(bytes);
            }
            let reason = format!("{len} bytes expected, {} are there", bytes.len());
            Err(Error::malformed(FORMAT, at, reason))
        };
        let head = take(SECTOR as u64)?;
        if u64_le(&head, 0) != Some(MAGIC) || u64_le(&head, 8) != Some(VERSION) {
            return Err(Error::malformed(FORMAT, 0, "expected the magic and version 1"));
        }
        let count = u64_le(&head, 16).unwrap_or(0);
        let sector = u64::from(u32_le(&head, 24).unwrap_or(0));
        if !(512..=65_536).contains(&sector) || !sector.is_power_of_two() {
            return Err(Error::malformed(FORMAT, 24, format!("sectors of {sector} bytes")));
        }
        take(sector - SECTOR as u64)?;
        let mut log = Self::default();
        let mut written = 0_u64;
        for _ in 0..count {
            let entry = take(sector)?;
            let field = |at| u64_le(&entry, at).unwrap_or(0);
            let (at, sectors, flags, note) = (field(0), field(8), field(16), field(24));
            let (Some(at), Some(len)) = (at.checked_mul(sector), sectors.checked_mul(sector))
            else {
                return Err(Error::malformed(FORMAT, 0, "an entry beyond 2^64 bytes"));
            };
            if flags & MARK != 0 {
                let text = entry.get(32..).unwrap_or_default();
                let text = text.get(..index(note)).unwrap_or(text);
                log.events.push(Event::Mark(String::from_utf8_lossy(text).into_owned()));
                continue;
            }
            // What is flushed is what came before; the data of the same entry come after.
            if flags & FLUSH != 0 {
                log.events.push(Event::Flush);
            }
            if flags & DISCARD != 0 {
                log.events.push(Event::Discard { at, len });
            } else if sectors > 0 {
                written = written.saturating_add(len);
                if written > limits.file_len {
                    let (found, limit) = (written, limits.file_len);
                    let what = "length of what was written";
                    return Err(Error::Limit { format: FORMAT, what, found, limit });
                }
                log.events.push(Event::Write { at, bytes: take(len)? });
            }
        }
        Ok(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(u64, u64, u64, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(b"rhswfsj\0");
        bytes[8] = 1;
        bytes[16] = entries.len().to_le_bytes()[0];
        bytes[24..26].copy_from_slice(&[0, 2]);
        for (at, sectors, flags, data) in entries {
            let mut entry = vec![0; 512];
            for (field, value) in [*at, *sectors, *flags].iter().enumerate() {
                entry[field * 8..field * 8 + 8].copy_from_slice(&value.to_le_bytes());
            }
            if *flags == MARK {
                entry[24] = data.len().to_le_bytes()[0];
                entry[32..32 + data.len()].copy_from_slice(data);
                bytes.extend(entry);
                continue;
            }
            bytes.extend(entry);
            bytes.extend(*data);
        }
        bytes
    }

    #[test]
    fn entries_in_their_order() {
        let data = [7; 1024];
        let bytes = log(&[
            (3, 2, 0, &data),
            (0, 0, FLUSH, &[]),
            (9, 4, DISCARD, &[]),
            (0, 0, MARK, b"here"),
            (5, 1, 2 | FLUSH, &data[..512]),
        ]);
        let read = Log::read(bytes.as_slice(), &Limits::default()).unwrap();
        let expected = [
            Event::Write { at: 1536, bytes: data.to_vec() },
            Event::Flush,
            Event::Discard { at: 4608, len: 2048 },
            Event::Mark("here".to_owned()),
            Event::Flush,
            Event::Write { at: 2560, bytes: data[..512].to_vec() },
        ];
        assert_eq!(read.events, expected);
        assert_eq!((read.stretches(), read.written()), (3, 1536));
        for len in [0, 100, 511, 600, bytes.len() - 1] {
            assert!(Log::read(&bytes[..len], &Limits::default()).is_err(), "{len}");
        }
        let small = Limits { file_len: 1000, ..Limits::default() };
        let error = Log::read(bytes.as_slice(), &small).unwrap_err().to_string();
        assert!(error.contains("limit of 1000"), "{error}");
        let far = log(&[(u64::MAX, 1, 0, &data[..512])]);
        assert!(Log::read(far.as_slice(), &Limits::default()).is_err());
    }
}
