//! Kernel modules: those of the devices that are there, and those that the kernel asks for.

use std::process::ExitCode;

use kiln_supervisor::pid1::Loader;

use crate::System;
use crate::console::say;

/// Loads the drivers of the devices that are there.
pub(crate) fn load(system: &System) -> ExitCode {
    match Loader::loadable_of_running_kernel().map(|mut loader| loader.cold_plug(16)) {
        Ok(report) => say(&system.name, &report),
        // A kernel may have all that it needs built in.
        Err(error) => say(&system.name, format_args!("no modules: {error}")),
    }
    ExitCode::SUCCESS
}

/// What the kernel wants: words that are no options are names and aliases. With `-q`, as the kernel
/// calls it, a module that is built in is not told from one that nobody has.
pub(crate) fn modprobe(words: impl Iterator<Item = String>) -> ExitCode {
    let (options, wanted): (Vec<String>, Vec<String>) =
        words.partition(|word| word.starts_with('-'));
    let loader = if options.iter().any(|option| option == "-q") {
        Loader::loadable_of_running_kernel()
    } else {
        Loader::of_running_kernel()
    };
    match loader.map(|mut loader| loader.load(&wanted)) {
        Ok(report) if report.failed.is_empty() && report.unknown.is_empty() => ExitCode::SUCCESS,
        // The kernel asks for much that nobody has; that is no news.
        _ => ExitCode::FAILURE,
    }
}
