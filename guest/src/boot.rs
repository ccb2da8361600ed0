//! Process 1: what comes before services, and the services.

use std::path::Path;
use std::time::Duration;

use kiln_supervisor::pid1::{Boot, BoxError, PowerButton, console as terminal, mounts};
use kiln_supervisor::unix::{self, OnPanic, Options};
use kiln_supervisor::{Event, Outcome};

use crate::console::say;
use crate::{SETTINGS, System, clock, root, services};

pub(crate) fn boot(system: &System, boot: &mut Boot) -> Result<Outcome, BoxError> {
    let name = system.name.as_str();
    boot.mounts(mounts::STANDARD).console();
    say(name, "/init started");
    boot.step("clock not before the image", || clock::not_before(&clock::epoch()));
    if let Some(wanted) = root::Wanted::of(boot)? {
        match root::enter(system, &wanted)? {}
    }
    boot.hostname(name).loopback();
    if let Some(method) = system.root {
        boot.switch_root(method);
    }
    let shell = system.shell.as_ref().filter(|shell| boot.argument(&shell.word).is_some());
    for step in boot.steps() {
        if shell.is_some() || step.error.is_some() || step.took >= Duration::from_millis(50) {
            say(name, step);
        }
    }

    let mut own = services::own(system);
    own.extend(shell.map(|shell| terminal::shell(&shell.command)));
    let (services, problems) = services::with_file(own, &Path::new(SETTINGS).join("services.toml"));
    for problem in problems {
        say(name, problem);
    }
    let mut options = Options::default();
    options.log_dir.clone_from(&system.log_dir);
    options.on_panic = OnPanic::Reexec { limit: 5 };
    match PowerButton::open() {
        Ok(button) => options.sources.push(Box::new(button)),
        Err(error) => say(name, format_args!("no power button: {error}")),
    }
    // The tasks' orphans are reaped without a word.
    let mut tell = |event: &Event| {
        if !matches!(event, Event::Reaped { .. } | Event::Ignored { .. }) {
            say(name, event);
        }
    };
    Ok(unix::run(services, options, &mut tell)?)
}
