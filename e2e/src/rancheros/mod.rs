//! The RancherOS-like system under test.

mod life;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kiln::definition::{Definition, Format};
use kiln::qemu::{Disk, Format as DiskFormat, Forward, Machine, Vm};
use kiln::{Progress, build, cache, machine};
use rancheros::key;

pub use life::{Life, has_room, live, started_from_cd, started_from_disk};

use crate::LONG;

const SSH: u16 = 22;

/// Kernel, initramfs and CD, built once.
///
/// # Errors
/// When they cannot be built.
pub fn images() -> Result<&'static Path> {
    static BUILT: Built = OnceLock::new();
    built(&BUILT, "rancheros", &[Format::Initramfs, Format::Iso])
}

/// The disks for clouds and for VirtualBox, built once.
///
/// # Errors
/// As [`images`].
pub fn disks() -> Result<&'static Path> {
    static BUILT: Built = OnceLock::new();
    built(&BUILT, "rancheros-disks", &[Format::Qcow2, Format::VboxZip])
}

type Built = OnceLock<Result<PathBuf, String>>;

fn built(built: &'static Built, name: &str, formats: &[Format]) -> Result<&'static Path> {
    let built = built.get_or_init(|| {
        let out = cache::workspace_root().join("target/e2e").join(name);
        let formats = formats.to_vec();
        let options = rancheros::Options { formats, ..rancheros::Options::default() };
        let done = rancheros::build(&options, &out, &Progress::on_stderr());
        done.map(|_| out).map_err(|error| format!("{error:#}"))
    });
    built.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// The system's smallest image as `docker load` takes it.
///
/// # Errors
/// When it cannot be built.
pub fn small_image(out: &Path) -> Result<PathBuf> {
    let file = rancheros::definition_file().with_file_name("images/base/image.toml");
    let mut options = build::Options::default();
    options.formats = vec![Format::Docker];
    build::build(&Definition::read(&file)?, &options, out, &Progress::quiet())?;
    Ok(out.join("os-base.docker.tar"))
}

/// A machine that is logged in to.
#[derive(Debug)]
pub struct Guest {
    /// The machine.
    pub vm: Vm,
    key: PathBuf,
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the guest's console:\n{}", self.vm.console().tail(80));
        }
    }
}

impl Guest {
    /// Starts a machine, and waits until it lets the user in.
    ///
    /// # Errors
    /// When nobody is let in, with the console's last lines.
    pub fn start(machine: Machine, key: &Path) -> Result<Self> {
        let guest = Self::begin(machine, key)?;
        guest.let_in()?;
        println!("let in {:.1} s after QEMU's start", guest.vm.started().elapsed().as_secs_f64());
        Ok(guest)
    }

    /// Starts a machine, and waits for nobody.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn begin(mut machine: Machine, key: &Path) -> Result<Self> {
        machine.memory = 1024;
        machine.forwards.push(Forward { udp: false, host: 0, guest: SSH });
        Ok(Self { vm: machine.start()?, key: key.into() })
    }

    /// Waits until the user is let in.
    ///
    /// # Errors
    /// After [`LONG`], with the console's last lines.
    pub fn let_in(&self) -> Result<()> {
        let deadline = Instant::now() + LONG;
        loop {
            match self.run("true") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let console = self.vm.console().tail(80);
                    return Err(error.context(format!("nobody is let in:\n{console}")));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    fn ssh(&self, command: &str) -> Result<Command> {
        let port = self.vm.forwarded(SSH).context("no port leads to the guest")?;
        let mut ssh = Command::new("ssh");
        // a guest that hangs does not hold the test up for ever
        ssh.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8"]);
        ssh.args(key::ssh(&self.key, port)).arg(command);
        Ok(ssh)
    }

    /// What a command in the console says, if it succeeds.
    ///
    /// # Errors
    /// What it says if not.
    pub fn run(&self, command: &str) -> Result<String> {
        let output = self.ssh(command)?.stdin(Stdio::null()).output().context("ssh")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "{command}: {}: {said}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(said)
    }

    /// What a shell says to a line that takes connections in place of the ssh server, as a console without
    /// one has it.
    ///
    /// # Errors
    /// When nobody is there.
    pub fn shell(&self, line: &str) -> Result<String> {
        let port = self.vm.forwarded(SSH).context("no port leads to the guest")?;
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        // a machine that hangs does not hold the test up for ever
        stream.set_read_timeout(Some(LONG))?;
        writeln!(stream, "{line}; exit")?;
        let mut said = Vec::new();
        stream.take(1 << 20).read_to_end(&mut said)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// The same with a file as its input.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn feed(&self, command: &str, file: &Path) -> Result<String> {
        let output = self.ssh(command)?.stdin(File::open(file)?).output().context("ssh")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{command}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command until it succeeds and says what is expected.
    ///
    /// # Errors
    /// After [`LONG`], with what it said last.
    pub fn until(&self, command: &str, expected: &str) -> Result<()> {
        repeat(command, expected, || self.run(command))
    }

    /// The same of a line for [`Guest::shell`].
    ///
    /// # Errors
    /// As [`Guest::until`].
    pub fn shell_until(&self, line: &str, expected: &str) -> Result<()> {
        repeat(line, expected, || self.shell(line))
    }

    /// Presses the power button, and waits until the machine is off.
    ///
    /// # Errors
    /// When it does not end, or a service had to be killed.
    pub fn power_off(mut self) -> Result<()> {
        self.vm.power_button()?;
        self.vm.wait_exit(LONG)?;
        let console = self.vm.console().tail(200);
        ensure!(console.contains("all services stopped: power off"), "{console}");
        // each heard that it was to stop
        ensure!(!console.contains("killed, it did not stop in time"), "{console}");
        Ok(())
    }
}

/// Asks until the answer has what is expected.
fn repeat(what: &str, expected: &str, ask: impl Fn() -> Result<String>) -> Result<()> {
    let deadline = Instant::now() + LONG;
    loop {
        let said = ask();
        if said.as_ref().is_ok_and(|said| said.contains(expected)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{what}: {expected:?} was expected, and last it was {said:?}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A machine that starts the system without firmware, with a disk that is kept.
///
/// # Errors
/// When the system cannot be built.
pub fn direct(disk: &Path) -> Result<Machine> {
    let mut machine = Machine::default();
    machine::insert(&mut machine, &images()?.join("rancheros.initramfs"), false, "")?;
    let mut state = Disk::new(disk, DiskFormat::Raw);
    state.snapshot = false;
    machine.disks.push(state);
    if let Some(kernel) = &mut machine.kernel {
        kernel.command_line = format!("{} {}", kernel.command_line, rancheros::AUTOFORMAT);
    }
    Ok(machine)
}
