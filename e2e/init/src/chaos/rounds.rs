//! The one that kills, asks and looks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use kiln_supervisor::Outcome;
use kiln_supervisor::control::{Client, ServiceStatus};
use rustix::process::{Pid, Signal, kill_process};

use crate::lives::VIOLATIONS;
use crate::processes::{self, Process};
use crate::services::{AWAY, DEMAND_SOCKET, ON_DEMAND, ROUNDS};
use crate::{Result, SOCKET, say};

/// How long a zombie whose parent is process 1 may be one. It is one while its end is dealt with, and
/// an emulated machine may be held up for a second at any time.
const ZOMBIE: Duration = Duration::from_secs(5);
/// KiB that process 1 may have more than after the first minute, and descriptors.
const MEMORY: u64 = 4096;
const DESCRIPTORS: usize = 40;
/// How long a stopped process stays so.
const STOPPED: Duration = Duration::from_secs(3);
const TURN: Duration = Duration::from_millis(50);
/// From when on process 1 is measured.
const WARM: Duration = Duration::from_secs(60);

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap_or(0) % sides.max(1)
    }
}

#[derive(Default)]
struct Counts {
    signals: BTreeMap<&'static str, u64>,
    requests: u64,
    connections: u64,
    looks: u64,
    violations: u64,
    slowest: Duration,
    memory: (u64, u64),
    descriptors: (usize, usize),
}

struct Rounds {
    dice: Dice,
    client: Client,
    counts: Counts,
    /// Services that were stopped by request.
    stopped: BTreeSet<String>,
    /// When a service was last well, and as which process.
    well: BTreeMap<String, (Instant, Option<i32>)>,
    zombies: BTreeMap<(i32, u64), Instant>,
    /// Processes of one service, seen at the last look.
    twice: BTreeMap<String, Vec<i32>>,
    frozen: Vec<(i32, u64, Instant)>,
    began: Instant,
}

pub(crate) fn run(seed: &str, seconds: &str) -> Result {
    let (seed, length): (u64, u64) = (seed.parse()?, seconds.parse()?);
    let mut rounds = Rounds {
        dice: Dice(seed | 1),
        client: Client::connect(SOCKET)?,
        counts: Counts::default(),
        stopped: BTreeSet::new(),
        well: BTreeMap::new(),
        zombies: BTreeMap::new(),
        twice: BTreeMap::new(),
        frozen: Vec::new(),
        began: Instant::now(),
    };
    say(format_args!("seed {seed}, {length} s"));
    let mut told = Instant::now();
    while rounds.began.elapsed() < Duration::from_secs(length) {
        let all = processes::all();
        rounds.act(&all);
        rounds.thaw(&all, STOPPED);
        rounds.look(&all)?;
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            rounds.tell("");
        }
        std::thread::sleep(TURN);
    }
    rounds.rest()?;
    rounds.tell("all: ");
    rounds.client.shutdown(Outcome::PowerOff, false)?;
    Ok(())
}

impl Rounds {
    fn violation(&mut self, what: impl std::fmt::Display) {
        self.counts.violations += 1;
        say(format_args!("VIOLATION: after {:?}: {what}", self.began.elapsed()));
    }

    fn tell(&self, start: &str) {
        let counts = &self.counts;
        let restarts = |rounds: &mut Client| -> u64 {
            let list = rounds.status(None).unwrap_or_default();
            list.iter().map(|status| u64::from(status.restarts)).sum()
        };
        let all = Client::connect(SOCKET).map_or(0, |mut client| restarts(&mut client));
        say(format_args!(
            "{start}{} s: signals {:?}, {} requests, {} connections, {all} restarts, {} looks, \
             slowest answer {:?}, process 1: {} KiB (at most {}), {} descriptors (at most {}); \
             {} violations",
            self.began.elapsed().as_secs(),
            counts.signals,
            counts.requests,
            counts.connections,
            counts.looks,
            counts.slowest,
            counts.memory.0,
            counts.memory.1,
            counts.descriptors.0,
            counts.descriptors.1,
            counts.violations,
        ));
    }

