//! Real processes: what the shell does with services that end, hang, fork, log and are bounded.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test says so by panicking")]

mod asked;
mod bounds;
mod cgroups;
mod children;
mod demand;
#[path = "../harness/mod.rs"]
mod harness;
mod mounts;
mod priority;
mod schedule;
#[cfg(feature = "seccomp")]
mod seccomp;
mod store;

use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{Case, Order};
use kiln_supervisor::unix::{self, OnPanic, Options, Request, Source};
use kiln_supervisor::{
    Condition, Event, Kill, Log, LogFile, Namespace, Outcome, Probe, Readiness, Resource,
    ResourceLimit, Restart, ServiceSpec, Socket, Timer,
};

const CASES: &[Case] = &[
    ("killed_service_is_restarted", killed::run, killed::test),
    ("start_errors_are_named", errors::run, errors::test),
    ("deaf_service_is_killed_at_its_timeout", deaf::run, deaf::test),
    ("stopped_service_does_not_hold_the_shutdown", frozen::run, frozen::test),
    ("orphans_are_reaped", orphans::run, orphans::test),
    ("order_and_notification", order::run, order::test),
    ("sd_notify_believes_the_main_process_only", sd::run, sd::test),
    ("logs_rotate_and_survive_restarts", logs::run, logs::test),
    ("full_disk_does_not_block_the_service", full::run, full::test),
    ("group_is_killed_and_process_is_not", group::run, group::test),
    ("panic_is_survived_without_a_restart", panic::run, panic::test),
    ("ignored_signals_are_not_inherited", ignored::run, ignored::test),
    ("few_descriptors_are_no_end", few::run, few::test),
    ("services_are_asked_whether_they_are_ready", asked::run, asked::test),
    ("sockets_are_opened_and_start_on_demand", demand::run, demand::test),
    ("callers_that_are_left_waiting_start_no_storm", demand::left_run, demand::left_test),
    ("descriptors_are_kept_over_a_restart", store::run, store::test),
    ("timers_and_conditions", schedule::run, schedule::test),
    ("niceness_is_the_loops_alone", priority::run, priority::test),
    #[cfg(feature = "seccomp")]
    ("system_calls_are_filtered", seccomp::run, seccomp::test),
    ("bounds_and_isolation_hold", bounds::run, bounds::test),
    ("read_only_is_read_only_below_too", mounts::run, mounts::test),
    #[cfg(feature = "seccomp")]
    ("read_only_is_read_only_on_an_older_kernel", mounts::older_run, mounts::older_test),
    ("a_score_is_that_of_its_service_alone", bounds::score_run, bounds::score_test),
    ("credentials_are_there_after_a_restart_at_once", bounds::again_run, bounds::again_test),
    ("control_groups_are_killed_whole", cgroups::run, cgroups::test),
    ("what_a_run_leaves_is_gone_before_the_next", cgroups::left_run, cgroups::left_test),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if children::live(&arguments) {
        return ExitCode::SUCCESS;
    }
    harness::main(CASES, &arguments, Order::Together)
}

/// Runs a case's supervisor to its end and gives its events, a line each.
fn supervise(name: &str, dir: &Path) -> Vec<String> {
    let output = supervise_with(name, dir, |_| {});
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn supervise_with(name: &str, dir: &Path, change: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--case", name]).arg(dir).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    change(&mut command);
    command.output().unwrap()
}

fn sh(name: &str, text: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::daemon(name, ["/bin/sh", "-c", text]);
    spec.log = Log::Null;
    spec.backoff.initial = Duration::from_millis(20);
    spec
}

/// A log whose content is what was written, without times.
fn plain(path: impl Into<std::path::PathBuf>) -> LogFile {
    let mut file = LogFile::new(path);
    file.timestamps = false;
    file
}

fn options() -> Options {
    let mut options = Options::default();
    options.log_timestamps = false;
    options.exit_when_ended = true;
    options.shutdown_timeout = Duration::from_secs(20);
    options
}

/// Supervises, printing each event with the milliseconds since the start; `then` may send signals
/// to this process.
fn run(specs: Vec<ServiceSpec>, options: Options, then: &mut dyn FnMut(&Event)) -> Outcome {
    let began = Instant::now();
    unix::run(specs, options, &mut |event| {
        println!("{} {event}", began.elapsed().as_millis());
        then(event);
    })
    .unwrap()
}

fn term_self() {
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
}

fn kill(pid: kiln_supervisor::Pid, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid.0).unwrap(), signal).unwrap();
}

fn count(lines: &[String], word: &str) -> usize {
    lines.iter().filter(|line| line.contains(word)).count()
}

