//! `kiln-supervisor init` with real processes; what tini's own tests ask for is asked here too (which,
//! is in docs/supervisor.md).
#![expect(clippy::unwrap_used, reason = "a failed test says so by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `kiln-supervisor init WORDS…`
fn init<'a>(words: impl IntoIterator<Item = &'a str>) -> Command {
    // whoever runs the tests in the background has signals ignored, which is inherited
    let mut command = Command::new("env");
    command.args(["--default-signal", env!("CARGO_BIN_EXE_kiln-supervisor")]);
    command.arg("init").args(words).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn code(mut command: Command) -> i32 {
    command.status().unwrap().code().unwrap()
}

/// A running init, whose command has said a first line.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut running = Self { child, out };
        assert_eq!(running.line(), "ready");
        running
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn command(&self) -> i32 {
        only_child(self.pid())
    }

    /// How it ends, and what it said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                unreachable!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

fn only_child(pid: i32) -> i32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}: never");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A field of /proc/PID/stat, counted as proc(5) does.
fn stat(pid: i32, field: usize) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1;
    rest.split(' ').nth(field - 3).unwrap().to_owned()
}

fn state(pid: i32) -> String {
    stat(pid, 3)
}

/// Sends any signal, real-time ones included.
fn send(pid: i32, number: i32) {
    let line = format!("kill -{number} {pid}");
    assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
}

#[test]
fn exit_codes_are_passed_on() {
    for number in 0..=255 {
        let exit = format!("exit {number}");
        assert_eq!(code(init(["--", "sh", "-c", &exit])), number);
        assert_eq!(code(init(["-e", &number.to_string(), "--", "sh", "-c", &exit])), 0);
    }
}

#[test]
fn other_codes_that_count_as_success_change_nothing() {
    for number in [0, 1, 7, 127, 143, 255] {
        let mut words: Vec<String> = Vec::new();
        for other in (0..=255).filter(|other| *other != number) {
            words.extend(["-e".to_owned(), other.to_string()]);
        }
        words.extend(["sh", "-c", &format!("exit {number}")].map(str::to_owned));
        assert_eq!(code(init(words.iter().map(String::as_str))), number);
    }
}

#[test]
fn what_cannot_be_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let orphaned = dir.path().join("orphaned");
    fs::write(&orphaned, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&orphaned, fs::Permissions::from_mode(0o755)).unwrap();
    for (program, expected, word) in [
        ("/no/such/program", 127, "ENOENT"),
        ("no-such-program-on-path", 127, "ENOENT"),
        (plain.to_str().unwrap(), 126, "EACCES"),
        (orphaned.to_str().unwrap(), 127, "ENOENT"),
    ] {
        let Output { status, stderr, .. } = init(["--", program]).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(expected), "{said}");
        assert!(said.contains(program) && said.contains(word), "{said}");
    }
    assert_eq!(code(init([])), 1);
    assert_eq!(code(init(["-Z", "true"])), 1);
}

#[test]
fn signals_are_passed_on() {
    // Those that end a process and leave no core, and some of the real-time ones (signal(7)).
    for number in [1, 2, 10, 12, 13, 14, 15, 16, 26, 27, 29, 30, 34, 35, 50, 64] {
        let running = Running::start(init(["--", "sh", "-c", "echo ready; exec sleep 1000"]));
        send(running.pid(), number);
        assert_eq!(running.end().0, Some(128 + number));
    }
}

#[test]
fn an_expected_end_by_signal_is_success() {
    let words = ["-e", "143", "--", "sh", "-c", "echo ready; exec sleep 1000"];
    let running = Running::start(init(words));
    send(running.pid(), 15);
    assert_eq!(running.end().0, Some(0));
}

