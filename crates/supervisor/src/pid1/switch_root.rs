//! Leaving rootfs, the root that an initramfs is unpacked into: it has no parent mount, so
//! pivot_root(2) refuses to work from it, and container runtimes and Nomad's `exec` driver fail
//! ("pivot_root .: invalid argument").
//!
//! Two ways, both leaving every file at its path:
//!
//! * [`Method::Bind`] mounts rootfs once more on top of itself and enters that mount, which has a
//!   parent. Nothing is copied: no memory, no time. The file system is the same, so its size is
//!   what rootfs has (half of the memory where rootfs is a tmpfs, no limit where it is a ramfs,
//!   which the kernel chooses when `root=` is given).
//! * [`Method::Copy`] moves all files into a tmpfs of its own, of a chosen size. Each file is
//!   removed when it is copied, and large ones are moved from their end in pieces while the
//!   original is cut short, so the peak is one piece (not one root, not even one file) above what
//!   the root needs anyway.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps};

use super::mounts;

/// How to leave rootfs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// Mount it on top of itself.
    #[default]
    Bind,
    /// Move its files into a tmpfs.
    Copy {
        /// The tmpfs's size in bytes; `None` is the kernel's default, half of the memory.
        size: Option<u64>,
    },
}

/// Where the new root is made, for as long as it takes.
const PLACE: &str = "/.new-root";
/// Files from this size on are moved in pieces of this size.
const PIECE: u64 = 4 << 20;
/// More levels of directories are refused.
const MAX_DEPTH: usize = 128;

/// Whether the root is rootfs itself: a mount that is its own parent.
#[must_use]
pub fn needed() -> bool {
    mounts::table().iter().any(|entry| entry.target == "/" && entry.id == entry.parent)
}

/// Leaves rootfs. Everything that is mounted stays mounted at its path. Does nothing where the
/// root is not rootfs. Returns whether it did something.
///
/// # Errors
/// A sentence; with [`Method::Bind`] the old root is then still the root and whole.
pub fn perform(method: Method) -> Result<bool, String> {
    if mounts::table().is_empty() {
        return Err("cannot tell what the root is: /proc is not mounted".to_owned());
    }
    if !needed() {
        return Ok(false);
    }
    let at = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let place = Path::new(PLACE);
    std::fs::create_dir_all(place).map_err(at("make the new root's place"))?;
    match method {
        Method::Bind => rustix::mount::mount_bind("/", place).map_err(io::Error::from),
        Method::Copy { size } => {
            let size = size.map_or_else(String::new, |bytes| format!(",size={bytes}"));
            let data = CString::new(format!("mode=0755{size}")).unwrap_or_default();
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("root", place, "tmpfs", flags, data.as_c_str())
                .map_err(io::Error::from)
        }
    }
    .map_err(at("mount the new root"))?;
    if let Method::Copy { .. } = method {
        let device = std::fs::metadata("/").map_err(at("look at the root"))?.dev();
        let mut links = BTreeMap::new();
        move_tree(Path::new("/"), place, device, 0, &mut links)?;
    }
    enter_with_mounts(place)?;
    let _ = std::fs::remove_dir(PLACE);
    Ok(true)
}

/// Makes a mounted directory the root, with everything mounted elsewhere at its path, removes what
/// the old root held if that was rootfs (its memory is freed), and executes a program of the new
/// root in place of this process, with the same arguments.
///
/// # Errors
/// A sentence. The root may be the new one by then.
pub fn enter(root: &Path, program: &Path) -> Result<std::convert::Infallible, String> {
    let old = needed().then(|| File::open("/")).transpose();
    let old = old.map_err(|error| format!("open the old root: {error}"))?;
    enter_with_mounts(root)?;
    if let Some(old) = old {
        empty(&old, 0);
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let error = std::os::unix::process::CommandExt::exec(
        std::os::unix::process::CommandExt::arg0(&mut std::process::Command::new(program), &name)
            .args(arguments),
    );
    Err(format!("execute {}: {error}", program.display()))
}

/// Removes what is in a directory and on its device. What cannot be removed stays.
fn empty(directory: &File, depth: usize) {
    let Ok(device) = directory.metadata().map(|metadata| metadata.dev()) else { return };
    let Ok(entries) = rustix::fs::Dir::read_from(directory) else { return };
    for entry in
        entries.flatten().filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
    {
        let name = entry.file_name();
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from) {
            Ok(below) => {
                let same = below.metadata().is_ok_and(|metadata| metadata.dev() == device);
                if same && depth < MAX_DEPTH {
                    empty(&below, depth.saturating_add(1));
                    let _ = rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR);
                }
            }
            Err(_) => {
                let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
            }
        }
    }
}

/// Moves what is mounted directly on the root to a directory, and makes that the root.
fn enter_with_mounts(place: &Path) -> Result<(), String> {
    // those directly on the root; the ones below go along
    let table = mounts::table();
    let root = table.iter().find(|entry| entry.target == "/").map(|entry| entry.id);
    for entry in table
        .iter()
        .filter(|e| Some(e.parent) == root && e.target != "/" && Path::new(&e.target) != place)
    {
        let below = entry.target.trim_start_matches('/');
        let target = place.join(below);
        let _ = std::fs::create_dir_all(&target);
        rustix::mount::mount_move(entry.target.as_str(), &target)
            .map_err(|error| format!("move the mount {}: {error}", entry.target))?;
    }
    rustix::process::chdir(place).map_err(|e| format!("enter the new root: {e}"))?;
    rustix::mount::mount_move(".", "/").map_err(|e| format!("move the new root to /: {e}"))?;
    rustix::process::chroot(".").map_err(|e| format!("change the root: {e}"))?;
    rustix::process::chdir("/").map_err(|e| format!("enter /: {e}"))
}

