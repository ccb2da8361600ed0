//! `[Service]`: how a service lives and ends (systemd.service(5), systemd.exec(5), systemd.kill(5)).

use std::time::Duration;

use kiln_unit_file::value;

use super::unit::{Notes, Setting, Text};
use super::{Options, bounds, command, confine};
use crate::spec::{Account, Condition, Kill, Kind, Log, LogFile, Readiness, Restart, ServiceSpec};

/// Longer than any machine runs: what has no bound.
pub(super) const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The manager's defaults (systemd-system.conf(5)): `DefaultTimeoutStartSec=`, and so on.
const TIMEOUT: Duration = Duration::from_secs(90);
const RESTART: Duration = Duration::from_millis(100);
const BURST: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);

/// A unit as a service, its relations to others left out.
pub(super) fn convert(
    name: &str,
    unit: &Text,
    options: &Options,
    notes: &mut Notes<'_>,
) -> ServiceSpec {
    let mut spec = ServiceSpec { name: name.to_owned(), ..ServiceSpec::default() };
    spec.enabled = false;
    kind(&mut spec, unit, notes);
    let variables = command::environment(&mut spec, unit, &options.environment_files, notes);
    command::start(&mut spec, unit, &variables, notes);
    command::signals(&mut spec, unit, &variables, notes);
    conditions(&mut spec, unit, notes);
    restarts(&mut spec, unit, notes);
    timeouts(&mut spec, unit, notes);
    killing(&mut spec, unit, notes);
    accounts(&mut spec, unit, notes);
    streams(&mut spec, unit, notes);
    directory(&mut spec, unit, notes);
    bounds::convert(&mut spec, unit, notes);
    confine::convert(&mut spec, unit, notes);
    spec
}

fn kind(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    let remains = notes.switch(unit, "RemainAfterExit");
    if let Some(setting) = unit.of("Type") {
        match setting.value.as_str() {
            "simple" | "exec" => {}
            "oneshot" => spec.kind = Kind::OneShot,
            "notify" => spec.readiness = Readiness::SdNotify,
            "notify-reload" => {
                spec.readiness = Readiness::SdNotify;
                notes.list(setting, "nobody waits until it has read its configuration again");
            }
            "idle" => notes.list(setting, "it waits for no other: taken as simple"),
            "dbus" => notes.list(setting, "nobody waits for its name on a bus: taken as simple"),
            "forking" => notes.refuse(
                setting,
                "what is supervised is the process that is started: have it stay in the foreground",
            ),
            _ => notes.refuse(setting, "there is no such type"),
        }
    }
    if let Some(setting) = unit.of("RemainAfterExit").filter(|_| remains)
        && spec.kind == Kind::Daemon
    {
        notes.list(setting, "a service that has ended is not up");
    }
    if let Some(setting) = unit.of("NotifyAccess")
        && spec.readiness == Readiness::SdNotify
        && setting.value != "main"
    {
        notes.list(setting, "its main process alone is believed");
    }
}

fn conditions(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    for setting in unit.list("Unit", "ConditionPathExists") {
        let Some(text) = notes.text(unit, setting) else { continue };
        match text.starts_with('/') {
            true => spec.only_if.push(text.into()),
            false => notes.refuse(setting, "of conditions only a path that must be there is asked"),
        }
    }
    // systemd's own target for what `Condition::Network` asks
    let online = |key: &str| {
        let all = unit.list("Unit", key);
        all.iter().any(|it| it.value.split_whitespace().any(|n| n == "network-online.target"))
    };
    if online("After") && (online("Wants") || online("Requires")) {
        spec.waits_for.push(Condition::Network);
    }
}

/// The last of some keys, as a time span; `None` where it says that there is no bound.
fn span(
    unit: &Text,
    section: &str,
    keys: &[&str],
    notes: &mut Notes<'_>,
) -> Option<Option<Duration>> {
    let setting = unit.last(section, keys)?;
    let span = value::duration(&setting.value);
    span.map_err(|why| notes.refuse(setting, &why)).ok()
}

fn number<T: std::str::FromStr>(setting: &Setting, notes: &mut Notes<'_>) -> Option<T> {
    let number = setting.value.parse().ok();
    if number.is_none() {
        notes.refuse(setting, "expected a number");
    }
    number
}

fn restarts(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    spec.restart = Restart::Never;
    if let Some(setting) = unit.of("Restart") {
        let without = "it is restarted after other failures too";
        spec.restart = match setting.value.as_str() {
            "no" => Restart::Never,
            "always" if spec.kind == Kind::OneShot => {
                notes.list(setting, "a one-shot that has succeeded is done");
                Restart::OnFailure
            }
            "always" => Restart::Always,
            "on-failure" => Restart::OnFailure,
            "on-abnormal" | "on-abort" => {
                notes.list(setting, without);
                Restart::OnFailure
            }
            "on-success" | "on-watchdog" => {
                notes.list(setting, "it is not restarted");
                Restart::Never
            }
            _ => {
                notes.refuse(setting, "there is no such policy");
                Restart::Never
            }
        };
    }
    let policy = &mut spec.backoff;
    (policy.initial, policy.max, policy.factor) = (Duration::ZERO, Duration::ZERO, 1);
    policy.pause = match span(unit, "Service", &["RestartSec"], notes) {
        Some(pause) => pause.unwrap_or(FOREVER),
        None => RESTART,
    };
    let intervals = ["StartLimitIntervalSec", "StartLimitInterval"];
    let of_unit = |keys: &[&str]| match unit.last("Unit", keys) {
        Some(_) => "Unit",
        None => "Service",
    };
    let window = span(unit, of_unit(&intervals), &intervals, notes);
    policy.burst_window = window.map_or(INTERVAL, |window| window.unwrap_or(FOREVER));
    let bursts = ["StartLimitBurst"];
    let starts = unit.last(of_unit(&bursts), &bursts).map(|setting| number(setting, notes));
    let starts: u32 = starts.flatten().unwrap_or(BURST);
    // no window or no number: no limit
    policy.burst = match starts {
        0 => 0,
        _ if policy.burst_window.is_zero() => 0,
        starts => starts.saturating_sub(1).max(1),
    };
}

