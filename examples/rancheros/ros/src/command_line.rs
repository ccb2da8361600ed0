//! The kernel's command line: a layer of the configuration. What stands behind `--` is for this system alone,
//! as a password that a machine is started with: nobody but root sees it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_cloudconfig::layer::CommandLine;
use kiln_oci::bundle::Mount;
use rustix::mount::mount_bind;

use crate::boot::Problems;
use crate::units::Unit;
use crate::{files, places};

/// What everybody sees.
const KERNELS: &str = "/proc/cmdline";
/// What is shown there, when there is something to hide.
const SHOWN: &str = "/run/cmdline";

fn whole() -> PathBuf {
    Path::new(places::NOW).join("cmdline")
}

/// All of it, as far as this process may know it.
pub(crate) fn read() -> String {
    fs::read_to_string(whole()).or_else(|_| fs::read_to_string(KERNELS)).unwrap_or_default()
}

/// Hides what stands behind `--`. Once a boot.
pub(crate) fn hide(problems: &mut Problems) {
    let line = read();
    if CommandLine::elided(&line) == line.trim_end() || whole().exists() {
        return;
    }
    let shown = format!("{}\n", CommandLine::elided(&line));
    let done = files::replace(whole(), line.as_bytes(), 0o600)
        .and_then(|()| files::replace(SHOWN, shown.as_bytes(), 0o444))
        .and_then(|()| Ok(mount_bind(SHOWN, KERNELS)?));
    problems.take(KERNELS, done);
}

/// The same in containers, which have a `/proc` of their own.
pub(crate) fn hide_in(units: &mut [Unit]) {
    if whole().exists() {
        for unit in units {
            unit.options.mounts.push(Mount::bind(SHOWN, KERNELS, true));
        }
    }
}

/// Words behind `--` are arguments of process 1, which everybody can list: it begins anew without them.
pub(crate) fn begin_anew_without_arguments() {
    if std::process::id() == 1 && std::env::args_os().len() > 1 {
        // where that cannot be, it goes on with them
        let _ = Command::new("/init").exec();
    }
}