fn place(lines: &[String], word: &str) -> usize {
    let found = lines.iter().position(|line| line.contains(word));
    found.unwrap_or_else(|| panic!("no {word:?} in {lines:#?}"))
}

fn millis(lines: &[String], word: &str) -> u64 {
    lines[place(lines, word)].split(' ').next().unwrap().parse().unwrap()
}

/// Whether a process runs (and is no zombie).
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

mod killed {
    use super::*;
    pub(super) fn run(_: &Path) {
        let mut starts = 0;
        super::run(vec![sh("a", "exec sleep 100")], options(), &mut |event| {
            if let Event::Started { pid, .. } = event {
                starts += 1;
                match starts {
                    4 => term_self(),
                    _ => kill(*pid, rustix::process::Signal::KILL),
                }
            }
        });
    }
    pub(super) fn test(dir: &Path) {
        let lines = supervise("killed_service_is_restarted", dir);
        assert_eq!(count(&lines, "killed by SIGKILL"), 3);
        assert_eq!(count(&lines, "a: started as"), 4);
        // 20, 40, 80 ms from start to start
        assert!(millis(&lines, "restart 3") >= 60, "{lines:#?}");
    }
}

mod errors {
    use super::*;
    pub(super) fn run(dir: &Path) {
        let file = |name: &str, text: &str, mode| {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let mut specs = vec![
            ServiceSpec::daemon("missing", ["/no/such/program"]),
            ServiceSpec::daemon("nowhere", ["no-such-program-on-path"]),
            ServiceSpec::daemon("plain", [file("plain", "#!/bin/sh\n", 0o644)]),
            ServiceSpec::daemon("garbage", [file("garbage", "\x7fELF no\n", 0o755)]),
            ServiceSpec::daemon("orphaned", [file("orphaned", "#!/no/interpreter\n", 0o755)]),
            ServiceSpec::daemon("lost", ["/bin/true"]),
        ];
        specs[5].directory = Some("/no/such/directory".into());
        for spec in &mut specs {
            spec.restart = Restart::Never;
        }
        let mut retried = ServiceSpec::daemon("retried", ["/no/such/program"]);
        retried.backoff.burst = 3;
        specs.push(retried);
        super::run(specs, options(), &mut |_| {});
    }
    pub(super) fn test(dir: &Path) {
        let lines = supervise("start_errors_are_named", dir);
        for expected in [
            "missing: cannot execute /no/such/program: ENOENT",
            "nowhere: cannot execute no-such-program-on-path: ENOENT",
            "plain: failed: cannot execute",
            "lost: cannot enter directory /no/such/directory: ENOENT",
            "orphaned: ENOENT (its interpreter or loader is missing)",
        ] {
            assert!(count(&lines, expected) >= 1, "{expected}: {lines:#?}");
        }
        assert!(lines.iter().any(|l| l.contains("/plain: EACCES")), "{lines:#?}");
        assert!(lines.iter().any(|l| l.contains("/garbage: ENOEXEC")), "{lines:#?}");
        // no fork storm: four tries, 200 + 400 + 800 ms
        assert_eq!(count(&lines, "retried: cannot execute"), 4);
        assert!(millis(&lines, "retried: failed") >= 1400);
    }
}

mod deaf {
    use super::*;
    pub(super) fn run(_: &Path) {
        let mut spec = sh("deaf", "trap '' TERM; echo >&3; while :; do sleep 1; done");
        spec.readiness = Readiness::NotifyFd(3);
        spec.stop_timeout = Duration::from_millis(300);
        super::run(vec![spec], options(), &mut |event| {
            if matches!(event, Event::Ready { .. }) {
                // its trap is set
                term_self();
            }
        });
    }
    pub(super) fn test(dir: &Path) {
        let lines = supervise("deaf_service_is_killed_at_its_timeout", dir);
        assert_eq!(count(&lines, "deaf: killed, it did not stop in time"), 1, "{lines:#?}");
        let waited = millis(&lines, "deaf: killed,") - millis(&lines, "deaf: stopping");
        // Both ends are when a line was read, which a busy machine shifts a little.
        assert!(waited >= 100, "{waited}");
        assert_eq!(count(&lines, "all services stopped"), 1);
    }
}

mod frozen {
    use super::*;
    pub(super) fn run(_: &Path) {
        let mut spec = sh("frozen", "exec sleep 100");
        spec.stop_timeout = Duration::from_millis(200);
        super::run(vec![spec], options(), &mut |event| {
            if let Event::Started { pid, .. } = event {
                kill(*pid, rustix::process::Signal::STOP);
                term_self();
            }
        });
    }
    pub(super) fn test(dir: &Path) {
        let lines = supervise("stopped_service_does_not_hold_the_shutdown", dir);
        assert_eq!(count(&lines, "all services stopped: exit"), 1, "{lines:#?}");
    }
}

mod orphans {
    use super::*;
    const ORPHANS: usize = 2000;
    pub(super) fn run(_: &Path) {
        let mut options = options();
        options.reap_orphans = Some(true);
        options.exit_when_ended = false;
        // double forks: each (… &) leaves its child to the subreaper
        let text = format!(
            "i=0; while [ $i -lt {ORPHANS} ]; do (sleep 0.01 &) ; i=$((i+1)); done; exit 0"
        );
        let mut maker = sh("maker", &text);
        maker.restart = Restart::Never;
        maker.kill = Kill::Process;
        let other = sh("other", "exec sleep 1000");
        let mut reaped = 0;
        let mut done = false;
        super::run(vec![maker, other], options, &mut |event| {
            reaped += usize::from(matches!(event, Event::Reaped { .. }));
            done |= matches!(event, Event::Done { .. });
            if done && reaped == ORPHANS {
                term_self();
                done = false;
            }
        });
        let none = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
        assert_eq!(none.unwrap_err(), rustix::io::Errno::CHILD);
    }
    pub(super) fn test(dir: &Path) {
        let lines = supervise("orphans_are_reaped", dir);
        assert_eq!(count(&lines, "reaped: exit code 0"), ORPHANS);
        assert_eq!(count(&lines, "other: started"), 1);
    }
}

mod order {
    use super::*;
    pub(super) fn run(dir: &Path) {
        let log = dir.join("order").display().to_string();
        let mut network = sh(
            "network",
            &format!(
                "sleep 0.3; echo net-up >>{log}; echo >&5; trap 'echo net-down >>{log}; exit' \
                      TERM; while :; do sleep 0.05; done"
            ),
        );
        network.readiness = Readiness::NotifyFd(5);
        let mut nomad = sh(
            "nomad",
            &format!(
                "trap 'sleep 0.2; echo nomad-down >>{log}; exit' TERM; echo nomad-up >>{log}; \
                      [ -z \"$NOTIFY_FD\" ] || echo leaked >>{log}; \
                      while :; do sleep 0.05; done"
            ),
        );
        nomad.requires = vec!["network".into()];
        let path = dir.join("order");
        let mut shot = sh("shot", &format!("until grep -q nomad-up {log}; do sleep 0.05; done"));
        shot.kind = kiln_supervisor::Kind::OneShot;
        shot.after = vec!["nomad".into()];
        super::run(vec![nomad, network, shot], options(), &mut |event| {
            if matches!(event, Event::Done { .. }) {
                term_self();
            }
        });
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "net-up\nnomad-up\nnomad-down\nnet-down\n");
    }
    pub(super) fn test(dir: &Path) {
        let lines = supervise("order_and_notification", dir);
        assert!(place(&lines, "network: up after") < place(&lines, "nomad: started"));
        assert!(place(&lines, "nomad: stopped") < place(&lines, "network: stopping"));
    }
}

