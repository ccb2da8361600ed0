//! All processes, as /proc has them (proc_pid_stat(5)).

use std::fs;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) state: char,
    /// When it began, in clock ticks: with the number, what tells it from all others.
    pub(crate) began: u64,
    /// Its program and arguments; empty for a thread of the kernel and for a zombie.
    pub(crate) words: Vec<String>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            state: fields.first()?.chars().next()?,
            began: fields.get(19)?.parse().ok()?,
            words: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        })
    }

    /// The service that it is the main process of.
    pub(crate) fn service(&self) -> Option<&str> {
        match self.words.as_slice() {
            [_, life, name, _] if life == "life" => Some(name),
            _ => None,
        }
    }
}

pub(crate) fn all() -> Vec<Process> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Process::read).collect()
}

/// KiB of process 1 in memory, and its descriptors.
pub(crate) fn first() -> (u64, usize) {
    let status = fs::read_to_string("/proc/1/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    (memory.unwrap_or(0), fs::read_dir("/proc/1/fd").map_or(0, Iterator::count))
}
