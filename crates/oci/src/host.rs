//! Images unpacked into a directory of the host, as root or as anybody.
//!
//! The tree decides where each entry goes, so no path that reaches the system has a symbolic link on
//! its way; should one be there all the same, because somebody else writes into the directory,
//! openat2(2) refuses it (`RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};

use crate::image::Image;
use crate::layer::{Apply, Content, Layer, Options, Rules, Sink};
use crate::{Error, Result};

/// How an image is unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Unpack {
    /// How its layers are applied; device nodes are made where they are kept and `owners` is set.
    pub layers: Options,
    /// Whether files get the owners that the image says, and devices are made: that takes root.
    /// Default: no; everything belongs to who unpacks, nobody gains rights by set-id bits, and the
    /// tree says what was meant.
    pub owners: bool,
    /// Whether files get the extended attributes of the image, which takes root for most.
    /// Default: no.
    pub xattrs: bool,
}

/// Unpacks an image into a new or empty directory. It is made beside its place and renamed: after an
/// error nothing is left. The tree says what everything is in the image, whatever of that the
/// directory could be given; its contents are the files of the directory.
///
/// # Errors
/// As [`Layer::apply`]; [`Error::Io`], also for a directory that is not empty, and for a kernel before
/// 5.6.
pub fn unpack(image: &Image, directory: &Path, options: &Unpack) -> Result<Tree> {
    unpack_layers(&image.layers, directory, options)
}

/// Unpacks layers, the lowest first, as [`unpack`].
///
/// # Errors
/// As [`unpack`].
pub fn unpack_layers(layers: &[Layer], directory: &Path, options: &Unpack) -> Result<Tree> {
    fill(directory, Rules::Layers, options, |apply, disk| {
        layers.iter().try_for_each(|layer| apply.layer(layer, disk))
    })
}

/// Fills a directory with what is applied.
pub(crate) fn fill<'options>(
    directory: &Path,
    rules: Rules,
    options: &'options Unpack,
    each: impl FnOnce(&mut Apply<'options>, &mut dyn Sink) -> Result<()>,
) -> Result<Tree> {
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if let Ok(mut entries) = std::fs::read_dir(directory)
        && entries.next().is_some()
    {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::NOTEMPTY.raw_os_error());
        return Err(Error::io("unpack into", directory)(error));
    }
    std::fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
    let beside = tempfile::Builder::new()
        .prefix(".part-")
        .tempdir_in(parent)
        .map_err(Error::io("create a directory in", parent))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(beside.path(), flags, Mode::empty())
        .map_err(|error| Error::io("open", beside.path())(error.into()))?;
    let born =
        Born::find_out(&root).map_err(|error| Error::io("create", beside.path())(error.into()))?;
    let buffer = vec![0; 128 << 10];
    let mut disk = Disk { root, born, made: directory.into(), parent: None, options, buffer };
    let mut apply = Apply::onto(Tree::new(), rules, &options.layers);
    each(&mut apply, &mut disk)?;
    let mut tree = apply.finish();
    // A directory's time changes with what is made in it, and its mode may keep even us out.
    for (path, node) in tree.iter().rev().filter(|(_, node)| node.is_directory()) {
        disk.settle(path, &node.meta)?;
    }
    disk.settle(&TreePath::root(), tree.root())?;
    std::fs::rename(beside.path(), directory).map_err(Error::io("rename to", directory))?;
    // It is gone from there, and must not be looked for.
    let _ = beside.keep();
    for (path, node) in tree.iter_mut() {
        if let Kind::File(source) = &mut node.kind {
            let path = directory.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
            *source = Source::File { path, len: source.len() };
        }
    }
    Ok(tree)
}

/// What a new file has before anything is said of it: rights that the umask and the directory's default
/// list of access leave, our user, and our group or the directory's.
#[derive(Debug, Clone, Copy)]
struct Born {
    rights: u32,
    uid: u32,
    gid: u32,
}

