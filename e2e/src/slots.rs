//! A disk with two systems that replaces them itself, what it writes meanwhile, and what is left of
//! that when the power goes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kiln::boot::{PACKAGES, Programs};
use kiln::definition::{Definition, Format};
use kiln::qemu::{self, Disk, Firmware, Machine, Uefi, Vm};
use kiln::{Cache, Progress, build, debian, guest};
use kiln_diskimg::boot::syslinux::Adv;
use kiln_diskimg::container::{self, Window};
use kiln_diskimg::crash::{Log, Replay};
use kiln_diskimg::gpt::{self, PartitionType};
use kiln_diskimg::slots::{self, Slot};
use kiln_diskimg::{DiskPlan, Limits, Partition, Seed, Table, fat};
use kiln_tree::{Source, Tree};

use crate::{LONG, said};

/// What comes before every line of the guest.
const WORD: &str = "slots: ";

/// The disk as it is installed, and the second one with other systems.
#[derive(Debug)]
pub struct Disks {
    /// With version 1 in slot a.
    pub disk: PathBuf,
    /// With a version 2, and a 3 that is broken.
    bundle: PathBuf,
}

impl Disks {
    /// Builds both in a directory, as anybody's definition would be.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn build(directory: &Path) -> Result<Self> {
        let init = guest::build("kiln-e2e-init", "slots", &Progress::on_stderr())?;
        let system = |version: &str, more: &str| -> Result<PathBuf> {
            let text = format!(
                "name = \"slots\"\nversion = {version:?}\nformats = [\"raw\", \"initramfs\"]\n\
                 [init]\nfile = {init:?}\n[kernel]\npackage = \"linux-image-amd64\"\n\
                 command-line = \"console=ttyS0 quiet panic=1 no_timer_check\"\n\
                 modules = [\"virtio_pci\", \"virtio_blk\", \"vfat\", \"nls_cp437\", \"nls_ascii\"]\n\
                 [packages]\npick = [\"extlinux\"]\n[[file]]\npick = \"/usr/bin/extlinux\"\n\
                 [disk]\nslots = \"28MiB\"\n{more}"
            );
            // The lock is the same for all.
            let file = directory.join("image.toml");
            std::fs::write(&file, text)?;
            let definition = Definition::read(&file)?;
            let out = directory.join(version);
            build::build(&definition, &build::Options::default(), &out, &Progress::on_stderr())?;
            Ok(out)
        };
        let one = system("1", "")?;
        let two = system("2", "")?;
        let three = system("3", "[[file]]\npath = \"/etc/broken\"\ntext = \"yes\"\n")?;
        let ending = Format::Initramfs.ending();
        let parts = [
            ("kernel", two.join("slots.vmlinuz")),
            ("good", two.join(format!("slots.{ending}"))),
            ("broken", three.join(format!("slots.{ending}"))),
        ];
        let mut list = String::new();
        let mut plan = DiskPlan::new(Table::Gpt, Seed::new("bundle"));
        for (name, path) in parts {
            let len = std::fs::metadata(&path)?.len();
            list += &format!("{name} {len}\n");
            let source = Source::File { path, len };
            plan = plan.with(Partition::new(name, PartitionType::LINUX, source));
        }
        let programs = debian::sysroot(&Cache::of_workspace(), &PACKAGES)?;
        let mut options = fat::Options::default();
        options.kind = Some(fat::Kind::Fat16);
        options.hidden_sectors = 0;
        let volume = fat::Volume::plan(&Tree::new(), &options)?;
        let volume = Programs::from_root(&programs)?.syslinux.install(volume, "")?;
        plan = plan.with(Partition::new("vector", PartitionType::EFI_SYSTEM, volume));
        list += "\n";
        plan = plan.with(Partition::new("list", PartitionType::LINUX, list.into_bytes()));
        let bundle = directory.join("bundle.raw");
        container::write_file(container::Format::Raw, &plan.layout()?, &bundle)?;
        Ok(Self { disk: one.join("slots.raw"), bundle })
    }
}

/// A machine of this firmware.
///
/// # Errors
/// When the firmware is not there.
pub fn machine(uefi: bool) -> Result<Machine> {
    let mut machine = Machine::default();
    (machine.memory, machine.processors) = (512, 1);
    (machine.network, machine.nic) = (false, None);
    machine.reboots = true;
    if uefi {
        machine.firmware = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    }
    Ok(machine)
}

/// Adds a disk to a machine whose writes QEMU records in a log.
pub(crate) fn record(machine: &mut Machine, disk: &Path, log: &Path, options: &str) {
    let node = format!(
        "driver=blklogwrites,node-name=lived,file.driver=file,file.filename={},log.driver=file,\
         log.filename={}",
        disk.display(),
        log.display()
    );
    let device = format!("virtio-blk-pci,drive=lived{options}");
    machine.arguments = ["-blockdev", &node, "-device", &device].map(str::to_owned).into();
}

