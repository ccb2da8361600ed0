//! Faults that supervisors are known to fall over, each with a real supervisor; where it must be process
//! 1, in a PID namespace of its own. docs/supervisor.md has the whole list, with those that other tests
//! show already.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test says so by panicking")]

#[path = "../harness/mod.rs"]
mod harness;
mod lost;
mod memory;
mod orphans;
mod outside;
mod scarce;
mod signals;
#[path = "../harness/supervised.rs"]
mod supervised;
mod unready;
mod unsound;

use std::path::Path;
use std::process::{Command, ExitCode};

use harness::{Case, Order};
use kiln_supervisor::unix::Reserve;
use supervised::{Supervisor, until};

/// Half of what programs have by default.
#[global_allocator]
static ALLOCATOR: Reserve<1024> = Reserve::new();

const CASES: &[Case] = &[
    ("twenty_thousand_orphans_in_a_row_are_reaped", orphans::run, orphans::row_test),
    ("ten_thousand_orphans_at_once_are_reaped", orphans::run, orphans::burst_test),
    ("ends_that_come_together_are_all_seen", signals::run, signals::ends_test),
    ("a_storm_of_signals_changes_nothing", signals::run, signals::storm_test),
    ("no_process_to_be_had_is_waited_out", scarce::nobody_run, scarce::nobody_test),
    ("a_read_only_disk_costs_the_log_alone", scarce::read_only_run, scarce::read_only_test),
    ("no_proc_is_no_end", scarce::run, scarce::no_proc_test),
    ("no_descriptors_at_the_start_are_no_end", scarce::run, scarce::bare_test),
    ("what_is_no_configuration_is_refused", unready::nothing_run, unready::configuration_test),
    ("a_shutdown_while_starting_ends", unready::run, unready::shutdown_test),
    ("readiness_that_never_comes_starts_nobody_else", unready::run, unready::never_test),
    ("a_message_from_outside_is_nobodys", outside::run, outside::test),
    ("a_killed_process_1_leaves_nobody", lost::run, lost::first_test),
    ("after_a_killed_supervisor_nothing_runs_twice", lost::groups_run, lost::groups_test),
    ("process_1_starts_what_is_sound", unsound::run, unsound::test),
    ("memory_that_is_not_given_is_gone_without", memory::run, memory::test),
    (
        "a_first_process_short_of_memory_goes_on_as_a_new_image",
        memory::first_run,
        memory::first_test,
    ),
    ("short_of_memory_it_reads_no_files", memory::program_run, memory::program_test),
    ("without_any_memory_it_waits_for_some", memory::empty_run, memory::empty_test),
    ("a_number_that_is_used_again_is_not_signalled", lost::number_run, lost::number_test),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, argument] = arguments.as_slice() {
        let count = || argument.parse().unwrap();
        match word.as_str() {
            "--orphans-at-once" => return orphans::at_once(count()),
            "--orphans-in-a-row" => return orphans::in_a_row(count()),
            "--echo" => return orphans::echo(count()),
            "--ready-when-told" => return outside::ready_when_told(argument.as_ref()),
            _ => {}
        }
    }
    harness::main(CASES, &arguments, Order::OneByOne)
}

/// Whether the test may make namespaces and mount.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "namespaces and mounts need root");
        println!("skipped: root");
    }
    root
}

/// A case's supervisor as process 1 of a PID namespace with its own /proc.
fn first_process(name: &str, dir: &Path) -> Supervisor {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--mount-proc", "--fork", "--kill-child"]);
    Supervisor::start_by(first_argument(command), name, dir)
}

fn first_argument(mut command: Command) -> Command {
    command.arg(std::env::current_exe().unwrap());
    command
}

/// The number, outside, of the process 1 that `unshare` has started.
fn inner(supervisor: &Supervisor) -> i32 {
    until("there is a process 1", || children(supervisor.pid()).first().copied())
}

/// The children of all threads of a process.
fn children(pid: impl std::fmt::Display) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let text: String = texts.map(Result::unwrap_or_default).collect();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// The state of a process, as one letter (proc_pid_stat(5)); `None` when there is none.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