mod sd {
    use super::*;
    const SEND: &str = "import socket,os,time\n\
        s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
        a=os.environ['NOTIFY_SOCKET']\n\
        def send(): s.sendto(b'STATUS=x\\nREADY=1\\n','\\0'+a[1:])\n";
    fn available() -> bool {
        Command::new("python3").arg("-V").output().is_ok_and(|o| o.status.success())
    }
    pub(super) fn run(_: &Path) {
        let python = |name: &str, rest: &str| {
            let mut spec = ServiceSpec::daemon(name, ["python3", "-c", &format!("{SEND}{rest}")]);
            spec.readiness = Readiness::SdNotify;
            spec.log = Log::Null;
            spec.restart = Restart::Never;
            spec.ready_timeout = Duration::from_secs(4);
            spec
        };
        let mut honest = python("honest", "send()\ntime.sleep(100)\n");
        // However long an interpreter takes to start on a busy machine.
        honest.ready_timeout = Duration::from_secs(120);
        // a child says so for it: not believed
        let wrong =
            python("wrong", "p=os.fork()\nif p==0:\n  send()\n  os._exit(0)\ntime.sleep(100)\n");
        let mut left = 2;
        super::run(vec![honest, wrong], options(), &mut |event| {
            if matches!(event, Event::Failed { .. } | Event::Ready { .. }) {
                left -= 1;
                if left == 0 {
                    term_self();
                }
            }
        });
    }
    pub(super) fn test(dir: &Path) {
        if !available() {
            assert!(std::env::var_os("CI").is_none(), "python3 is missing");
            return println!("skipped: python3");
        }
        let lines = supervise("sd_notify_believes_the_main_process_only", dir);
        assert_eq!(count(&lines, "honest: up after"), 1, "{lines:#?}");
        assert_eq!(count(&lines, "wrong: up after"), 0);
        assert_eq!(count(&lines, "wrong: failed: not ready in time"), 1);
    }
}