/// What a disk went through.
#[derive(Debug)]
pub struct Life {
    /// What it held at first.
    pub base: Vec<u8>,
    /// What was written since, by the guests, their loaders and the firmware.
    pub log: Log,
    /// What the guests said.
    pub said: Vec<String>,
}

/// Boots version 1, which puts a 2 beside itself, which is tried and says that it is healthy; which
/// goes back to 1, which puts a broken 3 beside itself, which is tried and panics; and 1 again.
///
/// # Errors
/// The first thing that goes otherwise, with the end of the console.
pub fn live(disks: &Disks, uefi: bool, directory: &Path) -> Result<Life> {
    let base = std::fs::read(&disks.disk)?;
    let (disk, log) = (directory.join("lived.raw"), directory.join("log"));
    std::fs::write(&disk, &base)?;
    std::fs::write(&log, b"")?;
    let mut machine = machine(uefi)?;
    record(&mut machine, &disk, &log, ",bootindex=0");
    let bundle = directory.join("lived-bundle.raw");
    std::fs::copy(&disks.bundle, &bundle)?;
    let mut second = Disk::new(&bundle, qemu::Format::Raw);
    second.snapshot = false;
    machine.disks.push(second);
    let mut vm = machine.start()?;
    let lived = steps(&mut vm, uefi).and_then(|()| Ok(vm.wait_exit(LONG)?));
    let lines = said(&vm, WORD);
    lived.with_context(|| format!("{}\n{}", lines.join("\n"), vm.console().tail(40)))?;
    peer(&bundle)?;
    let file = std::io::BufReader::new(std::fs::File::open(&log)?);
    let log = Log::read(file, &Limits::default())?;
    Ok(Life { base, log, said: lines })
}

/// What `extlinux --once=slot-b` made of the vector, in both copies, is what we make of it.
fn peer(bundle: &Path) -> Result<()> {
    let mut disk = std::fs::read(bundle)?;
    let table = gpt::read(&mut disk, &Limits::default())?;
    let found = table.entries.iter().find(|(_, entry)| entry.name == "vector");
    let (_, entry) = found.context("no partition vector")?;
    let mut volume =
        Window::new(&mut disk, entry.first * 512, (entry.last - entry.first + 1) * 512);
    let mut reader = fat::Reader::open(&mut volume, &Limits::default())?;
    let list = reader.list()?;
    let sys = list.iter().find(|file| file.path.to_string() == "ldlinux.sys");
    let content = reader.read(sys.context("no ldlinux.sys")?)?;
    let ours = Adv::default().with_boot_once(Some("slot-b")).context("no room")?.emit();
    ensure!(content.ends_with(&[ours, ours].concat()), "extlinux writes another vector");
    Ok(())
}

fn steps(vm: &mut Vm, uefi: bool) -> Result<()> {
    let by = if uefi { "Uefi" } else { "Bios" };
    for (number, (text, expected)) in [
        ("version 1 runs from a", "a=1 good, b empty".to_owned()),
        ("extlinux: ", "exit status: 0".to_owned()),
        ("refused: ", "bytes, expected".to_owned()),
        ("refused: ", "0.9 is older than 1".to_owned()),
        ("refused: ", "the initramfs has 104857600 bytes".to_owned()),
        ("refused: ", "another change is under way".to_owned()),
        ("2 goes to slot b", format!("{by} a/b")),
        ("version 2 runs from b", "b=2 untested".to_owned()),
        ("marked good", "true".to_owned()),
        ("version 2 runs from b", "b=2 good, Bios b/-, Uefi b/-".to_owned()),
        ("rolled back", "Some(A)".to_owned()),
        ("version 1 runs from a", "b=2 good, Bios a/-, Uefi a/-".to_owned()),
        ("3 goes to slot b", String::new()),
        ("version 3 is broken", "from b".to_owned()),
        ("version 1 runs from a", "b=3 untested, Bios a/-, Uefi a/-; settled: true".to_owned()),
        ("fell back", "true; roll-back: slot b never said".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let line = line(vm, number)?;
        ensure!(line.starts_with(text) && line.contains(&expected), "{line:?} has no {expected:?}");
    }
    Ok(())
}

/// A line of the guests, by its number among them, when all of it is there.
fn line(vm: &mut Vm, number: usize) -> Result<String> {
    let whole = |vm: &Vm| said(vm, WORD).get(number).filter(|line| line.ends_with(" .")).cloned();
    vm.wait_until(&format!("line {number} of the guests"), LONG, |vm| whole(vm).is_some())?;
    whole(vm).context("the line is gone")
}

/// The partition with the slots: its first byte and its length.
///
/// # Errors
/// When there is no table.
pub fn partition(disk: &mut Vec<u8>) -> Result<(u64, u64)> {
    let table = gpt::read(disk, &Limits::default())?;
    let (_, entry) = table.entries.first().context("a disk without partitions")?;
    Ok((entry.first * 512, (entry.last - entry.first + 1) * 512))
}

/// What a state of a disk was found to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// What a BIOS starts next, and what it always starts.
    pub bios: (String, String),
    /// What UEFI does.
    pub uefi: (String, String),
}

