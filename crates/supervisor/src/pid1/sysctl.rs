//! Kernel parameters as sysctl.d(5) and sysctl.conf(5) write them, applied through `/proc/sys`.
//!
//! `key = value` lines; `#` and `;` begin comments; a `-` before the key says that a parameter that
//! cannot be set is no problem. Where the first separator of a key is a dot, dots separate and a slash
//! stands for a dot in a name (`net.ipv4.conf.eth0/100.forwarding`); where it is a slash, slashes do.
//! Patterns (`*`) and exclusions (a `-` key without a value) are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::file;

/// Where files are looked for, as sysctl.d(5) says: of two with the same name the one in the earlier
/// directory counts, and all are read in the order of their names.
pub const DIRECTORIES: [&str; 3] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/lib/sysctl.d"];
/// Read after them.
pub const FILE: &str = "/etc/sysctl.conf";
/// So many files of a directory are looked at.
const MAX_FILES: usize = 1000;
/// So many parameters of one file are taken.
const MAX_SETTINGS: usize = 10_000;

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Its path below `/proc/sys`.
    pub path: PathBuf,
    /// What is written there.
    pub value: String,
    /// Whether not to be able to is a problem.
    pub required: bool,
    /// The line that says so, from 1.
    pub line: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.path.display(), self.value)
    }
}

/// A line that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub why: &'static str,
}

/// Reads the text of a file: the settings, and all lines that make no sense.
#[must_use]
pub fn parse(text: &str) -> (Vec<Setting>, Vec<Problem>) {
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    for (text, line) in text.lines().zip(1..) {
        let text = text.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            continue;
        }
        if settings.len() >= MAX_SETTINGS || problems.len() >= MAX_SETTINGS {
            problems.push(Problem { line, why: "too many lines; the rest is left out" });
            break;
        }
        match setting(text, line) {
            Ok(setting) => settings.push(setting),
            Err(why) => problems.push(Problem { line, why }),
        }
    }
    (settings, problems)
}

fn setting(text: &str, line: usize) -> Result<Setting, &'static str> {
    let (required, text) = match text.strip_prefix('-') {
        Some(rest) => (false, rest.trim_start()),
        None => (true, text),
    };
    let (key, value) = text.split_once('=').ok_or("expected key = value")?;
    let value = value.trim();
    if value.contains('\0') {
        return Err("the value has a zero byte");
    }
    Ok(Setting { path: path(key.trim())?, value: value.to_owned(), required, line })
}

/// The path below `/proc/sys` of a key, which stays below it.
fn path(key: &str) -> Result<PathBuf, &'static str> {
    if key.is_empty() {
        return Err("expected a key before the equals sign");
    }
    if key.contains(['*', '?', '[']) {
        return Err("patterns are not supported; name the parameter");
    }
    if key.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("the key has blanks or control characters");
    }
    let dotted = key.chars().find(|c| matches!(c, '.' | '/')) == Some('.');
    let swapped = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dotted { key.chars().map(swapped).collect() } else { key.to_owned() };
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err("the key leads out of /proc/sys or has an empty part");
    }
    Ok(path.into())
}

/// The files that count, in the order in which they are applied.
#[must_use]
pub fn files(directories: &[&Path], last: &Path) -> Vec<PathBuf> {
    let mut found: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for directory in directories {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries.take(MAX_FILES) {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                found.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    let last = last.exists().then(|| last.to_owned());
    found.into_values().chain(last).collect()
}

/// Applies files in order. `root` is `/proc/sys`. A file or line that makes no sense, and a required
/// parameter that cannot be set, is a sentence of the answer; all others are set.
#[must_use]
pub fn apply(files: &[PathBuf], root: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for path in files {
        let name = path.display();
        let text = match file::read(path).map(Option::unwrap_or_default).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => {
                complaints.push(format!("{name}: it is no text"));
                continue;
            }
            Err(error) => {
                complaints.push(format!("{name}: {error}"));
                continue;
            }
        };
        let (settings, problems) = parse(&text);
        complaints.extend(problems.iter().map(|problem| format!("{name}: {problem}")));
        for setting in settings {
            if let Err(error) = write(root, &setting)
                && setting.required
            {
                complaints.push(format!("{name}: line {}: {setting}: {error}", setting.line));
            }
        }
    }
    complaints
}

fn write(root: &Path, setting: &Setting) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(root.join(&setting.path))?;
    // One write: the kernel takes each as a whole value.
    file.write_all(format!("{}\n", setting.value).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_as_sysctl_d_has_them() {
        let text = "# comment\n; too\n\nkernel.panic = 10\n -net/ipv4/conf/eth0.1/forwarding=1\n\
                    net.ipv4.conf.eth0/1.proxy_arp= 0 \nkernel.core_pattern=|/bin/core %p=%s\n\
                    kernel.hostname =\n";
        let (settings, problems) = parse(text);
        assert!(problems.is_empty(), "{problems:?}");
        let lines: Vec<String> =
            settings.iter().map(|s| format!("{} {} {s}", s.line, s.required)).collect();
        assert_eq!(
            lines,
            [
                "4 true kernel/panic = 10",
                "5 false net/ipv4/conf/eth0.1/forwarding = 1",
                "6 true net/ipv4/conf/eth0.1/proxy_arp = 0",
                "7 true kernel/core_pattern = |/bin/core %p=%s",
                "8 true kernel/hostname = ",
            ]
        );
    }

    #[test]
    fn what_makes_no_sense_is_told_by_line_and_the_rest_is_taken() {
        let text =
            "a\n=1\nnet.*.x=1\na b=1\n../etc/passwd=x\nkernel..x=1\n/kernel/x=1\nx.=1\nok=1\n-x\n";
        let (settings, problems) = parse(text);
        assert_eq!(settings.len(), 1);
        let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8, 10]);
        assert_eq!(problems[0].to_string(), "line 1: expected key = value");
    }

    #[test]
    fn the_earlier_directory_hides_and_names_give_the_order() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for sub in ["etc", "lib", "sys/kernel"] {
            std::fs::create_dir_all(at(sub)).unwrap();
        }
        std::fs::write(at("etc/50-b.conf"), "kernel.a=2\n").unwrap();
        std::fs::write(at("lib/50-b.conf"), "kernel.a=hidden\n").unwrap();
        std::fs::write(at("lib/10-a.conf"), "kernel.a=1\nkernel.b=1\n-kernel.c=1\nkernel.d=1\n")
            .unwrap();
        std::fs::write(at("lib/README"), "kernel.a=no\n").unwrap();
        std::fs::write(at("last"), "kernel.b=last\nbad\n").unwrap();
        for name in ["a", "b"] {
            std::fs::write(at("sys/kernel").join(name), "").unwrap();
        }
        let files = files(&[&at("etc"), &at("lib"), &at("none")], &at("last"));
        let complaints = apply(&files, &at("sys"));
        let read = |name: &str| std::fs::read_to_string(at("sys/kernel").join(name)).unwrap();
        assert_eq!((read("a").as_str(), read("b").as_str()), ("2\n", "last\n"));
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("10-a.conf: line 4: kernel/d = 1: "), "{complaints:?}");
        assert!(complaints[1].ends_with("last: line 2: expected key = value"));
        assert!(!at("sys/kernel/c").exists());
    }

    proptest! {
        #[test]
        fn no_text_leads_out_of_the_root(text in ".{0,200}") {
            for setting in parse(&text).0 {
                prop_assert!(setting.path.components().all(
                    |part| matches!(part, std::path::Component::Normal(_))
                ));
            }
        }
    }
}
