//! The loop panics at points that chance has chosen, while services start, end, are restarted by
//! request and write: nothing is lost, nothing is there twice. `--points N` is for more than CI's.
//! Real processes, and this program again as their supervisor.
#![expect(clippy::unwrap_used, reason = "a failed test says so by panicking")]

#[path = "harness/running.rs"]
mod running;

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kiln_supervisor::control::{Client, ClientError, ControlOptions};
use kiln_supervisor::unix::{self, OnPanic, Options};
use kiln_supervisor::{Kind, Log, Outcome, Readiness, ServiceSpec, Timer};
use running::{Running, within};

const NAME: &str = "panics_at_random_points_lose_and_double_nothing";
/// Longer than anything takes on a busy machine: a hundred panics do.
const PATIENCE: Duration = Duration::from_secs(300);
const STEADY: [&str; 4] = ["steady", "ready", "talker", "asked"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let points = match words.as_slice() {
        ["--case", points, dir] => {
            supervise(points.parse().unwrap(), dir.as_ref());
            return ExitCode::SUCCESS;
        }
        ["--list", ..] => {
            println!("{NAME}: test");
            return ExitCode::SUCCESS;
        }
        ["--points", points] => points.parse().unwrap(),
        _ => 10,
    };
    let good = std::thread::spawn(move || test(points)).join().is_ok();
    println!("test {NAME} ... {}", if good { "ok" } else { "FAILED" });
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        if good { "ok" } else { "FAILED" },
        u8::from(good),
        u8::from(!good)
    );
    ExitCode::from(u8::from(!good))
}

/// A service that says so if another one of its name runs, and keeps its number.
fn service(dir: &Path, name: &str, rest: &str) -> ServiceSpec {
    let dir = dir.display();
    let script = format!(
        "exec 9>{dir}/{name}.lock; flock -n 9 || echo {name} >>{dir}/doubled; \
         echo $$ >>{dir}/{name}.starts; {rest}"
    );
    let mut spec = ServiceSpec::daemon(name, ["/bin/sh", "-c", &script]);
    spec.log = Log::Null;
    spec.backoff.initial = Duration::from_millis(5);
    spec.backoff.max = Duration::from_millis(20);
    spec
}

fn supervise(points: usize, dir: &Path) {
    // a byte for each image
    let images = dir.join("images");
    let before = std::fs::read(&images).unwrap_or_default().len();
    let mut file = std::fs::File::options().create(true).append(true).open(images).unwrap();
    file.write_all(b"x").unwrap();
    if before < points {
        // xorshift: chance that can be had again
        let mut chance = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(before as u64 + 1);
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        let point = chance % 300 + 1;
        println!("panic at point {point}");
        unix::panic_after(point);
    }
    let mut ready = service(dir, "ready", "echo >&3; exec sleep 1000");
    ready.readiness = Readiness::NotifyFd(3);
    let mut talker =
        service(dir, "talker", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02 9>&-; done");
    talker.log = Log::Auto;
    let mut asked = service(dir, "asked", "exec sleep 1000");
    asked.requires = vec!["ready".into()];
    let mut tick = service(dir, "tick", "sleep 0.01 9>&-");
    (tick.kind, tick.timer) = (Kind::OneShot, Some(Timer::every(Duration::from_millis(60))));
    let mut once = service(dir, "once", "exit 0");
    once.kind = Kind::OneShot;
    let services = vec![
        service(dir, "steady", "exec sleep 1000"),
        ready,
        talker,
        asked,
        service(dir, "flapper", "sleep 0.03 9>&-; exit 1"),
        service(dir, "brief", "sleep 0.01 9>&-; exec 9>&-; (sleep 0.1 &); exit 0"),
        service(dir, "restarted", "exec sleep 1000"),
        tick,
        once,
    ];
    let mut options = Options::default();
    options.log_timestamps = false;
    options.log_dir = Some(dir.to_owned());
    options.reap_orphans = Some(true);
    options.on_panic = OnPanic::Reexec { limit: u32::MAX };
    options.control = Some(ControlOptions::new(dir.join("socket")));
    let outcome = unix::run(services, options, &mut |event| println!("{event}")).unwrap();
    assert_eq!(outcome, Outcome::Exit);
}

fn test(points: usize) {
    let dir = tempfile::Builder::new().prefix("kiln-panics").tempdir().unwrap();
    let dir = dir.path();
    let out = || std::fs::read_to_string(dir.join("out")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--case").arg(points.to_string()).arg(dir).stdin(Stdio::null());
    command.stdout(std::fs::File::create(dir.join("out")).unwrap());
    command.stderr(std::fs::File::create(dir.join("err")).unwrap());
    let mut supervisor = Running(command.spawn().unwrap());
    let starts = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(dir.join(format!("{name}.starts"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    // somebody who restarts, and whose connection may end at any time
    let socket = dir.join("socket");
    let stop = Arc::new(AtomicBool::new(false));
    let restarting = {
        let (socket, stop) = (socket.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut done = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let asked = Client::connect(&socket)
                    .and_then(|mut client| client.restart("restarted", Duration::from_secs(1)));
                match asked {
                    Ok(_) => done += 1,
                    Err(ClientError::Closed | ClientError::NoSocket(_)) => {}
                    Err(error) => panic_with(&error),
                }
            }
            done
        })
    };
    let images = || std::fs::read(dir.join("images")).unwrap_or_default().len();
    let began = Instant::now();
    within(PATIENCE, "all panics", || {
        assert!(supervisor.0.try_wait().unwrap().is_none(), "it has ended: {}", out());
        (images() > points).then_some(())
    });
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let restarts = restarting.join().unwrap();
    // all goes on
    for name in ["flapper", "brief", "tick"] {
        let before = starts(name).len();
        within(PATIENCE, name, || (starts(name).len() > before + 2).then_some(()));
    }
    let mut client = within(PATIENCE, "it serves", || Client::connect(&socket).ok());
    for name in STEADY.iter().chain(&["restarted"]) {
        let pid = within(PATIENCE, name, || {
            let status = client.status(Some(name)).unwrap().remove(0);
            status.pid.filter(|_| status.state == "up")
        });
        assert_eq!(starts(name).last().unwrap(), &pid.to_string(), "{name}: {}", out());
    }
    assert_eq!(client.status(Some("once")).unwrap()[0].state, "done");
    for name in STEADY.iter().chain(&["once"]) {
        assert_eq!(starts(name).len(), 1, "{name} was started again: {}", out());
    }
    let doubled = std::fs::read_to_string(dir.join("doubled")).unwrap_or_default();
    assert_eq!(doubled, "", "{}", out());
    client.shutdown(Outcome::Exit, false).unwrap();
    let status = within(PATIENCE, "its end", || supervisor.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let log = std::fs::read_to_string(dir.join("talker.log")).unwrap();
    for (expected, line) in log.lines().enumerate() {
        assert_eq!(line, expected.to_string(), "the log has a gap");
    }
    let errors = std::fs::read_to_string(dir.join("err")).unwrap();
    assert_eq!(errors.matches("a point that a test has chosen").count(), points, "{errors}");
    println!(
        "{points} panics in {took:.1?}: {} flapper, {} brief and {} timed starts, {restarts} \
         restarts by request, {} lines without a gap",
        starts("flapper").len(),
        starts("brief").len(),
        starts("tick").len(),
        log.lines().count()
    );
}

fn panic_with(error: &ClientError) {
    assert!(matches!(error, ClientError::TimedOut(_)), "{error}");
}
