//! What a service runs, and by what it is told to stop or to read its configuration
//! (systemd.service(5), "COMMAND LINES").

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_unit_file::{CommandLine, assignments, parse_commands};

use super::unit::{Notes, Setting, Text};
use crate::reload::Reload;
use crate::spec::{ServiceSpec, Signal};

/// Where systemd looks for programs, and what it gives to them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The variable with the main process's number, and what stands for it in what is compared.
const MAIN_PID: &str = "MAINPID";

/// The variables of a service, and what its commands may use of them.
pub(super) struct Variables {
    known: BTreeMap<String, String>,
    /// Whether there may be others, when it starts.
    open: bool,
}

/// Fills in the environment.
pub(super) fn environment(
    spec: &mut ServiceSpec,
    unit: &Text,
    files: &BTreeMap<PathBuf, String>,
    notes: &mut Notes<'_>,
) -> Variables {
    spec.inherit_env = false;
    spec.env.insert("PATH".into(), PATH.into());
    if let Some(user) = unit.of("User").and_then(|setting| notes.text(unit, setting))
        && user.parse::<u32>().is_err()
    {
        spec.env.insert("USER".into(), user.clone());
        spec.env.insert("LOGNAME".into(), user);
    }
    let own = unit.list("Service", "Environment");
    for setting in &own {
        match assignments(&setting.value, &unit.specifiers()) {
            Ok(found) => spec.env.extend(found),
            Err(why) => notes.refuse(setting, &why),
        }
    }
    let mut known = spec.env.clone();
    let mut open = false;
    for setting in unit.list("Service", "EnvironmentFile") {
        let Some(text) = notes.text(unit, setting) else { continue };
        let path = text.strip_prefix('-').unwrap_or(&text);
        if !path.starts_with('/') || path.contains(['*', '?', '[']) {
            notes.refuse(setting, "expected an absolute path, which is no pattern");
            continue;
        }
        if !own.is_empty() {
            notes.list(setting, "what Environment= sets counts for more");
        }
        match files.get(&PathBuf::from(path)).map(|text| crate::unix::account::variables(text)) {
            Some(Ok(found)) => known.extend(found),
            Some(Err(line)) => notes.refuse(setting, &format!("line {line} is no NAME=value")),
            None => open = true,
        }
        spec.env_files.push(text.into());
    }
    // what Environment= sets counts for more in the environment, and so in commands
    known.extend(spec.env.clone());
    for setting in unit.list("Service", "UnsetEnvironment") {
        for word in setting.value.split_whitespace() {
            let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
            if value.is_none_or(|value| spec.env.get(name).is_some_and(|it| it == value)) {
                spec.env.remove(name);
            }
            if !spec.env_files.is_empty() {
                notes.list(setting, "a variable of an environment file stays");
            }
        }
    }
    Variables { known, open }
}

fn commands<'a>(
    unit: &'a Text,
    key: &str,
    notes: &mut Notes<'_>,
) -> Vec<(&'a Setting, CommandLine)> {
    let mut found = Vec::new();
    for setting in unit.list("Service", key) {
        match parse_commands(&setting.value, &unit.specifiers()) {
            Ok(lines) => found.extend(lines.into_iter().map(|line| (setting, line))),
            Err(why) => notes.refuse(setting, &why),
        }
    }
    found
}

/// The words of a command, if all is known of it.
fn words(
    setting: &Setting,
    mut line: CommandLine,
    variables: &Variables,
    notes: &mut Notes<'_>,
) -> Option<Vec<String>> {
    let own = |name: &str| {
        name.ends_with("_DIRECTORY")
            || ["HOME", "SHELL", "USER", "LOGNAME", MAIN_PID, "INVOCATION_ID", "JOURNAL_STREAM"]
                .contains(&name)
            || name.starts_with("NOTIFY_")
            || name.starts_with("LISTEN_")
    };
    line.resolve(|name| match variables.known.get(name) {
        Some(value) => Some(value.clone()),
        // systemd makes nothing of what is not set
        None if variables.open || own(name) => None,
        None => Some(String::new()),
    });
    let unknown: Vec<&str> = line.variables().collect();
    if let Some(name) = unknown.first() {
        notes.refuse(setting, &format!("what {name} is, is known only when it starts"));
        return None;
    }
    let plain = line.plain();
    if plain.is_none() {
        notes.refuse(setting, "a specifier in it is known only when it runs");
    }
    plain
}

