//! What the process 1 of every system shares: for guests what `kiln` is for hosts.
//!
//! A system is its choices ([`System`]); a whole `/init` is:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use kiln_guest::{Data, Reserve, System};
//!
//! // without it, a machine that has no memory to give ends with a kernel panic
//! #[global_allocator]
//! static ALLOCATOR: Reserve = Reserve::new();
//!
//! fn main() -> ExitCode {
//!     let mut system = System::new("example");
//!     system.data = Some(Data::new("example-data", "/var/lib/example"));
//!     system.run()
//! }
//! ```
//!
//! The binary goes by how it was called: as process 1 it boots ([`System::run`]), as `modprobe` it is
//! what the kernel calls for drivers, and its own services are `/init` with a word: `modules`, `data`,
//! `first-boot`, `network`, `time`. Beside these it starts what `/etc/kiln/services.toml` lists.
//!
//! # Files
//!
//! All in `/etc/kiln`, each with the table that it has in an image's definition. A file that is wrong
//! is told on the console with its line, and the system boots as if it were not there; of `services.toml`,
//! what is sound starts.
//!
//! | file | what |
//! |---|---|
//! | `services.toml` | `[[service]]`: [`kiln_supervisor::ServiceSpec`]; more may be in `/run/kiln/services.toml` |
//! | `network.toml` | `[network]`: [`kiln_network::Config`] |
//! | `first-boot.toml` | `[first-boot]`: what a copy of the image changes about itself |
//! | `epoch` | seconds since 1970 before which no clock can be right: when the image was made |
//!
//! # Services
//!
//! | name | kind | ready | needs |
//! |---|---|---|---|
//! | `modules` | daemon | drivers of the devices are loaded; those of late ones follow | |
//! | `data` | one-shot | the data disk is mounted, or a tmpfs | `modules` |
//! | `first-boot` | one-shot | the machine has its identifier, the kernel its seed | wants `data` |
//! | `network` | daemon | every required interface is configured; else the first one | |
//! | `time` | daemon | the clock is set, or plausible and nobody there to ask | |

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod boot;
mod clock;
mod console;
#[cfg(feature = "containers")]
pub mod containers;
mod data;
mod disks;
mod drivers;
mod exclusive;
mod files;
mod first_boot;
pub mod format;
mod grow;
pub mod install;
pub mod login;
pub mod mounts;
pub mod names;
mod network;
#[cfg(feature = "ramroot")]
mod ramroot;
pub mod release;
mod root;
mod services;
pub mod slots;
mod superblock;
mod time;
pub mod trial;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub use kiln_supervisor::unix::Reserve;

use kiln_supervisor::ServiceSpec;
use kiln_supervisor::control::{ControlOptions, DEFAULT_SOCKET};
use kiln_supervisor::pid1::{self, Emergency, switch_root, watchdog};

/// Where the image's own settings are.
pub const SETTINGS: &str = "/etc/kiln";
/// Where services leave notes for each other. `services.toml` here lists further services, as that of
/// [`SETTINGS`] does: those that the running system makes.
pub const NOTES: &str = "/run/kiln";

/// What makes a system that system.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct System {
    /// Its name: begins its lines on the console, and is the machine's name until the network knows
    /// a better one.
    pub name: String,
    /// How rootfs is left, without which nothing can pivot_root(2). Default: [`switch_root::Method::Bind`].
    pub root: Option<switch_root::Method>,
    /// What is kept between boots, and where. Default: nothing.
    pub data: Option<Data>,
    /// A shell on the console. Default: none.
    pub shell: Option<Shell>,
    /// Services that are there whatever the image's file says. Default: none.
    pub services: Vec<ServiceSpec>,
    /// Which of `network` and `time` the system's own services of that name are; others may be in their
    /// place. Default: both.
    pub own: Own,
    /// What the service `network` does once when the network is ready, before it says so. Default: nothing.
    pub network_ready: Option<Ready>,
    /// Whether the power button ends the system. Default: yes; another service may see to it.
    pub power_button: bool,
    /// Where services' logs go. Default: `/var/log`.
    pub log_dir: Option<PathBuf>,
    /// The directory below the mounted cgroup2 where each service has a control group of its own.
    /// Default: `/sys/fs/cgroup/services`.
    pub cgroup: Option<PathBuf>,
    /// The socket by which `svc` asks about services and changes them. Default:
    /// [`DEFAULT_SOCKET`], for root alone.
    pub control: Option<ControlOptions>,
    /// A hardware watchdog that resets the machine when process 1 hangs. Default: none; the word
    /// `kiln.watchdog=SECONDS` of the command line asks for one, 0 for none.
    pub watchdog: Option<watchdog::Settings>,
    /// Whether there is a shell when process 1 cannot do its work. Default: no; the word
    /// `kiln.emergency` asks for [`Shell`]'s command, or `/bin/sh`.
    pub emergency: Emergency,
}

