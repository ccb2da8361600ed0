//! A disk from its installation on: upgraded, taken back, fallen back to; and what is left of it when the
//! power goes at any moment of that.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kiln::definition::Format;
use kiln::qemu::{Bus, Disk, Firmware, Format as DiskFormat, Machine};
use kiln::{Progress, cache};
use kiln_oci::{docker, registry};
use rancheros::{drive, key};

use super::{Guest, images};
use crate::recorded::{Recorded, Tally, boot_partition, read};
use crate::slots::{look, partition, record};
use crate::{LONG, Registry};

/// The version that is installed, and the one that replaces it.
const OLD: &str = "v2.0.0";
const NEW: &str = "v2.0.1";
/// How long the disk is.
const DISK: u64 = 3 << 30;

/// What a disk went through.
#[derive(Debug)]
pub struct Life {
    /// The beginning of a blank disk, up to the end of what is started, while the system was installed.
    pub installation: Recorded,
    /// The boot partition, while systems replaced each other.
    pub upgrades: Recorded,
}

/// The installer's image of another version.
fn newer() -> Result<PathBuf> {
    let out = cache::workspace_root().join("target/e2e/rancheros-newer");
    let (formats, version) = (vec![Format::Initramfs], Some(NEW.into()));
    let options = rancheros::Options { formats, installer: true, version };
    rancheros::build(&options, &out, &Progress::on_stderr())?;
    Ok(out.join(rancheros::INSTALLER))
}

/// A machine with the disk of a directory, whose writes are recorded.
fn machine(place: &Path, log: &str, firmware: Firmware) -> Result<Machine> {
    let log = place.join(log);
    fs::write(&log, b"")?;
    let mut machine = Machine::default();
    machine.firmware = firmware;
    machine.hostname = Some("by-dhcp".into());
    record(&mut machine, &place.join("disk"), &log, "");
    Ok(machine)
}

/// Starts the CD beside a blank disk.
///
/// # Errors
/// When nobody is let in.
pub fn started_from_cd(place: &Path, log: &str, firmware: Firmware) -> Result<Guest> {
    let public = key::ensure(&place.join("key"))?;
    let user_data = format!("#cloud-config\nssh_authorized_keys:\n- {public}\n");
    drive::write(&place.join("config.iso"), user_data.as_bytes())?;
    File::create(place.join("disk"))?.set_len(DISK)?;
    let mut machine = machine(place, log, firmware)?;
    for path in [images()?.join("rancheros.iso"), place.join("config.iso")] {
        let mut disk = Disk::new(path, DiskFormat::Raw);
        disk.bus = Bus::Cd;
        machine.disks.push(disk);
    }
    let guest = Guest::start(machine, &place.join("key"))?;
    // nobody says what it is called
    guest.until("hostname; cat /etc/hosts", "by-dhcp\n127.0.0.1 localhost\n")?;
    // nothing is kept, and everything runs
    guest.until("docker info --format '{{.ServerVersion}}'", ".")?;
    Ok(guest)
}

/// Starts the disk.
///
/// # Errors
/// When nobody is let in.
pub fn started_from_disk(place: &Path, log: &str, firmware: Firmware) -> Result<Guest> {
    let mut machine = machine(place, log, firmware)?;
    machine.reboots = true;
    Guest::start(machine, &place.join("key"))
}

impl Guest {
    /// A command that fails, and says why.
    ///
    /// # Errors
    /// When it succeeds, or says something else.
    pub fn fails(&self, command: &str, expected: &str) -> Result<()> {
        let error = self.run(command).err().with_context(|| format!("{command} succeeded"))?;
        let said = format!("{error:#}");
        ensure!(said.contains(expected), "{command}: {expected:?} was expected: {said}");
        Ok(())
    }

