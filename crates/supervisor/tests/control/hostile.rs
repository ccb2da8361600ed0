//! Clients that mean harm, or cannot do better: everybody else is answered all the same.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln_supervisor::control::{Answer, Client, Effect, RefusalCode};
use kiln_supervisor::{Kill, Readiness, Restart, ServiceSpec};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::supervised::{PATIENCE, Raw, Supervisor, options, sh, socket, supervise, until};

/// Memory that no client may cost, in KiB: 64 connections with a full buffer each, and some air.
const BOUND: u64 = 24 << 10;
const CROWD: usize = 10_000;

pub(crate) fn run(dir: &Path) {
    let mut specs: Vec<_> = (0..40).map(|n| sh(&format!("s{n}"), "exec sleep 1000")).collect();
    let mut broken = ServiceSpec::daemon("broken", ["/no/such/program"]);
    broken.restart = Restart::Never;
    broken.enabled = false;
    specs.push(broken);
    supervise(specs, options(dir));
}

/// Asks until `over`, and gives how long the slowest answer took and how many there were.
fn ask_until(client: &mut Client, mut over: impl FnMut() -> bool) -> (Duration, usize) {
    let (mut worst, mut count) = (Duration::ZERO, 0);
    loop {
        let last = over();
        let began = Instant::now();
        let list = client.status(None).expect("everybody else is answered");
        worst = worst.max(began.elapsed());
        count += 1;
        assert!(!list.is_empty());
        if last {
            return (worst, count);
        }
    }
}

/// Whether the other end has closed, seen without reading.
fn hung_up(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&at_once)).unwrap();
    fds[0].revents().contains(PollFlags::HUP)
}

