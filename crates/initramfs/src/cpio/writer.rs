//! Archives written as a stream, from a tree or entry by entry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};

use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};

use super::header::{
    Format, HEADER_LEN, Header, NAME_SIZE_MAX, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT,
    S_IFREG, S_IFSOCK, TRAILER, pad4,
};
use super::plan::{Problem, Rule, check, device_rule, symlink_rule};
use crate::{Error, Result};

/// Headers and small contents are gathered up to this many bytes before they are written.
const GATHER: usize = 128 * 1024;
/// Contents from this length on go from file to file, in the kernel where `W` is a file.
const DIRECT: u64 = 64 * 1024;

/// How an archive is written.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// With or without checksums. A checksum costs a second reading of each content. Default:
    /// [`Format::Newc`].
    pub format: Format,
    /// Which name of a file with several carries the content. Default: [`LinkData::Last`].
    pub link_data: LinkData,
    /// Whether contents begin at a multiple of some length. Default: [`DataAlign::Four`].
    pub data_align: DataAlign,
    /// Whether the archive is *not* filled up with NULs to a multiple of 512 bytes, as GNU cpio
    /// fills it. Default: `false`, it is.
    pub no_block_padding: bool,
    /// Whether extended attributes are dropped instead of being an error. Default: `false`.
    pub drop_xattrs: bool,
}

/// Which of the hard links to a file carries its content. A kernel takes any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkData {
    /// The last, as GNU cpio and bsdcpio write it.
    #[default]
    Last,
    /// The first.
    First,
}

/// A multiple at which contents of at least that length begin, reached by more NULs after the name
/// (a block-sharing file system can then share them with the original). Where the name would
/// outgrow 4096 bytes, the content stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataAlign {
    /// Four bytes, as the format wants it.
    #[default]
    Four,
    /// 512 bytes.
    Sector,
    /// 4096 bytes.
    Page,
}

impl DataAlign {
    fn bytes(self) -> u64 {
        match self {
            Self::Four => 4,
            Self::Sector => 512,
            Self::Page => 4096,
        }
    }
}

/// An entry written by hand with [`Writer::append`]: everything but what follows from the content.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewEntry {
    /// Where the file will be.
    pub path: TreePath,
    /// The inode; 0 takes the next one. Names of one file share it.
    pub ino: u32,
    /// How many names the file has; more than one makes hard links of the names with this `ino`.
    pub nlink: u32,
    /// File type and permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: u32,
    /// Major and minor number of a device node.
    pub rdev: (u32, u32),
}

impl NewEntry {
    /// An entry of root's, modified at 0, with one name (two for a directory, as ever).
    #[must_use]
    pub fn new(path: TreePath, mode: u32) -> Self {
        let nlink = if mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        Self { path, ino: 0, nlink, mode, uid: 0, gid: 0, mtime: 0, rdev: (0, 0) }
    }
}

/// Writes an archive to `W`.
///
/// `W` needs no buffering: headers and small contents are gathered, large contents are copied
/// straight from their file (by `copy_file_range(2)` or the like where `W` is a [`File`]).
#[derive(Debug)]
#[must_use = "an archive without its trailer is cut short: call finish"]
pub struct Writer<W> {
    out: W,
    options: Options,
    gathered: Vec<u8>,
    /// Bytes of the archive so far, gathered ones included.
    offset: u64,
    next_ino: u32,
    directories: BTreeSet<TreePath>,
}

impl<W: Write> Writer<W> {
    /// Begins an archive with the default options.
    pub fn new(out: W) -> Self {
        Self::with_options(out, Options::default())
    }

    /// Begins an archive.
    pub fn with_options(out: W, options: Options) -> Self {
        let gathered = Vec::with_capacity(GATHER);
        Self { out, options, gathered, offset: 0, next_ino: 1, directories: BTreeSet::new() }
    }