mod logs {
    use super::*;
    pub(super) fn run(dir: &Path) {
        let mut spec = sh(
            "a",
            "i=0; while [ $i -lt 200 ]; do echo \"line $i of $$\"; i=$((i+1)); done; exit 1",
        );
        spec.backoff.burst = 2;
        let mut file = plain(dir.join("sub/a.log"));
        (file.max_bytes, file.keep) = (4096, 20);
        spec.log = Log::File(file);
        let mut auto = sh("auto", "echo out; echo err >&2");
        auto.kind = kiln_supervisor::Kind::OneShot;
        auto.log = Log::Auto;
        let mut options = options();
        options.log_dir = Some(dir.to_owned());
        super::run(vec![spec, auto], options, &mut |_| {});
    }
    pub(super) fn test(dir: &Path) {
        supervise("logs_rotate_and_survive_restarts", dir);
        let mut lines = 0;
        for entry in std::fs::read_dir(dir.join("sub")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(text.len() <= 4096 && text.ends_with('\n'));
            lines += text.lines().count();
        }
        assert_eq!(lines, 600);
        assert_eq!(std::fs::read_to_string(dir.join("auto.log")).unwrap(), "out\nerr\n");
    }
}

mod full {
    use super::*;
    pub(super) fn run(dir: &Path) {
        // 2 MiB onto a disk of 256 KiB: the service must get to its end all the same
        let text = format!(
            "dd if=/dev/zero bs=64k count=32 2>/dev/null; echo end >{}/end; exec sleep 100",
            dir.display()
        );
        let mut spec = sh("writer", &text);
        let mut file = plain(dir.join("small/writer.log"));
        file.max_bytes = 1 << 30;
        spec.log = Log::File(file);
        let end = dir.join("end");
        let mut watcher =
            sh("watcher", &format!("until [ -e {} ]; do sleep 0.05; done", end.display()));
        watcher.kind = kiln_supervisor::Kind::OneShot;
        super::run(vec![spec, watcher], options(), &mut |event| {
            if matches!(event, Event::Done { .. }) {
                term_self();
            }
        });
    }
    pub(super) fn test(dir: &Path) {
        let small = dir.join("small");
        std::fs::create_dir(&small).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        if rustix::mount::mount("small", &small, "tmpfs", flags, c"size=256k").is_err() {
            assert!(std::env::var_os("CI").is_none(), "mounting a tmpfs needs root");
            return println!("skipped: mount");
        }
        let lines = supervise("full_disk_does_not_block_the_service", dir);
        rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert!(count(&lines, "bytes of output dropped: ENOSPC") >= 1, "{lines:#?}");
        assert_eq!(count(&lines, "all services stopped"), 1);
    }
}

mod group {
    use super::*;
    fn services(dir: &Path) -> Vec<ServiceSpec> {
        let spec = |name: &str, kill| {
            let file = dir.join(name).display().to_string();
            let text = format!("sleep 300 & echo $! >{file}.tmp; mv {file}.tmp {file}; wait");
            let mut spec = sh(name, &text);
            spec.kill = kill;
            spec
        };
        vec![spec("group", Kill::ProcessGroup), spec("process", Kill::Process)]
    }
    pub(super) fn run(dir: &Path) {
        let mut specs = services(dir);
        let (a, b) = (dir.join("group"), dir.join("process"));
        let text =
            format!("until [ -e {} ] && [ -e {} ]; do sleep 0.05; done", a.display(), b.display());
        let mut watcher = sh("watcher", &text);
        watcher.kind = kiln_supervisor::Kind::OneShot;
        specs.push(watcher);
        super::run(specs, options(), &mut |event| {
            if matches!(event, Event::Done { .. }) {
                term_self();
            }
        });
    }
    pub(super) fn test(dir: &Path) {
        supervise("group_is_killed_and_process_is_not", dir);
        let pid = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while alive(&pid("group")) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!alive(&pid("group")));
        assert!(alive(&pid("process")));
        kill(
            kiln_supervisor::Pid(pid("process").trim().parse().unwrap()),
            rustix::process::Signal::KILL,
        );
    }
}

