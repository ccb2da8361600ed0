//! What each directive becomes (systemd.service(5), systemd.exec(5), systemd.resource-control(5),
//! systemd.kill(5)).

mod process;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use self::process::shell;
use super::job::{Job, Restart, Task};
use super::reasons::reason;
use super::{Conversion, Driver, Note, Options};
use kiln_unit_file::{Assignment, CommandLine, Specifiers, Unit, value};

/// Nomad's defaults for what a task may use.
const CPU: u64 = 100;
const MEMORY: u64 = 300;
/// The least that Nomad takes as memory, in MiB.
const LEAST_MEMORY: u64 = 10;
/// The longest that a client lets a task take to end, unless its max_kill_timeout says otherwise.
const LONGEST_KILL: Duration = Duration::from_secs(30);
/// The shortest interval of a restart block.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(5);
/// Over which restarts are counted where systemd does not limit them.
const HOUR: Duration = Duration::from_secs(3600);
/// The signal that asks a service to end, and the variable with the main process's id.
const TERM: &str = "SIGTERM";
const MAIN_PID: &str = "MAINPID";

/// A unit as a job, and all of it that is lost or different.
///
/// # Errors
/// When it is no service, runs nothing, or cannot be known without more (an instance).
pub fn convert(unit: &Unit, options: &Options) -> Result<Conversion> {
    if !unit.name.ends_with(".service") {
        bail!("{}: only services can be converted", unit.name);
    }
    Converter::new(unit, options).run()
}

/// The environment files that a unit names and that are no patterns.
pub(super) fn environment_files(unit: &Unit) -> Vec<String> {
    let named = unit.assignments.iter().filter(|found| found.key == "EnvironmentFile");
    let paths = named.map(|found| found.value.trim_start_matches('-').to_owned());
    paths.filter(|path| path.starts_with('/') && !path.contains(['*', '?', '[', '%'])).collect()
}

struct Converter<'a> {
    unit: &'a Unit,
    options: &'a Options,
    specifiers: Specifiers<'a>,
    /// For each assignment, whether it has been dealt with.
    taken: Vec<bool>,
    notes: Vec<Note>,
    /// The variables that the unit itself sets.
    env: BTreeMap<String, String>,
    /// Those that commands can refer to, and whether there may be others.
    known: BTreeMap<String, String>,
    open: bool,
}

/// A command with the line that it stands on.
struct Step {
    line: usize,
    directive: String,
    command: CommandLine,
}

impl<'a> Converter<'a> {
    fn new(unit: &'a Unit, options: &'a Options) -> Self {
        let instance = unit.instance().1;
        let given = options.instance.as_deref();
        Self {
            unit,
            options,
            specifiers: Specifiers {
                name: &unit.name,
                instance: match instance {
                    Some("") => given.or(Some("")),
                    found => found,
                },
            },
            taken: vec![false; unit.assignments.len()],
            notes: Vec::new(),
            env: BTreeMap::new(),
            known: BTreeMap::new(),
            open: false,
        }
    }

