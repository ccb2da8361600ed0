//! Mounts the partitions of its disks by their names and writes down what it sees; writes to one,
//! and grows another. The test reads that afterwards.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_diskimg::{Limits, gpt};
use kiln_e2e_init::{END, LINES, walk};
use kiln_supervisor::pid1::{self, Boot, BoxError, Loader, grow, mounts};
use kiln_supervisor::{Outcome, unix};
use rustix::fs::XattrFlags;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

type Result<T = ()> = std::result::Result<T, BoxError>;

/// The partitions that are looked at: name, type of the file system, options.
const LOOKED_AT: [(&str, &str, &str); 7] = [
    ("ext4", "ext4", ""),
    ("erofs", "erofs", ""),
    ("erofs-lz4", "erofs", ""),
    ("erofs-big", "erofs", ""),
    ("squashfs", "squashfs", ""),
    ("iso", "iso9660", ""),
    ("fat", "vfat", "utf8=1,tz=UTC,umask=022"),
];
const PLACE: &str = "/mnt";

fn main() -> ExitCode {
    let mut words = std::env::args().skip_while(|word| !word.ends_with("modprobe")).peekable();
    if words.next().is_some() {
        // The kernel calls for what a file system needs beside itself.
        let wanted: Vec<String> = words.filter(|word| !word.starts_with('-')).collect();
        let _ = Loader::loadable_of_running_kernel().map(|mut loader| loader.load(&wanted));
        return ExitCode::SUCCESS;
    }
    pid1::start(|boot| {
        let done = prove(boot);
        say(match &done {
            Ok(()) => "all done".to_owned(),
            Err(error) => format!("FAILED: {error}"),
        });
        Ok(Outcome::PowerOff)
    })
}

fn say(what: impl std::fmt::Display) {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split_whitespace().next().unwrap_or("?");
    unix::console_line(format_args!("look: {what} ({seconds} s)"));
}

fn prove(boot: &mut Boot) -> Result {
    let modules =
        ["ext4", "erofs", "squashfs", "isofs", "vfat", "nls_cp437", "nls_utf8", "nls_ascii"];
    boot.mounts(mounts::STANDARD).console().modules(&modules, 16);
    for problem in boot.problems() {
        say(problem);
    }
    let lines = device(LINES)?;
    let mut out = Vec::new();
    for (name, fstype, options) in LOOKED_AT {
        mounted(name, fstype, MountFlags::RDONLY, options, |place| listed(name, place, &mut out))?;
    }
    mounted("work", "ext4", MountFlags::empty(), "", work)?;
    mounted("work", "ext4", MountFlags::RDONLY, "", |place| listed("work", place, &mut out))?;
    grown()?;
    let mut file = OpenOptions::new().write(true).open(lines)?;
    writeln!(out, "{END}")?;
    file.write_all(&out)?;
    file.sync_all()?;
    Ok(())
}

/// The device of the partition with this name.
fn device(name: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/class/block")? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path().join("uevent")).unwrap_or_default();
        if text.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(name)) {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    Err(format!("no partition {name}").into())
}

fn mounted(
    name: &str,
    fstype: &str,
    flags: MountFlags,
    options: &str,
    work: impl FnOnce(&Path) -> Result,
) -> Result {
    let (device, place) = (device(name)?, Path::new(PLACE));
    fs::create_dir_all(place)?;
    let options = std::ffi::CString::new(options)?;
    mount(&device, place, fstype, flags, options.as_c_str())
        .map_err(|error| format!("mount {name} ({fstype}): {error}"))?;
    work(place).map_err(|error| format!("{name}: {error}"))?;
    unmount(place, UnmountFlags::empty()).map_err(|error| format!("unmount {name}: {error}"))?;
    Ok(())
}

fn listed(name: &str, place: &Path, out: &mut Vec<u8>) -> Result {
    let entries = walk(place)?;
    writeln!(out, "# {name}")?;
    for entry in &entries {
        writeln!(out, "{}", entry.line())?;
    }
    say(format_args!("{name}: {} entries", entries.len()));
    Ok(())
}