impl Born {
    /// Makes a file to see.
    fn find_out(directory: &OwnedFd) -> rustix::io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let name = c".born";
        let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o777))?;
        let found = rustix::fs::fstat(&file)?;
        rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
        Ok(Self { rights: found.st_mode & 0o777, uid: found.st_uid, gid: found.st_gid })
    }

    /// Whether a file that is made with this mode has it.
    fn keeps(self, mode: Mode) -> bool {
        mode.as_raw_mode() & !self.rights == 0
    }

    fn is_owned_by(self, meta: &Metadata) -> bool {
        (self.uid, self.gid) == (meta.uid, meta.gid)
    }
}

/// The directory that is being filled.
struct Disk<'options> {
    root: OwnedFd,
    born: Born,
    /// What it will be called, for messages.
    made: PathBuf,
    /// The directory that was last used.
    parent: Option<(TreePath, OwnedFd)>,
    options: &'options Unpack,
    buffer: Vec<u8>,
}

impl Disk<'_> {
    fn failed(
        &self,
        action: &'static str,
        path: &TreePath,
    ) -> impl FnOnce(rustix::io::Errno) -> Error {
        let path = self.made.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
        move |error| Error::io(action, path)(error.into())
    }

    fn open(&self, path: &TreePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let name = if path.is_root() { b".".as_slice() } else { path.as_bytes() };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, name, flags, Mode::empty(), resolve)
    }

    /// Does something in the directory of a path, with the last part of its name.
    fn at<T>(
        &mut self,
        action: &'static str,
        path: &TreePath,
        act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let parent = path.parent().unwrap_or_default();
        if self.parent.as_ref().is_none_or(|(open, _)| *open != parent) {
            let opened = self
                .open(&parent, OFlags::PATH | OFlags::DIRECTORY)
                .map_err(self.failed("open directory", &parent))?;
            self.parent = Some((parent, opened));
        }
        let name = path.file_name().unwrap_or_default();
        match &self.parent {
            Some((_, parent)) => act(parent.as_fd(), name).map_err(self.failed(action, path)),
            None => Err(self.failed(action, path)(rustix::io::Errno::BADF)),
        }
    }

    /// The mode on the disk. Without owners nobody may gain rights that were meant to be another's.
    fn mode(&self, meta: &Metadata, at_least: u16) -> Mode {
        let bits = if self.options.owners { meta.mode } else { meta.mode & 0o1777 | at_least };
        Mode::from_raw_mode(u32::from(bits))
    }

    /// Owner, attributes, mode if there is one to set, and time, in the order in which one does not undo
    /// another.
    fn describe(
        &self,
        file: BorrowedFd<'_>,
        path: &TreePath,
        meta: &Metadata,
        mode: Option<Mode>,
    ) -> Result<()> {
        if self.options.owners && !self.born.is_owned_by(meta) {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid))
                .map_err(self.failed("set the owner of", path))?;
        }
        for (name, value) in self.attributes(meta) {
            rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty())
                .map_err(self.failed("set an attribute of", path))?;
        }
        if let Some(mode) = mode {
            rustix::fs::fchmod(file, mode).map_err(self.failed("set the mode of", path))?;
        }
        rustix::fs::futimens(file, &times(meta)).map_err(self.failed("set the time of", path))
    }

    /// The attributes to set. Those of overlayfs would make a directory that is used as one of its
    /// layers show what is elsewhere.
    fn attributes<'meta>(
        &self,
        meta: &'meta Metadata,
    ) -> impl Iterator<Item = (&'meta Vec<u8>, &'meta Vec<u8>)> + use<'meta> {
        let set = self.options.xattrs;
        meta.xattrs.iter().filter(move |(name, _)| {
            set && !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay.")
        })
    }

    fn settle(&self, path: &TreePath, meta: &Metadata) -> Result<()> {
        let opened = self
            .open(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(self.failed("open directory", path))?;
        self.describe(opened.as_fd(), path, meta, Some(self.mode(meta, 0o700)))
    }
}

