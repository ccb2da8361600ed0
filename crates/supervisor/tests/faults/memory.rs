//! Memory that the kernel does not give.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kiln_supervisor::control::{Client, Effect, Request};
use kiln_supervisor::unix::{self, OnPanic};
use kiln_supervisor::{Event, Log, Outcome, ServiceSpec};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::supervised::{PATIENCE, Raw, Supervisor, options, sh, socket, supervise, until};
use crate::{children, first_process, inner, is_root, signal};

/// Services that run from the beginning, and those that are started when memory is short.
const FIRST: usize = 20;
const LATER: usize = 1_000;
/// Clients that subscribe to all that happens and take nothing of it.
const DEAF: usize = 20;
/// Those that begin to ask.
const HALF: usize = 40;

fn services(later: usize) -> Vec<ServiceSpec> {
    let mut talker = sh("talker", "while :; do echo a line of some length; sleep 0.005; done");
    talker.log = Log::Auto;
    let first = (0..FIRST).map(|number| sh(&format!("first-{number}"), "exec sleep 1000"));
    let later = (0..later).map(|number| {
        let mut spec = ServiceSpec::daemon(format!("later-{number}"), ["sleep", "1000"]);
        (spec.enabled, spec.log) = (false, Log::Null);
        spec
    });
    first.chain(later).chain([talker]).collect()
}

pub(crate) fn run(dir: &Path) {
    supervise(services(LATER), options(dir));
}

/// A program whose first image keeps so many bytes of all that happens, for ever.
fn keep(bytes: usize, dir: &Path, on_panic: OnPanic) {
    let mut options = options(dir);
    options.on_panic = on_panic;
    let bytes = if unix::resumed() { 0 } else { bytes };
    let mut kept = Vec::new();
    let mut tell = |event: &Event| {
        println!("{event}");
        kept.push(vec![1_u8; bytes]);
    };
    unix::run(services(LATER), options, &mut tell).unwrap();
}

pub(crate) fn first_run(dir: &Path) {
    assert!(rustix::process::getpid().is_init());
    keep(4 << 10, dir, OnPanic::Reexec { limit: 1 });
}

pub(crate) fn empty_run(dir: &Path) {
    keep(64 << 10, dir, OnPanic::Unwind);
}