/// Moves what is in `from` into `to`; mount points become empty directories.
fn move_tree(
    from: &Path,
    to: &Path,
    device: u64,
    depth: usize,
    links: &mut BTreeMap<u64, PathBuf>,
) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("{}: more than {MAX_DEPTH} levels deep", from.display()));
    }
    let fail = |path: &Path, error: &io::Error| format!("move {}: {error}", path.display());
    let entries = std::fs::read_dir(from).map_err(|error| fail(from, &error))?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in names {
        let (source, target) = (from.join(&name), to.join(&name));
        if source == Path::new(PLACE) {
            continue;
        }
        let metadata = std::fs::symlink_metadata(&source).map_err(|error| fail(&source, &error))?;
        if metadata.is_dir() {
            std::fs::create_dir_all(&target).map_err(|error| fail(&source, &error))?;
            if metadata.dev() == device {
                move_tree(&source, &target, device, depth.saturating_add(1), links)?;
                dress(&target, &metadata).map_err(|error| fail(&source, &error))?;
                // not empty if something is mounted further down
                let _ = std::fs::remove_dir(&source);
            }
        } else if metadata.dev() == device {
            move_node(&source, &target, &metadata, links).map_err(|error| fail(&source, &error))?;
        }
    }
    Ok(())
}

fn move_node(
    source: &Path,
    target: &Path,
    metadata: &std::fs::Metadata,
    links: &mut BTreeMap<u64, PathBuf>,
) -> io::Result<()> {
    // the last name of a file that had several has a count of 1 by now
    if let Some(first) = links.get(&metadata.ino()) {
        std::fs::hard_link(first, target)?;
        return std::fs::remove_file(source);
    }
    if metadata.nlink() > 1 {
        links.insert(metadata.ino(), target.to_owned());
    }
    let kind = metadata.file_type();
    if kind.is_symlink() {
        std::os::unix::fs::symlink(std::fs::read_link(source)?, target)?;
    } else if kind.is_file() {
        move_content(source, target, metadata)?;
    } else {
        let node = if kind.is_fifo() {
            FileType::Fifo
        } else if kind.is_char_device() {
            FileType::CharacterDevice
        } else if kind.is_block_device() {
            FileType::BlockDevice
        } else {
            FileType::Socket
        };
        rustix::fs::mknodat(CWD, target, node, Mode::from_raw_mode(0o600), metadata.rdev())?;
    }
    dress(target, metadata)?;
    std::fs::remove_file(source)
}

/// The bytes of a file. A large one goes piece by piece from its end while the original is cut
/// short; a running program cannot be cut (`ETXTBSY`) and is copied as a whole.
fn move_content(source: &Path, target: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
    let cuttable = if metadata.len() > PIECE && metadata.nlink() == 1 {
        OpenOptions::new().read(true).write(true).open(source).ok()
    } else {
        None
    };
    let to = OpenOptions::new().write(true).create_new(true).open(target)?;
    let Some(from) = cuttable else {
        io::copy(&mut File::open(source)?, &mut &to)?;
        return Ok(());
    };
    let mut buffer = vec![0_u8; usize::try_from(PIECE).unwrap_or(1 << 20)];
    let mut end = metadata.len();
    while end > 0 {
        let start = (end.saturating_sub(1) / PIECE).saturating_mul(PIECE);
        let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        from.read_exact_at(piece, start)?;
        to.write_all_at(piece, start)?;
        from.set_len(start)?;
        end = start;
    }
    Ok(())
}

/// Owner, mode and modification time.
fn dress(target: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
    std::os::unix::fs::lchown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.file_type().is_symlink() {
        std::fs::set_permissions(
            target,
            std::fs::Permissions::from_mode(metadata.mode() & 0o7777),
        )?;
    }
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_moved_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("bin")).unwrap();
        std::fs::create_dir(&to).unwrap();
        let large: Vec<u8> = (0_u32..2_500_000).flat_map(u32::to_le_bytes).collect();
        std::fs::write(from.join("bin/large"), &large).unwrap();
        std::fs::write(from.join("bin/a"), "a").unwrap();
        std::fs::hard_link(from.join("bin/a"), from.join("b")).unwrap();
        std::os::unix::fs::symlink("bin/a", from.join("link")).unwrap();
        std::fs::set_permissions(from.join("bin/a"), std::fs::Permissions::from_mode(0o4755))
            .unwrap();
        rustix::fs::mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let device = std::fs::metadata(&from).unwrap().dev();
        move_tree(&from, &to, device, 0, &mut BTreeMap::new()).unwrap();
        assert_eq!(std::fs::read_dir(&from).unwrap().count(), 0);
        assert!(std::fs::read(to.join("bin/large")).unwrap() == large);
        let a = std::fs::metadata(to.join("bin/a")).unwrap();
        assert_eq!((a.mode() & 0o7777, a.nlink()), (0o4755, 2));
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("bin/a"));
        assert!(std::fs::symlink_metadata(to.join("fifo")).unwrap().file_type().is_fifo());
    }
}
