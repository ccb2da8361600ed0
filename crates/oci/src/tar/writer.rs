//! A tar archive, written entry by entry: ustar, and PAX records for what ustar cannot say.

use std::io::{self, Read, Write};

use super::header::{self, BLOCK, Block, Entry, Type};

/// The archive. The bytes depend on the entries alone.
#[must_use = "an archive without its end is none"]
pub(crate) struct Writer<W> {
    out: W,
}

/// What neither ustar nor PAX can say of an entry.
pub(crate) fn check(entry: &Entry) -> Result<(), &'static str> {
    let mut block = Block::new();
    let (major, minor) = entry.device;
    let fits = block.set_number(header::MAJOR, major.into())
        && block.set_number(header::MINOR, minor.into());
    if !fits {
        return Err("its device number is above 2097151, which no tar archive holds");
    }
    if entry.path.contains(&0) || entry.link.contains(&0) {
        return Err("its name or target has a NUL");
    }
    if entry.xattrs.keys().any(|name| name.is_empty() || name.contains(&b'=') || name.contains(&0))
    {
        return Err("an attribute has a name with '=' or NUL, or none");
    }
    Ok(())
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes an entry whose content is of exactly [`Entry::size`] bytes.
    pub(crate) fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let mut block = Block::new();
        let mut records = Vec::new();
        if !set_path(&mut block, &entry.path) {
            record(&mut records, b"path", &entry.path);
        }
        if entry.link.len() > header::LINK.1 {
            record(&mut records, b"linkpath", &entry.link);
        }
        block.set(header::LINK, &entry.link);
        for (field, key, value) in [
            (header::UID, &b"uid"[..], u64::from(entry.uid)),
            (header::GID, b"gid", u64::from(entry.gid)),
            (header::SIZE, b"size", entry.size),
        ] {
            if !block.set_number(field, value) {
                block.set_number(field, 0);
                record(&mut records, key, value.to_string().as_bytes());
            }
        }
        for (name, value) in &entry.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        block.set_number(header::MODE, entry.mode.into());
        block.set_number(header::MTIME, entry.mtime.into());
        block.set_number(header::MAJOR, entry.device.0.into());
        block.set_number(header::MINOR, entry.device.1.into());
        let kind = match entry.kind {
            Type::File => b"0",
            Type::Hardlink => b"1",
            Type::Symlink => b"2",
            Type::CharDevice => b"3",
            Type::BlockDevice => b"4",
            Type::Directory => b"5",
            Type::Fifo => b"6",
        };
        if !records.is_empty() {
            self.extension(&records)?;
        }
        self.header(block, kind)?;
        let copied = io::copy(content, &mut self.out)?;
        if copied != entry.size {
            let text = format!("{copied} bytes came where {} were announced", entry.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.pad(copied)
    }

    fn extension(&mut self, records: &[u8]) -> io::Result<()> {
        let mut block = Block::new();
        // The name is for readers that do not know these headers, and unpack them as files.
        block.set(header::NAME, b"PaxHeaders/0");
        block.set_number(header::MODE, 0o644);
        block.set_number(header::UID, 0);
        block.set_number(header::GID, 0);
        block.set_number(header::MTIME, 0);
        block.set_number(header::SIZE, records.len() as u64);
        self.header(block, b"x")?;
        self.out.write_all(records)?;
        self.pad(records.len() as u64)
    }

    fn header(&mut self, mut block: Block, kind: &[u8]) -> io::Result<()> {
        block.set((header::TYPE, 1), kind);
        block.set(header::MAGIC, b"ustar\x0000");
        block.seal();
        self.out.write_all(&block.0)
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let zeros = usize::try_from(written.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        self.out.write_all([0; BLOCK].get(..zeros).unwrap_or_default())
    }

    /// Writes the end.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

/// Splits a path between name and prefix. Says whether it fits.
fn set_path(block: &mut Block, path: &[u8]) -> bool {
    if path.len() <= header::NAME.1 {
        block.set(header::NAME, path);
        return true;
    }
    // A slash that leaves at most 100 bytes after it, and at most 155 before it.
    let from = path.len().saturating_sub(header::NAME.1 + 1);
    let to = path.len().saturating_sub(1).min(header::PREFIX.1 + 1);
    let slash = path
        .get(from..to)
        .and_then(|part| part.iter().position(|byte| *byte == b'/'))
        .map(|at| at + from)
        .filter(|at| *at > 0);
    match slash {
        Some(at) => {
            block.set(header::PREFIX, path.get(..at).unwrap_or_default());
            block.set(header::NAME, path.get(at + 1..).unwrap_or_default());
            true
        }
        None => {
            block.set(header::NAME, path);
            false
        }
    }
}

/// A record begins with its own length in decimal digits, these counted too.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut digits = 1;
    while (rest + digits).to_string().len() > digits {
        digits += 1;
    }
    records.extend_from_slice((rest + digits).to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
