//! systemd's service units made into Nomad jobs, as the original Nomad Init did with a script.
//!
//! ```
//! use nomados::unit::{Options, Unit, convert};
//!
//! let text = "[Service]\nExecStart=/bin/httpd -f\nProtectSystem=full\n[Install]\nWantedBy=multi-user.target\n";
//! let unit = Unit::parse("web.service", text.as_bytes())?;
//! let converted = convert(&unit, &Options::default())?;
//! assert_eq!(converted.job.kind, "system");
//! assert!(converted.notes.iter().any(|note| note.to_string().contains("line 3: ProtectSystem=full")));
//! # Ok::<(), anyhow::Error>(())
//! ```

mod convert;
mod job;
mod reasons;
mod shell;

use std::fmt;
use std::path::PathBuf;

pub use convert::convert;
pub use job::{Job, Restart, Task};
pub use kiln_unit_file::{Assignment, Unit};

/// What a conversion goes by, beside the unit.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The task driver: `exec` or `raw_exec`.
    pub driver: Driver,
    /// The instance of a template (`x@.service`).
    pub instance: Option<String>,
    /// Environment files that could be read: their paths as the unit has them, and their contents.
    pub environment_files: Vec<(String, String)>,
    /// How many MHz one CPU is taken for: `CPUQuota=` counts in CPUs, Nomad in MHz.
    pub core_mhz: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { driver: Driver::Exec, instance: None, environment_files: Vec::new(), core_mhz: 2000 }
    }
}

impl Options {
    /// Reads the environment files that a unit names from below a directory: `/` for those of
    /// this machine, or where a package is unpacked. Those that are not there are left out.
    pub fn read_environment_files(&mut self, unit: &Unit, root: &std::path::Path) {
        for path in convert::environment_files(unit) {
            let file: PathBuf = root.join(path.trim_start_matches('/'));
            if let Ok(text) = std::fs::read_to_string(file) {
                self.environment_files.push((path, text));
            }
        }
    }
}

/// Nomad's driver for the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Driver {
    /// In a chroot with namespaces and limits, as nobody unless the unit has a user
    #[default]
    Exec,
    /// As root on the node itself; the client's configuration must enable it
    RawExec,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::RawExec => "raw_exec",
        }
    }
}

/// What became of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conversion {
    /// The job.
    pub job: Job,
    /// Everything that is lost or different, by line.
    pub notes: Vec<Note>,
}

/// A directive that did not come over as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// Its line; 0 for what the unit does not say.
    pub line: usize,
    /// Whether it has an effect in the job at all.
    pub converted: bool,
    /// The directive as it stands.
    pub directive: String,
    /// Why, and what to do.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.converted { "different" } else { "not converted" };
        match self.line {
            0 => write!(out, "{what}: {}: {}", self.directive, self.text),
            line => write!(out, "{what}: line {line}: {}: {}", self.directive, self.text),
        }
    }
}
