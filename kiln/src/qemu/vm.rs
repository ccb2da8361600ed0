//! A machine that is running.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Console, Forward, Line, qmp};
use crate::{Error, Result};

/// How often a wait looks whether QEMU is alive and whether the user wants to stop.
const GLANCE: Duration = Duration::from_millis(50);
/// How long QEMU's monitor may take to answer.
const MONITOR: Duration = Duration::from_secs(20);

/// A running machine. Dropping it ends it at once, as pulling the plug would.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    stdin: Option<ChildStdin>,
    console: Console,
    /// What QEMU itself says.
    complaints: Console,
    started: Instant,
    forwards: Vec<Forward>,
    monitor: PathBuf,
    interrupt: Option<Arc<AtomicBool>>,
    read: usize,
    /// Holds the monitor's socket.
    _directory: tempfile::TempDir,
}

impl Vm {
    pub(super) fn start(
        mut command: Command,
        directory: tempfile::TempDir,
        forwards: Vec<Forward>,
        interrupt: Option<Arc<AtomicBool>>,
    ) -> Result<Self> {
        let started = Instant::now();
        let program = PathBuf::from(command.get_program());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal reaches the whole group; the guest is to be stopped in order.
            .process_group(0)
            .spawn()
            .map_err(Error::io("start", &program))?;
        let (console, complaints) = (Console::default(), Console::default());
        if let Some(stream) = child.stdout.take() {
            console.follow(stream);
        }
        if let Some(stream) = child.stderr.take() {
            complaints.follow(stream);
        }
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            stdin,
            console,
            complaints,
            started,
            forwards,
            monitor: directory.path().join("qmp"),
            interrupt,
            read: 0,
            _directory: directory,
        })
    }

    /// When QEMU was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The console.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// QEMU's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The port of 127.0.0.1 that leads to this TCP port of the guest.
    #[must_use]
    pub fn forwarded(&self, guest: u16) -> Option<u16> {
        self.forwards
            .iter()
            .find(|forward| !forward.udp && forward.guest == guest)
            .map(|forward| forward.host)
    }

    /// Waits until the guest prints a line that contains `text`, after the one that the last such
    /// wait found.
    ///
    /// # Errors
    /// [`Error::GuestDied`], [`Error::Timeout`], [`Error::Interrupted`].
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Line> {
        let mut found = None;
        let (console, from) = (self.console.clone(), self.read);
        self.wait_until(&format!("{text:?} on the console"), limit, |_| {
            found = console.find(text, from, GLANCE);
            found.is_some()
        })?;
        let (index, line) = found.ok_or(Error::Interrupted)?;
        self.read = index + 1;
        Ok(line)
    }

    /// Waits until `ready` says so. It is asked again and again and should take no longer than a
    /// moment itself.
    ///
    /// # Errors
    /// [`Error::GuestDied`], [`Error::Timeout`], [`Error::Interrupted`].
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let asked = Instant::now();
            if ready(self) {
                return Ok(());
            }
            if self.interrupted() {
                return Err(Error::Interrupted);
            }
            if let Some(status) = self.status()? {
                // The last lines may have come since the question.
                return if ready(self) { Ok(()) } else { Err(self.died(status)) };
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout {
                    what: what.into(),
                    seconds: limit.as_secs(),
                    console: self.last_words(),
                });
            }
            std::thread::sleep(GLANCE.saturating_sub(asked.elapsed()));
        }
    }

    /// Types text on the console.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        let program = PathBuf::from("the guest's console");
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        stdin.write_all(text.as_bytes()).map_err(Error::io("write to", &program))?;
        stdin.flush().map_err(Error::io("write to", &program))
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// Those of QEMU's monitor.
    pub fn power_button(&self) -> Result<()> {
        qmp::execute(&self.monitor, "system_powerdown", MONITOR)
    }

    /// Waits for the guest to power itself off.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::GuestDied`] when QEMU did not end well.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.has_ended()? {
            if Instant::now() >= deadline {
                return Err(Error::Timeout {
                    what: "the guest's power off".into(),
                    seconds: limit.as_secs(),
                    console: self.last_words(),
                });
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Whether the guest has powered itself off.
    ///
    /// # Errors
    /// [`Error::GuestDied`] when it ended in another way.
    pub fn has_ended(&mut self) -> Result<bool> {
        match self.status()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(self.died(status)),
        }
    }

    /// Whether the user asked to stop.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    fn status(&mut self) -> Result<Option<ExitStatus>> {
        let program = PathBuf::from("qemu-system-x86_64");
        self.child.try_wait().map_err(Error::io("wait for", &program))
    }

    fn died(&self, status: ExitStatus) -> Error {
        let said = self.complaints.tail(20);
        // QEMU says so itself when a port was taken between our look and its own.
        if said.contains("Could not set up host forwarding rule") {
            let port =
                self.forwards.iter().find(|forward| said.contains(&format!(":{}-", forward.host)));
            if let Some(forward) = port {
                return Error::PortInUse { port: forward.host };
            }
        }
        Error::GuestDied { outcome: format!("QEMU {status}"), console: self.last_words() }
    }

    fn last_words(&self) -> String {
        let complaints = self.complaints.tail(10);
        let console = self.console.tail(20);
        if complaints.is_empty() { console } else { format!("{console}\nqemu: {complaints}") }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
