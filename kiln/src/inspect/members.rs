//! Where an archive's files are, so that they are read in place.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use tar::Archive;

/// The most members that are listed.
pub(super) const MEMBERS: usize = 100_000;

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Where its content is in the archive, when that is not compressed.
    #[serde(skip)]
    pub(super) at: Option<u64>,
}

/// The files of a tar archive that is not compressed.
pub(super) fn tar_members(file: &mut File) -> io::Result<Vec<Member>> {
    file.rewind()?;
    let mut archive = Archive::new(&*file);
    let mut members = Vec::new();
    for entry in archive.entries_with_seek()?.take(MEMBERS) {
        let entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        members.push(Member { name, len: entry.size(), at: Some(entry.raw_file_position()) });
    }
    Ok(members)
}

/// The files of a zip archive, by the headers before each (APPNOTE 6.3, section 4.3.7). Those that are
/// compressed have no place.
pub(super) fn zip_members(file: &mut File) -> io::Result<Vec<Member>> {
    let end = file.seek(SeekFrom::End(0))?;
    let (mut at, mut members) = (0, Vec::new());
    while at + 30 <= end && members.len() < MEMBERS {
        let mut header = [0; 30];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut header)?;
        if !header.starts_with(b"PK\x03\x04") {
            break;
        }
        let half = |at: usize| match header.get(at..at + 2) {
            Some(&[low, high]) => u16::from_le_bytes([low, high]),
            _ => 0,
        };
        let stored_len = u64::from(half(18)) | u64::from(half(20)) << 16;
        let (name_len, extra_len) = (u64::from(half(26)), u64::from(half(28)));
        let mut text = vec![0; usize::from(half(26)) + usize::from(half(28))];
        file.read_exact(&mut text)?;
        let (name, extra) = text.split_at(usize::from(half(26)));
        // Zip64: what is too long for its field is in the extra one, the unpacked length first.
        let len = if stored_len == u64::from(u32::MAX) {
            let bytes = extra.get(12..20).filter(|_| extra.starts_with(&[1, 0]));
            bytes.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?))).unwrap_or(0)
        } else {
            stored_len
        };
        let content = at + 30 + name_len + extra_len;
        // Lengths that come after the content are found in the list at the end, which we do not need
        // for what we write.
        let known = half(6) & 8 == 0 && content.checked_add(len).is_some_and(|it| it <= end);
        members.push(Member {
            name: String::from_utf8_lossy(name).into_owned(),
            len,
            at: (known && half(8) == 0).then_some(content),
        });
        if !known {
            break;
        }
        at = content + len;
    }
    Ok(members)
}

/// A disk in a file of its own, whose zeroes are holes.
pub(super) fn unpacked(disk: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    let mut block = vec![0; 1 << 18];
    let mut len = 0_u64;
    loop {
        let mut have = 0;
        while have < block.len() {
            match disk.read(block.get_mut(have..).unwrap_or_default())? {
                0 => break,
                count => have += count,
            }
        }
        let bytes = block.get(..have).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        if bytes.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(len))?;
            file.write_all(bytes)?;
        }
        len += bytes.len() as u64;
    }
    file.set_len(len)?;
    file.rewind()?;
    Ok(file)
}

/// A file in a file.
pub(super) struct Part {
    file: File,
    start: u64,
    len: u64,
    at: u64,
}

impl Part {
    pub(super) fn new(file: File, member: &Member) -> Self {
        Self { file, start: member.at.unwrap_or(0), len: member.len, at: 0 }
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        self.file.seek(SeekFrom::Start(self.start.saturating_add(self.at)))?;
        let count = self.file.read(buffer.get_mut(..len).unwrap_or_default())?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