mod panic {
    use std::os::fd::{AsFd, BorrowedFd};

    use super::*;

    #[derive(Debug)]
    struct Now(std::io::PipeReader);
    impl Source for Now {
        fn fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
        fn take(&mut self) -> std::io::Result<Vec<Request>> {
            // only makes the output between the panics longer; nothing depends on it
            std::thread::sleep(Duration::from_millis(300));
            Ok(vec![Request::Panic])
        }
    }

    pub(super) fn run(dir: &Path) {
        let mut talker = sh("talker", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done");
        talker.log = Log::File(plain(dir.join("talker.log")));
        let mut late = sh("late", "sleep 1; echo >&3; exec sleep 100");
        late.readiness = Readiness::NotifyFd(3);
        let mut options = options();
        options.on_panic = OnPanic::Reexec { limit: 2 };
        options.reap_orphans = Some(true);
        // panics twice, then lets live
        let marker = dir.join("panics");
        let before = std::fs::read(&marker).unwrap_or_default().len();
        let (reader, writer) = std::io::pipe().unwrap();
        if before < 2 {
            std::fs::write(&marker, vec![b'x'; before + 1]).unwrap();
            drop(writer);
            options.sources.push(Box::new(Now(reader)));
        } else {
            std::mem::forget(writer);
        }
        let mut ready = false;
        super::run(vec![talker, late], options, &mut |event| {
            if let Event::Ready { service, .. } = event {
                ready |= *service == "late";
            }
            if ready {
                ready = false;
                term_self();
            }
        });
    }
    pub(super) fn test(dir: &Path) {
        let lines = supervise("panic_is_survived_without_a_restart", dir);
        assert_eq!(count(&lines, "resumed after panic 1 with 2 processes"), 1, "{lines:#?}");
        assert_eq!(count(&lines, "resumed after panic 2 with 2 processes"), 1, "{lines:#?}");
        // the same processes throughout, and their log without a gap
        // (whether their start could be told before the panic is a matter of the machine's speed)
        assert!(count(&lines, "talker: started") <= 1, "{lines:#?}");
        assert!(count(&lines, "late: started") <= 1);
        assert_eq!(count(&lines, "late: up"), 1);
        assert_eq!(count(&lines, "all services stopped"), 1);
        let log = std::fs::read_to_string(dir.join("talker.log")).unwrap();
        for (expected, line) in log.lines().enumerate() {
            assert_eq!(line, expected.to_string());
        }
        // How many lines there are is a matter of the machine's speed.
        assert!(log.lines().count() > 3, "{log}");
    }
}

mod ignored {
    use super::*;
    pub(super) fn run(dir: &Path) {
        let mut spec = ServiceSpec::one_shot("a", ["grep", "SigIgn", "/proc/self/status"]);
        spec.log = Log::File(plain(dir.join("log")));
        super::run(vec![spec], options(), &mut |_| {});
    }
    pub(super) fn test(dir: &Path) {
        let name = "ignored_signals_are_not_inherited";
        let own = std::env::current_exe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' HUP USR1 CHLD; exec \"$0\" \"$@\""]).arg(own);
        let status = command.args(["--case", name]).arg(dir).status().unwrap();
        assert!(status.success());
        let log = std::fs::read_to_string(dir.join("log")).unwrap();
        let ignored = log.split_whitespace().last().map(|set| u64::from_str_radix(set, 16));
        // signals 32 and 33 are glibc's own: nobody can ask for them or set them by its functions
        let of_glibc = 3 << 31;
        assert_eq!(ignored.unwrap().unwrap() & !of_glibc, 0, "{log}");
    }
}

mod few {
    use super::*;
    pub(super) fn run(_: &Path) {
        let limit = rustix::process::Rlimit { current: Some(16), maximum: Some(16) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        let mut specs: Vec<_> = (0..12).map(|n| sh(&format!("s{n}"), "exec sleep 100")).collect();
        for spec in &mut specs {
            spec.restart = Restart::OnFailure;
            spec.log = Log::Console;
        }
        let mut retried = 0;
        super::run(specs, options(), &mut |event| {
            retried += i32::from(matches!(event, Event::Restarting { .. }));
            if retried == 20 {
                retried += 1;
                term_self();
            }
        });
    }
    pub(super) fn test(dir: &Path) {
        let lines = supervise("few_descriptors_are_no_end", dir);
        assert!(count(&lines, "EMFILE") >= 1, "{lines:#?}");
        assert_eq!(count(&lines, "all services stopped"), 1);
    }
}