fn times(meta: &Metadata) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.into(), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

impl Sink for Disk<'_> {
    fn removed(&mut self, path: &TreePath, node: &Node) -> Result<()> {
        let flags = if node.is_directory() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        if self.parent.as_ref().is_some_and(|(open, _)| open.starts_with(path)) {
            self.parent = None;
        }
        let is_device = matches!(node.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. });
        if is_device && !self.options.owners {
            return Ok(());
        }
        self.at("remove", path, |parent, name| rustix::fs::unlinkat(parent, name, flags))
    }

    fn made(&mut self, path: &TreePath, node: &Node) -> Result<()> {
        let device = match &node.kind {
            Kind::Directory => {
                let mode = Mode::RWXU;
                return self.at("create directory", path, |parent, name| {
                    rustix::fs::mkdirat(parent, name, mode)
                });
            }
            Kind::Symlink(target) => {
                self.at("create link", path, |parent, name| {
                    rustix::fs::symlinkat(target.as_slice(), parent, name)
                })?;
                None
            }
            Kind::CharDevice { major, minor } => {
                Some((FileType::CharacterDevice, rustix::fs::makedev(*major, *minor)))
            }
            Kind::BlockDevice { major, minor } => {
                Some((FileType::BlockDevice, rustix::fs::makedev(*major, *minor)))
            }
            _ => Some((FileType::Fifo, 0)),
        };
        let owners = self.options.owners;
        let meta = &node.meta;
        let born = self.born.is_owned_by(meta);
        if let Some((kind, number)) = device {
            if kind != FileType::Fifo && !owners {
                return Ok(());
            }
            let mode = self.mode(meta, 0o600);
            self.at("create", path, |parent, name| {
                rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, number)?;
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
            })?;
        }
        self.at("set the owner or time of", path, |parent, name| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            if owners && !born {
                let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
                rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags)?;
            }
            rustix::fs::utimensat(parent, name, &times(meta), flags)
        })?;
        // A change of the owner takes set-id bits away.
        if device.is_some() && meta.mode & 0o6000 != 0 {
            let mode = self.mode(meta, 0o600);
            self.at("set the mode of", path, |parent, name| {
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
            })?;
        }
        Ok(())
    }

    fn linked(&mut self, path: &TreePath, existing: &TreePath) -> Result<()> {
        let directory = existing.parent().unwrap_or_default();
        let from = self
            .open(&directory, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(self.failed("open directory", &directory))?;
        let old = existing.file_name().unwrap_or_default();
        self.at("link", path, |parent, name| {
            rustix::fs::linkat(&from, old, parent, name, AtFlags::empty())
        })
    }

    fn file(
        &mut self,
        path: &TreePath,
        meta: &Metadata,
        content: Content<'_>,
    ) -> Result<io::Result<Source>> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Nobody else can get into the directory yet, so what is being written may have its mode; but
        // attributes are for who may write.
        let mode = self.mode(meta, 0o400);
        let kept = self.born.keeps(mode) && self.attributes(meta).next().is_none();
        let first = if kept { mode } else { Mode::RUSR | Mode::WUSR };
        let opened =
            self.at("create", path, |parent, name| rustix::fs::openat(parent, name, flags, first))?;
        let mut file = File::from(opened);
        let mut copied = 0_u64;
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            let count = match content.reader.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            };
            copied = copied.saturating_add(count as u64);
            if let Err(error) = file.write_all(buffer.get(..count).unwrap_or_default()) {
                let path = self.made.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
                break Err(Error::io("write", path)(error));
            }
        };
        self.buffer = buffer;
        result?;
        self.describe(file.as_fd(), path, meta, (!kept).then_some(mode))?;
        let path = self.made.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
        Ok(Ok(Source::File { path, len: copied }))
    }
}
