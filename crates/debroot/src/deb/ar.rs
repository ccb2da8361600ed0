//! The outer container: an ar archive as `deb(5)` restricts it.

use std::io::{Read, Seek, SeekFrom};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;
/// More than any package has; a bound on what is looked at.
const MEMBERS: usize = 16;

/// One member of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name, white space and a trailing slash removed.
    pub(crate) name: String,
    /// Where its bytes start in the file.
    pub(crate) offset: u64,
    /// How many bytes it has.
    pub(crate) size: u64,
}

/// Reads the headers of all members, of a file that has `length` bytes.
pub(crate) fn members<R: Read + Seek>(file: &mut R, length: u64) -> Result<Vec<Member>, String> {
    let mut magic = [0; 8];
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    file.read_exact(&mut magic).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "it is too short for a Debian package".into(),
        _ => unreadable(error),
    })?;
    if &magic != MAGIC {
        return Err("it is no ar archive, so no Debian package".into());
    }
    let mut members = Vec::new();
    let mut at = MAGIC.len() as u64;
    while at < length {
        if members.len() == MEMBERS {
            return Err(format!("it has more than {MEMBERS} members"));
        }
        file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        let mut header = [0; HEADER];
        file.read_exact(&mut header)
            .map_err(|_| format!("it ends within the header of a member, at byte {at}"))?;
        let (name, size) = parse(&header)
            .ok_or_else(|| format!("the header of a member is broken, at byte {at}"))?;
        let offset = at + HEADER as u64;
        // Members start at even offsets.
        let end = offset.checked_add(size).filter(|end| *end <= length);
        let Some(end) = end else {
            return Err(format!("the member {name:?} is longer than the file"));
        };
        members.push(Member { name, offset, size });
        at = end + end % 2;
    }
    Ok(members)
}

fn parse(header: &[u8; HEADER]) -> Option<(String, u64)> {
    if header.get(58..60)? != b"`\n" {
        return None;
    }
    let text = |range: std::ops::Range<usize>| {
        let bytes = header.get(range)?;
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
        Some(text.trim_end_matches(' '))
    };
    let name = text(0..16)?;
    let name = name.strip_suffix('/').unwrap_or(name);
    let size = text(48..58)?;
    let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    let printable = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    Some((name.to_owned(), size.parse().ok().filter(|_| digits && printable)?))
}
