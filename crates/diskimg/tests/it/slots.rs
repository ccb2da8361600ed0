//! Two systems on one partition: what is changed, and what is left behind when the power goes.

use std::io::Cursor;

use kiln_diskimg::boot::syslinux::{Adv, Loader};
use kiln_diskimg::crash::{Log, Recorder, Replay};
use kiln_diskimg::slots::{
    self, Firmware, Found, Options, Part, Plan, Release, Slot, Step, System,
};
use kiln_diskimg::{ByteLen, DiskPlan, Error, Limits, Partition, Seed, Table, gpt, install};

use crate::tools::{bytes, expect, run};

const LINE: &str = "console=ttyS0 panic=5";

/// Bytes that differ everywhere from those of another seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next() | 1).collect()
}

struct New {
    kernel: Vec<u8>,
    initrd: Vec<u8>,
    release: Release,
}

fn new(version: &str, seed: u64, kernel: usize, initrd: usize) -> New {
    let (kernel, initrd) = (noise(seed, kernel), noise(seed + 1, initrd));
    let mut release = Release::new(version, Part::of(&kernel), Part::of(&initrd));
    release.command_line = LINE.to_owned();
    New { kernel, initrd, release }
}

/// A partition for all firmware that its loaders are there for.
fn volume() -> Vec<u8> {
    let mut options = Options::new(ByteLen::kib(1536));
    (options.id, options.kernel) = (0xc0ff_ee01, ByteLen::kib(512));
    let system = System::new("1.0", noise(1, 300_000), noise(2, 500_001), LINE);
    let mut plan = Plan::new(options, system).systemd_boot(noise(3, 5000));
    if run("syslinux", &["--version"]).is_some() {
        plan = plan.syslinux(Loader::from_package("/").unwrap());
    }
    bytes(&plan.volume().unwrap())
}

fn look(disk: &mut Vec<u8>) -> Found {
    slots::read(disk, &Limits::default()).unwrap()
}

/// Performs steps on a recorded disk.
fn recorded(disk: &[u8], steps: &[Step], new: &New) -> (Vec<u8>, Log) {
    let mut recorder = Recorder::new(disk.to_vec());
    let (mut kernel, mut initrd) = (Cursor::new(&new.kernel), Cursor::new(&new.initrd));
    slots::perform(steps, &mut recorder, &mut kernel, &mut initrd).unwrap();
    let after = recorder.bytes().to_vec();
    (after, recorder.finish().1)
}

/// What a machine would do with this disk: for each firmware the version that starts next, and the one
/// that always does. Whatever starts is whole.
fn starts(disk: &mut Vec<u8>) -> Vec<(String, String)> {
    let found = look(disk);
    let version = |slot: Option<Slot>, disk: &mut Vec<u8>| {
        let slot = slot.expect("something is started");
        slots::verify(&found, slot, disk).unwrap();
        found.record(slot).unwrap().version.clone()
    };
    let mut all = Vec::new();
    for firmware in found.firmware() {
        let default = found.default_of(firmware);
        assert!(found.record(default.unwrap()).unwrap().good, "{default:?} was never healthy");
        all.push((version(found.next(firmware), disk), version(default, disk)));
    }
    all
}

/// The bytes of the file system that are no file's content, and not the names of entries.
fn structure(disk: &mut Vec<u8>) -> Vec<u8> {
    let found = look(disk);
    let data = found.places.state.offset().min(found.places.slot(Slot::A).kernel.offset());
    let mut head = disk[..usize::try_from(data).unwrap()].to_vec();
    let uefi = found.places.uefi.unwrap();
    let names = usize::try_from(uefi.entries.offset()).unwrap();
    if let Some(names) = head.get_mut(names..names + 512) {
        names.fill(0);
    }
    for run in [uefi.config, uefi.once]
        .into_iter()
        .chain(found.places.bios.into_iter().flat_map(|bios| [bios.config, bios.vector]))
        .chain(Slot::ALL.into_iter().flat_map(|slot| {
            let place = found.places.slot(slot);
            [place.uefi_entry, place.bios_entry]
        }))
    {
        let start = usize::try_from(run.offset()).unwrap();
        let end = start + usize::try_from(run.len()).unwrap();
        if let Some(content) = head.get_mut(start..end) {
            content.fill(0);
        }
    }
    head
}

