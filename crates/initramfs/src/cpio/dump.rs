//! Archives as text: one line per entry, for people and for snapshots.

use std::io::{Read, Write};

use super::header::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK};
use super::reader::{Entry, Limits, Reader};
use crate::{Error, Result};

/// Writes one line per entry to `out`:
///
/// ```text
/// 2 -rwxr-xr-x 1 0:0 1234 mtime=0 bin/busybox
/// 3 lrwxrwxrwx 1 0:0 7 mtime=0 bin/sh -> busybox
/// ```
///
/// (inode, mode, links, owner and group, length or device number, time, name), a line for each
/// compressed member and a line for each trailer. Control characters and bytes that are no UTF-8
/// are escaped.
///
/// # Errors
/// Those of [`Reader::next_entry`]; [`Error::Io`] when `out` fails.
pub fn dump<R: Read, W: Write>(input: R, limits: Limits, mut out: W) -> Result<()> {
    let mut reader = Reader::new(input, limits);
    let mut member = None;
    while let Some(entry) = reader.next_entry()? {
        let io = Error::io("write the listing");
        if entry.position.member != member {
            member = entry.position.member;
            match member {
                Some(member) => {
                    writeln!(out, "# {} member at {}", member.compression, member.offset)
                }
                None => writeln!(out, "# uncompressed at {}", entry.position.offset),
            }
            .map_err(&io)?;
        }
        if entry.is_trailer() {
            writeln!(out, "# trailer").map_err(&io)?;
            continue;
        }
        let mut target = Vec::new();
        if entry.header.file_type() == S_IFLNK && entry.ignored.is_none() {
            reader.read_to_end(&mut target).map_err(Error::io("read a symbolic link"))?;
        }
        writeln!(out, "{}", line(&entry, &target)).map_err(&io)?;
    }
    Ok(())
}

fn line(entry: &Entry, target: &[u8]) -> String {
    let header = &entry.header;
    let kind = match header.file_type() {
        S_IFREG => '-',
        S_IFDIR => 'd',
        S_IFLNK => 'l',
        S_IFCHR => 'c',
        S_IFBLK => 'b',
        S_IFIFO => 'p',
        S_IFSOCK => 's',
        _ => '?',
    };
    let size = match header.file_type() {
        S_IFCHR | S_IFBLK => format!("{},{}", header.rdev_major, header.rdev_minor),
        _ => header.file_size.to_string(),
    };
    let mut line = format!(
        "{} {kind}{} {} {}:{} {size} mtime={} {}",
        header.ino,
        permissions(header.mode),
        header.nlink,
        header.uid,
        header.gid,
        header.mtime,
        escaped(&entry.name),
    );
    if header.file_type() == S_IFLNK {
        line.push_str(" -> ");
        line.push_str(&escaped(target));
    }
    if let Some(reason) = entry.ignored {
        line.push_str(&format!(" [ignored by the kernel: {reason}]"));
    }
    line
}

fn permissions(mode: u32) -> String {
    let set = |bit: u32, yes: char| if mode & bit == 0 { '-' } else { yes };
    let special = |bit: u32, execute: u32, both: char, alone: char| match (
        mode & bit == 0,
        mode & execute == 0,
    ) {
        (true, true) => '-',
        (true, false) => 'x',
        (false, true) => alone,
        (false, false) => both,
    };
    [
        set(0o400, 'r'),
        set(0o200, 'w'),
        special(0o4000, 0o100, 's', 'S'),
        set(0o040, 'r'),
        set(0o020, 'w'),
        special(0o2000, 0o010, 's', 'S'),
        set(0o004, 'r'),
        set(0o002, 'w'),
        special(0o1000, 0o001, 't', 'T'),
    ]
    .iter()
    .collect()
}

/// The text of a name, safe for a terminal.
pub(super) fn escaped(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
