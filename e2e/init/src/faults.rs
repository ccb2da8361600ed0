//! Process 1 of a machine that lacks things: its console, a disk to write to, memory, processes, a clock
//! that goes on as it did. One service, `prove`, brings it about and says what came of it, and the test
//! reads that. In the end somebody presses ctrl-alt-del.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kiln_supervisor::control::{Client, ControlOptions, ServiceStatus};
use kiln_supervisor::pid1::{self, Boot, BoxError, mounts};
use kiln_supervisor::unix::{self, OnPanic, Options, Reserve};
use kiln_supervisor::{Bytes, Event, Log, Outcome, Readiness, Restart, ServiceSpec, Timer};
use rustix::mount::{MountFlags, mount_remount};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

type Result<T = ()> = std::result::Result<T, BoxError>;

/// There is no console: what is to be read goes to the line by its name.
const LINE: &str = "/dev/ttyS0";
const SOCKET: &str = "/run/supervisor";
const GROUPS: &str = "/sys/fs/cgroup/services";
const TICKS: &str = "/run/ticks";
const TICK: Duration = Duration::from_secs(1);
const YEAR: i64 = 365 * 86_400;
/// Longer than anything takes on an emulated machine whose host has other work.
const PATIENCE: Duration = Duration::from_secs(120);

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["prove"] => {
            if let Err(error) = prove() {
                say(format_args!("FAILED: {error}"));
            }
        }
        ["steady"] => {}
        ["tick"] => {
            let ticks = OpenOptions::new().create(true).append(true).open(TICKS);
            let _ = ticks.and_then(|mut file| file.write_all(b"."));
            return ExitCode::SUCCESS;
        }
        ["talk"] => loop {
            println!("a line that nobody keeps");
            std::thread::sleep(Duration::from_millis(100));
        },
        ["deaf"] => deaf(),
        ["escaped"] => {
            let _ = rustix::process::setsid();
        }
        ["eat"] => eat(),
        ["bomb"] => loop {
            let _ = Command::new("/init").arg("bomb").stdin(Stdio::null()).spawn();
        },
        _ => pid1::start(boot),
    }
    loop {
        std::thread::park();
    }
}

fn say(what: impl std::fmt::Display) {
    let line = OpenOptions::new().write(true).open(LINE);
    let _ = line.and_then(|mut line| line.write_all(format!("faults: {what}\n").as_bytes()));
}

fn boot(boot: &mut Boot) -> Result<Outcome> {
    let had_devices = Path::new("/dev/null").exists();
    boot.mounts(mounts::STANDARD);
    say(format_args!("devices before: {had_devices}, now: {}", Path::new("/dev/null").exists()));
    boot.modules(&["i8042", "atkbd"], 4);
    fs::remove_file("/dev/console")?;
    boot.console();
    say(format_args!("console: {}", fs::read_link("/proc/self/fd/2")?.display()));
    mount_remount("/", MountFlags::RDONLY, c"")?;
    say(format_args!("root: {:?}", fs::write("/file", "").map_err(|error| error.kind())));
    for problem in boot.problems() {
        say(problem);
    }
    let mut options = Options::default();
    options.cgroup = Some(GROUPS.into());
    options.control = Some(ControlOptions::new(SOCKET));
    options.log_dir = Some("/var/log".into());
    options.on_panic = OnPanic::Reexec { limit: 5 };
    options.shutdown_timeout = Duration::from_secs(40);
    boot.ending().last_wait = Duration::from_secs(1);
    // each second's ticks are left out: a console of which the end is read has what matters then
    let mut tell = |event: &Event| {
        let text = event.to_string();
        if !text.starts_with("ticks: ") {
            say(text);
        }
    };
    Ok(unix::run(services(), options, &mut tell)?)
}

fn services() -> Vec<ServiceSpec> {
    let service = |name: &str, word: &str| {
        let mut spec = ServiceSpec::daemon(name, ["/init", word]);
        spec.log = Log::Null;
        spec.backoff.max = Duration::from_secs(2);
        spec
    };
    let mut talks = service("talks", "talk");
    talks.log = Log::Auto;
    let mut ticks = ServiceSpec::one_shot("ticks", ["/init", "tick"]);
    (ticks.timer, ticks.log) = (Some(Timer::every(TICK)), Log::Null);
    let mut deaf = service("deaf", "deaf");
    deaf.readiness = Readiness::NotifyFd(3);
    deaf.stop_timeout = Duration::from_secs(2);
    let mut bounded = service("bounded", "eat");
    bounded.cgroup.memory_max = Some(Bytes(24 << 20));
    bounded.cgroup.oom_group = true;
    let mut glutton = service("glutton", "eat");
    let mut bomb = service("bomb", "bomb");
    bomb.cgroup.pids_max = Some(60);
    bomb.cgroup.cpu_percent = Some(20);
    bomb.stop_timeout = Duration::from_secs(2);
    for spec in [&mut bounded, &mut glutton, &mut bomb] {
        (spec.enabled, spec.restart) = (false, Restart::Never);
    }
    let first = service("first", "steady");
    let mut second = service("second", "steady");
    second.requires = vec!["first".into()];
    let mut prove = service("prove", "prove");
    prove.restart = Restart::Never;
    vec![talks, ticks, deaf, bounded, glutton, bomb, first, second, prove]
}

