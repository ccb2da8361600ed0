//! A machine whose process 1 is the supervisor, through four starts in one virtual machine: devices that
//! come late, the watchdog, a panic, an emergency, kexec, and a shutdown with all that can hold it up;
//! and one that lacks things.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kiln::qemu::{Disk, Format, Machine, Vm};
use kiln::{Cache, Progress, debian, guest, kernel};
use kiln_diskimg::container::{self, Window};
use kiln_diskimg::ext4::{self, Reader};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{ByteLen, DiskPlan, Layout, Limits, Partition, SECTOR, Seed, Table};
use kiln_e2e::{LONG, alone, said};
use kiln_tree::{Node, Tree};

const SYSCTL: &str = "kernel.panic = 7\n-kernel.nonesuch = 1\n\
                      kernel.firmware_config.force_sysfs_fallback = 1\nthis is no line\n";

fn volume(tree: &Tree, headroom: u64) -> Result<ext4::Volume> {
    let mut options = ext4::Options::default();
    options.seed = Seed::new("pid1");
    options.size = ext4::VolumeSize::FromContent { headroom: ByteLen::mib(headroom) };
    Ok(ext4::Volume::plan(tree, &options)?)
}

/// A small volume as a file of another.
fn inner(directory: &Path, name: &str) -> Result<Node> {
    let volume = Partition::new(name, PartitionType::LINUX, Arc::new(volume(&Tree::new(), 16)?));
    let layout = DiskPlan::new(Table::Gpt, Seed::new(name)).with(volume).layout()?;
    let place = layout.partitions.first().context("no partition")?;
    let path = directory.join(name);
    container::write_file(Format::Raw, &layout, &path)?;
    let mut file = File::open(&path)?;
    file.seek(SeekFrom::Start(place.first.0 * SECTOR))?;
    let mut bytes = Vec::new();
    file.take(place.sectors * SECTOR).read_to_end(&mut bytes)?;
    Ok(Node::file(bytes))
}

/// The machine, and what is on its disk.
fn machine(directory: &Path) -> Result<(Machine, Layout)> {
    let cache = Cache::of_workspace();
    let kernel = debian::kernel(&cache, "linux-image-amd64")?;
    let busybox = debian::sysroot(&cache, &["busybox-static"])?.join("bin/busybox");
    let init = guest::build("kiln-e2e-init", "pid1", &Progress::on_stderr())?;
    let mut tree = Tree::new();
    tree.insert("init", Node::executable(std::fs::read(init)?))?;
    tree.insert("bin/busybox", Node::executable(std::fs::read(busybox)?))?;
    tree.insert("lib", Node::symlink("usr/lib"))?;
    tree.insert("etc/sysctl.d/10-proof.conf", Node::file(SYSCTL))?;
    tree.insert("vendor/late.bin", Node::file("found late"))?;
    let wanted = [
        "virtio_pci",
        "virtio_blk",
        "ext4",
        "crc32c_generic",
        "loop",
        "dm_mod",
        "button",
        "evdev",
        "i6300esb",
        "test_firmware",
    ]
    .map(|name| (name.to_owned(), "the test needs it".to_owned()));
    let problems = kernel::add_modules(&mut tree, &kernel, &wanted, &cache)?;
    ensure!(problems.is_empty(), "{problems:?}");
    let mut machine = alone::machine(kernel.image.clone(), &tree, directory)?;

    let mut calm = Tree::new();
    calm.insert("vmlinuz", Node::file(std::fs::read(&kernel.image)?))?;
    calm.insert("initramfs", Node::file(std::fs::read(directory.join("initramfs"))?))?;
    calm.insert("inner.img", inner(directory, "inner.img")?)?;
    calm.insert("second.img", inner(directory, "second.img")?)?;
    let mut busy = Tree::new();
    busy.insert("frozen.img", inner(directory, "frozen.img")?)?;
    let part = |name: &str, tree: &Tree| -> Result<Partition> {
        Ok(Partition::new(name, PartitionType::LINUX, Arc::new(volume(tree, 32)?)))
    };
    let plan = DiskPlan::new(Table::Gpt, Seed::new("pid1"))
        .with(part("calm", &calm)?)
        .with(part("busy", &busy)?);
    let layout = plan.layout()?;
    let path = directory.join("disk.raw");
    container::write_file(Format::Raw, &layout, &path)?;
    let mut disk = Disk::new(path, Format::Raw);
    disk.snapshot = false;

    (machine.memory, machine.processors, machine.reboots) = (768, 1, true);
    machine.disks = vec![disk];
    machine.arguments = ["-device", "i6300esb"].map(String::from).to_vec();
    Ok((machine, layout))
}