fn fsck(disk: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), disk).unwrap();
    if let Some(text) = expect("fsck.vfat", &["-n", file.path().to_str().unwrap()]) {
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}

/// Loses the power in every stretch of a log, so many times, and looks what starts.
fn crashes(base: &[u8], log: &Log, per_stretch: u64, allowed: &[&str]) -> u64 {
    let mut base = base.to_vec();
    let unchanged = structure(&mut base);
    let mut replay = Replay::new(log, base);
    let (mut states, mut stretch) = (0, 0);
    loop {
        for seed in 0..per_stretch {
            replay.crash(stretch << 32 | seed, |disk| {
                for (next, default) in starts(disk) {
                    assert!(allowed.contains(&next.as_str()), "{next}");
                    assert!(allowed.contains(&default.as_str()), "{default}");
                }
                assert!(structure(disk) == unchanged, "the file system is another one");
                if seed == 0 {
                    fsck(disk);
                }
            });
            states += 1;
        }
        stretch += 1;
        if !replay.advance() {
            return states;
        }
    }
}

#[test]
fn a_new_disk_has_one_system_and_nothing_to_do() {
    let mut disk = volume();
    fsck(&disk);
    let found = look(&mut disk);
    assert_eq!(found.record(Slot::B), None);
    for (next, default) in starts(&mut disk) {
        assert_eq!((next.as_str(), default.as_str()), ("1.0", "1.0"));
    }
    // Its directory is what a later change would write.
    assert_eq!(slots::mark_good(&found, Slot::A).unwrap(), []);
    assert_eq!(slots::settle(&found, Slot::A).unwrap(), []);
    // Twice the same.
    assert!(volume() == disk);
}

#[test]
fn an_upgrade_is_tried_once_marked_good_and_taken_back() {
    let mut disk = volume();
    let two = new("2.0", 20, 400_000, 700_000);
    let steps = slots::upgrade(&look(&mut disk), Some(Slot::A), &two.release).unwrap();
    (disk, _) = recorded(&disk, &steps, &two);
    for (next, default) in starts(&mut disk) {
        assert_eq!((next.as_str(), default.as_str()), ("2.0", "1.0"));
    }
    fsck(&disk);
    // The one that runs stays, and is the only one of which is known that it starts.
    let found = look(&mut disk);
    let three = new("3.0", 30, 1000, 1000);
    let error = slots::upgrade(&found, Some(Slot::B), &three.release).unwrap_err().to_string();
    assert!(error.contains("slot b has not said that it is healthy"), "{error}");
    let error = slots::roll_back(&found, Some(Slot::A), false).unwrap();
    assert_eq!(error.last(), Some(&Step::Flush));

    // An upgrade of an upgrade that nobody has started goes to the same slot.
    let steps = slots::upgrade(&found, Some(Slot::A), &three.release).unwrap();
    let (mut other, _) = recorded(&disk, &steps, &three);
    assert_eq!(look(&mut other).record(Slot::B).unwrap().generation, 3);

    let steps = slots::mark_good(&found, Slot::B).unwrap();
    (disk, _) = recorded(&disk, &steps, &two);
    for (next, default) in starts(&mut disk) {
        assert_eq!((next.as_str(), default.as_str()), ("2.0", "2.0"));
    }
    let steps = slots::roll_back(&look(&mut disk), Some(Slot::B), false).unwrap();
    (disk, _) = recorded(&disk, &steps, &two);
    for (next, default) in starts(&mut disk) {
        assert_eq!((next.as_str(), default.as_str()), ("1.0", "1.0"));
    }
    fsck(&disk);
}