    /// Appends a whole tree: inodes counted up in the order of the paths, devices 0, the root
    /// itself (as `.`) only when its metadata are not those of [`Tree::new`].
    ///
    /// # Errors
    /// [`Error::Unpackable`] with every problem of the tree, before anything is written;
    /// [`Error::Content`] and [`Error::Io`] while writing.
    pub fn append_tree(&mut self, tree: &Tree) -> Result<()> {
        let problems = check(tree, self.options.drop_xattrs);
        if !problems.is_empty() {
            return Err(Error::Unpackable(problems));
        }
        let mut links: BTreeMap<&TreePath, Link> = BTreeMap::new();
        for (_, node) in tree {
            if let Kind::Hardlink(target) = &node.kind {
                links.entry(target).or_insert(Link { ino: 0, names: 1, written: 0 }).names += 1;
            }
        }
        if tree.root() != &Metadata::new(0o755) {
            let entry = from_node(TreePath::root(), S_IFDIR, tree.root());
            self.header(&entry, b".", 0, 0)?;
        }
        for (path, node) in tree {
            let file = match &node.kind {
                Kind::Hardlink(target) => tree.get(target).map(|file| (target, file)),
                _ => Some((path, node)),
            };
            // `check` has seen that every hard link has a file.
            let Some((target, node)) = file else { continue };
            match links.get_mut(target) {
                Some(link) => self.linked(path, node, link)?,
                None => self.node(path, node)?,
            }
        }
        Ok(())
    }

    /// Appends one entry with its content: the bytes of a file, the target of a symbolic link,
    /// nothing for anything else.
    ///
    /// # Errors
    /// [`Error::Unpackable`] when a kernel would lose it, be it because its parent was not
    /// appended before; [`Error::Content`]; [`Error::Io`].
    pub fn append(&mut self, entry: &NewEntry, content: &Source) -> Result<()> {
        let len = content.len();
        let file_type = entry.mode & S_IFMT;
        let rule = match file_type {
            S_IFREG => u32::try_from(len).err().map(|_| Rule::FileTooLarge { len }),
            S_IFLNK => {
                let target = content.read().map_err(|source| unreadable(&entry.path, source))?;
                symlink_rule(&target)
            }
            S_IFCHR | S_IFBLK => device_rule(entry.rdev.0, entry.rdev.1),
            S_IFDIR | S_IFIFO | S_IFSOCK => None,
            _ => Some(Rule::Unknown("file of no known type")),
        };
        let rule = if entry.path.as_bytes() == TRAILER {
            Some(Rule::TrailerName)
        } else if len > 0 && !matches!(file_type, S_IFREG | S_IFLNK) {
            Some(Rule::Tree(format!("{}: it has content and is no file", entry.path)))
        } else if let Some(parent) = entry.path.parent()
            && !parent.is_root()
            && !self.directories.contains(&parent)
        {
            Some(Rule::Tree(format!("{}: its directory was not appended before", entry.path)))
        } else {
            rule
        };
        if let Some(rule) = rule {
            return Err(Error::Unpackable(vec![Problem { path: entry.path.clone(), rule }]));
        }
        self.entry(entry, content)
    }

