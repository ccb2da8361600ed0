//! The RancherOS-like system's disks as they are shipped, each with a cloud-config beside it: the one for
//! clouds started by a BIOS, the one for VirtualBox by UEFI from SATA, as VirtualBox has it.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use kiln::qemu::{Bus, Disk, Firmware, Format, Machine, Nic, Uefi};
use kiln::{Cache, digest};
use kiln_e2e::rancheros::{Guest, disks, has_room, images, small_image};
use kiln_e2e::tool;
use rancheros::{drive, key};

/// What is in use while nobody does anything: of all memory, and by each program, in kB, with what several
/// share divided among them (`Pss` of proc_pid_smaps(5)).
const MEMORY: &str = "sudo sh -c 'free -m; for of in /proc/[0-9]*; do \
    echo $(readlink $of/exe) $(sed -n \"s/^Pss://p\" $of/smaps_rollup); \
    done 2>/dev/null' | awk '$3 == \"kB\" {sum[$1] += $2; next} NF > 2 {print} END {for (of in sum) print of, sum[of]}'";

/// Starts a disk beside a config drive with a name, and sees that it is the system: the name, the version,
/// and a container of the user's engine.
fn holds(place: &Path, name: &str, mut machine: Machine) -> Result<Guest> {
    let public = key::ensure(&place.join("key"))?;
    let medium = place.join(format!("{name}.iso"));
    let user_data =
        format!("#cloud-config\nhostname: {name}\nssh_authorized_keys: [\"{public}\"]\n");
    drive::write(&medium, user_data.as_bytes())?;
    let mut medium = Disk::new(medium, Format::Raw);
    medium.bus = Bus::Cd;
    machine.disks.push(medium);
    let guest = Guest::start(machine, &place.join("key"))?;
    assert_eq!(guest.run("hostname; sudo ros os version")?, format!("{name}\nv2.0.0\n"));
    assert_eq!(guest.run("sudo ros os list")?, "a  v2.0.0           running, next\n");
    guest.until("docker info --format '{{.Driver}}'", "overlay2")?;
    println!("{}", guest.run(MEMORY)?);
    guest.feed("docker load", &small_image(&place.join("small"))?)?;
    let ran =
        guest.run("docker run --rm rancher/os-base:v1 /bin/echo printed on a shipped disk")?;
    assert_eq!(ran, "printed on a shipped disk\n");
    let state = guest.run("sudo grep ' /state ' /proc/1/mounts")?;
    ensure!(state.contains(" ext4 "), "nothing is kept: {state}");
    Ok(guest)
}

/// What is built elsewhere, at another time, with another umask and nothing known but downloads, is the same.
/// Process 1 is cargo's output, and the same file in both.
#[test]
fn what_is_built_elsewhere_is_the_same() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name);
    std::fs::create_dir(place("cache"))?;
    let packages = Cache::of_workspace().root().join("debian");
    std::os::unix::fs::symlink(packages, place("cache/debian"))?;
    let (images, disks) = (images()?, disks()?);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_build_rancheros")]);
    command.arg(place("there")).current_dir("/").env("KILN_CACHE", place("cache"));
    command.env("TZ", "Pacific/Kiritimati").env("LC_ALL", "C").env("SOURCE_DATE_EPOCH", "1");
    let done = command.status()?;
    ensure!(done.success(), "{done}");
    for (from, artifact) in [
        (images, "rancheros.vmlinuz"),
        (images, "rancheros.initramfs"),
        (images, "rancheros.release"),
        (images, "rancheros.iso"),
        (disks, "rancheros.qcow2"),
        (disks, "rancheros.vbox.zip"),
    ] {
        let [here, there] =
            [from, &place("there")].map(|path| digest::of_file(&path.join(artifact)));
        assert_eq!(here?, there?, "{artifact}");
    }
    Ok(())
}

#[test]
fn the_disk_for_clouds_grows_and_runs() -> Result<()> {
    let Some(qemu_img) = tool("qemu-img") else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let place = directory.path();
    // A cloud gives it a larger disk than it was made for.
    let larger = place.join("larger.qcow2");
    let mut create = Command::new(qemu_img);
    create.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
    let made = create.arg(disks()?.join("rancheros.qcow2")).arg(&larger).arg("4G").status()?;
    ensure!(made.success(), "qemu-img: {made}");
    let mut machine = Machine::default();
    machine.disks.push(Disk::new(larger, Format::Qcow2));
    let guest = holds(place, "in-a-cloud", machine)?;
    has_room(&guest)?;
    guest.power_off()
}

#[test]
fn the_disk_for_virtualbox_runs() -> Result<()> {
    let Some(unzip) = tool("unzip") else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let place = directory.path();
    let mut unpack = Command::new(unzip);
    unpack.arg("-q").arg(disks()?.join("rancheros.vbox.zip")).arg("-d").arg(place);
    let done = unpack.status()?;
    ensure!(done.success(), "unzip: {done}");
    let vmdk = place.join("rancheros-disk1.vmdk");
    let mut machine = Machine::default();
    machine.firmware = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    // as VirtualBox has them
    machine.nic = Some(Nic::E1000);
    let mut disk = Disk::new(vmdk, Format::VmdkStream);
    disk.bus = Bus::Ide;
    machine.disks.push(disk);
    let guest = holds(place, "in-virtualbox", machine)?;
    let disk = guest.run("ls /sys/class/block")?;
    ensure!(disk.contains("sda2"), "it is not on SATA: {disk}");
    guest.power_off()
}
