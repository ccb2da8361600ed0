//! Lines of fstab(5), done: file systems are mounted, swapping begins.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kiln_supervisor::pid1::swap;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};

use crate::superblock;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// A device by its path, `LABEL=`, `UUID=` or `PARTLABEL=`; or what the type takes.
    pub what: String,
    /// Where; `none` for swap.
    pub target: String,
    /// The type; `auto` for what the device says, `swap`.
    pub fstype: String,
    /// Options with commas between them.
    pub options: String,
}

impl Entry {
    /// A line.
    #[must_use]
    pub fn new(
        what: impl Into<String>,
        target: impl Into<String>,
        fstype: impl Into<String>,
        options: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            target: target.into(),
            fstype: fstype.into(),
            options: options.into(),
        }
    }

    /// Whether it is about swapping.
    #[must_use]
    pub fn is_swap(&self) -> bool {
        self.fstype == "swap"
    }

    /// Whether a device that is meant is not there yet.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.names_device() && matches!(superblock::find(&self.what), Ok(None))
    }

    fn names_device(&self) -> bool {
        self.what.starts_with('/')
            || ["LABEL=", "UUID=", "PARTLABEL=", "PARTUUID="]
                .iter()
                .any(|tag| self.what.starts_with(tag))
    }

    /// Does it. Nothing is checked or repaired before; what is there already stays.
    ///
    /// # Errors
    /// A sentence: the device is not there, has nothing that is known, or the kernel refuses it.
    pub fn perform(&self) -> Result<Done, String> {
        let options = Options::parse(&self.options);
        if options.later {
            return Ok(Done::Later);
        }
        let source = match self.names_device() {
            true => match superblock::find(&self.what)? {
                Some(path) => path,
                None => return Err(format!("{} is not there", self.what)),
            },
            false => PathBuf::from(&self.what),
        };
        if self.is_swap() {
            return match swap::start(&source, options.swap) {
                Ok(()) => Ok(Done::Done),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => {
                    Ok(Done::Already)
                }
                Err(error) => Err(format!("swap to {}: {error}", source.display())),
            };
        }
        if self.target == "/" || !self.target.starts_with('/') {
            return Err(format!("nothing is mounted at {}", self.target));
        }
        let target = Path::new(&self.target);
        let sentence = |what: &str, error: io::Error| {
            format!("{what} {} at {}: {error}", self.what, self.target)
        };
        if options.bind.is_some() && source.is_file() {
            // a file is mounted over a file
            let made = match target.parent() {
                Some(parent) => fs::create_dir_all(parent),
                None => Ok(()),
            };
            let open = || fs::OpenOptions::new().create(true).append(true).open(target);
            made.and_then(|()| open()).map_err(|error| sentence("make a place for", error))?;
        } else {
            fs::create_dir_all(target).map_err(|error| sentence("make a place for", error))?;
        }
        if self.is_mounted(&source, target, options.bind.is_some()) {
            return Ok(Done::Already);
        }
        let done = match options.bind {
            Some(recursive) => bind(&source, target, recursive, options.flags),
            None => self.mount(&source, target, &options),
        };
        done.map_err(|error| sentence("mount", error)).map(|()| Done::Done)
    }

    /// Whether just this is mounted there: the device, with `bind` the directory, or what the kernel lists.
    fn is_mounted(&self, source: &Path, target: &Path, bind: bool) -> bool {
        let Ok(there) = fs::metadata(target) else { return false };
        match fs::metadata(source).ok().filter(|_| self.names_device()) {
            Some(source) if bind => (source.dev(), source.ino()) == (there.dev(), there.ino()),
            Some(source) => source.rdev() != 0 && source.rdev() == there.dev(),
            None => {
                let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                is_listed(&table, &self.fstype, &self.what, target)
            }
        }
    }

    fn mount(&self, source: &Path, target: &Path, options: &Options) -> io::Result<()> {
        let fstype = match self.fstype.as_str() {
            "auto" => superblock::fstype(source)
                .filter(|fstype| *fstype != "swap")
                .ok_or_else(|| io::Error::other("no file system that is known; say which it is"))?,
            named => named,
        };
        let data = CString::new(options.data.join(","))?;
        let mount = |flags| mount(source, target, fstype, flags, data.as_c_str());
        match mount(options.flags) {
            // A disc that nobody can write to, as mount(8) does it.
            Err(Errno::ROFS | Errno::ACCESS) if !options.flags.contains(MountFlags::RDONLY) => {
                mount(options.flags | MountFlags::RDONLY)
            }
            done => done,
        }
        .map_err(io::Error::from)
    }
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Done {
    /// It is mounted, or swapped to.
    Done,
    /// It was already.
    Already,
    /// It says `noauto`.
    Later,
}

fn bind(source: &Path, target: &Path, recursive: bool, flags: MountFlags) -> io::Result<()> {
    match recursive {
        true => mount_bind_recursive(source, target)?,
        false => mount_bind(source, target)?,
    }
    // mount(2): the kernel passes over flags of the first call
    if !flags.is_empty() {
        mount_remount(target, MountFlags::BIND | flags, c"")?;
    }
    Ok(())
}

