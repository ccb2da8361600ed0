//! Directories and files of the host, imported under a policy.
//!
//! The policy decides what of the host's state reaches the tree, because owner, time and link
//! topology of a build machine are seldom meant to be part of an image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::{Error, Kind, Metadata, Node, Result, Source, Tree, TreePath};

/// What of the host's metadata reaches the tree.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Policy {
    /// The owner and group of every node; `None` keeps the host's. Default: `Some((0, 0))`.
    pub owner: Option<(u32, u32)>,
    /// The modification time of every node; `None` keeps the host's. Default: `Some(0)`.
    pub mtime: Option<u32>,
    /// What becomes of the modes. Default: [`Modes::Normal`].
    pub modes: Modes,
    /// Whether two names of one inode become a file and a hard link, or two files. Link topology is
    /// state of the build machine, so the default is two files: `false`.
    pub hardlinks: bool,
    /// Why the nodes are in the tree.
    pub why: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            owner: Some((0, 0)),
            mtime: Some(0),
            modes: Modes::Normal,
            hardlinks: false,
            why: None,
        }
    }
}

/// What of the host's permission bits reaches the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Modes {
    /// `0755` for directories and for what its owner may execute, `0644` for the rest; set-id and
    /// sticky bits as they are. Nothing of the umask under which a file was made is left.
    #[default]
    Normal,
    /// As on the host.
    Keep,
}

impl Modes {
    /// The mode in the tree of a file or directory with these twelve bits on the host.
    #[must_use]
    pub fn apply(self, mode: u16, directory: bool) -> u16 {
        match self {
            Self::Keep => mode,
            Self::Normal if directory || mode & 0o100 != 0 => mode & 0o7000 | 0o755,
            Self::Normal => mode & 0o7000 | 0o644,
        }
    }
}

/// Imports a file, or a directory with all that is in it, to the path `at` of the tree. Symbolic
/// links are imported as such, except `from` itself, which is followed.
///
/// # Errors
/// [`Error::Io`] with the path on the host, [`Error::Unsupported`] for sockets, and all those of
/// [`Tree::insert`].
pub fn import(tree: &mut Tree, from: &Path, at: &str, policy: &Policy) -> Result<()> {
    let at = TreePath::new(at)?;
    let found = fs::metadata(from).map_err(io("stat", from))?;
    let mut seen = BTreeMap::new();
    add(tree, from, &at, &found, policy, &mut seen)?;
    if !found.is_dir() {
        return Ok(());
    }
    let mut pending = vec![(from.to_path_buf(), at)];
    while let Some((directory, at)) = pending.pop() {
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).map_err(io("read directory", &directory))? {
            names.push(entry.map_err(io("read directory", &directory))?.file_name());
        }
        // The host's order must not decide which of two hard-linked names is the file.
        names.sort();
        for name in names {
            let path = directory.join(&name);
            let found = fs::symlink_metadata(&path).map_err(io("stat", &path))?;
            let inside = at.join(name.as_bytes())?;
            add(tree, &path, &inside, &found, policy, &mut seen)?;
            if found.is_dir() {
                pending.push((path, inside));
            }
        }
    }
    Ok(())
}

/// A node for one file of the host, symbolic links followed: a convenience for callers that place
/// single files.
///
/// # Errors
/// [`Error::Io`]; [`Error::Unsupported`] when it is not a regular file.
pub fn file(path: &Path, mode: u16) -> Result<Node> {
    let found = fs::metadata(path).map_err(io("stat", path))?;
    if !found.is_file() {
        return Err(Error::Unsupported { path: path.into(), reason: "it is not a regular file" });
    }
    let source = Source::File { path: path.into(), len: found.len() };
    Ok(Node::file(source).with(Metadata::new(mode)))
}

fn io<'path>(
    action: &'static str,
    path: &'path Path,
) -> impl Fn(std::io::Error) -> Error + use<'path> {
    move |source| Error::Io { action, path: path.into(), source }
}