fn timeouts(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    // 0 is without a bound
    let bound = |span: Option<Duration>| span.filter(|span| !span.is_zero());
    let start = span(unit, "Service", &["TimeoutStartSec", "TimeoutSec"], notes).map(bound);
    spec.ready_timeout = start.map_or(TIMEOUT, |bound| bound.unwrap_or(FOREVER));
    if spec.kind == Kind::OneShot {
        spec.run_timeout = start.flatten();
    }
    let stop = span(unit, "Service", &["TimeoutStopSec", "TimeoutSec"], notes).map(bound);
    spec.stop_timeout = stop.map_or(TIMEOUT, |bound| bound.unwrap_or(FOREVER));
}

fn killing(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    let Some(setting) = unit.of("KillMode") else { return };
    spec.kill = match setting.value.as_str() {
        "control-group" => Kill::ControlGroup,
        "process" => Kill::Process,
        "mixed" => {
            notes.list(setting, "the first signal goes to the process group");
            Kill::ControlGroup
        }
        "none" => {
            notes.list(setting, "its main process is stopped");
            Kill::Process
        }
        _ => return notes.refuse(setting, "there is no such mode"),
    };
}

fn accounts(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    let account = |key: &str, notes: &mut Notes<'_>| {
        let text = unit.of(key).and_then(|setting| notes.text(unit, setting))?;
        Some(Account::from(text.as_str()))
    };
    spec.user = account("User", notes);
    spec.group = account("Group", notes);
    for setting in unit.list("Service", "SupplementaryGroups") {
        let Some(text) = notes.text(unit, setting) else { continue };
        spec.groups.extend(text.split_whitespace().map(Account::from));
        if spec.user.is_some() {
            notes.list(setting, "groups that /etc/group lists the user in are not added then");
        } else if spec.group.is_none() {
            // without either none are set
            spec.user = Some(Account::Id(0));
        }
    }
}

fn streams(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    let input = unit.of("StandardInput").map(|setting| (setting, setting.value.as_str()));
    match input {
        None | Some((_, "null")) => {}
        Some((_, "tty" | "tty-force" | "tty-fail")) => {
            let path = unit.of("TTYPath").and_then(|setting| notes.text(unit, setting));
            spec.tty = Some(path.unwrap_or_else(|| "/dev/console".into()).into());
        }
        Some((setting, _)) => notes.refuse(setting, "standard input is /dev/null or a terminal"),
    }
    let output = unit.of("StandardOutput");
    if let Some(setting) = output {
        spec.log = match setting.value.as_str() {
            "null" => Log::Null,
            "journal" | "syslog" | "kmsg" => Log::Auto,
            // of standard input, which is a terminal or nothing
            "inherit" if spec.tty.is_some() => Log::Auto,
            "inherit" => Log::Null,
            "tty" if spec.tty.is_some() => Log::Auto,
            "journal+console" | "syslog+console" | "kmsg+console" => {
                notes.list(setting, "it goes to its own log alone");
                Log::Auto
            }
            other => match other.strip_prefix("append:") {
                Some(path) => match unit.specifiers().expand_text(path) {
                    Ok(path) if path.starts_with('/') => {
                        let mut file = LogFile::new(path);
                        (file.max_bytes, file.timestamps) = (u64::MAX, false);
                        Log::File(file)
                    }
                    _ => return notes.refuse(setting, "expected an absolute path"),
                },
                None => {
                    notes.list(setting, "it goes to its own log");
                    Log::Auto
                }
            },
        };
    }
    let said = output.map_or("journal", |setting| setting.value.as_str());
    if let Some(setting) = unit.of("StandardError")
        && setting.value != "inherit"
        && setting.value != said
    {
        notes.list(setting, "it goes where standard output does");
    }
}

fn directory(spec: &mut ServiceSpec, unit: &Text, notes: &mut Notes<'_>) {
    spec.directory = Some("/".into());
    let Some(setting) = unit.of("WorkingDirectory") else { return };
    let Some(text) = notes.text(unit, setting) else { return };
    let path = match text.strip_prefix('-') {
        Some(path) => {
            notes.list(setting, "it has to be there");
            path
        }
        None => &text,
    };
    match path.starts_with('/') {
        true => spec.directory = Some(path.into()),
        false => notes.refuse(setting, "expected an absolute path"),
    }
}