/// What the service runs.
pub(super) fn start(
    spec: &mut ServiceSpec,
    unit: &Text,
    variables: &Variables,
    notes: &mut Notes<'_>,
) {
    let mut found = commands(unit, "ExecStart", notes);
    if let [_, (second, _), ..] = found.as_slice() {
        notes.refuse(second, "the supervisor runs one command for a service");
        return;
    }
    let Some((setting, line)) = found.pop() else {
        if unit.list("Service", "ExecStart").is_empty() {
            notes.at(&unit.place, "it has no ExecStart=, so there is nothing to supervise");
        }
        return;
    };
    if line.ignore_failure {
        notes.list(setting, "that it fails counts");
    }
    if line.name.is_some() {
        notes.list(setting, "its own name is its program's path");
    }
    let restrained = ["User", "Group", "CapabilityBoundingSet", "AmbientCapabilities"];
    if line.privileged.is_some_and(|prefix| prefix != "!!")
        && restrained.iter().any(|key| unit.of(key).is_some())
    {
        notes.refuse(setting, "no command of a service has more privileges than the service");
    }
    if let Some(command) = words(setting, line, variables, notes) {
        spec.command = command;
    }
}

/// The signal of `kill -SIGNAL $MAINPID`.
fn kill(line: &CommandLine) -> Option<Signal> {
    let mut line = line.clone();
    line.resolve(|name| (name == MAIN_PID).then(|| "$MAINPID".to_owned()));
    let words = line.plain()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let signal = match words.as_slice() {
        ["/bin/kill" | "/usr/bin/kill" | "kill", rest @ ..] => match rest {
            ["$MAINPID"] => "TERM",
            ["-s", signal, "$MAINPID"] => signal,
            [signal, "$MAINPID"] => signal.strip_prefix('-')?,
            _ => return None,
        },
        _ => return None,
    };
    signal.parse().ok()
}

/// How it is told to stop, and to read its configuration again.
pub(super) fn signals(
    spec: &mut ServiceSpec,
    unit: &Text,
    variables: &Variables,
    notes: &mut Notes<'_>,
) {
    let signal = |key: &str, notes: &mut Notes<'_>| {
        let setting = unit.of(key)?;
        let signal = setting.value.parse();
        signal.map_err(|why: String| notes.refuse(setting, &why)).ok()
    };
    spec.stop_signal = signal("KillSignal", notes).unwrap_or(Signal::TERM);
    for (setting, line) in commands(unit, "ExecStop", notes) {
        match kill(&line) {
            Some(signal) => spec.stop_signal = signal,
            None => notes.list(setting, "it is stopped by a signal alone"),
        }
    }
    if unit.of("Type").is_some_and(|setting| setting.value == "notify-reload") {
        spec.reload = Some(Reload::Signal(signal("ReloadSignal", notes).unwrap_or(Signal::HUP)));
    }
    let mut reloads = commands(unit, "ExecReload", notes);
    if let [_, (second, _), ..] = reloads.as_slice() {
        notes.list(second, "one command tells it; it is not told to read its configuration");
        return;
    }
    let Some((setting, line)) = reloads.pop() else { return };
    spec.reload = match kill(&line) {
        Some(signal) => Some(Reload::Signal(signal)),
        None if line.variables().any(|name| name == MAIN_PID) => {
            notes.list(setting, "MAINPID is in its environment, not among its words");
            None
        }
        None => words(setting, line, variables, notes).map(Reload::Command),
    };
}