    /// A command after which the machine starts anew, and what version answers then.
    fn restarts(&self, command: &str, version: &str) -> Result<()> {
        const BOOT: &str = "cat /proc/sys/kernel/random/boot_id";
        let before = self.run(BOOT)?;
        // the connection may end with the machine
        let said = self.run(command);
        let deadline = Instant::now() + LONG;
        while !self.run(BOOT).is_ok_and(|now| now != before) {
            if Instant::now() > deadline {
                bail!(
                    "{command}: {said:?}; it was not started again: {}",
                    self.vm.console().tail(60)
                );
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        self.until("sudo ros os version", version)
    }
}

/// Installs the system by its CD, and lets versions of it replace each other: one that works, one that
/// panics, and, in a long life, one whose engine does not come up.
///
/// # Errors
/// The first thing that goes otherwise.
pub fn live(place: &Path, firmware: &Firmware, long: bool) -> Result<Life> {
    let server = Registry::start()?;
    let archive = docker::Archive::open(&newer()?, kiln_oci::Limits::default())?;
    let pushed = registry::reference(&format!("127.0.0.1:{}/os:{NEW}", server.port))?;
    registry::Client::new(registry::Options::default())?.push(&archive.image(None)?, &pushed)?;
    let image = format!("10.0.2.2:{}/os:{NEW}", server.port);

    let guest = started_from_cd(place, "installation", firmware.clone())?;
    install(&guest, place, server.port)?;
    guest.power_off()?;
    let mut guest = started_from_disk(place, "upgrades", firmware.clone())?;
    replace(&guest, &image, long)?;
    guest.vm.power_button()?;
    guest.vm.wait_exit(LONG)?;
    Life::read(place)
}

fn install(guest: &Guest, place: &Path, port: u16) -> Result<()> {
    let public = key::ensure(&place.join("key"))?;
    let text = format!(
        "#cloud-config\nhostname: laid-down\nssh_authorized_keys:\n- {public}\nrancher:\n  docker:\n    \
         insecure_registry: [\"10.0.2.2:{port}\"]\n"
    );
    fs::write(place.join("c.yml"), text)?;
    guest.feed("cat > /tmp/c.yml; echo 'hostnam: x' > /tmp/bad.yml", &place.join("c.yml"))?;
    let install = "sudo ros install --no-reboot --device";
    guest.fails(&format!("{install} /dev/vda -c /tmp/bad.yml"), "unknown key \"hostnam\"")?;
    guest.fails(&format!("{install} /dev/null -c /tmp/c.yml"), "no block device")?;
    guest.fails("sudo ros os upgrade", "names none")?;
    let said = guest.run(&format!("{install} /dev/vda -c /tmp/c.yml"))?;
    ensure!(said == format!("version {OLD} is on /dev/vda\n"), "{said}");
    guest.fails(&format!("{install} /dev/vda -c /tmp/c.yml"), "with 2 partitions")
}

fn replace(guest: &Guest, image: &str, long: bool) -> Result<()> {
    let said = guest.run("hostname; sudo ros os version; sudo ros os list")?;
    let expected = format!("laid-down\n{OLD}\na  {OLD}           running, next\n");
    ensure!(said == expected, "{said}");
    has_room(guest)?;
    guest.fails("sudo ros install -d /dev/vda -f", "there is no CD")?;
    guest.fails("sudo ros os upgrade -i 10.0.2.2:1/none:1", "docker run")?;

    // Another version, of a registry; and back.
    guest.until("docker info --format '{{.ServerVersion}}'", ".")?;
    let upgrade = format!("sudo ros os upgrade --image {image}");
    guest.restarts(&upgrade, NEW)?;
    guest.until("sudo ros os list", &format!("b  {NEW}           running, next\n"))?;
    let listed = guest.run("sudo ros os list --json")?;
    ensure!(listed.contains("\"version\": \"v2.0.1\",\n    \"good\": true,"), "{listed}");
    guest.fails(&format!("sudo ros install -d /dev/vda -f -i {image}"), "it is in use")?;
    guest.fails(&format!("sudo ros install -d /dev/vda1 -f -i {image}"), "it is a partition")?;
    guest.restarts("sudo ros os rollback", OLD)?;
    let both = format!("a  {OLD}           running, next\nb  {NEW}           \n");
    guest.until("sudo ros os list", &both)?;

    let broken = [
        ("rdinit=/broken", "Kernel panic"),
        (
            "rancher.docker.args=[--nonsense] rancher.upgrade.trial_timeout=40",
            "trial: version v2.0.1 does not work: docker is ",
        ),
    ];
    for (words, told) in broken.into_iter().take(if long { 2 } else { 1 }) {
        let command = format!("{upgrade} --append '{words}'");
        guest.restarts(&command, OLD).with_context(|| words.to_owned())?;
        guest.until("sudo ros os list", &format!("b  {NEW}           never seen to work"))?;
        let console = guest.vm.console().tail(3000);
        ensure!(console.contains(told), "{told:?} was expected:\n{console}");
    }
    Ok(())
}

/// The file system of what is kept has all of the disk.
///
/// # Errors
/// When it has not.
pub fn has_room(guest: &Guest) -> Result<()> {
    let room = guest.run("df -k /var/lib/rancher | tail -1 | awk '{print $2}'")?;
    ensure!(room.trim().parse::<u64>()? > 2 << 20, "{room} KiB");
    Ok(())
}

impl Life {
    /// Reads what [`live`] has left in a directory.
    ///
    /// # Errors
    /// When a log is not there, or broken.
    pub fn read(place: &Path) -> Result<Self> {
        let (start, len) = boot_partition(&place.join("disk"))?;
        let log = read(&place.join("installation"))?;
        let beginning = start.saturating_add(len);
        let base = vec![0; usize::try_from(beginning)?];
        let installation = Recorded { base, log: log.within(0, beginning) };
        let log = read(&place.join("upgrades"))?.within(start, len);
        let installed = installation.end();
        let base = installed.get(usize::try_from(start)?..).context("a short disk")?.to_vec();
        Ok(Self { installation, upgrades: Recorded { base, log } })
    }

    /// Loses the power so many times while the system is installed: either nothing starts, or the whole
    /// system.
    ///
    /// # Errors
    /// The first state that is not sound, by its stretch and seed.
    pub fn installation_crashes(&self, states: u64, seed: u64) -> Result<Tally> {
        self.installation.crashes(states, seed, |disk, fsck| {
            // firmware looks there first, of either kind
            if disk.get(510..512) != Some(&[0x55, 0xaa]) {
                return Ok("nothing starts".into());
            }
            let at = partition(disk)?;
            let state = look(disk, at, fsck)?;
            ensure!(state.bios.0 == OLD && state.uefi.0 == OLD, "{state:?}");
            Ok(format!("{OLD} starts"))
        })
    }
}
