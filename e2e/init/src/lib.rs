//! What a kernel sees of a file system, as lines: the guest writes them of a mounted one, and a test
//! of the tree that it was made of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest as _, Sha256};

mod walk;

pub use walk::walk;

/// The name of the partition that the lines are written to.
pub const LINES: &str = "lines";
/// What ends them.
pub const END: &str = "# end";

/// A file, directory or other node. `Display` gives its line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its path below the root, which is ".".
    pub path: Vec<u8>,
    /// A letter as `ls` has it.
    pub kind: char,
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// How many names it has.
    pub links: u64,
    /// The first of its names in the order of bytes.
    pub first_name: Vec<u8>,
    /// A file's length and digest, a link's text, a device's numbers.
    pub what: String,
    /// Extended attributes by their full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// The entry as a line, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!(
            "{}\t{}\t{:o}\t{}:{}\t{}\t{}\t{}\t{}",
            self.path.escape_ascii(),
            self.kind,
            self.mode,
            self.uid,
            self.gid,
            self.mtime,
            self.links,
            self.first_name.escape_ascii(),
            self.what,
        );
        for (name, value) in &self.xattrs {
            // Writing to a String cannot fail.
            let _ = write!(line, "\t{}={}", name.escape_ascii(), value.escape_ascii());
        }
        line
    }
}

/// Files longer than this are digested in part.
const WHOLE: u64 = 16 << 20;
/// How many parts of a long file are digested, and how long each is.
const PARTS: u64 = 64;
const PART: u64 = 16 << 10;

/// A file's length and digest in words. Of long files there are parts in the digest, the last one
/// among them: a guest without acceleration would take minutes for gigabytes of zeroes.
///
/// # Errors
/// Those of reading.
pub fn digest<R: Read + Seek>(mut file: R, len: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let room = usize::try_from(len.saturating_add(1)).unwrap_or(usize::MAX).min(1 << 17);
    let mut buffer = vec![0; room];
    let mut read = |file: &mut R, from: u64, len: u64| -> io::Result<()> {
        file.seek(SeekFrom::Start(from))?;
        let mut part = file.take(len);
        loop {
            match part.read(&mut buffer)? {
                0 => return Ok(()),
                count => hash.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    };
    if len <= WHOLE {
        // One byte more than there should be: a file that is longer has another digest.
        read(&mut file, 0, len.saturating_add(1))?;
    } else {
        let stride = len / PARTS / PART * PART;
        for at in 0..PARTS {
            read(&mut file, at * stride, PART)?;
        }
        read(&mut file, len.saturating_sub(PART), PART + 1)?;
    }
    let mut text = format!("{len} ");
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