    fn act(&mut self, all: &[Process]) {
        match self.dice.roll(100) {
            0..70 => self.kill(all),
            70..92 => self.ask(),
            _ => self.connect(),
        }
    }

    /// Signals anybody but process 1, threads of the kernel and this.
    fn kill(&mut self, all: &[Process]) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let is_fair = |one: &&Process| one.pid != 1 && one.pid != own && !one.words.is_empty();
        let fair: Vec<&Process> = all.iter().filter(is_fair).collect();
        if fair.is_empty() {
            return;
        }
        let victim = fair[self.dice.roll(fair.len())];
        let signals = [
            ("KILL", Signal::KILL),
            ("KILL", Signal::KILL),
            ("SEGV", Signal::SEGV),
            ("TERM", Signal::TERM),
            ("ABRT", Signal::ABORT),
            ("STOP", Signal::STOP),
        ];
        let (name, signal) = signals[self.dice.roll(signals.len())];
        if let Some(pid) = Pid::from_raw(victim.pid)
            && kill_process(pid, signal).is_ok()
        {
            *self.counts.signals.entry(name).or_default() += 1;
            if signal == Signal::STOP {
                self.frozen.push((victim.pid, victim.began, Instant::now()));
            }
        }
    }

    /// Lets those go on that have been stopped for so long.
    fn thaw(&mut self, known: &[Process], after: Duration) {
        self.frozen.retain(|(pid, began, since)| {
            if since.elapsed() < after {
                return true;
            }
            let is_same = |one: &Process| (one.pid, one.began) == (*pid, *began);
            if known.iter().any(is_same)
                && let Some(pid) = Pid::from_raw(*pid)
            {
                let _ = kill_process(pid, Signal::CONT);
            }
            false
        });
    }

    /// Asks for a start, stop or restart. What is stopped is started again by and by.
    fn ask(&mut self) {
        let names: Vec<String> = self.well.keys().filter(|name| *name != ROUNDS).cloned().collect();
        if names.is_empty() {
            return;
        }
        self.counts.requests += 1;
        let (now, name) = (Duration::ZERO, &names[self.dice.roll(names.len())]);
        let stopped: Vec<String> = self.stopped.iter().cloned().collect();
        let asked = match self.dice.roll(4) {
            0 => {
                self.stopped.insert(name.clone());
                self.client.stop(name, now)
            }
            1 => self.client.restart(name, now),
            _ if stopped.is_empty() => self.client.start(name, now),
            _ => {
                let name = &stopped[self.dice.roll(stopped.len())];
                self.stopped.remove(name);
                self.client.start(name, now)
            }
        };
        if let Err(error) = asked {
            self.violation(format_args!("a request is not answered: {error}"));
        }
    }

    fn connect(&mut self) {
        self.counts.connections += 1;
        let Ok(mut stream) = UnixStream::connect(DEMAND_SOCKET) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
        let _ = stream.read(&mut [0; 8]);
    }

    /// Looks for two of a kind, for those that are away for too long, for zombies and for leaks.
    fn look(&mut self, all: &[Process]) -> Result {
        self.counts.looks += 1;
        let asked = Instant::now();
        let list = self.client.status(None)?;
        self.counts.slowest = self.counts.slowest.max(asked.elapsed());
        // Its children look like it until they have executed something; they are not process 1's.
        let mut alive: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for one in all.iter().filter(|one| one.state != 'Z' && one.parent == 1) {
            alive.entry(one.service().unwrap_or_default()).or_default().push(one.pid);
        }
        alive.retain(|name, pids| !name.is_empty() && pids.len() > 1);
        let twice: BTreeMap<String, Vec<i32>> =
            alive.into_iter().map(|(name, pids)| (name.to_owned(), pids)).collect();
        // /proc is not read in one moment: what is there twice still is at the next look.
        for (name, pids) in &twice {
            if self.twice.get(name) == Some(pids) {
                self.violation(format_args!("{name} runs twice: {pids:?}"));
            }
        }
        self.twice = twice;
        for status in &list {
            self.look_at(status);
        }
        let now = Instant::now();
        let zombies: Vec<&Process> =
            all.iter().filter(|one| one.state == 'Z' && one.parent == 1).collect();
        let before = std::mem::take(&mut self.zombies);
        for zombie in zombies {
            let key = (zombie.pid, zombie.began);
            let since = before.get(&key).copied().unwrap_or(now);
            if since.elapsed() > ZOMBIE {
                self.violation(format_args!("{zombie:?} is a zombie for {:?}", since.elapsed()));
            }
            self.zombies.insert(key, since);
        }
        self.measure();
        if let Ok(text) = std::fs::read_to_string(VIOLATIONS) {
            let _ = std::fs::remove_file(VIOLATIONS);
            self.violation(text.trim());
        }
        Ok(())
    }

    fn look_at(&mut self, status: &ServiceStatus) {
        let now = Instant::now();
        let (since, pid) = *self.well.entry(status.name.clone()).or_insert((now, None));
        let is_well = matches!(status.state.as_str(), "up" | "done" | "listening" | "scheduled");
        // What fails again and again is well as long as it is tried; stopped ones and those that
        // require one may be down.
        let is_tried = status.pid.is_some() && status.pid != pid;
        let is_tried = is_tried || (status.state == "backoff" && status.due_ms.is_some());
        // Stopped with one that it requires: it is started by request, as that one is.
        if status.state == "down" && !status.wanted {
            self.stopped.insert(status.name.clone());
        }
        let required = format!("notify-{}", status.name.trim_start_matches("stands-"));
        let is_excused = self.stopped.contains(&status.name) || self.stopped.contains(&required);
        if is_well || is_tried || is_excused {
            self.well.insert(status.name.clone(), (now, status.pid));
        } else if since.elapsed() > AWAY {
            self.violation(format_args!("{status:?} is away for {:?}", since.elapsed()));
            self.well.insert(status.name.clone(), (now, status.pid));
        }
    }

    fn measure(&mut self) {
        let (memory, descriptors) = processes::first();
        if self.began.elapsed() < WARM {
            (self.counts.memory, self.counts.descriptors) = ((memory, 0), (descriptors, 0));
        }
        self.counts.memory.1 = self.counts.memory.1.max(memory);
        self.counts.descriptors.1 = self.counts.descriptors.1.max(descriptors);
        if memory > self.counts.memory.0 + MEMORY {
            self.violation(format_args!("process 1 has {memory} KiB"));
            self.counts.memory.0 = memory;
        }
        if descriptors > self.counts.descriptors.0 + DESCRIPTORS {
            self.violation(format_args!("process 1 has {descriptors} descriptors"));
            self.counts.descriptors.0 = descriptors;
        }
    }

    /// With nobody killing any more, everybody is there in the end, and no zombie.
    fn rest(&mut self) -> Result {
        self.thaw(&processes::all(), Duration::ZERO);
        for name in std::mem::take(&mut self.stopped) {
            self.client.start(&name, Duration::ZERO)?;
        }
        // One that was stopped takes those down that require it.
        for status in self.client.status(None)? {
            if status.state == "down" {
                self.client.start(&status.name, Duration::ZERO)?;
            }
        }
        let until = Instant::now() + AWAY;
        let lost = loop {
            self.look(&processes::all())?;
            let list = self.client.status(None)?;
            let lost: Vec<ServiceStatus> = list
                .into_iter()
                .filter(|status| {
                    !matches!(status.state.as_str(), "up" | "done" | "listening" | "scheduled")
                })
                .filter(|status| !status.name.starts_with("crashes-") && status.name != "missing")
                .filter(|status| !status.name.starts_with("timed-") && status.name != ON_DEMAND)
                .collect();
            if (lost.is_empty() && self.zombies.is_empty()) || Instant::now() > until {
                break lost;
            }
            std::thread::sleep(TURN);
        };
        for status in lost {
            self.violation(format_args!("lost at the end: {status:?}"));
        }
        for zombie in std::mem::take(&mut self.zombies).into_keys() {
            self.violation(format_args!("a zombie at the end: {zombie:?}"));
        }
        Ok(())
    }
}