/// Whether the kernel's table (proc(5), mountinfo) has this type of this source at a place.
fn is_listed(table: &str, fstype: &str, source: &str, target: &Path) -> bool {
    let target = fs::canonicalize(target).unwrap_or_else(|_| target.into());
    // blanks of a path are octal there
    let target = target.to_string_lossy().replace('\\', "\\134").replace(' ', "\\040");
    table.lines().any(|line| {
        let (mount, what) = line.split_once(" - ").unwrap_or((line, ""));
        let mut what = what.split(' ');
        mount.split(' ').nth(4) == Some(&*target)
            && (what.next(), what.next()) == (Some(fstype), Some(source))
    })
}

/// What options say (mount(8)).
#[derive(Debug, PartialEq, Eq)]
struct Options {
    flags: MountFlags,
    /// What is the file system's own to understand.
    data: Vec<String>,
    /// Whether a directory is mounted in place of a file system, and then whether with what is below it.
    bind: Option<bool>,
    later: bool,
    swap: swap::Options,
}

impl Options {
    fn parse(text: &str) -> Self {
        let mut options = Self {
            flags: MountFlags::empty(),
            data: Vec::new(),
            bind: None,
            later: false,
            swap: swap::Options::default(),
        };
        for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            options.take(option);
        }
        options
    }

    fn take(&mut self, option: &str) {
        use MountFlags as F;
        let set = match option {
            "ro" => F::RDONLY,
            "nosuid" => F::NOSUID,
            "nodev" => F::NODEV,
            "noexec" => F::NOEXEC,
            "noatime" => F::NOATIME,
            "nodiratime" => F::NODIRATIME,
            "relatime" => F::RELATIME,
            "strictatime" => F::STRICTATIME,
            "lazytime" => F::LAZYTIME,
            "sync" => F::SYNCHRONOUS,
            "dirsync" => F::DIRSYNC,
            "mand" => F::PERMIT_MANDATORY_FILE_LOCKING,
            "silent" => F::SILENT,
            // mount(8): these of a user who mounts
            "user" | "users" | "owner" | "group" => F::NOSUID | F::NODEV,
            _ => F::empty(),
        };
        let unset = match option {
            "rw" => F::RDONLY,
            "suid" => F::NOSUID,
            "dev" => F::NODEV,
            "exec" => F::NOEXEC,
            "atime" => F::NOATIME,
            "diratime" => F::NODIRATIME,
            "async" => F::SYNCHRONOUS,
            _ => F::empty(),
        };
        self.flags = (self.flags | set) - unset;
        match option {
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "noauto" => self.later = true,
            "discard" => {
                self.swap.discard = true;
                self.data.push(option.into());
            }
            // what only others look at
            "defaults" | "auto" | "nofail" | "fail" | "nouser" | "_netdev" | "sw" | "loud" => {}
            _ if option.starts_with("x-") || option.starts_with("comment=") => {}
            _ if !(set | unset).is_empty() => {}
            _ => match option.strip_prefix("pri=") {
                Some(number) => self.swap.priority = number.parse().ok(),
                None => self.data.push(option.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_or_the_file_systems_own() {
        let options =
            Options::parse("defaults,nofail, noatime,ro,rw,user,exec,errors=remount-ro,x-y=z");
        assert_eq!(options.flags, MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV);
        assert_eq!(options.data, ["errors=remount-ro"]);
        let options = Options::parse("sw,pri=7,discard");
        assert_eq!((options.swap.priority, options.swap.discard), (Some(7), true));
        assert_eq!(Options::parse("rbind,ro").bind, Some(true));
        assert!(Options::parse("noauto").later);
        assert_eq!(Options::parse(""), Options::parse("defaults,auto"));
    }

    #[test]
    fn what_is_not_there_is_told_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("place");
        let shown = target.display().to_string();
        let entry = |what: &str, fstype: &str| Entry::new(what, &*shown, fstype, "");
        let missing = entry("/dev/no-disk-of-this-name", "ext4");
        assert!(missing.is_missing());
        assert_eq!(missing.perform(), Err("/dev/no-disk-of-this-name is not there".into()));
        assert!(!target.exists());
        assert!(!entry("tmpfs", "tmpfs").is_missing());
        assert!(entry("PARTUUID=1", "ext4").perform().unwrap_err().contains("not known here"));
        assert_eq!(
            Entry::new("tmpfs", "/", "tmpfs", "").perform(),
            Err("nothing is mounted at /".into())
        );
        let later = Entry::new("/dev/no-disk-of-this-name", &*shown, "auto", "noauto");
        assert_eq!(later.perform(), Ok(Done::Later));
    }

    #[test]
    fn a_place_knows_what_is_mounted_there() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display().to_string();
        let of = |what: &str| Entry::new(what, &*place, "auto", "");
        assert!(of(&place).is_mounted(dir.path(), dir.path(), true));
        assert!(!of("/").is_mounted(Path::new("/"), dir.path(), true));
        assert!(!of("/dev/null").is_mounted(Path::new("/dev/null"), dir.path(), false));
        // proc is, as everybody who runs this sees
        let proc = Entry::new("proc", "/proc", "proc", "");
        assert!(proc.is_mounted(Path::new("proc"), Path::new("/proc"), false));
        let table = "36 35 98:0 / /mnt/two\\040words rw - tmpfs none rw\n";
        let target = Path::new("/mnt/two words");
        assert!(is_listed(table, "tmpfs", "none", target));
        assert!(!is_listed(table, "ext4", "none", target));
        assert!(!is_listed(table, "tmpfs", "none", Path::new("/mnt")));
    }
}