/// The partition that was to be unmounted: whether it was, and the seed in it.
fn calm(directory: &Path, layout: &Layout) -> Result<(bool, Vec<u8>)> {
    let place = layout.partitions.first().context("no partition")?;
    let mut file = File::open(directory.join("disk.raw"))?;
    let mut block = [0; 1024];
    file.seek(SeekFrom::Start(place.first.0 * SECTOR + 1024))?;
    file.read_exact(&mut block)?;
    // s_state with EXT2_VALID_FS, and s_feature_incompat without INCOMPAT_RECOVER.
    let is_clean = block[0x3a] & 1 == 1 && block[0x60] & 4 == 0;
    let mut image = container::open(file, &Limits::default())?;
    let mut window = Window::new(&mut image, place.first.0 * SECTOR, place.sectors * SECTOR);
    let mut reader = Reader::open(&mut window, &Limits::default())?;
    let found = reader.list()?;
    let seed = found.iter().find(|found| found.path.as_bytes() == b"random-seed");
    let seed = reader.read(seed.context("no seed")?)?;
    Ok((is_clean, seed))
}

fn starts(vm: &mut Vm) -> Result<Duration> {
    // Cold: nothing is kept yet, the watchdog comes late, and a panic does not stop it being fed.
    vm.wait_for("stage 1, machine-id ", LONG)?;
    vm.wait_for("the first seed is kept", LONG)?;
    vm.wait_for("/dev/watchdog is armed with 8s", LONG)?;
    vm.wait_for("resumed after", LONG)?;
    vm.wait_for("Some(\"i6300ESB timer\"); hanging", LONG)?;
    // The watchdog has reset it.
    vm.wait_for("stage 2, machine-id ", LONG)?;
    vm.wait_for("the seed was credited", LONG)?;
    vm.wait_for("this stage fails on purpose", LONG)?;
    vm.wait_for("emergency: started as", LONG)?;
    vm.type_text("busybox echo typed $((6 * 7))\n")?;
    vm.wait_for("typed 42", LONG)?;
    // One that ends at once would not have been of use.
    vm.type_text("busybox sleep 3; exit\n")?;
    vm.wait_for("stage 3, machine-id ", LONG)?;
    vm.wait_for("stage 4, machine-id ", LONG)?;
    vm.wait_for("by kexec: true", LONG)?;
    vm.wait_for("ready for the power button", LONG)?;
    let pressed = Instant::now();
    vm.power_button()?;
    vm.wait_exit(LONG)?;
    Ok(pressed.elapsed())
}