    fn run(mut self) -> Result<Conversion> {
        for (line, text) in &self.unit.ignored {
            let text = text.clone();
            self.notes.push(Note {
                line: *line,
                converted: false,
                directive: text,
                text: "it is no assignment in a section, and systemd ignores it too".into(),
            });
        }
        let oneshot = self.kind();
        let templates = self.environment();
        let main = self.commands("ExecStart");
        let Some(last) = main.last().map(|step| step.line) else {
            bail!(
                "{}: it has no ExecStart= that can be run{}",
                self.unit.name,
                self.notes.iter().map(|note| format!("\n{note}")).collect::<String>()
            );
        };
        if oneshot.is_none() && main.len() > 1 {
            bail!("{}:{last}: only Type=oneshot may have several commands", self.unit.name);
        }

        let user = self.user();
        let mut base = Task {
            driver: self.options.driver.name().into(),
            env: self.env.clone(),
            templates,
            cpu: CPU,
            memory: MEMORY,
            ..Task::default()
        };
        let mut tasks = Vec::new();
        let mut pre = self.directories(user.as_deref());
        let steps = self.commands("ExecStartPre");
        let setup = self.setup();
        if !(pre.is_empty() && steps.is_empty()) {
            pre.extend(setup.iter().cloned());
            let mut task = base.clone();
            task.name = format!("{}-pre", self.stem());
            task.hook = Some("prestart");
            task.user = self.user_of(&steps, user.as_deref());
            (task.command, task.args) = self.program(&steps, &pre, true);
            tasks.push(task);
        }
        base.user = user.clone();
        self.resources(&mut base);
        let stem = self.stem();
        let mut task = base.clone();
        task.name.clone_from(&stem);
        self.stopping(&mut task);
        task.user = self.user_of(&main, user.as_deref());
        (task.command, task.args) = match self.forks(&task, &main) {
            Some(script) => shell(&[setup.as_slice(), &[script]].concat()),
            None => self.program(&main, &setup, oneshot.is_some()),
        };
        tasks.push(task);
        for (key, name, hook) in
            [("ExecStartPost", "post", "poststart"), ("ExecStopPost", "stop-post", "poststop")]
        {
            let steps = self.commands(key);
            if steps.is_empty() {
                continue;
            }
            let mut task = base.clone();
            (task.cpu, task.memory) = (CPU, MEMORY);
            task.name = format!("{}-{name}", self.stem());
            task.hook = Some(hook);
            task.user = self.user_of(&steps, user.as_deref());
            (task.command, task.args) = self.program(&steps, &setup, true);
            tasks.push(task);
        }

        let everywhere = self.install();
        let kind = match (oneshot, everywhere) {
            (Some(_), true) => "sysbatch",
            (Some(_), false) => "batch",
            (None, true) => "system",
            (None, false) => "service",
        };
        let (restart, never) = self.restart(oneshot.is_some());
        let reschedule = (kind == "service" || kind == "batch").then_some(!never);
        let meta = self.meta();
        let job = Job { id: stem, kind, meta, restart, reschedule, tasks };
        self.leftovers();
        self.notes.sort_by(|a, b| (a.line, &a.directive).cmp(&(b.line, &b.directive)));
        Ok(Conversion { job, notes: self.notes })
    }

    /// The unit's name as a job's, the instance with it.
    fn stem(&self) -> String {
        match (self.unit.instance(), self.specifiers.instance) {
            ((prefix, Some("")), Some(instance)) => format!("{prefix}@{instance}"),
            _ => self.unit.stem().to_owned(),
        }
    }

    // What was said, and what of it has been dealt with.

    fn note(&mut self, found: &Assignment, converted: bool, text: impl Into<String>) {
        self.notes.push(Note {
            line: found.line,
            converted,
            directive: format!("{}={}", found.key, found.value),
            text: text.into(),
        });
    }

    fn remark(&mut self, what: &str, text: &str) {
        let (line, converted) = (0, true);
        self.notes.push(Note { line, converted, directive: what.into(), text: text.into() });
    }

