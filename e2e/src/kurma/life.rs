//! A machine from its first start on: somebody becomes known to it, and versions replace each other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kiln::qemu::{Firmware, Forward, Machine, Vm};

use super::{API, Cli, OPERATOR, SECOND, System};
use crate::slots::record;
use crate::{LONG, Recorded};

/// Letters of a code, and what is between them.
const CODE: usize = 47;

/// A disk, and what is written to it while its first machine runs.
#[derive(Debug)]
pub struct Life {
    first: PathBuf,
    disk: PathBuf,
    log: PathBuf,
}

impl Life {
    /// A disk of the system with what an OEM says.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(system: &System, oem: &Path, place: &Path) -> Result<Self> {
        let life = Self {
            first: place.join("first.raw"),
            disk: place.join("lived.raw"),
            log: place.join("log"),
        };
        for path in [&life.first, &life.disk] {
            system.disk(oem, path)?;
        }
        Ok(life)
    }

    /// Starts a machine of it, with ports of this host that lead to it. What the first one writes is recorded.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(&self, firmware: Firmware, ports: &[u16]) -> Result<Vm> {
        let mut machine = Machine::default();
        (machine.memory, machine.firmware, machine.reboots) = (1024, firmware, true);
        let forward = |guest: &u16| Forward { udp: false, host: 0, guest: *guest };
        machine.forwards.extend(ports.iter().map(forward));
        // a log is of one machine
        let log =
            if self.log.exists() { self.log.with_extension("later") } else { self.log.clone() };
        fs::write(&log, b"")?;
        record(&mut machine, &self.disk, &log, ",bootindex=0");
        Ok(machine.start()?)
    }

    /// What happened to the boot partition meanwhile.
    ///
    /// # Errors
    /// When the log is not there, or broken.
    pub fn recorded(&self) -> Result<Recorded> {
        Recorded::of_boot_partition(&self.first, &self.log)
    }
}

/// The port of this host that leads to one of the machine's.
///
/// # Errors
/// When there is none.
pub fn port(vm: &Vm, guest: u16) -> Result<u16> {
    vm.forwarded(guest).context("no port leads to the guest")
}

/// Becomes known by the code that the console shows, and sees who is not.
///
/// # Errors
/// The first thing that goes otherwise.
pub fn enrolled(vm: &mut Vm, system: &System, place: &Path) -> Result<Cli> {
    // a line may come in parts
    let shown = |vm: &Vm| {
        let lines = vm.console().lines();
        let codes = lines.iter().filter_map(|line| line.text.split_once(" --code "));
        codes.map(|(_, code)| code.trim().to_owned()).find(|code| code.len() == CODE)
    };
    vm.wait_until("a code on the console", LONG, |vm| shown(vm).is_some())?;
    let code = shown(vm).context("a code")?;
    let at = port(vm, API)?;
    let cli = Cli::new(system, &place.join(OPERATOR), at);
    let said = cli.refused(&["list"])?;
    ensure!(said.contains("kurma enroll"), "{said}");
    // the last letter is one of the secret's
    let other = if code.ends_with('A') { "B" } else { "A" };
    let wrong = format!("{}{other}", code.get(..code.len() - 1).context("a code")?);
    let stranger = Cli::new(system, &place.join("stranger"), at);
    println!("a wrong code: {}", stranger.not_enrolled(&wrong)?);
    cli.enroll(&code)?;
    println!("the code again: {}", stranger.not_enrolled(&code)?);
    let info = cli.run(&["info"])?;
    ensure!(info.contains("hostname: by-oem") && info.contains("v0.1.0"), "{info}");
    Ok(cli)
}

/// Replaces the system by the second version, which stays; then by one that does not start.
///
/// # Errors
/// The first thing that goes otherwise.
pub fn replaced(vm: &mut Vm, system: &System, cli: &Cli, place: &Path) -> Result<()> {
    println!("{}", cli.run(&["upgrade", &system.second.to_string_lossy()])?);
    vm.wait_for(&format!("trial: version {SECOND} works"), LONG)?;
    cli.until(&["info"], SECOND)?;
    let said = cli.refused(&["upgrade", &system.first().to_string_lossy()])?;
    ensure!(said.contains("older than"), "{said}");
    let broken = system.other("v0.3.0", "rdinit=/none panic=1", None, place)?;
    println!("{}", cli.run(&["upgrade", &broken.to_string_lossy()])?);
    vm.wait_for("trial: the other system was tried and did not last", LONG)?;
    cli.until(&["info"], SECOND)?;
    Ok(())
}