/// Looks at a disk: what is started is whole and, unless it is tried, was healthy once; the file system
/// is sound by `fsck.vfat`'s judgement where that is asked for.
///
/// # Errors
/// The first thing that is not so.
pub fn look(disk: &mut Vec<u8>, at: (u64, u64), fsck: bool) -> Result<State> {
    let (start, len) = at;
    if fsck {
        let volume = disk.get(usize::try_from(start)?..usize::try_from(start + len)?);
        check(volume.context("a partition beyond the disk")?)?;
    }
    let mut volume = Window::new(disk, start, len);
    let found = slots::read(&mut volume, &Limits::default())?;
    let mut verified = Vec::new();
    let mut whole = |slot: Option<Slot>| -> Result<(String, bool)> {
        let slot = slot.context("nothing is started")?;
        if !verified.contains(&slot) {
            slots::verify(&found, slot, &mut volume)?;
            verified.push(slot);
        }
        let record = found.record(slot).context("no record")?;
        Ok((record.version.clone(), record.good))
    };
    let mut of = |firmware| -> Result<(String, String)> {
        let (next, _) = whole(found.next(firmware))?;
        let (default, good) = whole(found.default_of(firmware))?;
        ensure!(good, "{default}, which is always started, was never healthy");
        Ok((next, default))
    };
    Ok(State { bios: of(slots::Firmware::Bios)?, uefi: of(slots::Firmware::Uefi)? })
}

/// Asks `fsck.vfat` about a volume. That firmware was interrupted may show by the mark that it makes
/// while it writes, and by nothing else.
fn check(volume: &[u8]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(volume)?;
    let Some(fsck) = crate::tool("fsck.vfat") else { return Ok(()) };
    let output = Command::new(fsck)
        .arg("-n")
        .arg(file.path())
        .stdin(Stdio::null())
        .output()
        .context("fsck.vfat")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fine = |line: &str| {
        line.starts_with("fsck.fat ")
            || line.contains(" files, ")
            || line.contains("Dirty bit is set")
            || line.contains("Automatically removing dirty bit")
            || line.contains("Leaving filesystem unchanged")
            || line.trim().is_empty()
    };
    let bad: Vec<&str> = text.lines().filter(|line| !fine(line)).collect();
    ensure!(bad.is_empty(), "fsck.vfat: {text}");
    Ok(())
}

/// What came of many states.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were looked at.
    pub states: u64,
    /// How many were booted.
    pub boots: u64,
    /// How often which was found.
    pub found: std::collections::BTreeMap<State, u64>,
}

/// Loses the power so many times in the life of a disk, spread over the stretches between its flushes,
/// looks at each state, and boots some.
///
/// # Errors
/// The first state that is not sound, by its stretch and seed.
pub fn crashes(life: &Life, states: u64, boots: u64, uefi: bool, seed: u64) -> Result<Tally> {
    let mut base = life.base.clone();
    let at = partition(&mut base)?;
    let stretches = life.log.stretches() as u64;
    let mut replay = Replay::new(&life.log, base);
    let mut tally = Tally::default();
    let mut booted = Vec::new();
    for stretch in 0..stretches {
        // as many before this stretch as its place among all says
        let until = states * (stretch + 1) / stretches;
        while tally.states < until {
            let number = seed << 40 | stretch << 20 | tally.states;
            let boot = tally.states * boots / states < (tally.states + 1) * boots / states;
            let fsck = tally.states % 4 == 0 || boot;
            let seen = replay.crash(number, |disk| -> Result<State> {
                let state = look(disk, at, fsck)?;
                if boot {
                    booted.push((number, state.clone(), written(disk)?));
                }
                Ok(state)
            });
            let seen = seen.with_context(|| format!("stretch {stretch}, seed {number}"))?;
            *tally.found.entry(seen).or_default() += 1;
            tally.states += 1;
        }
        for (number, state, disk) in booted.drain(..) {
            let what = if uefi { &state.uefi } else { &state.bios };
            let done = starts(disk.path(), what, uefi);
            done.with_context(|| format!("stretch {stretch}, seed {number}: {state:?}"))?;
            tally.boots += 1;
        }
        replay.advance();
    }
    Ok(tally)
}

fn written(disk: &[u8]) -> Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new().suffix(".raw").tempfile()?;
    file.write_all(disk)?;
    Ok(file)
}

/// Boots a disk: what was read on it is what comes up; what is broken is followed by what always
/// starts.
fn starts(disk: &Path, (next, default): &(String, String), uefi: bool) -> Result<()> {
    let mut machine = machine(uefi)?;
    machine.disks.push(Disk::new(disk, qemu::Format::Raw));
    let mut vm = machine.start()?;
    let expected = [next, default].into_iter().take(if next == "3" { 2 } else { 1 });
    for (number, version) in expected.enumerate() {
        let line = line(&mut vm, number)?;
        let expected = format!("version {version} ");
        ensure!(line.starts_with(&expected), "expected {version}:\n{}", vm.console().tail(60));
    }
    let _ = vm.wait_exit(Duration::from_secs(60));
    Ok(())
}