/// Bytes that only look random: the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(crate) fn garbage_test(dir: &Path) {
    let supervisor = Supervisor::start("garbage_and_half_frames_hurt_nobody_else", dir);
    let mut client = supervisor.client();
    let before = supervisor.number("VmRSS");

    // what is no request is refused by name, and the connection ended
    for text in ["{}", "[[[[", r#"{"start":{"service":"s0","soon":true}}"#, r#"{"hello":{}}"#] {
        let mut raw = Raw::greeted(dir);
        raw.say(text).unwrap();
        let Some(Answer::Refused(refusal)) = raw.hear() else { panic!("{text} was not refused") };
        assert_eq!(refusal.code, RefusalCode::BadRequest);
        assert_eq!(raw.hear(), None);
    }
    let mut raw = Raw::connect(dir).unwrap();
    raw.say(r#"{"hello":{"version":2}}"#).unwrap();
    let Some(Answer::Refused(refusal)) = raw.hear() else { panic!("a version of the future") };
    assert_eq!((refusal.code, raw.hear()), (RefusalCode::Version, None));
    let mut raw = Raw::connect(dir).unwrap();
    raw.say(r#"{"status":{}}"#).unwrap();
    assert!(matches!(raw.hear(), Some(Answer::Refused(_))), "the greeting comes first");
    // a frame that is too long is not waited for
    let mut raw = Raw::greeted(dir);
    raw.stream.write_all(&[0xff, 0xff, 0xff, 0xff, 0]).unwrap();
    assert!(matches!(raw.hear(), Some(Answer::Refused(_))));
    assert_eq!(raw.hear(), None);
    // the other half of a greeting, byte by byte, is a greeting
    let mut raw = Raw::connect(dir).unwrap();
    let mut bytes = vec![0, 0, 0, 23, 0];
    bytes.extend(br#"{"hello":{"version":1}}"#);
    for byte in bytes {
        raw.stream.write_all(&[byte]).unwrap();
    }
    assert!(matches!(raw.hear(), Some(Answer::Hello { .. })));

    // a crowd of the worst, while another asks
    let mut held = Vec::new();
    let mut seed = 0;
    ask_until(&mut client, || {
        seed += 1;
        if let Ok(mut raw) = Raw::connect(dir) {
            // an error is the supervisor's right
            let length = usize::try_from(seed * 37 % 9_000).unwrap();
            let _ = raw.stream.write_all(&noise(seed, length));
        }
        if let Ok(mut raw) = Raw::connect(dir)
            && raw.say(r#"{"hello":{"version":1}}"#).is_ok()
        {
            // half a frame of the greatest length, left lying
            let _ = raw.stream.write_all(&[0, 1, 0, 0, 0]);
            let _ = raw.stream.write_all(&noise(seed, 60_000));
            held.push(raw);
        }
        held.truncate(200);
        seed == 500
    });
    let after = supervisor.number("VmHWM");
    println!("garbage: {before} KiB before, {after} KiB at most");
    assert!(after < before + BOUND, "{before} KiB grew to {after} KiB");
    supervisor.end();
}

pub(crate) fn slow_test(dir: &Path) {
    let supervisor = Supervisor::start("slow_readers_hurt_nobody_else", dir);
    let mut client = supervisor.client();
    let before = supervisor.number("VmRSS");
    // some ask and ask and take nothing, one subscribes and takes nothing
    let mut askers: Vec<Raw> = (0..10).map(|_| Raw::greeted(dir)).collect();
    for asker in &mut askers {
        asker.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // until its own socket is full
        while asker.say(r#"{"status":{}}"#).is_ok() {}
    }
    let mut subscriber = Raw::greeted(dir);
    subscriber.say(r#"{"events":{}}"#).unwrap();
    assert_eq!(subscriber.hear(), Some(Answer::Listening {}));
    let mut events = 0;
    let (worst, count) = ask_until(&mut client, || {
        for _ in 0..20 {
            let mut other = Client::connect(socket(dir)).unwrap();
            for _ in 0..10 {
                // each tells of two problems
                let result = other.start("broken", PATIENCE).unwrap();
                assert_eq!(result.effect, Effect::Failed);
                events += 2;
            }
        }
        assert!(events < 100_000, "it is never given up");
        hung_up(&subscriber.stream)
    });
    let after = supervisor.number("VmHWM");
    println!(
        "slow readers: {count} answers, the slowest {worst:?}; {before} KiB, then {after} KiB"
    );
    assert!(after < before + BOUND, "{before} KiB grew to {after} KiB");
    // the subscriber finds whole events, and then that it was given up
    let mut found = 0;
    while let Some(answer) = subscriber.hear() {
        assert!(matches!(answer, Answer::Event(_)));
        found += 1;
    }
    assert!(found > 0 && found < events, "{found} of {events}");
    // an asker that takes after all gets all that it asked for
    let asker = &mut askers[0];
    for _ in 0..100 {
        assert!(matches!(asker.hear(), Some(Answer::Services(_) | Answer::End {})));
    }
    drop(askers);
    supervisor.end();
}

pub(crate) fn crowd_test(dir: &Path) {
    let supervisor = Supervisor::start("ten_thousand_connections_hurt_nobody_else", dir);
    let mut client = supervisor.client();
    let before = supervisor.number("VmRSS");
    let mut crowd = Command::new(std::env::current_exe().unwrap());
    crowd.args(["--client", "crowd"]).arg(dir).stdin(Stdio::null());
    let mut crowd = crowd.spawn().unwrap();
    let (mut fresh, mut most) = (Duration::ZERO, 0);
    let (worst, count) = ask_until(&mut client, || {
        most = most.max(supervisor.descriptors());
        let began = Instant::now();
        let mut other = Client::connect(socket(dir)).expect("newcomers are answered");
        other.status(Some("s0")).expect("newcomers are answered");
        fresh = fresh.max(began.elapsed());
        crowd.try_wait().unwrap().is_some()
    });
    assert!(crowd.wait().unwrap().success());
    let after = supervisor.number("VmHWM");
    println!(
        "{CROWD} connections: {count} answers, the slowest {worst:?}, with connecting {fresh:?}; \
         at most {most} descriptors, {before} KiB, then {after} KiB"
    );
    assert!(worst < Duration::from_secs(10) && fresh < Duration::from_secs(10));
    // 41 services with a pidfd each, 64 connections, and what the loop has
    assert!(most < 41 + 64 + 40, "{most} descriptors");
    assert!(after < before + BOUND, "{before} KiB grew to {after} KiB");
    supervisor.end();
}

/// Connects 10,000 times and keeps as many open as it may.
pub(crate) fn crowd(dir: &Path) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let mut held: std::collections::VecDeque<UnixStream> = std::collections::VecDeque::new();
    for n in 0..CROWD {
        let mut stream = loop {
            match UnixStream::connect(socket(dir)) {
                Ok(stream) => break stream,
                // out of descriptors: the oldest goes
                Err(_) => drop(held.pop_front().unwrap()),
            }
        };
        if n % 3 == 0 {
            let _ = stream.write_all(b"\0\0\0\x17\0{\"hello\":{\"version\":1}}");
        }
        held.push_back(stream);
    }
}

/// No descriptor is left for another connection.
pub(crate) fn few_run(dir: &Path) {
    let limit = rustix::process::Rlimit { current: Some(24), maximum: Some(24) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let specs = (0..20).map(|n| sh(&format!("s{n}"), "exec sleep 1000")).collect();
    supervise(specs, options(dir));
}

pub(crate) fn few_test(dir: &Path) {
    let supervisor = Supervisor::start("few_descriptors_still_answer", dir);
    let mut client = supervisor.client();
    until("there is no descriptor left", || (supervisor.descriptors() >= 23).then_some(()));
    let up = client.status(None).unwrap().iter().filter(|s| s.state == "up").count();
    assert!(up > 0);
    // each newcomer is answered, though the idle one before it may have to go
    for _ in 0..20 {
        let mut newcomer = supervisor.client();
        assert_eq!(newcomer.status(None).unwrap().len(), 20);
    }
    // those who only wait for others to go do not keep it busy
    let crowd: Vec<_> = (0..40).map(|_| UnixStream::connect(socket(dir)).unwrap()).collect();
    let mut followers: Vec<Raw> = Vec::new();
    if let Ok(mut raw) = Raw::connect(dir) {
        let _ = raw.say(r#"{"hello":{"version":1}}"#);
        let _ = raw.say(r#"{"events":{}}"#);
        followers.push(raw);
    }
    let switches = supervisor.number("voluntary_ctxt_switches");
    std::thread::sleep(Duration::from_secs(2));
    let more = supervisor.number("voluntary_ctxt_switches") - switches;
    println!("few descriptors: {up} of 20 services up; {more} wake-ups in 2 s");
    assert!(more < 400, "{more} wake-ups in 2 s: it spins");
    drop(followers);
    drop(crowd);
    supervisor.end();
}

const ORPHANS: usize = 1_000;

pub(crate) fn orphans_run(dir: &Path) {
    let mut options = options(dir);
    options.reap_orphans = Some(true);
    // Double forks: each (… &) leaves its child to the subreaper. All of them wait at a FIFO whose
    // only writer is the maker, so all end when it does.
    let text = format!(
        "cd {}; mkfifo gate; exec 4<>gate; i=0; while [ $i -lt {ORPHANS} ]; do \
         (cat <&5 >/dev/null &) 5<gate 4>&- 3>&-; i=$((i+1)); done; echo >&3; \
         while :; do sleep 0.05; done",
        dir.display()
    );
    let mut maker = sh("maker", &text);
    maker.kill = Kill::Process;
    maker.readiness = Readiness::NotifyFd(3);
    supervise(vec![maker], options);
}

pub(crate) fn orphans_test(dir: &Path) {
    let supervisor = Supervisor::start("answers_while_orphans_are_reaped", dir);
    let mut client = supervisor.client();
    let state = |client: &mut Client| client.status(Some("maker")).unwrap().remove(0).state;
    until("all are there", || (state(&mut client) == "up").then_some(()));
    let mut events = Raw::greeted(dir);
    events.say(r#"{"events":{"orphans":true}}"#).unwrap();
    assert_eq!(events.hear(), Some(Answer::Listening {}));
    // its writers are gone with it: all orphans see the end of the pipe at once
    client.stop("maker", PATIENCE).unwrap();
    let began = Instant::now();
    let counts = std::thread::spawn(move || {
        let mut reaped = 0;
        while reaped < ORPHANS {
            match events.hear() {
                Some(Answer::Event(event)) => reaped += usize::from(event.text.contains("reaped")),
                other => panic!("{other:?} after {reaped}"),
            }
        }
    });
    let (worst, count) = ask_until(&mut client, || counts.is_finished());
    counts.join().unwrap();
    println!(
        "{ORPHANS} orphans reaped in {:?}: {count} answers, the slowest {worst:?}",
        began.elapsed()
    );
    assert!(worst < Duration::from_secs(10));
    supervisor.end();
}
