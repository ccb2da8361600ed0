//! Process 1 of a machine whose supervisor panics at a hundred points that chance has chosen. Says what
//! is there twice or was started again; the test reads that.

use std::fs;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use kiln_supervisor::pid1::{self, Boot, BoxError, mounts};
use kiln_supervisor::unix::{self, OnPanic, Options, Request, Reserve, Source};
use kiln_supervisor::{Kind, Outcome, Readiness, ServiceSpec, Timer};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

const POINTS: usize = 100;
const STEADY: [&str; 3] = ["steady", "ready", "other"];
const BRIEF: [&str; 3] = ["flapper", "maker", "tick"];
const IMAGES: &str = "/run/images";

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

fn main() -> ExitCode {
    pid1::start(boot)
}

fn say(what: impl std::fmt::Display) {
    unix::console_line(format_args!("proof: {what}"));
}

fn service(name: &str, rest: &str) -> ServiceSpec {
    // Debian's busybox has no flock; one that has ended may be a zombie yet.
    let script = format!(
        "for p in $(busybox tail -n 3 /run/{name}.starts 2>/dev/null); do \
         busybox grep -q '^State:.[^ZX]' /proc/$p/status 2>/dev/null && echo {name} >>/run/doubled; \
         done; echo $$ >>/run/{name}.starts; {rest}"
    );
    let mut spec = ServiceSpec::daemon(name, ["/bin/busybox", "sh", "-c", &script]);
    spec.backoff.initial = Duration::from_millis(20);
    spec.backoff.max = Duration::from_millis(50);
    spec
}

fn boot(boot: &mut Boot) -> Result<Outcome, BoxError> {
    boot.mounts(mounts::STANDARD).console();
    let before = fs::read(IMAGES).unwrap_or_default().len();
    fs::File::options().create(true).append(true).open(IMAGES)?.write_all(b"x")?;
    if before < POINTS {
        // xorshift: chance that can be had again
        let seed = u64::try_from(before)?.saturating_add(1);
        let mut chance = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed);
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        unix::panic_after(chance % 150 + 1);
    } else {
        say(format_args!("{before} panics"));
    }
    let mut ready = service("ready", "echo >&3; exec busybox sleep 100000");
    ready.readiness = Readiness::NotifyFd(3);
    let mut other = service("other", "exec busybox sleep 100000");
    other.requires = vec!["ready".into()];
    let mut tick = service("tick", "busybox sleep 0.02");
    (tick.kind, tick.timer) = (Kind::OneShot, Some(Timer::every(Duration::from_millis(300))));
    let mut once = service("once", "exit 0");
    once.kind = Kind::OneShot;
    let services = vec![
        service("steady", "exec busybox sleep 100000"),
        ready,
        other,
        service("flapper", "busybox sleep 0.05; exit 1"),
        service("maker", "busybox sleep 0.05; (busybox sleep 0.2 &); exit 0"),
        tick,
        once,
    ];
    let mut options = Options::default();
    options.on_panic = OnPanic::Reexec { limit: u32::MAX };
    if before >= POINTS {
        options.sources.push(Box::new(Judge { timer: timer()?, seen: None }));
    }
    Ok(unix::run(services, options, &mut |_| {})?)
}

fn timer() -> Result<OwnedFd, BoxError> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let turn = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let times = Itimerspec { it_interval: turn, it_value: turn };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    Ok(timer)
}

/// Waits until all that comes and goes has come again, and says what it finds.
#[derive(Debug)]
struct Judge {
    timer: OwnedFd,
    seen: Option<Vec<usize>>,
}

fn starts(name: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/run/{name}.starts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

impl Source for Judge {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    fn take(&mut self) -> std::io::Result<Vec<Request>> {
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
        let now: Vec<usize> = BRIEF.iter().map(|name| starts(name).len()).collect();
        let seen = self.seen.get_or_insert_with(|| now.clone());
        if !seen.iter().zip(&now).all(|(before, now)| *now > before.saturating_add(2)) {
            return Ok(Vec::new());
        }
        for name in STEADY.iter().chain(&["once"]) {
            let pids = starts(name);
            let is_there =
                pids.iter().filter(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false));
            say(format_args!("{name}: {} starts, {} alive", pids.len(), is_there.count()));
        }
        let doubled = fs::read_to_string("/run/doubled").unwrap_or_default();
        say(format_args!("doubled: {:?}", doubled));
        let zombies = fs::read_dir("/proc")?.flatten().filter(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
        });
        say(format_args!("starts of {BRIEF:?}: {now:?}; {} zombies; the end", zombies.count()));
        Ok(vec![Request::Shutdown(Outcome::PowerOff)])
    }
}
