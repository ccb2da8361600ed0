//! The process that a task runs: its environment, its commands, what is done before them, its user.

use std::collections::BTreeMap;

use super::super::reasons::reason;
use super::super::shell::{self, quote};
use super::super::{Driver, Note};
use super::{Converter, MAIN_PID, Step, TERM, Task};
use kiln_unit_file::{assignments, is_name, parse_commands, value, words};

impl Converter<'_> {
    /// `Environment=`, and the files: as templates where they could be read.
    pub(super) fn environment(&mut self) -> Vec<(String, String)> {
        for found in self.list("Environment") {
            match assignments(&found.value, &self.specifiers) {
                Ok(variables) => {
                    if variables.values().any(|value| value.contains("${")) {
                        self.note(found, true, "Nomad replaces ${…} in it where it knows the name");
                    }
                    self.env.extend(variables);
                }
                Err(problem) => self.note(found, false, problem),
            }
        }
        for found in self.list("UnsetEnvironment") {
            let names: Vec<&str> = found.value.split_whitespace().collect();
            self.env.retain(|name, _| !names.contains(&name.as_str()));
            self.note(found, true, "only what the unit itself sets is unset");
        }
        if let Some(found) = self.last("PassEnvironment") {
            self.open = true;
            self.note(found, false, reason("Service", "PassEnvironment"));
        }
        let mut known = self.env.clone();
        let mut templates = Vec::new();
        for found in self.list("EnvironmentFile") {
            let path = found.value.trim_start_matches('-');
            let given = self.options.environment_files.iter().find(|(name, _)| name == path);
            match given {
                Some((_, text)) => {
                    let variables = file_assignments(text);
                    if variables.is_empty() {
                        self.note(found, true, "its content of now sets nothing");
                        continue;
                    }
                    let name = path.trim_start_matches('/').replace('/', "-");
                    templates.push((format!("secrets/{name}.env"), template(&variables)));
                    known.extend(variables);
                    self.note(found, true, "its content of now is in the job, as a template");
                }
                None => {
                    self.open = true;
                    let text = "tasks cannot read the node's files; convert with --root, or write a template with env = true";
                    self.note(found, false, text);
                }
            }
        }
        self.known = known;
        templates
    }

    /// The commands of a key, with what is known put into them.
    pub(super) fn commands(&mut self, key: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        for found in self.list(key) {
            let commands = match parse_commands(&found.value, &self.specifiers) {
                Ok(commands) => commands,
                Err(problem) => {
                    self.note(found, false, problem);
                    continue;
                }
            };
            for mut command in commands {
                let main_pid = command.variables().any(|name| name == MAIN_PID);
                if main_pid {
                    self.note(found, false, "the main process's id is not known to other tasks");
                    continue;
                }
                let unknown: Vec<String> = command
                    .variables()
                    .filter(|name| !self.known.contains_key(*name))
                    .map(str::to_owned)
                    .collect();
                let open = self.open;
                let env = &self.known;
                command.resolve(|name| match env.get(name) {
                    // A file that could not be read may say otherwise.
                    Some(value) if !open => Some(value.clone()),
                    None if !open => Some(String::new()),
                    _ => None,
                });
                if !open && !unknown.is_empty() {
                    let text = format!("nothing sets {}; it is empty", unknown.join(", "));
                    self.note(found, true, text);
                }
                if command.name.is_some() {
                    self.note(found, true, "@: the program sees its own path as its name");
                }
                let directive = format!("{}={}", found.key, found.value);
                steps.push(Step { line: found.line, directive, command });
            }
        }
        steps
    }

    /// The program and arguments of a task that runs these commands one after the other. `ends`
    /// says that the task ends by itself.
    pub(super) fn program(
        &mut self,
        steps: &[Step],
        setup: &[String],
        ends: bool,
    ) -> (String, Vec<String>) {
        if let ([step], true) = (steps, setup.is_empty())
            && let Some(words) = shell::plain(&step.command)
            && !(ends && step.command.ignore_failure)
        {
            if step.command.ignore_failure {
                self.step_note(step, "-: Nomad counts its failure as one");
            }
            let mut words = words.into_iter();
            return (words.next().unwrap_or_default(), words.collect());
        }
        let mut lines = setup.to_vec();
        if steps.iter().any(|step| shell::splits(&step.command)) {
            lines.push("set -f".into());
        }
        for (index, step) in steps.iter().enumerate() {
            let line = shell::line(&step.command);
            if step.command.ignore_failure && !ends {
                self.step_note(step, "-: Nomad counts its failure as one");
            }
            if step.command.ignore_failure && ends {
                lines.push(format!("{{ {line} || :; }}"));
            } else if index + 1 == steps.len() {
                lines.push(format!("exec {line}"));
            } else {
                lines.push(line);
            }
        }
        shell(&lines)
    }

    pub(super) fn step_note(&mut self, step: &Step, text: &str) {
        self.notes.push(Note {
            line: step.line,
            converted: true,
            directive: step.directive.clone(),
            text: text.into(),
        });
    }

    /// A script that stands for a daemon which goes into the background: it lives as long as the
    /// process whose id is in the file, and passes the signal to end on.
    pub(super) fn forks(&mut self, task: &Task, main: &[Step]) -> Option<String> {
        let kind = self.unit.assignments.iter().rev();
        let kind =
            kind.filter(|found| found.section == "Service").find(|found| found.key == "Type")?;
        if kind.value != "forking" {
            return None;
        }
        let pid_file = self.last("PIDFile");
        let Some(pid_file) = pid_file else {
            let text = "Nomad follows the process that it starts: tell the program to stay in the foreground";
            self.note(kind, false, text);
            return None;
        };
        let path = match self.specifiers.expand_text(&pid_file.value) {
            Ok(path) if path.starts_with('/') => path,
            Ok(path) => format!("/run/{path}"),
            Err(problem) => {
                self.note(pid_file, false, problem);
                return None;
            }
        };
        let text = "a shell waits in the foreground for the process of PIDFile=; better is an option of the program to stay there itself";
        self.note(kind, true, text);
        if self.options.driver == Driver::Exec {
            self.note(
                pid_file,
                true,
                "it is looked for in exec's chroot, where the program writes it",
            );
        }
        let starts: Vec<String> = main.iter().map(|step| shell::line(&step.command)).collect();
        let signal = task.kill_signal.as_deref().unwrap_or(TERM).trim_start_matches("SIG");
        Some(format!(
            "{starts} && {{ pid=$(cat {path}); trap 'kill -{signal} \"$pid\"' {signal}; \
             while kill -0 \"$pid\" 2>/dev/null; do sleep 1 & wait \"$!\"; done; }}",
            starts = starts.join(" && "),
            path = quote(&path),
        ))
    }

    /// What the shell does before it becomes the program.
    pub(super) fn setup(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(found) = self.last("UMask") {
            if found.value.chars().all(|digit| digit.is_digit(8)) {
                lines.push(format!("umask {}", found.value));
            } else {
                self.note(found, false, "it is no octal number");
            }
        }
        for (key, letter, unit) in [
            ("LimitNOFILE", 'n', 1),
            ("LimitSTACK", 's', 1024),
            ("LimitDATA", 'd', 1024),
            ("LimitAS", 'v', 1024),
            ("LimitMEMLOCK", 'l', 1024),
            ("LimitCPU", 't', 1),
        ] {
            let Some(found) = self.last(key) else { continue };
            for (flag, limit) in limits(&found.value) {
                match limit {
                    Some("infinity") => {
                        lines.push(format!("ulimit -{flag}{letter} unlimited"));
                    }
                    Some(limit) if value::size(limit).is_some() => {
                        let number = value::size(limit).unwrap_or_default() / unit;
                        lines.push(format!("ulimit -{flag}{letter} {number}"));
                    }
                    _ => self.note(found, false, "it is no limit that a shell can set"),
                }
            }
            if self.options.driver == Driver::Exec {
                self.note(found, true, "the task cannot raise the limits that the agent has");
            }
        }
        if let Some(found) = self.last("WorkingDirectory") {
            let (path, optional) = match found.value.strip_prefix('-') {
                Some(path) => (path, true),
                None => (found.value.as_str(), false),
            };
            match self.specifiers.expand_text(path) {
                Ok(path) => {
                    let directory = if path == "~" { "\"$HOME\"".into() } else { quote(&path) };
                    lines.push(match optional {
                        true => format!("{{ cd {directory} || :; }}"),
                        false => format!("cd {directory}"),
                    });
                }
                Err(problem) => self.note(found, false, problem),
            }
        }
        lines
    }

    /// Directories that systemd would make, where the task can make them itself.
    pub(super) fn directories(&mut self, user: Option<&str>) -> Vec<String> {
        let root = user.is_none_or(|user| user == "root");
        if self.options.driver == Driver::Exec || !root {
            return Vec::new();
        }
        let mut lines = Vec::new();
        for (key, base) in [
            ("RuntimeDirectory", "/run"),
            ("StateDirectory", "/var/lib"),
            ("CacheDirectory", "/var/cache"),
            ("LogsDirectory", "/var/log"),
            ("ConfigurationDirectory", "/etc"),
        ] {
            let names = self.list(key);
            let mode = if names.is_empty() { None } else { self.last(&format!("{key}Mode")) };
            for found in names {
                match self.specifiers.expand_text(&found.value) {
                    Ok(names) => lines.extend(names.split_whitespace().map(|name| {
                        let mode = mode.map_or("0755", |mode| mode.value.as_str());
                        let path = quote(&format!("{base}/{name}"));
                        format!("mkdir -p {path} && chmod {} {path}", quote(mode))
                    })),
                    Err(problem) => self.note(found, false, problem),
                }
            }
        }
        lines
    }

    pub(super) fn user(&mut self) -> Option<String> {
        let Some(found) = self.last("User") else {
            if self.options.driver == Driver::Exec {
                let text = "systemd runs the service as root, exec as nobody; for root take --driver raw_exec";
                self.remark("no User=", text);
            }
            return None;
        };
        match self.specifiers.expand_text(&found.value) {
            Ok(user) => {
                match (user.as_str(), self.options.driver) {
                    ("root", Driver::Exec) => {
                        let text = "a client refuses root to exec unless its options.user.denylist is empty";
                        self.note(found, true, text);
                    }
                    ("root" | "nobody", _) => {}
                    _ => self.note(found, true, "the node's /etc/passwd must have it"),
                }
                Some(user)
            }
            Err(problem) => {
                self.note(found, false, problem);
                None
            }
        }
    }

    /// The user of a task: root where every command asks for full rights.
    pub(super) fn user_of(&mut self, steps: &[Step], user: Option<&str>) -> Option<String> {
        let privileged = steps.iter().filter(|step| step.command.privileged.is_some()).count();
        let exec = self.options.driver == Driver::Exec;
        if privileged == 0 || (user.is_none() && !exec) {
            return user.map(str::to_owned);
        }
        let all = privileged == steps.len() && user.is_some();
        for step in steps {
            let Some(prefix) = step.command.privileged else { continue };
            if !all {
                self.step_note(step, &format!("{prefix}: it runs as its task does"));
            } else if exec {
                let text =
                    "a client refuses root to exec unless its options.user.denylist is empty";
                self.step_note(step, &format!("{prefix}: {text}"));
            }
        }
        if all { Some("root".into()) } else { user.map(str::to_owned) }
    }
}