#[test]
fn whenever_the_power_goes_the_old_or_the_new_system_starts() {
    let mut disk = volume();
    let mut states = 0;
    let two = new("2.0", 20, 400_000, 700_000);
    let upgrade = slots::upgrade(&look(&mut disk), Some(Slot::A), &two.release).unwrap();
    let (after, log) = recorded(&disk, &upgrade, &two);
    states += crashes(&disk, &log, 40, &["1.0", "2.0"]);
    disk = after;
    for (slot, steps) in [
        (Slot::B, slots::mark_good(&look(&mut disk), Slot::B).unwrap()),
        (Slot::A, slots::roll_back(&look(&mut disk), Some(Slot::A), false).unwrap()),
    ] {
        let (after, log) = recorded(&disk, &steps, &two);
        states += crashes(&disk, &log, 20, &["1.0", "2.0"]);
        if slot == Slot::B {
            disk = after;
        }
    }
    // The slot that was left is written, whichever loader still names it.
    let three = new("3.0", 30, 100_000, 300_000);
    let upgrade = slots::upgrade(&look(&mut disk), Some(Slot::B), &three.release).unwrap();
    let (after, log) = recorded(&disk, &upgrade, &three);
    states += crashes(&disk, &log, 40, &["2.0", "3.0"]);
    disk = after;
    let steps = slots::roll_back(&look(&mut disk), None, false).unwrap();
    let (_, log) = recorded(&disk, &steps, &two);
    states += crashes(&disk, &log, 20, &["2.0", "3.0"]);
    println!("{states} states");
    assert!(states > 300, "{states}");
}

/// Power that goes again and again: each state is what the next change begins with.
#[test]
fn interrupted_changes_on_top_of_each_other_are_sound() {
    let mut disk = volume();
    for round in 0..60_u64 {
        let found = look(&mut disk);
        let version = format!("{}.0", round + 2);
        let new = new(&version, round, 200_000, 600_000 - usize::try_from(round).unwrap() * 5000);
        // A machine starts what the firmware of the round finds.
        let firmware = found.firmware();
        let firmware = firmware[usize::try_from(round).unwrap() % firmware.len()];
        let running = found.next(firmware).unwrap();
        let good = found.record(running).unwrap().good;
        let steps = match round % 4 {
            _ if !good => slots::mark_good(&found, running).unwrap(),
            3 => slots::roll_back(&found, Some(running), false)
                .or_else(|_| slots::settle(&found, running))
                .unwrap(),
            _ => slots::upgrade(&found, Some(running), &new.release).unwrap(),
        };
        let (_, log) = recorded(&disk, &steps, &new);
        let stretches = log.stretches() as u64;
        let mut replay = Replay::new(&log, disk.clone());
        for _ in 0..(round * 7) % stretches {
            replay.advance();
        }
        disk = replay.crash(round, |disk| {
            starts(disk);
            disk.clone()
        });
    }
    fsck(&disk);
}

#[test]
fn what_speaks_against_an_upgrade_is_told_at_once_and_before() {
    let mut disk = volume();
    let found = look(&mut disk);
    let mut large = new("0.9", 5, 10, 10);
    large.release.kernel.len = 600_000;
    large.release.initrd.len = 2_000_000;
    let error = slots::upgrade(&found, Some(Slot::A), &large.release).unwrap_err().to_string();
    for part in ["600000 bytes", "2000000 bytes", "room for 524288", "0.9 is older than 1.0"] {
        assert!(error.contains(part), "{error}");
    }
    let mut older = new("0.9", 5, 10, 10).release;
    older.allow_older = true;
    assert!(slots::upgrade(&found, Some(Slot::A), &older).is_ok());
    let mut lines = new("2", 5, 10, 10).release;
    lines.command_line = "x".repeat(1701);
    let error = slots::upgrade(&found, Some(Slot::A), &lines).unwrap_err().to_string();
    assert!(error.contains("1701 bytes, at most 1700"), "{error}");
    let named = new("2\n", 5, 10, 10).release;
    assert!(slots::upgrade(&found, Some(Slot::A), &named).is_err());
    let error = slots::mark_good(&found, Slot::B).unwrap_err().to_string();
    assert!(error.contains("slot b holds nothing whole"), "{error}");
    let error = slots::roll_back(&found, Some(Slot::A), true).unwrap_err().to_string();
    assert!(error.contains("slot b holds nothing whole"), "{error}");
}

