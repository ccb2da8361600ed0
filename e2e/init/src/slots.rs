//! Process 1 of a system in a slot: says which one it is, and does what comes next in the life of a
//! disk with slots, as far as a second disk brings other systems along.

use std::fs::{self, File};
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use kiln_guest::slots::{Options, Part, Slot, Slots, Status};
use kiln_supervisor::pid1::{self, Boot, BoxError, Loader, mounts};
use kiln_supervisor::{Outcome, unix};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

type Result<T = ()> = std::result::Result<T, BoxError>;

/// How long disks may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut words = std::env::args().skip_while(|word| !word.ends_with("modprobe")).peekable();
    if words.next().is_some() {
        let wanted: Vec<String> = words.filter(|word| !word.starts_with('-')).collect();
        let _ = Loader::loadable_of_running_kernel().map(|mut loader| loader.load(&wanted));
        return ExitCode::SUCCESS;
    }
    pid1::start(|boot| {
        Ok(live(boot).unwrap_or_else(|error| {
            say(format_args!("FAILED: {error}"));
            Outcome::PowerOff
        }))
    })
}

/// The end of process 1 is the kernel's.
#[expect(clippy::exit, reason = "the kernel is to panic")]
fn end() -> ! {
    std::process::exit(1)
}

fn say(what: impl std::fmt::Display) {
    // Whoever listens has to know where a line ends.
    unix::console_line(format_args!("slots: {what} ."));
}

fn live(boot: &mut Boot) -> Result<Outcome> {
    boot.mounts(mounts::STANDARD)
        .console()
        .modules(&["virtio_blk", "vfat", "nls_cp437", "nls_ascii"], 16);
    let release = fs::read_to_string("/etc/os-release")?;
    let version = release.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    let version = version.ok_or("no version")?.trim_matches('"').to_owned();
    let slot = boot.argument("kiln.slot").unwrap_or("none").to_owned();
    if Path::new("/etc/broken").exists() {
        say(format_args!("version {version} is broken, from {slot}"));
        end();
    }
    let mut slots = waited_for(Slots::of_running_system)?;
    let settled = slots.settle()?;
    let status = slots.status();
    let shown = describe(&status);
    say(format_args!("version {version} runs from {slot}: {shown}; settled: {settled}"));
    let Ok(bundle) = bundle() else { return Ok(Outcome::PowerOff) };
    next(&mut slots, &status, &bundle)
}

/// What comes next, which follows from what is there.
fn next(slots: &mut Slots, status: &Status, bundle: &Bundle) -> Result<Outcome> {
    let running = status.running.ok_or("started from no slot")?;
    let version = |slot: Slot| status.slot(slot).map(|record| record.version.as_str());
    let good = |slot: Slot| status.slot(slot).is_some_and(|record| record.good);
    match (running, version(running), version(running.other())) {
        (Slot::A, Some("1"), None) => {
            peer()?;
            refusals(slots, bundle)?;
        }
        (Slot::B, Some("2"), Some("1")) if !good(Slot::B) => {
            say(format_args!("marked good: {}", slots.mark_good()?));
            return Ok(Outcome::Reboot);
        }
        (Slot::B, Some("2"), Some("1")) => {
            say(format_args!("rolled back to {:?}", slots.roll_back(false)?));
            return Ok(Outcome::Reboot);
        }
        (Slot::A, Some("1"), Some("2")) => {
            let slot = bundle.upgrade(slots, "3", "broken")?;
            say(format_args!("3 goes to slot {slot}"));
            return Ok(Outcome::Reboot);
        }
        (Slot::A, Some("1"), Some("3")) => {
            let refused = slots.roll_back(false).err().ok_or("rolled back to what is broken")?;
            say(format_args!("fell back: {}; {refused}", status.failed(Slot::B)));
            return Ok(Outcome::PowerOff);
        }
        other => return Err(format!("what now? {other:?}").into()),
    }
    let slot = bundle.upgrade(slots, "2", "good")?;
    say(format_args!("2 goes to slot {slot}: {}", describe(&slots.status())));
    Ok(Outcome::Reboot)
}