/// Changes everything that can be changed about a volume of ours.
fn work(place: &Path) -> Result {
    let many = place.join("many");
    // Into a directory that has an index already, until its blocks split; and out of it.
    for at in 0..3000 {
        fs::write(many.join(format!("written by the kernel {at}")), format!("{at}\n"))?;
    }
    let mut names: Vec<PathBuf> = fs::read_dir(&many)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.to_string_lossy().contains("/name "))
        .collect();
    names.sort();
    for path in names.iter().step_by(3) {
        fs::remove_file(path)?;
    }
    let mut large = OpenOptions::new().append(true).open(place.join("large"))?;
    large.write_all(&vec![b'+'; 1 << 20])?;
    large.sync_all()?;
    let sparse = OpenOptions::new().write(true).open(place.join("sparse"))?;
    sparse.write_all_at(b"into a hole", 20 << 20)?;
    sparse.set_len((40 << 20) + 1)?;
    fs::create_dir_all(place.join("new/directory"))?;
    fs::rename(place.join("etc/hostname"), place.join("new/directory/hostname"))?;
    symlink("a".repeat(200), place.join("new/a long link"))?;
    symlink("short", place.join("new/a short link"))?;
    fs::hard_link(place.join("large"), place.join("new/large too"))?;
    fs::remove_file(place.join("usr/bin/sudo"))?;
    fs::remove_dir_all(place.join("deep"))?;
    for (path, name, len) in [("usr/bin/ping", "user.new", 10), ("large", "user.large", 3000)] {
        let value = vec![b'v'; len];
        rustix::fs::setxattr(place.join(path), name, &value, XattrFlags::CREATE)?;
    }
    // What is not listed in the tree's order: as many blocks as are left, given back.
    let filler = place.join("filler");
    let mut file = File::create(&filler)?;
    let block = vec![7; 1 << 20];
    let full = loop {
        match file.write_all(&block) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    if full.kind() != io::ErrorKind::StorageFull {
        return Err(format!("filling it up: {full}").into());
    }
    say(format_args!("work: full at {} MiB", file.metadata()?.len() >> 20));
    drop(file);
    fs::remove_file(filler)?;
    rustix::fs::sync();
    Ok(())
}

/// Lets the last partition of the disk that is larger than its table says, and the file system in it,
/// have all of the disk, while another partition of it is mounted.
fn grown() -> Result {
    let partition = device("grow")?;
    let name = partition.file_name().ok_or("a device without a name")?.to_owned();
    let sys = fs::canonicalize(Path::new("/sys/class/block").join(&name))?;
    let disk = sys.parent().and_then(Path::file_name).ok_or("a partition without a disk")?;
    let disk = Path::new("/dev").join(disk);
    let sectors = || -> Result<u64> { Ok(fs::read_to_string(sys.join("size"))?.trim().parse()?) };
    let before = sectors()?;
    let limits = Limits::default();
    let extended = mounted_beside(&partition, || {
        let mut file = OpenOptions::new().read(true).write(true).open(&disk)?;
        let grown = gpt::grow(&mut file, &limits, gpt::Extend::Last)?;
        file.sync_all()?;
        let extended = grown.extended.ok_or("nothing was extended")?;
        let new = extended.last - extended.first + 1;
        grow::partition(&disk, extended.number, extended.first, new)?;
        let now = grow::file_system(Path::new(PLACE))?.ok_or("the file system did not grow")?;
        if let Some(again) = grow::file_system(Path::new(PLACE))? {
            return Err(format!("it grew twice: {again}").into());
        }
        say(format_args!("grow: {now}"));
        // Into what was won, in several groups of blocks.
        let path = Path::new(PLACE).join("won");
        let mut file = File::create(&path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 600 << 20)?;
        file.seek(SeekFrom::Start(500 << 20))?;
        file.write_all(&vec![b'w'; 3 << 20])?;
        file.sync_all()?;
        let mut back = String::new();
        File::open(Path::new(PLACE).join("etc/hostname"))?.read_to_string(&mut back)?;
        say(format_args!("grow: {} is still there", back.trim()));
        Ok(new)
    })?;
    let after = sectors()?;
    if after != extended || after <= before {
        return Err(format!("the partition had {before} sectors and now {after}").into());
    }
    say(format_args!("grow: partition of {after} sectors, before {before}"));
    Ok(())
}

fn mounted_beside<T>(partition: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    mount(partition, PLACE, "ext4", MountFlags::empty(), c"")
        .map_err(|error| format!("mount grow: {error}"))?;
    let done = work().map_err(|error| format!("grow: {error}"))?;
    unmount(PLACE, UnmountFlags::empty()).map_err(|error| format!("unmount grow: {error}"))?;
    Ok(done)
}