/// What is read back is something else: the new system is never named.
#[test]
fn a_disk_that_does_not_keep_what_it_is_given_starts_the_old_system() {
    let mut disk = volume();
    let mut two = new("2.0", 20, 400_000, 700_000);
    let steps = slots::upgrade(&look(&mut disk), Some(Slot::A), &two.release).unwrap();
    two.initrd[600_000] ^= 4;
    let mut device = Cursor::new(disk);
    let (mut kernel, mut initrd) = (Cursor::new(&two.kernel), Cursor::new(&two.initrd));
    let error = slots::perform(&steps, &mut device, &mut kernel, &mut initrd).unwrap_err();
    assert!(error.to_string().contains("the initramfs of slot b"), "{error}");
    let mut disk = device.into_inner();
    for (next, default) in starts(&mut disk) {
        assert_eq!((next.as_str(), default.as_str()), ("1.0", "1.0"));
    }
    assert_eq!(look(&mut disk).record(Slot::B), None);
}

#[test]
fn an_entry_that_firmware_lost_is_there_again() {
    let mut disk = volume();
    let found = look(&mut disk);
    let at = usize::try_from(found.places.uefi.unwrap().entries.offset()).unwrap();
    // ".", "..", two names of two entries each; then that which is started once.
    let names = disk.get_mut(at..at + 512).unwrap();
    assert_eq!(names[6 * 32], 0x42, "the entry's long name begins elsewhere");
    names[6 * 32..].fill(0);
    let two = new("2.0", 20, 400_000, 700_000);
    let steps = slots::upgrade(&look(&mut disk), Some(Slot::A), &two.release).unwrap();
    let (mut after, log) = recorded(&disk, &steps, &two);
    fsck(&after);
    assert!(starts(&mut after).iter().all(|(next, _)| next == "2.0"));
    let mut replay = Replay::new(&log, disk);
    for seed in 0.. {
        replay.crash(seed, starts);
        if !replay.advance() {
            break;
        }
    }
}

#[test]
fn what_is_no_disk_with_slots_is_told_from_one_that_was_tampered_with() {
    let other = bytes(
        &kiln_diskimg::fat::Volume::plan(&crate::tools::tree(), &crate::tools::options()).unwrap(),
    );
    let error = slots::read(&mut other.clone(), &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(slots::read(&mut vec![0; 4096], &Limits::default()).is_err());

    let mut disk = volume();
    let places = look(&mut disk).places;
    let mut moved = disk.clone();
    // The length of a file in its directory's entry is another one.
    let name = b"LINUX      ";
    let at = moved.windows(11).position(|window| window == name).unwrap();
    moved[at + 29] ^= 2;
    let error = slots::read(&mut moved, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("slots/a/linux should be 1024 sectors"), "{error}");
    let mut scribbled = disk.clone();
    let state = usize::try_from(places.state.offset()).unwrap();
    scribbled[state + 30] ^= 1;
    let error = slots::read(&mut scribbled, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("the checksum is another one"), "{error}");
    let config = usize::try_from(places.uefi.unwrap().config.offset()).unwrap();
    disk[config..config + 20].fill(b'#');
    let two = new("2.0", 20, 400_000, 700_000);
    let error = slots::upgrade(&look(&mut disk), Some(Slot::A), &two.release).unwrap_err();
    assert!(error.to_string().contains("names no slot to start"), "{error}");
}

/// Only what one loader has tried and another has not is taken back.
#[test]
fn a_try_that_one_firmware_made_is_not_made_again_by_the_other() {
    let mut disk = volume();
    if look(&mut disk).firmware().len() < 2 {
        return;
    }
    let two = new("2.0", 20, 400_000, 700_000);
    let steps = slots::upgrade(&look(&mut disk), Some(Slot::A), &two.release).unwrap();
    (disk, _) = recorded(&disk, &steps, &two);
    assert_eq!(slots::settle(&look(&mut disk), Slot::A).unwrap(), []);
    // SYSLINUX forgets it, starts slot b, which hangs; then slot a is started.
    let vector = usize::try_from(look(&mut disk).places.bios.unwrap().vector.offset()).unwrap();
    for copy in [0, 512] {
        disk[vector + copy..][..512].copy_from_slice(&Adv::default().emit());
    }
    let found = look(&mut disk);
    assert_eq!(found.next(Firmware::Bios), Some(Slot::A));
    assert_eq!(found.next(Firmware::Uefi), Some(Slot::B));
    assert_eq!(slots::settle(&found, Slot::B).unwrap(), []);
    let steps = slots::settle(&found, Slot::A).unwrap();
    (disk, _) = recorded(&disk, &steps, &two);
    assert_eq!(look(&mut disk).next(Firmware::Uefi), Some(Slot::A));
}

/// SYSLINUX's own installer as oracle: it leaves the same empty vector. (What `extlinux --once` writes
/// is compared in e2e, because it wants a mounted file system.)
#[test]
fn syslinux_leaves_the_same_vector() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let volume =
        kiln_diskimg::fat::Volume::plan(&crate::tools::tree(), &crate::tools::options()).unwrap();
    std::fs::write(file.path(), bytes(&volume)).unwrap();
    if expect("syslinux", &["--install", file.path().to_str().unwrap()]).is_none() {
        return;
    }
    let mut theirs = std::fs::read(file.path()).unwrap();
    let mut reader = kiln_diskimg::fat::Reader::open(&mut theirs, &Limits::default()).unwrap();
    let list = reader.list().unwrap();
    let found = list.iter().find(|found| found.path.to_string() == "ldlinux.sys").unwrap();
    let content = reader.read(found).unwrap();
    let (one, two) = content[content.len() - 1024..].split_at(512);
    let empty = Adv::default().emit();
    assert_eq!((one, two), (&empty[..], &empty[..]));
}