/// Makes a hundred processes whose parents end, and waits until only itself is left with its parent.
const ORPHANS: &str = "i=0
while [ $i -lt 100 ]; do (sleep 0.$((i % 5)) &); i=$((i + 1)); done
tries=0
while [ \"$(cat /proc/$PPID/task/$PPID/children)\" != \"$$ \" ]; do
    tries=$((tries + 1)); [ $tries -lt 2000 ] || exit 1; sleep 0.02
done
exit 0";

#[test]
fn orphans_are_reaped_by_a_subreaper() {
    let Output { status, stderr, .. } = init(["-s", "--", "sh", "-c", ORPHANS]).output().unwrap();
    assert_eq!((status.code(), stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn reaped_orphans_are_told_of_when_asked() {
    let Output { status, stderr, .. } =
        init(["-s", "-w", "--", "sh", "-c", ORPHANS]).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(said.matches("reaped orphan").count() >= 100, "{said}");
}

#[test]
fn orphans_are_reaped_by_pid_1() {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.args([env!("CARGO_BIN_EXE_kiln-supervisor"), "init", "--", "sh", "-c", ORPHANS]);
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!((status.code(), stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn one_that_reaps_nobody_says_so() {
    let Output { stderr, .. } = init(["--", "true"]).output().unwrap();
    assert!(String::from_utf8(stderr).unwrap().contains("orphans are not reaped"));
}

#[test]
fn a_group_gets_signals_together() {
    // The shell catches it and goes on; its child does not.
    let script = "trap : USR1; sleep 1000 & child=$!; echo ready
        while kill -0 $child 2>/dev/null; do wait $child; done; exit 7";
    let running = Running::start(init(["-g", "--", "sh", "-c", script]));
    send(running.pid(), 10);
    assert_eq!(running.end().0, Some(7));
}

#[test]
fn the_command_has_a_group_of_its_own() {
    let running = Running::start(init(["--", "sh", "-c", "echo ready; exec sleep 1000"]));
    let command = running.command();
    assert_eq!(stat(command, 5), command.to_string());
    send(running.pid(), 15);
    assert_eq!(running.end().0, Some(143));
}

#[test]
fn mask_and_dispositions_are_inherited() {
    let mut blocked = SigSet::empty();
    for signal in [Signal::SIGTTIN, Signal::SIGILL, Signal::SIGTERM] {
        blocked.add(signal);
    }
    let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
    let own = env!("CARGO_BIN_EXE_kiln-supervisor");
    let script = format!("trap '' TTOU SEGV INT; exec {own} init -- cat /proc/self/status");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    before.thread_set_mask().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let set = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    };
    let bit = |signal: Signal| 1_u64 << (signal as i32 - 1);
    let ignored = set("SigIgn");
    for signal in [Signal::SIGTTOU, Signal::SIGSEGV, Signal::SIGINT] {
        assert_ne!(ignored & bit(signal), 0, "{signal}: {text}");
    }
    assert_eq!(ignored & bit(Signal::SIGPIPE), 0);
    let expected = bit(Signal::SIGTTIN) | bit(Signal::SIGILL) | bit(Signal::SIGTERM);
    assert_eq!(set("SigBlk"), expected);
}

#[test]
fn an_inherited_deafness_to_children_is_cured() {
    let own = env!("CARGO_BIN_EXE_kiln-supervisor");
    let script = format!("trap '' CHLD; exec {own} init -- sh -c 'exit 7'");
    assert_eq!(Command::new("sh").args(["-c", &script]).status().unwrap().code(), Some(7));
}

#[test]
fn the_parents_end_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("heard");
    let own = env!("CARGO_BIN_EXE_kiln-supervisor");
    let heard = path.display();
    let script = format!(
        "{own} init -p USR1 -- sh -c 'trap \"echo ok >{heard}; exit\" USR1; echo ready
         while :; do sleep 0.01; done' & wait"
    );
    let mut parent = Command::new("sh");
    parent.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(parent);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    wait_until("the signal", || fs::read_to_string(&path).is_ok_and(|text| text == "ok\n"));
}

#[test]
fn a_stop_stops_both_and_a_cont_wakes_both() {
    let running = Running::start(init(["--", "sh", "-c", "echo ready; exec sleep 1000"]));
    let (own, command) = (running.pid(), running.command());
    send(own, Signal::SIGTSTP as i32);
    wait_until("both stopped", || state(command) == "T" && state(own) == "T");
    send(own, Signal::SIGCONT as i32);
    wait_until("both awake", || state(command) != "T" && state(own) != "T");
    send(own, 15);
    assert_eq!(running.end().0, Some(143));
}

#[test]
fn one_who_stops_the_command_himself_stops_nobody_else() {
    let running = Running::start(init(["--", "sh", "-c", "echo ready; exec sleep 1000"]));
    let (own, command) = (running.pid(), running.command());
    send(command, Signal::SIGSTOP as i32);
    wait_until("the command stopped", || state(command) == "T");
    send(own, Signal::SIGUSR1 as i32);
    send(command, Signal::SIGCONT as i32);
    assert_eq!(running.end().0, Some(128 + 10));
}

#[test]
fn the_terminal_is_the_commands() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = Command::new("setsid");
    command.args(["--ctty", "env", "--default-signal"]);
    command.args([env!("CARGO_BIN_EXE_kiln-supervisor"), "init", "-s", "--"]);
    // Its group, and the terminal's group in the foreground, as proc(5) counts them; then a read.
    let script = "cut -d' ' -f5,8 /proc/self/stat >&2; echo ready; read line; exec sleep 1000";
    command.args(["sh", "-c", script]);
    let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    command.stdin(slave(&terminal.slave)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(command);
    let mut said = BufReader::new(running.child.stderr.take().unwrap());
    let mut groups = String::new();
    said.read_line(&mut groups).unwrap();
    let (group, foreground) = groups.trim().split_once(' ').unwrap();
    assert_eq!(group, foreground);
    let (own, child) = (running.pid(), running.command());
    assert_eq!(child.to_string(), group);

    let mut keys = fs::File::from(terminal.master);
    keys.write_all(b"a line\n").unwrap();
    let program = |name: &str| fs::read_to_string(format!("/proc/{child}/comm")).unwrap() == name;
    wait_until("the line read", || program("sleep\n"));
    // Ctrl-Z: both stop, so that a shell above would see it; it wakes them again.
    keys.write_all(b"\x1a").unwrap();
    wait_until("both stopped", || state(child) == "T" && state(own) == "T");
    send(own, Signal::SIGCONT as i32);
    wait_until("both awake", || state(child) != "T" && state(own) != "T");
    wait_until("the terminal given again", || stat(child, 8) == group);
    // Ctrl-C.
    keys.write_all(b"\x03").unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = running.child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(status.code(), Some(130));
}

#[test]
fn nothing_is_done_while_nothing_happens() {
    let running = Running::start(init(["--", "sh", "-c", "echo ready; exec sleep 1000"]));
    let own = running.pid();
    let switches = || {
        let text = fs::read_to_string(Path::new("/proc").join(own.to_string()).join("status"));
        let line =
            |line: &str| line.strip_prefix("voluntary_ctxt_switches:\t")?.parse::<u64>().ok();
        text.unwrap().lines().find_map(line).unwrap()
    };
    wait_until("asleep", || state(own) == "S");
    let before = switches();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(), before);
    send(own, 15);
    assert_eq!(running.end().0, Some(143));
}