    /// Ends the archive and gives the destination back.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<W> {
        // The name after the magic is all that readers look at; GNU cpio writes one link.
        let size = u32::try_from(TRAILER.len() + 1).unwrap_or(u32::MAX);
        let header = Header { nlink: 1, name_size: size, ..self.blank() };
        self.put(&header.emit())?;
        self.put(TRAILER)?;
        self.zeros(1)?;
        self.zeros(pad4(self.offset))?;
        if !self.options.no_block_padding {
            self.zeros(self.offset.wrapping_neg() & 511)?;
        }
        self.flush_gathered()?;
        self.out.flush().map_err(Error::io("write the archive"))?;
        Ok(self.out)
    }

    /// How many bytes the archive has so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn node(&mut self, path: &TreePath, node: &Node) -> Result<()> {
        let meta = &node.meta;
        let empty = Source::from(Vec::new());
        let (file_type, rdev) = match &node.kind {
            Kind::File(source) => {
                return self.entry(&from_node(path.clone(), S_IFREG, meta), source);
            }
            Kind::Symlink(target) => {
                let target = Source::from(target.clone());
                return self.entry(&from_node(path.clone(), S_IFLNK, meta), &target);
            }
            Kind::CharDevice { major, minor } => (S_IFCHR, (*major, *minor)),
            Kind::BlockDevice { major, minor } => (S_IFBLK, (*major, *minor)),
            Kind::Fifo => (S_IFIFO, (0, 0)),
            Kind::Socket => (S_IFSOCK, (0, 0)),
            _ => (S_IFDIR, (0, 0)),
        };
        let mut entry = from_node(path.clone(), file_type, meta);
        entry.rdev = rdev;
        self.entry(&entry, &empty)
    }

    fn linked(&mut self, path: &TreePath, file: &Node, link: &mut Link) -> Result<()> {
        let Kind::File(source) = &file.kind else { return Ok(()) };
        if link.ino == 0 {
            link.ino = self.take_ino();
        }
        link.written += 1;
        let carries = match self.options.link_data {
            LinkData::First => link.written == 1,
            LinkData::Last => link.written == link.names,
        };
        let mut entry = from_node(path.clone(), S_IFREG, &file.meta);
        (entry.ino, entry.nlink) = (link.ino, link.names);
        if carries { self.entry(&entry, source) } else { self.entry(&entry, &Vec::new().into()) }
    }

    fn entry(&mut self, entry: &NewEntry, content: &Source) -> Result<()> {
        if entry.mode & S_IFMT == S_IFDIR {
            self.directories.insert(entry.path.clone());
        }
        let summed = self.options.format == Format::Crc && entry.mode & S_IFMT == S_IFREG;
        let check = if summed {
            sum(content).map_err(|source| unreadable(&entry.path, source))?
        } else {
            0
        };
        let len = content.len();
        let name = if entry.path.is_root() { b"." } else { entry.path.as_bytes() };
        // The length was checked while planning.
        self.header(entry, name, u32::try_from(len).unwrap_or(u32::MAX), check)?;
        match content {
            Source::Bytes(bytes) => self.put(bytes)?,
            Source::File { path, len } => {
                let copied = self.copy(path, *len, check);
                copied.map_err(|source| unreadable(&entry.path, source))?;
            }
            other => {
                let bytes = other.read().map_err(|source| unreadable(&entry.path, source))?;
                self.put(&bytes)?;
            }
        }
        self.zeros(pad4(self.offset))
    }

    fn header(&mut self, entry: &NewEntry, name: &[u8], size: u32, check: u32) -> Result<()> {
        let plain = name.len() as u64 + 1;
        let align = self.options.data_align.bytes();
        let mut name_size = plain;
        if align > 4 && u64::from(size) >= align && entry.mode & S_IFMT == S_IFREG {
            let content = self.offset + HEADER_LEN as u64 + plain;
            let aligned = plain + (content.wrapping_neg() & (align - 1));
            if aligned <= u64::from(NAME_SIZE_MAX) {
                name_size = aligned;
            }
        }
        let ino = if entry.ino == 0 { self.take_ino() } else { entry.ino };
        let header = Header {
            ino,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            nlink: entry.nlink,
            mtime: entry.mtime,
            file_size: size,
            rdev_major: entry.rdev.0,
            rdev_minor: entry.rdev.1,
            name_size: u32::try_from(name_size).unwrap_or(u32::MAX),
            check,
            ..self.blank()
        };
        self.put(&header.emit())?;
        self.put(name)?;
        self.zeros(name_size - name.len() as u64)?;
        self.zeros(pad4(self.offset))
    }

    fn blank(&self) -> Header {
        Header { format: self.options.format, ..Header::default() }
    }

    fn take_ino(&mut self) -> u32 {
        let ino = self.next_ino;
        // Hard links of a 2³²nd file would be wrong; its archive would have half a terabyte.
        self.next_ino = self.next_ino.wrapping_add(1).max(1);
        ino
    }

    /// Copies a file of the host, which must still be as long as it was.
    fn copy(&mut self, path: &std::path::Path, len: u64, check: u32) -> io::Result<()> {
        let file = File::open(path).map_err(|error| named("open", path, &error))?;
        if len >= DIRECT && self.options.format == Format::Newc {
            self.flush_gathered().map_err(|error| io::Error::other(error.to_string()))?;
            // On Linux this ends in copy_file_range, sendfile or splice when `W` is a file.
            let copied = io::copy(&mut (&file).take(len), &mut self.out)
                .map_err(|error| named("copy", path, &error))?;
            self.offset += copied;
            let grown = (&file).read(&mut [0]).map_err(|error| named("read", path, &error))?;
            if copied != len || grown != 0 {
                return Err(changed(path, len, copied + grown as u64));
            }
            return Ok(());
        }
        let mut left = len;
        let mut total = 0_u32;
        loop {
            let start = self.gathered.len();
            // One byte more than there should be shows that the file has grown.
            let want = usize::try_from(left.saturating_add(1)).map_or(GATHER, |n| n.min(GATHER));
            self.gathered.resize(start + want, 0);
            let read = (&file).read(self.gathered.get_mut(start..).unwrap_or_default());
            let count = match read {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.gathered.truncate(start);
                    continue;
                }
                Err(error) => return Err(named("read", path, &error)),
            };
            self.gathered.truncate(start + count);
            let bytes = count as u64;
            if bytes > left || (bytes == 0 && left > 0) {
                return Err(changed(path, len, len - left + bytes));
            }
            if self.options.format == Format::Crc {
                total = add(total, self.gathered.get(start..).unwrap_or_default());
            }
            left -= bytes;
            self.offset += bytes;
            // A short read of a regular file is its end.
            if left == 0 && count < want {
                break;
            }
            if self.gathered.len() >= GATHER {
                self.flush_gathered().map_err(|error| io::Error::other(error.to_string()))?;
            }
        }
        if self.gathered.len() >= GATHER {
            self.flush_gathered().map_err(|error| io::Error::other(error.to_string()))?;
        }
        if total != check {
            return Err(named("read", path, &io::Error::other("it changed while it was packed")));
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.gathered.len() + bytes.len() > GATHER {
            self.flush_gathered()?;
        }
        if bytes.len() >= GATHER {
            self.out.write_all(bytes).map_err(Error::io("write the archive"))?;
        } else {
            self.gathered.extend_from_slice(bytes);
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Writes NULs, at most a page of them.
    fn zeros(&mut self, count: u64) -> Result<()> {
        let zeros = [0; NAME_SIZE_MAX as usize];
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(zeros.len());
        self.put(zeros.get(..count).unwrap_or_default())
    }

    fn flush_gathered(&mut self) -> Result<()> {
        self.out.write_all(&self.gathered).map_err(Error::io("write the archive"))?;
        self.gathered.clear();
        Ok(())
    }
}

/// The names of one file that are still to be written.
struct Link {
    ino: u32,
    names: u32,
    written: u32,
}

fn from_node(path: TreePath, file_type: u32, meta: &Metadata) -> NewEntry {
    NewEntry {
        uid: meta.uid,
        gid: meta.gid,
        mtime: meta.mtime,
        ..NewEntry::new(path, file_type | u32::from(meta.mode))
    }
}

/// The sum of a content's bytes, which [`Format::Crc`] keeps in the header.
fn sum(content: &Source) -> io::Result<u32> {
    let mut reader = content.open()?;
    let mut buffer = vec![0; GATHER];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => total = add(total, buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn add(total: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(total, |total, byte| total.wrapping_add(u32::from(*byte)))
}

fn unreadable(path: &TreePath, source: io::Error) -> Error {
    Error::Content { path: path.clone(), source }
}

fn named(action: &str, path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{action} {}: {error}", path.display()))
}

fn changed(path: &std::path::Path, planned: u64, found: u64) -> io::Error {
    let error = kiln_tree::Error::SizeChanged { path: path.into(), planned, found };
    io::Error::new(io::ErrorKind::InvalidData, error)
}