fn add(
    tree: &mut Tree,
    path: &Path,
    inside: &TreePath,
    found: &fs::Metadata,
    policy: &Policy,
    seen: &mut BTreeMap<(u64, u64), TreePath>,
) -> Result<()> {
    let kind_of_file = found.file_type();
    let kind = if kind_of_file.is_dir() {
        Kind::Directory
    } else if kind_of_file.is_symlink() {
        let target = fs::read_link(path).map_err(io("read link", path))?;
        Kind::Symlink(target.as_os_str().as_bytes().to_vec())
    } else if kind_of_file.is_file() {
        let first = (policy.hardlinks && found.nlink() > 1)
            .then(|| seen.get(&(found.dev(), found.ino())).cloned())
            .flatten();
        match first {
            Some(first) => Kind::Hardlink(first),
            None => {
                if found.nlink() > 1 {
                    seen.insert((found.dev(), found.ino()), inside.clone());
                }
                Kind::File(Source::File { path: path.into(), len: found.len() })
            }
        }
    } else if kind_of_file.is_char_device() || kind_of_file.is_block_device() {
        let (major, minor) = device_numbers(found.rdev());
        if kind_of_file.is_char_device() {
            Kind::CharDevice { major, minor }
        } else {
            Kind::BlockDevice { major, minor }
        }
    } else if kind_of_file.is_fifo() {
        Kind::Fifo
    } else {
        return Err(Error::Unsupported {
            path: path.into(),
            reason: "it is a socket, which belongs to a running process and to no image",
        });
    };
    let is_symlink = matches!(kind, Kind::Symlink(_));
    let mut node = Node::new(kind);
    if !is_symlink {
        // The mask keeps twelve bits, so the conversion loses nothing.
        let mode = u16::try_from(found.mode() & 0o7777).unwrap_or(0o644);
        node.meta.mode = policy.modes.apply(mode, found.is_dir());
    }
    (node.meta.uid, node.meta.gid) = policy.owner.unwrap_or_else(|| (found.uid(), found.gid()));
    node.meta.mtime =
        policy.mtime.unwrap_or_else(|| u32::try_from(found.mtime().max(0)).unwrap_or(u32::MAX));
    node.why.clone_from(&policy.why);
    tree.insert(inside.as_bytes(), node)
}

/// Linux's split of a device number (`gnu_dev_major` and `gnu_dev_minor` of `sys/sysmacros.h`).
fn device_numbers(rdev: u64) -> (u32, u32) {
    let major = ((rdev >> 8) & 0xfff) | ((rdev >> 32) & 0xffff_f000);
    let minor = (rdev & 0xff) | ((rdev >> 12) & 0xffff_ff00);
    (u32::try_from(major).unwrap_or(u32::MAX), u32::try_from(minor).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_what_is_there_under_the_policy() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/file"), "text").unwrap();
        fs::hard_link(dir.path().join("a/file"), dir.path().join("a/b/link")).unwrap();
        std::os::unix::fs::symlink("../file", dir.path().join("a/b/sym")).unwrap();
        let mut tree = Tree::new();
        import(&mut tree, dir.path(), "root", &Policy::default()).unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, _)| path.to_string()).collect();
        let expected =
            ["root", "root/a", "root/a/b", "root/a/b/link", "root/a/b/sym", "root/a/file"];
        assert_eq!(paths, expected);
        assert_eq!(tree.content_len(), 8);
        assert!(tree.iter().all(|(_, node)| node.meta.uid == 0 && node.meta.mtime == 0));

        let mut linked = Tree::new();
        let policy = Policy { hardlinks: true, ..Policy::default() };
        import(&mut linked, dir.path(), "", &policy).unwrap();
        assert_eq!(linked.content_len(), 4);
        assert!(linked.check().is_empty());
    }

    #[test]
    fn device_numbers_are_split_as_linux_does() {
        assert_eq!(device_numbers(0x0501), (5, 1));
        // What glibc's makedev(0x12345, 0x6789a) gives.
        assert_eq!(device_numbers(0x1_2000_6783_459a), (0x12345, 0x6789a));
    }

    #[test]
    fn normal_modes_do_not_tell_the_umask() {
        for (made, normal) in [(0o700, 0o755), (0o755, 0o755), (0o600, 0o644), (0o4711, 0o4755)] {
            assert_eq!(Modes::Normal.apply(made, false), normal);
            assert_eq!(Modes::Keep.apply(made, false), made);
        }
        assert_eq!(Modes::Normal.apply(0o1700, true), 0o1755);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = file(Path::new("/no/such/file"), 0o644).unwrap_err();
        assert!(error.to_string().contains("/no/such/file"));
    }
}
