//! A Nomad job as far as units come to, and its two spellings: the JSON of the HTTP API ("JSON Job
//! Specification") and the HCL of job files ("Job Specification").

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

/// A job with one group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Job {
    /// Its id and name, and its group's.
    pub id: String,
    /// `service`, `system`, `batch` or `sysbatch`.
    pub kind: &'static str,
    /// What the unit says of itself.
    pub meta: BTreeMap<String, String>,
    /// What happens when a task ends.
    pub restart: Restart,
    /// Whether the job may be placed elsewhere when it has failed; `None` where Nomad has no say.
    pub reschedule: Option<bool>,
    /// Its tasks; the main one is the one without a hook.
    pub tasks: Vec<Task>,
}

/// The `restart` block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restart {
    /// How often within the interval.
    pub attempts: u64,
    /// The interval, at least 5 s.
    pub interval: Duration,
    /// The pause before each.
    pub delay: Duration,
    /// `fail` or `delay`: what comes after the last attempt.
    pub mode: &'static str,
}

/// A task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Its name.
    pub name: String,
    /// `exec` or `raw_exec`.
    pub driver: String,
    /// The user; the driver's own without.
    pub user: Option<String>,
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// `prestart`, `poststart` or `poststop`.
    pub hook: Option<&'static str>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Files with variables: destination and content.
    pub templates: Vec<(String, String)>,
    /// How long it may take to end.
    pub kill_timeout: Option<Duration>,
    /// How it is asked to.
    pub kill_signal: Option<String>,
    /// CPU in MHz.
    pub cpu: u64,
    /// Memory in MiB.
    pub memory: u64,
}

impl Job {
    /// The body of `POST /v1/jobs`: an object with the job under `Job`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut group = json!({
            "Name": self.id,
            "Count": 1,
            "RestartPolicy": {
                "Attempts": self.restart.attempts,
                "Interval": nanoseconds(self.restart.interval),
                "Delay": nanoseconds(self.restart.delay),
                "Mode": self.restart.mode,
            },
            "Tasks": self.tasks.iter().map(Task::to_json).collect::<Vec<_>>(),
        });
        if self.reschedule == Some(false) {
            group["ReschedulePolicy"] = json!({ "Attempts": 0, "Unlimited": false });
        }
        json!({ "Job": {
            "ID": self.id,
            "Name": self.id,
            "Type": self.kind,
            "Datacenters": ["*"],
            "Meta": self.meta,
            "TaskGroups": [group],
        }})
    }

    /// A job file.
    #[must_use]
    pub fn to_hcl(&self) -> String {
        let mut out = Hcl::default();
        out.open(&format!("job {}", text(&self.id)));
        out.line("type", &text(self.kind));
        out.line("datacenters", "[\"*\"]");
        if !self.meta.is_empty() {
            out.map("meta", &self.meta);
        }
        out.open(&format!("group {}", text(&self.id)));
        out.open("restart");
        out.line("attempts", &self.restart.attempts.to_string());
        out.line("interval", &span(self.restart.interval));
        out.line("delay", &span(self.restart.delay));
        out.line("mode", &text(self.restart.mode));
        out.close();
        if self.reschedule == Some(false) {
            out.open("reschedule");
            out.line("attempts", "0");
            out.line("unlimited", "false");
            out.close();
        }
        for task in &self.tasks {
            task.write_hcl(&mut out);
        }
        out.close();
        out.close();
        out.text
    }
}

impl Task {
    fn to_json(&self) -> Value {
        let mut task = json!({
            "Name": self.name,
            "Driver": self.driver,
            "Config": { "command": self.command, "args": self.args },
            "Env": self.env,
            "Resources": { "CPU": self.cpu, "MemoryMB": self.memory },
        });
        if let Some(user) = &self.user {
            task["User"] = json!(user);
        }
        if let Some(hook) = self.hook {
            task["Lifecycle"] = json!({ "Hook": hook, "Sidecar": false });
        }
        if !self.templates.is_empty() {
            let template = |(destination, content): &(String, String)| json!({ "DestPath": destination, "EmbeddedTmpl": content, "Envvars": true });
            task["Templates"] = self.templates.iter().map(template).collect();
        }
        if let Some(timeout) = self.kill_timeout {
            task["KillTimeout"] = json!(nanoseconds(timeout));
        }
        if let Some(signal) = &self.kill_signal {
            task["KillSignal"] = json!(signal);
        }
        task
    }

    fn write_hcl(&self, out: &mut Hcl) {
        out.open(&format!("task {}", text(&self.name)));
        out.line("driver", &text(&self.driver));
        if let Some(user) = &self.user {
            out.line("user", &text(user));
        }
        if let Some(hook) = self.hook {
            out.open("lifecycle");
            out.line("hook", &text(hook));
            out.line("sidecar", "false");
            out.close();
        }
        out.open("config");
        out.line("command", &text(&self.command));
        let args: Vec<String> = self.args.iter().map(|arg| text(arg)).collect();
        out.line("args", &format!("[{}]", args.join(", ")));
        out.close();
        if !self.env.is_empty() {
            out.map("env", &self.env);
        }
        for (destination, content) in &self.templates {
            out.open("template");
            out.line("data", &text(content));
            out.line("destination", &text(destination));
            out.line("env", "true");
            out.close();
        }
        if let Some(timeout) = self.kill_timeout {
            out.line("kill_timeout", &span(timeout));
        }
        if let Some(signal) = &self.kill_signal {
            out.line("kill_signal", &text(signal));
        }
        out.open("resources");
        out.line("cpu", &self.cpu.to_string());
        out.line("memory", &self.memory.to_string());
        out.close();
        out.close();
    }
}

/// The API counts durations in nanoseconds.
fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration as Go parses it.
fn span(span: Duration) -> String {
    match span.subsec_nanos() {
        0 => text(&format!("{}s", span.as_secs())),
        _ => text(&format!("{}ns", span.as_nanos())),
    }
}

/// A string of HCL, in which `${` and `%{` are no templates.
fn text(value: &str) -> String {
    let mut quoted = String::from("\"");
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '$' | '%' if letters.peek() == Some(&'{') => {
                quoted.push(letter);
                quoted.push(letter);
            }
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// Lines, indented by their blocks.
#[derive(Default)]
struct Hcl {
    text: String,
    depth: usize,
}

impl Hcl {
    fn put(&mut self, line: &str) {
        self.text += &"  ".repeat(self.depth);
        self.text += line;
        self.text.push('\n');
    }

    fn open(&mut self, head: &str) {
        self.put(&format!("{head} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.put("}");
    }

    fn line(&mut self, key: &str, value: &str) {
        self.put(&format!("{key} = {value}"));
    }

    fn map(&mut self, name: &str, entries: &BTreeMap<String, String>) {
        self.open(name);
        for (key, value) in entries {
            self.line(key, &text(value));
        }
        self.close();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_text_is_a_template() {
        assert_eq!(super::text("a\"\\\n${B} %{c} $$ \u{1}"), r#""a\"\\\n$${B} %%{c} $$ \u0001""#);
    }
}
