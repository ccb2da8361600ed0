//! Kernel modules: those of the devices that are there or come, and those that the kernel asks for.

use std::process::ExitCode;

use kiln_supervisor::pid1::Loader;
use kiln_supervisor::pid1::hotplug::HotPlug;

use crate::System;
use crate::console::say;

/// Loads the drivers of the devices that are there, is ready, and goes on with those that come.
pub(crate) fn load(system: &System) -> ExitCode {
    let plug = Loader::loadable_of_running_kernel().and_then(|loader| {
        HotPlug::listen(loader).map_err(|error| format!("late devices: {error}"))
    });
    let mut plug = match plug {
        Ok(plug) => plug,
        Err(error) => {
            // A kernel may have all that it needs built in.
            say(&system.name, format_args!("no modules: {error}"));
            ready();
            loop {
                std::thread::park();
            }
        }
    };
    say(&system.name, plug.cold_plug(16));
    ready();
    loop {
        if let Err(error) = plug.turn(&mut |done| say(&system.name, done)) {
            say(&system.name, format_args!("late devices: {error}"));
            return ExitCode::FAILURE;
        }
    }
}

/// Nobody may listen.
fn ready() {
    let _ = std::fs::write("/proc/self/fd/3", "\n");
}

/// What the kernel wants: words that are no options are names and aliases, and with `=` parameters of the
/// first one. With `-q`, as the kernel calls it, a module that is built in is not told from one that nobody has.
pub(crate) fn modprobe(words: impl Iterator<Item = String>) -> ExitCode {
    let (options, wanted): (Vec<String>, Vec<String>) =
        words.partition(|word| word.starts_with('-'));
    let loader = if options.iter().any(|option| option == "-q") {
        Loader::loadable_of_running_kernel()
    } else {
        Loader::of_running_kernel()
    };
    let is_parameter = |(at, word): &(usize, String)| *at > 0 && word.contains('=');
    let (parameters, wanted): (Vec<_>, Vec<_>) =
        wanted.into_iter().enumerate().partition(is_parameter);
    let wanted: Vec<String> = wanted.into_iter().map(|(_, word)| word).collect();
    let load = |mut loader: Loader| {
        if let Some(module) = wanted.first() {
            parameters.iter().for_each(|(_, parameter)| loader.set_parameter(module, parameter));
        }
        loader.load(&wanted)
    };
    match loader.map(load) {
        Ok(report) if report.failed.is_empty() && report.unknown.is_empty() => ExitCode::SUCCESS,
        // The kernel asks for much that nobody has; that is no news.
        _ => ExitCode::FAILURE,
    }
}