/// Has SYSLINUX's own program write into its vector, on a volume of the second disk.
fn peer() -> Result {
    let place = Path::new("/mnt");
    fs::create_dir_all(place)?;
    mount(device("vector")?, place, "vfat", MountFlags::empty(), c"")?;
    let done = Command::new("/usr/bin/extlinux").arg("--once=slot-b").arg(place).output()?;
    unmount(place, UnmountFlags::empty())?;
    let said = String::from_utf8_lossy(&done.stderr).replace('\n', "; ");
    say(format_args!("extlinux: {} {said}", done.status));
    Ok(())
}

/// What must not change anything, before something is changed.
fn refusals(slots: &mut Slots, bundle: &Bundle) -> Result {
    let mut kernel = Cursor::new(bundle.read("kernel")?);
    let mut initrd = Cursor::new(bundle.read("good")?);
    let mut options = Options::default();
    options.kernel = Some(Part::of(kernel.get_ref()));
    let half = initrd.get_ref().len() / 2;
    options.initrd = Some(Part::of(initrd.get_ref()));
    let mut cut = Cursor::new(initrd.get_ref().get(..half).unwrap_or_default().to_vec());
    for refused in [
        slots.upgrade(&mut kernel, &mut cut, "2", "", &options),
        slots.upgrade(&mut kernel, &mut initrd, "0.9", "", &options),
        slots.upgrade(
            &mut kernel,
            &mut Cursor::new(vec![0; 100 << 20]),
            "2",
            "",
            &Options::default(),
        ),
    ] {
        let error = refused.err().ok_or("an upgrade that should have been refused was not")?;
        say(format_args!("refused: {error}"));
    }
    // one at a time
    let error = Slots::of_running_system().err().ok_or("two change one disk")?;
    say(format_args!("refused: {error}"));
    Ok(())
}

fn describe(status: &Status) -> String {
    let slots: Vec<String> = [Slot::A, Slot::B]
        .into_iter()
        .map(|slot| match status.slot(slot) {
            Some(record) if record.good => format!("{slot}={} good", record.version),
            Some(record) => format!("{slot}={} untested", record.version),
            None => format!("{slot} empty"),
        })
        .collect();
    let starts: Vec<String> = status
        .starts
        .iter()
        .map(|(firmware, default, once)| {
            let letter = |slot: &Option<Slot>| slot.map_or('-', Slot::letter);
            format!("{firmware:?} {}/{}", letter(default), letter(once))
        })
        .collect();
    format!("{}, {}", slots.join(", "), starts.join(", "))
}

/// Systems to replace others with: partitions, and one that lists their lengths.
struct Bundle {
    command_line: String,
}

impl Bundle {
    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut list = String::new();
        File::open(device("list")?)?.take(4096).read_to_string(&mut list)?;
        let len = list.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let mut bytes = Vec::new();
        File::open(device(name)?)?.take(len.ok_or("not listed")?).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn upgrade(&self, slots: &mut Slots, version: &str, initrd: &str) -> Result<Slot> {
        let (kernel, initrd) = (self.read("kernel")?, self.read(initrd)?);
        let mut options = Options::default();
        options.kernel = Some(Part::of(&kernel));
        options.initrd = Some(Part::of(&initrd));
        let (mut kernel, mut initrd) = (Cursor::new(kernel), Cursor::new(initrd));
        Ok(slots.upgrade(&mut kernel, &mut initrd, version, &self.command_line, &options)?)
    }
}

/// The second disk, if the machine has one, which is there when the first one is.
fn bundle() -> Result<Bundle> {
    let words = fs::read_to_string("/proc/cmdline")?;
    // What loaders and slots have added is theirs to say.
    let added = ["BOOT_IMAGE=", "initrd=", "kiln.slot="];
    let words =
        words.split_whitespace().filter(|word| !added.iter().any(|it| word.starts_with(it)));
    let command_line = words.collect::<Vec<_>>().join(" ");
    device("list")?;
    Ok(Bundle { command_line })
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

fn waited_for<T>(
    mut what: impl FnMut() -> std::result::Result<T, kiln_guest::slots::Error>,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match what() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            // A disk announces itself when it likes.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
