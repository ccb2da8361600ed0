//! Kernel modules: those of the devices that are there, and those that the kernel asks for.

use std::process::ExitCode;

use kiln_supervisor::pid1::Loader;

use crate::System;
use crate::console::say;

/// Loads the drivers of the devices that are there.
pub(crate) fn load(system: &System) -> ExitCode {
    match Loader::of_running_kernel().map(|mut loader| loader.cold_plug(16)) {
        Ok(report) => say(&system.name, &report),
        // A kernel may have all that it needs built in.
        Err(error) => say(&system.name, format_args!("no modules: {error}")),
    }
    ExitCode::SUCCESS
}

/// What the kernel wants: words that are no options are names and aliases.
pub(crate) fn modprobe(words: impl Iterator<Item = String>) -> ExitCode {
    let wanted: Vec<String> = words.filter(|word| !word.starts_with('-')).collect();
    match Loader::of_running_kernel().map(|mut loader| loader.load(&wanted)) {
        Ok(report) if report.failed.is_empty() && report.unknown.is_empty() => ExitCode::SUCCESS,
        // The kernel asks for much that nobody has; that is no news.
        _ => ExitCode::FAILURE,
    }
}