/// A shell that does all of this, and stops at the first that fails.
pub(super) fn shell(lines: &[String]) -> (String, Vec<String>) {
    ("/bin/sh".into(), vec!["-c".into(), lines.join(" && ")])
}

/// Soft and hard limit of `SOFT:HARD`, or both in one, with the letter that ulimit takes for it.
fn limits(value: &str) -> Vec<(&'static str, Option<&str>)> {
    match value.split_once(':') {
        Some((soft, hard)) => vec![("H", Some(hard)), ("S", Some(soft))],
        None => vec![("", Some(value))],
    }
}

/// The variables of an environment file (systemd.exec(5), `EnvironmentFile=`).
fn file_assignments(text: &str) -> BTreeMap<String, String> {
    let joined = text.replace("\\\n", "");
    let lines = joined.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let value = value.trim();
            let value = match words(value) {
                // Quotes may stand anywhere in a value; outside of them white space stays.
                Ok(words) if value.contains(['"', '\'', '\\']) => {
                    words.into_iter().map(|(word, _)| word).collect::<Vec<_>>().join(" ")
                }
                _ => value.to_owned(),
            };
            is_name(name.trim()).then(|| (name.trim().to_owned(), value))
        })
        .collect()
}

/// Variables as a template with `env = true`: go-envparse reads it after consul-template did.
fn template(variables: &BTreeMap<String, String>) -> String {
    let line = |(name, value): (&String, &String)| {
        let value = serde_json::Value::from(value.as_str()).to_string();
        // Two braces would begin an action.
        format!("{name}={}\n", value.replace("{{", "{{ \"{{\" }}"))
    };
    variables.iter().map(line).collect()
}
