//! A tar archive, read entry by entry.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::header::{self, BLOCK, Block, Entry, Type};
use crate::error::shown;

/// What is wrong with an archive, and where.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The name of the entry, as text for people.
    pub(crate) entry: String,
    /// Where its header is.
    pub(crate) offset: u64,
    pub(crate) reason: String,
    /// What the reader below said, if it was that.
    pub(crate) source: Option<io::Error>,
}

/// The archive. Reading from it reads the content of the current entry.
pub(crate) struct Reader<R> {
    inner: R,
    /// Bytes read so far.
    offset: u64,
    /// Bytes of the current content that are still to come.
    left: u64,
    /// Zeros after it.
    padding: u64,
    /// How long extension headers may be.
    extension: u64,
    current: (String, u64),
    ended: bool,
}

/// What extension headers say of the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u32>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R, extension: u64) -> Self {
        let current = (String::new(), 0);
        Self { inner, offset: 0, left: 0, padding: 0, extension, current, ended: false }
    }

    /// Where the next byte is, which after [`Reader::next`] is where the entry's content begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Has the reader below pass over the whole content of the current entry, which nobody has begun
    /// to read.
    pub(crate) fn jump(
        &mut self,
        skip: impl FnOnce(&mut R) -> io::Result<()>,
    ) -> Result<(), Broken> {
        skip(&mut self.inner).map_err(|error| self.failed(error))?;
        self.offset = self.offset.saturating_add(self.left);
        self.left = 0;
        Ok(())
    }

    /// Goes to the next entry, past what has not been read of the one before.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Broken> {
        if self.ended {
            return Ok(None);
        }
        // Neither is near 2^64: `entry` sees to that.
        self.skip(self.left.saturating_add(self.padding))?;
        let first = self.offset;
        self.current = (String::new(), first);
        let mut extension = Extension::default();
        let mut extended = 0_u64;
        loop {
            self.current.1 = self.offset;
            let Some(block) = self.block()? else {
                if extended > 0 {
                    return Err(self.broken("the archive ends after an extension header"));
                }
                self.ended = true;
                return Ok(None);
            };
            let size =
                block.number(header::SIZE).ok_or_else(|| self.broken("its size is no number"))?;
            match block.kind() {
                kind @ (b'x' | b'L' | b'K') => {
                    extended = extended.saturating_add(size).saturating_add(BLOCK as u64);
                    if size > self.extension || extended > self.extension.saturating_mul(2) {
                        let reason = format!(
                            "its extension headers are longer than {} bytes",
                            self.extension
                        );
                        return Err(self.broken(reason));
                    }
                    let content = self.small(size)?;
                    match kind {
                        b'x' => self.records(&content, &mut extension)?,
                        b'L' => extension.path = Some(until_nul(&content)),
                        _ => extension.link = Some(until_nul(&content)),
                    }
                }
                // What is said for all entries after: a comment of `git archive`. Tools for
                // containers do not look at it, so what they do not see must not count here.
                b'g' => {
                    extended = extended.saturating_add(BLOCK as u64);
                    if size > self.extension || extended > self.extension {
                        return Err(self.broken("there are too many global headers"));
                    }
                    self.small(size)?;
                }
                _ => return self.entry(&block, extension, first).map(Some),
            }
        }
    }

    fn entry(&mut self, block: &Block, said: Extension, first: u64) -> Result<Entry, Broken> {
        let path = said.path.unwrap_or_else(|| name(block));
        self.current = (shown(&path), first);
        let kind = match block.kind() {
            // Directories of archives from before there was a type for them.
            0 | b'0' if path.last() == Some(&b'/') => Type::Directory,
            0 | b'0' | b'7' => Type::File,
            b'1' => Type::Hardlink,
            b'2' => Type::Symlink,
            b'3' => Type::CharDevice,
            b'4' => Type::BlockDevice,
            b'5' => Type::Directory,
            b'6' => Type::Fifo,
            b'S' => return Err(self.broken("sparse files in GNU's format are not read")),
            other => {
                let reason = format!("entries of type {:?} are not known", char::from(other));
                return Err(self.broken(reason));
            }
        };
        let number = |field, what: &str, said: Option<u64>| {
            said.or_else(|| block.number(field))
                .and_then(|value| u32::try_from(value).ok())
                .ok_or_else(|| self.broken(format!("its {what} is no number below 2^32")))
        };
        let (uid, gid) =
            (number(header::UID, "owner", said.uid)?, number(header::GID, "group", said.gid)?);
        let device = match kind {
            Type::CharDevice | Type::BlockDevice => (
                number(header::MAJOR, "major number", None)?,
                number(header::MINOR, "minor number", None)?,
            ),
            _ => (0, 0),
        };
        // Times before 1970 and after 2106 are not worth an error.
        let mtime = said.mtime.unwrap_or_else(|| match block.number(header::MTIME) {
            Some(value) => u32::try_from(value).unwrap_or(u32::MAX),
            None => 0,
        });
        if block.number(header::MTIME).is_none() && !block.is_negative(header::MTIME) {
            return Err(self.broken("its time is no number"));
        }
        let mode =
            block.number(header::MODE).ok_or_else(|| self.broken("its mode is no number"))?;
        let mode = u16::try_from(mode & 0o7777).unwrap_or(0);
        // Links and the like have no content, whatever their size says, as Go's reader has it.
        let size = match kind {
            Type::File => said.size.or_else(|| block.number(header::SIZE)).unwrap_or(0),
            _ => 0,
        };
        if self.offset.checked_add(size).and_then(|end| end.checked_add(BLOCK as u64)).is_none() {
            return Err(self.broken("its size is beyond any archive"));
        }
        let link = said.link.unwrap_or_else(|| block.text(header::LINK).to_vec());
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let xattrs = said.xattrs;
        Ok(Entry { path, kind, mode, uid, gid, mtime, size, link, device, xattrs, offset: first })
    }

    /// The records of a PAX header (POSIX.1-2001, pax, "pax Extended Header").
    fn records(&self, mut bytes: &[u8], said: &mut Extension) -> Result<(), Broken> {
        let bad = || self.broken("its PAX header has a record that is none");
        while !bytes.is_empty() {
            let space = bytes.iter().take(12).position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length: usize = bytes
                .get(..space)
                .and_then(|digits| str::from_utf8(digits).ok())
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(bad)?;
            let record = bytes.get(space + 1..length).ok_or_else(bad)?;
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            let (key, value) = record.split_at_checked(equals).ok_or_else(bad)?;
            let value = value.get(1..).unwrap_or_default();
            self.record(key, value, said)?;
            bytes = bytes.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    fn record(&self, key: &[u8], value: &[u8], said: &mut Extension) -> Result<(), Broken> {
        let number = || {
            str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| self.broken(format!("its {} is no number", shown(key))))
        };
        match key {
            b"path" => said.path = (!value.is_empty()).then(|| value.to_vec()),
            b"linkpath" => said.link = (!value.is_empty()).then(|| value.to_vec()),
            b"size" => said.size = Some(number()?),
            b"uid" => said.uid = Some(number()?),
            b"gid" => said.gid = Some(number()?),
            b"mtime" => {
                let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                let whole = str::from_utf8(whole).ok().and_then(|text| text.parse::<i64>().ok());
                let whole = whole.ok_or_else(|| self.broken("its mtime is no number"))?;
                said.mtime = Some(u32::try_from(whole.max(0)).unwrap_or(u32::MAX));
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(self.broken("sparse files in GNU's format are not read"));
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.is_empty() || name.contains(&0) {
                        return Err(self.broken("it has an attribute without a name"));
                    }
                    said.xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
        Ok(())
    }

    /// The next header; `None` at the end of the archive, marked or not.
    fn block(&mut self) -> Result<Option<Block>, Broken> {
        let mut block = Block::new();
        let mut got = 0;
        while got < BLOCK {
            let count = self.fill(block.0.get_mut(got..).unwrap_or_default())?;
            if count == 0 {
                return match got {
                    0 => Ok(None),
                    _ => Err(self.broken("the archive ends in the middle of a header")),
                };
            }
            got += count;
        }
        if block.is_zero() {
            return Ok(None);
        }
        if !block.is_sound() {
            return Err(self.broken("this is no header: its checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn small(&mut self, size: u64) -> Result<Vec<u8>, Broken> {
        let mut content = Vec::new();
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        self.read_to_end(&mut content).map_err(|error| self.failed(error))?;
        self.skip(self.padding)?;
        self.padding = 0;
        Ok(content)
    }

    fn skip(&mut self, mut count: u64) -> Result<(), Broken> {
        let mut buffer = [0; 8 << 10];
        while count > 0 {
            let wanted = usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len());
            let got = self.fill(buffer.get_mut(..wanted).unwrap_or_default())?;
            if got == 0 {
                return Err(self.broken("the archive ends in the middle of its content"));
            }
            count = count.saturating_sub(got as u64);
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        loop {
            match self.inner.read(buffer) {
                Ok(count) => {
                    self.offset = self.offset.saturating_add(count as u64);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// An error at the current entry.
    pub(crate) fn broken(&self, reason: impl Into<String>) -> Broken {
        let (entry, offset) = self.current.clone();
        Broken { entry, offset, reason: reason.into(), source: None }
    }

    pub(crate) fn failed(&self, error: io::Error) -> Broken {
        Broken { source: Some(error), ..self.broken("") }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let count = self.inner.read(buffer)?;
        if count == 0 {
            let text = "the archive ends in the middle of its content";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.offset = self.offset.saturating_add(count as u64);
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// The name of a header, with the prefix that POSIX has for long ones and GNU has not.
fn name(block: &Block) -> Vec<u8> {
    let name = block.text(header::NAME);
    if !block.field(header::MAGIC).starts_with(b"ustar\0") {
        return name.to_vec();
    }
    // The archiver star has times where the end of the prefix would be.
    let star = block.field((508, 4)) == b"tar\0";
    let (at, len) = header::PREFIX;
    let prefix = block.text((at, if star { 131 } else { len }));
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}