#[test]
fn a_machine_is_started_four_times_and_ends() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (machine, layout) = machine(directory.path())?;
    let began = Instant::now();
    let mut vm = machine.start()?;
    let done = starts(&mut vm);
    let console = vm.console().tail(200);
    let took = done.with_context(|| console.clone())?;
    println!("all: {:.1?}; from the power button to the end: {took:.1?}", began.elapsed());
    println!("{console}");
    for line in [
        "sysctl: panic=7",
        "10-proof.conf: line 4: expected key = value",
        "late: 2 modules loaded",
        "late: firmware late.bin loaded",
        "firmware: Ok(\"found late\")",
        "late: firmware none.bin: there is none",
        "no firmware: Err(NotFound)",
        "the watchdog resets the machine in 60s unless it is off",
        "/busy is busy",
    ] {
        ensure!(console.contains(line), "{line:?} is not in\n{console}");
    }
    for line in ["calm is busy", "forced", "disks do not answer", "nonesuch"] {
        ensure!(!console.contains(line), "{line:?} is in\n{console}");
    }
    // One identifier, one instance of what ran through the panic.
    let all = said(&vm, "proof: ");
    let ids: Vec<&str> =
        all.iter().filter_map(|line| Some(line.split_once("machine-id ")?.1)).collect();
    // The first start is told twice: the image that goes on after the panic says it too.
    ensure!(ids.len() == 5 && ids.iter().all(|id| id.len() == 32 && *id == ids[0]), "{ids:?}");
    let cold = all.iter().take_while(|line| !line.contains("stage 2"));
    let steady = cold.filter(|line| line.contains("steady: started as")).count();
    ensure!(steady == 1, "steady was started {steady} times");
    let (is_clean, seed) = calm(directory.path(), &layout)?;
    ensure!(is_clean, "calm was not unmounted\n{console}");
    ensure!(seed.len() == 32, "{seed:?}");
    Ok(())
}

/// A machine without a console, with a root that cannot be written, then without processes, time and
/// memory; ctrl-alt-del ends it.
#[test]
fn a_machine_that_lacks_things_goes_on() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cache = Cache::of_workspace();
    let kernel = debian::kernel(&cache, "linux-image-amd64")?;
    let init = guest::build("kiln-e2e-init", "faults", &Progress::on_stderr())?;
    let mut tree = Tree::new();
    tree.insert("init", Node::executable(std::fs::read(init)?))?;
    tree.insert("lib", Node::symlink("usr/lib"))?;
    let wanted = ["i8042", "atkbd"].map(|name| (name.to_owned(), "ctrl-alt-del".to_owned()));
    let problems = kernel::add_modules(&mut tree, &kernel, &wanted, &cache)?;
    ensure!(problems.is_empty(), "{problems:?}");
    let monitor = directory.path().join("monitor");
    let mut machine = alone::machine(kernel.image, &tree, directory.path())?;
    (machine.memory, machine.processors) = (384, 1);
    let monitor_argument = format!("unix:{},server=on,wait=off", monitor.display());
    machine.arguments = vec!["-monitor".into(), monitor_argument];
    let mut vm = machine.start()?;
    let took = (|| -> Result<Duration> {
        vm.wait_for("ready for ctrl-alt-del", LONG)?;
        let pressed = Instant::now();
        let mut keys = UnixStream::connect(&monitor).context("connect to the monitor")?;
        keys.write_all(b"sendkey ctrl-alt-delete\n")?;
        vm.wait_exit(LONG)?;
        Ok(pressed.elapsed())
    })();
    let console = vm.console().tail(300);
    let took = took.with_context(|| console.clone())?;
    println!("from ctrl-alt-del to the end: {took:.1?}");
    let all = said(&vm, "faults: ");
    for line in [
        "devices before: false, now: true",
        "console: /dev/null",
        "root: Err(ReadOnlyFilesystem)",
        "others are the same: true",
        "clock by 31536000 s: in time: true",
        "clock by -63072000 s: in time: true",
        "out of memory: process 1 -1000, services 0",
        "back with a process: true",
    ] {
        ensure!(all.iter().any(|said| said == line), "{line:?} is not in\n{console}");
    }
    for line in [
        "bytes of output dropped: EROFS",
        "no process: ",
        "bounded: killed by SIGKILL",
        "glutton: killed by SIGKILL",
        "deaf: killed, it did not stop in time",
        "with all of its group",
        "all services stopped: reboot",
    ] {
        ensure!(all.iter().any(|said| said.contains(line)), "{line:?} is not in\n{console}");
    }
    let place = |line: &str| all.iter().rposition(|said| said.contains(line));
    ensure!(place("second: stopped") < place("first: stopping"), "order\n{console}");
    ensure!(!console.contains("FAILED") && !console.contains("panic"), "{console}");
    Ok(())
}
