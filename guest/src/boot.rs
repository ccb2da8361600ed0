//! Process 1: what comes before services, and the services.

use std::path::Path;
use std::time::Duration;

use kiln_supervisor::pid1::watchdog::Settings;
use kiln_supervisor::pid1::{
    Boot, BoxError, PowerButton, console as terminal, mounts, random_seed,
};
use kiln_supervisor::unix::{self, OnPanic, Options, Reexec, Unsound};
use kiln_supervisor::{Event, Outcome};

use crate::console::say;
#[cfg(feature = "ramroot")]
use crate::ramroot;
use crate::{NOTES, SETTINGS, System, clock, data, first_boot, root, services};

/// There when cgroup2 is mounted where it belongs.
const CONTROLLERS: &str = "/sys/fs/cgroup/cgroup.controllers";
/// How long people may think at an emergency shell before the machine starts again.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

pub(crate) fn boot(system: &System, boot: &mut Boot) -> Result<Outcome, BoxError> {
    let name = system.name.as_str();
    boot.mounts(mounts::STANDARD).console();
    say(name, "/init started");
    boot.step("clock not before the image", || clock::not_before(&clock::epoch()));
    let command = system.shell.as_ref().map(|shell| shell.command.clone());
    let command = command.unwrap_or_else(|| vec!["/bin/sh".into()]);
    let asked = boot.argument("kiln.emergency").is_some();
    boot.emergency(system.emergency.clone().or_shell(asked, &command, Some(PATIENCE)));
    if let Some(wanted) = root::Wanted::of(boot)? {
        match root::enter(system, &wanted)? {}
    }
    #[cfg(feature = "ramroot")]
    if let Some(wanted) = ramroot::Wanted::of(boot)? {
        match ramroot::enter(system, &wanted)? {}
    }
    boot.hostname(name).loopback().sysctl();
    if let Some(method) = system.root {
        boot.switch_root(method);
    }
    let shell = system.shell.as_ref().filter(|shell| boot.argument(&shell.word).is_some());
    for step in boot.steps() {
        if shell.is_some() || step.error.is_some() || step.took >= Duration::from_millis(50) {
            say(name, step);
        }
    }

    let watchdog = watchdog(system, boot.argument("kiln.watchdog"));
    let watchdog = watchdog.and_then(|settings| boot.watchdog(settings));
    keep_for_next_boot(system, boot);

    let mut own = services::own(system);
    own.extend(shell.map(|shell| terminal::shell(&shell.command)));
    let files = [SETTINGS, NOTES].map(|place| Path::new(place).join("services.toml"));
    let listed = services::Listed { own, files };
    let (services, problems) = listed.read();
    for problem in &problems {
        say(name, problem);
    }
    let mut options = Options::default();
    // A machine that lacks a service is better than none; one that has it keeps it.
    options.unsound = Unsound::LeaveOut;
    options.incomplete = !problems.is_empty();
    options.log_dir.clone_from(&system.log_dir);
    // Where the kernel has none, the step that mounts it has said so.
    options.cgroup = system.cgroup.clone().filter(|_| Path::new(CONTROLLERS).exists());
    options.control.clone_from(&system.control);
    options.spec_source = Some(Box::new(listed));
    options.reexec = std::env::current_exe().ok().map(Reexec::new);
    options.on_panic = OnPanic::Reexec { limit: 5 };
    if let Some(watchdog) = watchdog {
        options.sources.push(watchdog);
    }
    match system.power_button.then(PowerButton::open) {
        Some(Ok(button)) => options.sources.push(Box::new(button)),
        Some(Err(error)) => say(name, format_args!("no power button: {error}")),
        None => {}
    }
    // The tasks' orphans are reaped without a word.
    let mut tell = |event: &Event| {
        if !matches!(event, Event::Reaped { .. } | Event::Ignored { .. }) {
            say(name, event);
        }
    };
    Ok(unix::run(services, options, &mut tell)?)
}

/// The watchdog of the system, with the seconds that the command line says.
fn watchdog(system: &System, argument: Option<&str>) -> Option<Settings> {
    let mut settings = system.watchdog.clone();
    match argument.map(str::parse) {
        Some(Ok(0)) => return None,
        Some(Ok(seconds)) => {
            settings.get_or_insert_default().timeout = Duration::from_secs(seconds);
        }
        // A word that makes no sense arms it all the same.
        Some(Err(_)) => drop(settings.get_or_insert_default()),
        None => {}
    }
    settings
}

/// Has another random seed and the time kept at the end, where there is a disk for them.
fn keep_for_next_boot(system: &System, boot: &mut Boot) {
    let Some(directory) = system.data.as_ref().map(|data| data.directory.clone()) else { return };
    boot.ending().at_end("keep seed and time", move || {
        let kept = directory.join(first_boot::KEPT);
        if !data::is_kept(&directory) || !kept.is_dir() {
            return Ok(());
        }
        random_seed::save(&kept.join(first_boot::SEED)).map_err(|error| error.to_string())?;
        clock::keep(&kept.join(first_boot::CLOCK))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_asks_for_a_watchdog() {
        let mut system = System::new("test");
        let seconds = |system: &System, word| {
            watchdog(system, word).map(|settings| settings.timeout.as_secs())
        };
        assert_eq!(seconds(&system, None), None);
        assert_eq!(seconds(&system, Some("12")), Some(12));
        assert_eq!(seconds(&system, Some("")), Some(30));
        system.watchdog = Some(Settings::default());
        assert_eq!(seconds(&system, None), Some(30));
        assert_eq!(seconds(&system, Some("0")), None);
    }
}