/// Does not hear `SIGTERM`, and has a child that leaves its process group.
fn deaf() {
    let _ = nix::sys::signal::SigSet::all().thread_block();
    let _ = Command::new("/init").arg("escaped").stdin(Stdio::null()).spawn();
    let _ = fs::write("/proc/self/fd/3", "\n");
}

/// Takes memory until there is none.
fn eat() {
    let mut all = Vec::new();
    loop {
        all.push(vec![7_u8; 1 << 20]);
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("not in time: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn status(client: &mut Client, name: &str) -> Result<ServiceStatus> {
    Ok(client.status(Some(name))?.pop().ok_or("no such service")?)
}

/// The process of a service that is up.
fn up(client: &mut Client, name: &str) -> Result<i32> {
    until(name, || Ok(status(client, name)?.pid))
}

fn members(name: &str) -> usize {
    let text = fs::read_to_string(format!("{GROUPS}/{name}.service/cgroup.procs"));
    text.map_or(0, |text| text.lines().count())
}

fn prove() -> Result {
    let mut client = Client::connect(SOCKET)?;
    let before = (up(&mut client, "first")?, up(&mut client, "talks")?);
    deaf_is_killed_whole(&mut client)?;
    no_more_processes(&mut client)?;
    clock(&mut client)?;
    memory(&mut client)?;
    let after = (up(&mut client, "first")?, up(&mut client, "talks")?);
    say(format_args!("others are the same: {}", before == after));
    client.start("bomb", PATIENCE)?;
    until("the bomb has filled its group", || Ok((members("bomb") >= 60).then_some(())))?;
    client.start("deaf", PATIENCE)?;
    say("ready for ctrl-alt-del");
    Ok(())
}

fn deaf_is_killed_whole(client: &mut Client) -> Result {
    until("the escaped child is there", || Ok((members("deaf") == 2).then_some(())))?;
    let result = client.stop("deaf", PATIENCE)?;
    // Its directory goes with the last of its members.
    let group = format!("{GROUPS}/deaf.service");
    until("its group is gone", || Ok((!Path::new(&group).exists()).then_some(())))?;
    say(format_args!("deaf: {}, with all of its group", result.text));
    Ok(())
}

/// As many as there are, and no more.
fn no_more_processes(client: &mut Client) -> Result {
    let limit = |text: &str| fs::write(format!("{GROUPS}/pids.max"), text);
    let old = up(client, "second")?;
    limit("1")?;
    client.restart("second", Duration::ZERO)?;
    let failed = until("it cannot be started", || {
        let status = status(client, "second")?;
        Ok(status.detail.filter(|text| text.contains("EAGAIN")))
    })?;
    say(format_args!("no process: {failed}"));
    limit("max")?;
    let new = until("it is back", || Ok(status(client, "second")?.pid.filter(|pid| *pid != old)))?;
    say(format_args!("back with a process: {}", new != old));
    Ok(())
}

fn ticks() -> u64 {
    fs::metadata(TICKS).map_or(0, |data| data.len())
}

/// A year forth, and two back: timers go on as if nothing had been.
fn clock(client: &mut Client) -> Result {
    for jump in [YEAR, -2 * YEAR, YEAR] {
        let now = clock_gettime(ClockId::Realtime);
        let then = Timespec { tv_sec: now.tv_sec + jump, tv_nsec: now.tv_nsec };
        clock_settime(ClockId::Realtime, then)?;
        let (before, since) = (ticks(), Instant::now());
        until("it ticks", || Ok((ticks() >= before + 4).then_some(())))?;
        let (count, took) = (ticks() - before, since.elapsed());
        // From start to start a second each; the first may be due at once.
        let most = took.as_secs() + 2;
        say(format_args!("clock by {jump} s: in time: {}", count <= most && count >= 4));
        up(client, "first")?;
    }
    Ok(())
}

fn memory(client: &mut Client) -> Result {
    let score = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    let (own, service) = (score(1)?, score(up(client, "first")?)?);
    say(format_args!("out of memory: process 1 {}, services {}", own.trim(), service.trim()));
    for name in ["bounded", "glutton"] {
        client.start(name, Duration::ZERO)?;
        let ended = until("the kernel kills it", || {
            let status = status(client, name)?;
            Ok((status.state == "failed").then_some(status.detail))
        })?;
        say(format_args!("{name}: {}", ended.unwrap_or_default()));
    }
    Ok(())
}