/// A number of `/proc/PID/status`, in bytes.
fn bytes(pid: i32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Bounds a process to what it has and so many bytes more; `None`: no bounds.
fn bound(pid: i32, more: Option<u64>) {
    // that of all addresses alone would leave what the C library keeps for each thread
    for (resource, field) in [(Resource::As, "VmSize"), (Resource::Data, "VmData")] {
        let current = more.map(|more| bytes(pid, field) + more);
        let limit = Rlimit { current, maximum: None };
        rustix::process::prlimit(Pid::from_raw(pid), resource, limit).unwrap();
    }
}

/// The processes of services that are up, by their names.
fn up(client: &mut Client, prefix: &str) -> Vec<(String, i32)> {
    let list = client.status(None).unwrap().into_iter();
    let list = list.filter(|status| status.state == "up" && status.name.starts_with(prefix));
    list.map(|status| (status.name, status.pid.unwrap())).collect()
}

/// Starts services, of which many clients hear and none takes anything, while others hold what they have
/// begun to ask; until something is so.
fn press(dir: &Path, what: &str, is_so: impl Fn() -> bool) {
    let (mut deaf, mut half) = (Vec::new(), VecDeque::new());
    let greeted = || {
        let mut raw = Raw::connect(dir).unwrap();
        // one may be let go of at once
        let _ = raw.say(r#"{"hello":{"version":1}}"#);
        raw
    };
    for number in 0..LATER {
        if is_so() {
            return;
        }
        if deaf.len() < DEAF {
            let mut raw = greeted();
            let _ = raw.say(r#"{"events":{}}"#);
            deaf.push(raw);
        }
        let mut raw = greeted();
        let _ = raw.stream.write_all(&[0, 0, 0xff, 0xff, 0]);
        let _ = raw.stream.write_all(&[b' '; 60_000]);
        half.push_back(raw);
        if half.len() > HALF {
            half.pop_front();
        }
        let name = format!("later-{number}");
        let asked = Client::connect_within(&socket(dir), Duration::from_secs(2));
        let _ = asked.and_then(|mut client| client.start(&name, Duration::ZERO));
    }
    until(what, || is_so().then_some(()));
}

fn starts(out: &str, name: &str) -> usize {
    out.matches(&format!("{name}: started as")).count()
}

/// Services are looked after while memory is short: one that ends is restarted, what they say is kept.
fn is_looked_after(supervisor: &Supervisor, dir: &Path, (name, process): &(String, i32)) {
    let known = starts(&supervisor.out(), name);
    signal(*process, Signal::KILL);
    until("it is restarted", || (starts(&supervisor.out(), name) > known).then_some(()));
    let log = dir.join("talker.log");
    let length = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let written = length();
    until("what is said is kept", || (length() > written).then_some(()));
}

/// With as much memory as it wants all is as before: the same processes but for that which was killed,
/// new ones, an end.
fn ends(supervisor: &Supervisor, before: &[(String, i32)], killed: usize) -> String {
    let mut client = supervisor.client();
    let after = until("all that were up are up", || {
        let after = up(&mut client, "first-");
        let is_new = |place: usize| after[place].1 != before[place].1;
        (after.len() == FIRST && (0..killed).all(is_new)).then_some(after)
    });
    assert_eq!(after[killed..], before[killed..]);
    client.start("later-199", PATIENCE).unwrap();
    client.shutdown(Outcome::Exit, false).unwrap();
    until("it ends", || (!supervisor.is_alive()).then_some(()));
    let out = supervisor.out();
    assert!(out.contains("all services stopped: exit"), "{out}");
    assert!(!out.contains("resumed after panic"), "{out}");
    for (name, _) in &before[killed..] {
        assert_eq!(starts(&out, name), 1, "{out}");
    }
    out
}

/// The number, outside, of a child that has this number to its supervisor.
fn outside(supervisor: i32, number: i32) -> i32 {
    let is = |pid: &i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
        line.and_then(|line| line.split_whitespace().last()) == Some(number.to_string().as_str())
    };
    children(supervisor).into_iter().find(is).unwrap()
}

/// All that are to be up at first are, and the process is bounded to little more than it has.
fn prepared(supervisor: &Supervisor, pid: i32, more: u64) -> Vec<(String, i32)> {
    let mut client = supervisor.client();
    let before = until("all are up", || {
        Some(up(&mut client, "first-")).filter(|before| before.len() == FIRST)
    });
    bound(pid, Some(more));
    before
}

const GIVEN_AGAIN: &str = "memory is given again";

pub(crate) fn test(dir: &Path) {
    let supervisor = Supervisor::start("memory_that_is_not_given_is_gone_without", dir);
    let pid = i32::try_from(supervisor.pid()).unwrap();
    let before = prepared(&supervisor, pid, 16 << 10);
    press(dir, "it says so", || supervisor.out().contains("memory is short"));
    is_looked_after(&supervisor, dir, &before[0]);
    bound(pid, None);
    until("it says so", || supervisor.out().contains(GIVEN_AGAIN).then_some(()));
    let out = ends(&supervisor, &before, 1);
    assert!(!out.contains("new process image"), "nobody has said that it may: {out}");
}

pub(crate) fn first_test(dir: &Path) {
    if !is_root() {
        return;
    }
    let name = "a_first_process_short_of_memory_goes_on_as_a_new_image";
    let supervisor = first_process(name, dir);
    let pid = inner(&supervisor);
    let before = prepared(&supervisor, pid, 0);
    let images = |out: &str| out.matches("memory was short: goes on as a new").count();
    press(dir, "it is another image", || images(&supervisor.out()) > 0);
    let (name, number) = &before[0];
    is_looked_after(&supervisor, dir, &(name.clone(), outside(pid, *number)));
    bound(pid, None);
    let out = ends(&supervisor, &before, 1);
    assert_eq!(images(&out), 1, "{out}");
}

/// Not even the reserve has any more: it stands still, and goes on when there is memory.
pub(crate) fn empty_test(dir: &Path) {
    let supervisor = Supervisor::start("without_any_memory_it_waits_for_some", dir);
    let pid = i32::try_from(supervisor.pid()).unwrap();
    let before = prepared(&supervisor, pid, 0);
    before.iter().for_each(|(_, number)| signal(*number, Signal::KILL));
    let err = dir.join("err");
    until("it waits", || {
        std::fs::read_to_string(&err).unwrap().contains("waits for some").then_some(())
    });
    bound(pid, None);
    until("it says so", || supervisor.out().contains(GIVEN_AGAIN).then_some(()));
    let out = ends(&supervisor, &before, FIRST);
    assert!(before.iter().all(|(name, _)| starts(&out, name) == 2), "{out}");
}

/// The program that people run, with a reserve of its own size.
pub(crate) fn program_run(dir: &Path) {
    let mut text = String::new();
    // reading many leaves much of the heap free
    for spec in services(LATER / 5) {
        let log = if spec.log == Log::Null { "null" } else { "auto" };
        let _ = writeln!(text, "[[service]]\nname = {:?}\nlog = {log:?}", spec.name);
        let _ = writeln!(text, "command = {:?}\nenabled = {}\n", spec.command, spec.enabled);
    }
    let file = dir.join("services.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-supervisor"));
    command.arg("run").arg(file).arg("--control").arg(socket(dir));
    let error = command.arg("--log-dir").arg(dir).stderr(std::io::stdout()).exec();
    panic!("{error}");
}

/// What takes much is refused, and what is needed to get out of it is done.
pub(crate) fn program_test(dir: &Path) {
    let supervisor = Supervisor::start("short_of_memory_it_reads_no_files", dir);
    let pid = i32::try_from(supervisor.pid()).unwrap();
    let before = prepared(&supervisor, pid, 0);
    press(dir, "it says so", || supervisor.out().contains("memory is short"));
    let reload = || {
        let request = Request::Reload { service: None, wait_ms: Some(60_000) };
        let result = supervisor.client().act(&request).unwrap();
        (result.effect, result.text)
    };
    let (effect, text) = reload();
    assert!(effect == Effect::Failed && text.contains("no memory"), "{effect:?}: {text}");
    let refused = supervisor.client().reexec().unwrap();
    assert!(refused.text.contains("memory is short"), "{}", refused.text);
    is_looked_after(&supervisor, dir, &before[0]);
    bound(pid, None);
    until("it says so", || supervisor.out().contains(GIVEN_AGAIN).then_some(()));
    let (effect, text) = reload();
    assert!(effect == Effect::Done && text.contains(" unchanged"), "{effect:?}: {text}");
    assert_eq!(supervisor.client().reexec().unwrap().effect, Effect::Done);
    ends(&supervisor, &before, 1);
}