    /// The assignments to a key of `[Service]` that count: an empty one takes back those before.
    fn list(&mut self, key: &str) -> Vec<&'a Assignment> {
        let mut found: Vec<&Assignment> = Vec::new();
        let mut resets = Vec::new();
        for (taken, assignment) in self.taken.iter_mut().zip(&self.unit.assignments) {
            if assignment.section != "Service" || assignment.key != key {
                continue;
            }
            *taken = true;
            if assignment.value.is_empty() {
                resets.extend(found.drain(..).map(|earlier| (earlier, assignment.line)));
            } else {
                found.push(assignment);
            }
        }
        for (earlier, line) in resets {
            self.note(earlier, false, format!("line {line} takes it back"));
        }
        found
    }

    /// The assignment to a key that holds one value: the last.
    fn last(&mut self, key: &str) -> Option<&'a Assignment> {
        self.last_of("Service", &[key])
    }

    fn last_of(&mut self, section: &str, keys: &[&str]) -> Option<&'a Assignment> {
        let mut found: Option<&Assignment> = None;
        let mut earlier = Vec::new();
        for (taken, assignment) in self.taken.iter_mut().zip(&self.unit.assignments) {
            if assignment.section == section && keys.contains(&assignment.key.as_str()) {
                *taken = true;
                earlier.extend(found.replace(assignment));
            }
        }
        if let Some(found) = found {
            for assignment in earlier {
                self.note(assignment, false, format!("line {} says otherwise", found.line));
            }
        }
        found.filter(|assignment| !assignment.value.is_empty())
    }

    /// Says of everything that nobody has asked for that it is lost, and why.
    fn leftovers(&mut self) {
        for index in 0..self.unit.assignments.len() {
            if self.taken.get(index) == Some(&true) {
                continue;
            }
            if let Some(found) = self.unit.assignments.get(index) {
                self.note(found, false, reason(&found.section, &found.key));
            }
        }
    }

    // What is run.

    /// The line of `Type=oneshot`, if that it is.
    fn kind(&mut self) -> Option<usize> {
        let found = self.last("Type")?;
        match found.value.as_str() {
            "simple" | "exec" => None,
            "oneshot" => Some(found.line),
            "idle" => {
                self.note(found, true, "nothing waits for other jobs");
                None
            }
            "notify" | "notify-reload" | "dbus" => {
                let text = "Nomad does not wait until it is ready: it runs as Type=exec; a service block has checks";
                self.note(found, true, text);
                None
            }
            "forking" => None, // told by `forks`
            _ => {
                self.note(found, false, "there is no such type; taken as simple");
                None
            }
        }
    }

    // With how much, for how long.

    fn resources(&mut self, task: &mut Task) {
        match self.last_of("Service", &["MemoryMax", "MemoryLimit"]) {
            Some(found) => match value::size(&found.value) {
                Some(bytes) => {
                    task.memory = bytes.div_ceil(1 << 20).max(LEAST_MEMORY);
                    if self.options.driver == Driver::RawExec {
                        self.note(found, true, "raw_exec reserves it and does not enforce it");
                    }
                }
                None => self.note(found, false, "Nomad wants a number of bytes"),
            },
            None if self.options.driver == Driver::Exec => {
                let text = "exec always has a limit: Nomad's default of 300 MiB";
                self.remark("no MemoryMax=", text);
            }
            None => {}
        }
        if let Some(found) = self.last("CPUQuota") {
            match value::percent(&found.value) {
                Some(percent) => {
                    task.cpu = (percent.saturating_mul(self.options.core_mhz) / 100).max(1);
                    let text = format!(
                        "it becomes a share, not a limit, of CPUs taken for {} MHz each",
                        self.options.core_mhz
                    );
                    self.note(found, true, text);
                }
                None => self.note(found, false, "it is no percentage"),
            }
        }
    }

    fn stopping(&mut self, task: &mut Task) {
        task.kill_timeout = Some(LONGEST_KILL);
        // Nomad's own default is SIGINT.
        task.kill_signal = Some(TERM.into());
        match self.last_of("Service", &["TimeoutStopSec", "TimeoutSec"]) {
            Some(found) => match value::duration(&found.value) {
                Ok(Some(limit)) if !limit.is_zero() => {
                    task.kill_timeout = Some(limit);
                    if limit > LONGEST_KILL {
                        let text = "clients allow 30 s unless their max_kill_timeout says more";
                        self.note(found, true, text);
                    } else if found.key == "TimeoutSec" {
                        self.note(found, true, "only the time to stop is limited");
                    }
                }
                Ok(_) => {
                    self.note(found, false, "Nomad always ends a task at some time; 30 s is taken")
                }
                Err(problem) => self.note(found, false, problem),
            },
            None => self.remark(
                "no TimeoutStopSec=",
                "30 s, the most that clients allow by default, not 90 s",
            ),
        }
        if let Some(found) = self.last("KillSignal") {
            let name = found.value.trim();
            let named =
                name.starts_with("SIG") && !name.contains(|c: char| !c.is_ascii_alphanumeric());
            if named {
                task.kill_signal = Some(name.to_owned());
            } else {
                self.note(found, false, "Nomad wants a signal's name (SIGINT)");
            }
        }
        if let Some(found) = self.last("KillMode").filter(|found| found.value != "control-group") {
            self.note(found, found.value == "mixed", reason("Service", "KillMode"));
        }
        // The usual ExecStop= is a signal in other words.
        for found in self.list("ExecStop") {
            let words: Vec<&str> = found.value.split_whitespace().collect();
            let signal = match words.as_slice() {
                [kill, signal, "$MAINPID" | "${MAINPID}"] if is_kill(kill) => {
                    signal.strip_prefix('-').map(str::to_owned)
                }
                [kill, "-s", signal, "$MAINPID" | "${MAINPID}"] if is_kill(kill) => {
                    Some((*signal).to_owned())
                }
                [kill, "$MAINPID" | "${MAINPID}"] if is_kill(kill) => Some(TERM.to_owned()),
                _ => None,
            };
            match signal.filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic())) {
                Some(name) => {
                    task.kill_signal = Some(match name.strip_prefix("SIG") {
                        Some(_) => name,
                        None => format!("SIG{name}"),
                    });
                }
                None => self.note(found, false, reason("Service", "ExecStop")),
            }
        }
    }

    /// The restart block, and whether nothing is to be restarted at all.
    fn restart(&mut self, oneshot: bool) -> (Restart, bool) {
        let found = self.last("Restart");
        let policy = found.map_or("no", |found| found.value.as_str());
        let delay = self.span("Service", &["RestartSec"]).unwrap_or(Duration::from_millis(100));
        let interval = self
            .span("Unit", &["StartLimitIntervalSec", "StartLimitInterval"])
            .or_else(|| self.span("Service", &["StartLimitInterval"]))
            .unwrap_or(Duration::from_secs(10));
        let burst = self
            .last_of("Unit", &["StartLimitBurst"])
            .or_else(|| self.last_of("Service", &["StartLimitBurst"]));
        let burst = burst.and_then(|found| found.value.parse().ok()).unwrap_or(5_u64);
        if let Some(found) = found {
            match policy {
                "no" | "always" => {}
                "on-failure" if oneshot => {}
                "on-failure" => {
                    self.note(found, true, "Nomad restarts a service that ends with 0, too");
                }
                "on-success" | "on-abnormal" | "on-abort" | "on-watchdog" => {
                    self.note(found, true, "Nomad restarts whatever the exit was");
                }
                _ => self.note(found, false, "there is no such policy; taken as no"),
            }
        }
        let known =
            ["always", "on-failure", "on-success", "on-abnormal", "on-abort", "on-watchdog"];
        if !known.contains(&policy) {
            let restart = Restart { attempts: 0, interval: SHORTEST_INTERVAL, delay, mode: "fail" };
            return (restart, true);
        }
        let attempts = burst.saturating_sub(1);
        let longest = u32::try_from(attempts).ok().and_then(|times| delay.checked_mul(times));
        // Without a limit, or with pauses so long that it is never met, it goes on for ever.
        if interval.is_zero() || burst == 0 || longest.is_none_or(|longest| longest >= interval) {
            let delay = delay.max(Duration::from_secs(1));
            let interval = HOUR.max(delay.saturating_mul(2));
            let attempts = interval.as_secs() / delay.as_secs().max(1) / 2;
            return (Restart { attempts: attempts.max(1), interval, delay, mode: "delay" }, false);
        }
        let interval = interval.max(SHORTEST_INTERVAL);
        (Restart { attempts, interval, delay, mode: "fail" }, attempts == 0)
    }

    fn span(&mut self, section: &str, keys: &[&str]) -> Option<Duration> {
        let found = self.last_of(section, keys)?;
        match value::duration(&found.value) {
            Ok(Some(span)) => Some(span),
            Ok(None) => Some(Duration::ZERO),
            Err(problem) => {
                self.note(found, false, problem);
                None
            }
        }
    }

    // What others know of it.

    /// Whether a target wants it, so that it belongs on every node.
    fn install(&mut self) -> bool {
        let mut everywhere = false;
        for (taken, found) in self.taken.iter_mut().zip(&self.unit.assignments) {
            let wanted = found.section == "Install"
                && ["WantedBy", "RequiredBy"].contains(&found.key.as_str())
                && found.value.split_whitespace().any(|name| name.ends_with(".target"));
            if wanted {
                *taken = true;
                everywhere = true;
            }
        }
        everywhere
    }

    fn meta(&mut self) -> BTreeMap<String, String> {
        let mut meta = BTreeMap::new();
        for (taken, found) in self.taken.iter_mut().zip(&self.unit.assignments) {
            let name = match (found.section.as_str(), found.key.as_str()) {
                ("Unit", "Description") => "description",
                ("Unit", "Documentation") => "documentation",
                _ => continue,
            };
            *taken = true;
            let text = self.specifiers.expand_text(&found.value);
            let text = text.unwrap_or_else(|_| found.value.clone());
            let entry: &mut String = meta.entry(name.to_owned()).or_default();
            if !entry.is_empty() {
                entry.push(' ');
            }
            entry.push_str(&text);
        }
        meta
    }
}

fn is_kill(program: &str) -> bool {
    ["kill", "/bin/kill", "/usr/bin/kill"].contains(&program.trim_start_matches(['-', '+', ':']))
}