/// Services of the system that an image may have in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Own {
    /// Links, addresses, name servers.
    pub network: bool,
    /// The clock.
    pub time: bool,
}

impl Default for Own {
    fn default() -> Self {
        Self { network: true, time: true }
    }
}

impl Own {
    /// Neither.
    #[must_use]
    pub fn none() -> Self {
        Self { network: false, time: false }
    }
}

/// Something to do at a moment.
#[derive(Clone)]
pub struct Ready(Arc<dyn Fn() + Send + Sync>);

impl Ready {
    /// What is done then. Nothing else is done while it runs.
    #[must_use]
    pub fn new(what: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(what))
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

/// A disk that keeps what a system writes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Data {
    /// The name of its partition, or the label of its file system.
    pub label: String,
    /// Where it is mounted: a tmpfs where there is no such disk.
    pub directory: PathBuf,
    /// Disks that become it where there is none yet: the first that is [blank](mod@format). Default: none.
    pub blank: Vec<PathBuf>,
    /// Whether its file system always takes all of its device, and not only where the partition table
    /// asks for it. Default: no.
    pub grow: bool,
    /// How long it is waited for, before a blank disk becomes it, or a tmpfs is taken. Default: not at all;
    /// drivers of what is there are loaded by then.
    pub patience: Duration,
}

impl Data {
    /// A disk of this label, mounted there.
    #[must_use]
    pub fn new(label: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        let (label, directory) = (label.into(), directory.into());
        Self { label, directory, blank: Vec::new(), grow: false, patience: Duration::ZERO }
    }
}

/// A shell for people, and the word of the kernel's command line that asks for it. The same word
/// makes the boot tell every step.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Shell {
    /// The word.
    pub word: String,
    /// The command.
    pub command: Vec<String>,
}

impl Shell {
    /// `/bin/sh -l`, when the command line has this word.
    #[must_use]
    pub fn asked_for_by(word: impl Into<String>) -> Self {
        Self { word: word.into(), command: vec!["/bin/sh".into(), "-l".into()] }
    }
}

impl System {
    /// A system that keeps nothing.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            root: Some(switch_root::Method::Bind),
            data: None,
            shell: None,
            services: Vec::new(),
            own: Own::default(),
            network_ready: None,
            power_button: true,
            log_dir: Some("/var/log".into()),
            cgroup: Some("/sys/fs/cgroup/services".into()),
            control: Some(ControlOptions::new(DEFAULT_SOCKET)),
            watchdog: None,
            emergency: Emergency::Off,
        }
    }

    /// Does what this process was called for. As process 1 it never returns.
    pub fn run(&self) -> ExitCode {
        let mut arguments = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let name = arguments.next().unwrap_or_default();
        if name.ends_with("modprobe") {
            return drivers::modprobe(arguments);
        }
        let verb = arguments.next();
        match verb.as_deref() {
            Some("modprobe") => drivers::modprobe(arguments),
            Some("modules") => drivers::load(self),
            Some("data") => data::mount(self),
            Some("first-boot") => first_boot::run(self),
            Some("network") => network::run(self, &|| {
                // The supervisor reads the other end; if it is gone, nobody waits for the news.
                let _ = std::fs::write("/proc/self/fd/3", "\n");
            }),
            Some("time") => time::run(),
            #[cfg(feature = "containers")]
            Some("container") => {
                kiln_supervisor::unix::container::main(std::env::args_os().skip(2))
            }
            _ => pid1::start(|boot| boot::boot(self, boot)),
        }
    }
}