/// A disk that had another system on it.
#[test]
fn an_installation_that_is_interrupted_leaves_the_old_disk_none_or_the_new_one() {
    let layout = |name: &str, seed: u64| {
        let mut tree = kiln_tree::Tree::new();
        tree.insert("system", kiln_tree::Node::file(noise(seed, 3_000_000))).unwrap();
        let mut options = kiln_diskimg::fat::Options::default();
        options.kind = Some(kiln_diskimg::fat::Kind::Fat16);
        let volume = kiln_diskimg::fat::Volume::plan(&tree, &options).unwrap();
        let mut plan = DiskPlan::new(Table::Gpt, Seed::new(name))
            .with(Partition::new(name, gpt::PartitionType::EFI_SYSTEM, volume).bootable());
        plan.boot_code = Some([7; 440]);
        plan.size = Some(ByteLen::mib(12));
        plan.layout().unwrap()
    };
    let (old, new) = (layout("old", 1), layout("new", 2));
    let (before, after) = (bytes(&old), bytes(&new));
    let mut disk = Recorder::new(before.clone());
    install(&new, &mut disk).unwrap();
    assert!(disk.bytes() == after);
    let (base, log) = disk.finish();
    assert_eq!(log.stretches(), 6);
    // What firmware looks at, and whether what it leads to is whole.
    let partition = (1 << 20)..(11 << 20);
    let state = |disk: &mut Vec<u8>| {
        let table = gpt::read(disk, &Limits::default()).ok();
        let bootable = disk[510..512] == [0x55, 0xaa] && table.is_some();
        let Some(table) = table.filter(|_| bootable) else { return "none" };
        let name = table.entries[0].1.name.clone();
        let whole = match name.as_str() {
            "old" => disk[partition.clone()] == before[partition.clone()],
            _ => *disk == after,
        };
        assert!(whole, "{name} starts, and is not whole");
        if name == "old" { "old" } else { "new" }
    };
    let mut replay = Replay::new(&log, base);
    let mut seen = std::collections::BTreeMap::new();
    loop {
        for seed in 0..30 {
            *seen.entry(replay.crash(seed, state)).or_insert(0) += 1;
        }
        if !replay.advance() {
            break;
        }
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), ["new", "none", "old"], "{seen:?}");
    let mut small = Cursor::new(vec![1; 1 << 20]);
    let error = install(&new, &mut small).unwrap_err().to_string();
    assert!(error.contains("bytes, 11534336 too few"), "{error}");
    assert!(small.into_inner() == vec![1; 1 << 20]);
}
