//! The loop: wait, tell the machine, perform what it asks for.

mod ask;
#[cfg(feature = "control")]
mod control;
mod demand;
mod handover;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{Timespec, epoll};
use rustix::process::{Resource, Rlimit};

use super::conditions::Conditions;
use super::fault::point;
use super::image::Estate;
use super::log::{LogPipe, Writer};
use super::notify::{Channel, Heard};
use super::reap::Ended;
use super::spawner::Spawner;
use super::{Console, Error, OnPanic, Options, Request, Role, cgroup, console, credentials, reap};
use crate::graph::ServiceId;
use crate::machine::Supervisor;
use crate::snapshot::Snapshot;
use crate::spec::ServiceSpec;
use crate::vocabulary::{Action, Event, ExitStatus, Input, Outcome, Output, Pid, Time, Token};

/// The niceness of PID 1's loop unless something else is asked for.
const INIT_NICE: i32 = -15;

/// So many orphans are reaped before services are looked after again.
const REAP_BATCH: usize = 256;

/// Runs `specs` until a shutdown has ended, or, with [`Options::exit_when_ended`], until nothing
/// is left to run. `on_event` is told everything, in order, and must not wait for anything.
///
/// Blocks the signals that it listens to in the calling thread, and raises the soft limit of open
/// files to the hard one while it runs (services get the old one).
///
/// # Errors
/// Unsound specs, or a system call without which nothing can be supervised.
pub fn run(
    specs: Vec<ServiceSpec>,
    options: Options,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome, Error> {
    let on_panic = options.on_panic;
    if on_panic != OnPanic::Unwind {
        super::install_hook();
    }
    let mut shell = Shell::new(specs, options)?;
    let limit = match on_panic {
        OnPanic::Unwind => return shell.run_to_end(on_event),
        OnPanic::Reexec { limit } => limit,
    };
    let caught = catch_unwind(AssertUnwindSafe(|| shell.run_to_end(on_event)));
    caught.unwrap_or_else(|payload| {
        let is_init = rustix::process::getpid().is_init();
        match (shell.reexec_after_panic(limit), is_init) {
            (why, true) => super::emergency(&why),
            (_, false) => resume_unwind(payload),
        }
    })
}

#[derive(Debug)]
struct Child {
    service: ServiceId,
    /// Absent if there was no descriptor left for it: then `SIGCHLD` must do.
    pidfd: Option<OwnedFd>,
    /// Whether its end is being dealt with.
    ended: bool,
}

/// What an epoll event is about, packed into its 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Signal,
    Child(Pid),
    Notify(ServiceId),
    Log(ServiceId),
    Source(u32),
    /// Processes have been started.
    Spawned,
    /// The answer to a connection that is tried.
    Asked(ServiceId),
    /// Somebody turns to a service that listens.
    Socket(ServiceId),
    Conditions,
    /// Output was lost.
    Losses,
    #[cfg(feature = "control")]
    Control,
}

impl Key {
    fn pack(self) -> epoll::EventData {
        let (kind, value) = match self {
            Self::Signal => (0_u64, 0),
            Self::Child(pid) => (1, u32::try_from(pid.0).unwrap_or(0)),
            Self::Notify(id) => (2, id.0),
            Self::Log(id) => (3, id.0),
            Self::Source(index) => (4, index),
            Self::Spawned => (5, 0),
            Self::Asked(id) => (6, id.0),
            Self::Socket(id) => (7, id.0),
            Self::Conditions => (8, 0),
            Self::Losses => (10, 0),
            #[cfg(feature = "control")]
            Self::Control => (9, 0),
        };
        epoll::EventData::new_u64(kind << 32 | u64::from(value))
    }

    fn unpack(data: epoll::EventData) -> Option<Self> {
        let bits = data.u64();
        let value = u32::try_from(bits & 0xffff_ffff).ok()?;
        Some(match bits >> 32 {
            0 => Self::Signal,
            1 => Self::Child(Pid(i32::try_from(value).ok()?)),
            2 => Self::Notify(ServiceId(value)),
            3 => Self::Log(ServiceId(value)),
            4 => Self::Source(value),
            5 => Self::Spawned,
            6 => Self::Asked(ServiceId(value)),
            7 => Self::Socket(ServiceId(value)),
            8 => Self::Conditions,
            10 => Self::Losses,
            #[cfg(feature = "control")]
            9 => Self::Control,
            _ => return None,
        })
    }
}

/// What a process is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Service(ServiceId, Token),
    Probe(ServiceId, Token),
    /// A reload that a client has asked for and waits for so long.
    #[cfg(feature = "control")]
    Reload(super::control::Client, ServiceId, Time),
}

struct Shell {
    machine: Supervisor,
    spawner: Spawner<Purpose>,
    cgroups: Option<Arc<cgroup::Root>>,
    conditions: Conditions,
    probes: BTreeMap<ServiceId, ask::Probe>,
    sockets: BTreeMap<ServiceId, demand::Sockets>,
    stored: BTreeMap<ServiceId, Vec<(String, Arc<OwnedFd>)>>,
    /// Commands of probes that were killed.
    doomed: Vec<Pid>,
    /// What has ended since the state was committed, and is reaped: nobody can ask for it again.
    uncommitted: Vec<(Pid, ExitStatus)>,
    /// Who has said to be ready since then: what was read is in no pipe any more.
    heard_ready: Vec<ServiceId>,
    options: Options,
    committed: Snapshot,
    panics: u32,
    last_panic: Time,
    /// Whether somebody has asked for a new process image.
    replace: bool,
    told: Vec<Event>,
    epoll: OwnedFd,
    signals: SignalFd,
    old_mask: SigSet,
    init: bool,
    reaps: bool,
    more_to_reap: bool,
    null: Arc<OwnedFd>,
    nofile: Option<Rlimit>,
    /// The niceness of before.
    nice: Option<i32>,
    reset_oom: bool,
    /// Ended services whose control groups still have processes that die.
    lingering: BTreeSet<ServiceId>,
    children: BTreeMap<Pid, Child>,
    channels: BTreeMap<ServiceId, Channel>,
    logs: BTreeMap<ServiceId, LogPipe>,
    writer: Writer,
    /// When losses of logs are looked at next.
    losses_at: Time,
    #[cfg(feature = "control")]
    control: Option<super::control::Server>,
}

impl Shell {
    fn new(specs: Vec<ServiceSpec>, options: Options) -> Result<Self, Error> {
        let now = super::now();
        let mut lost = false;
        let mut estate = Estate::taken();
        #[cfg_attr(
            not(feature = "control"),
            expect(unused_mut, reason = "nothing is taken out of it")
        )]
        let mut legacy = match estate.as_mut().map(Estate::read) {
            Some(Some(legacy)) => Some(legacy),
            Some(None) => {
                // returns only if there is no way back
                estate.iter().for_each(Estate::go_back);
                if !rustix::process::getpid().is_init() {
                    let what = "take over the state of the process image before";
                    return Err(Error::system(what)(std::io::Error::from(
                        std::io::ErrorKind::InvalidData,
                    )));
                }
                // whatever runs is nobody's: a second instance beside it would be worse than none
                let all = nix::unistd::Pid::from_raw(-1);
                let _ = nix::sys::signal::kill(all, NixSignal::SIGKILL);
                lost = true;
                None
            }
            None => None,
        };
        let machine = match &legacy {
            Some(legacy) => {
                let mut snapshot = legacy.snapshot.clone();
                let names: Vec<String> = specs.iter().map(|s| s.name.clone()).collect();
                for name in names {
                    let pid = snapshot.processes().find(|(n, _)| *n == name).map(|(_, pid)| pid);
                    snapshot.set_process(&name, pid);
                }
                let resumed = Supervisor::resume(specs, &snapshot, now);
                if resumed.is_err() {
                    estate.iter().for_each(Estate::go_back);
                }
                resumed?
            }
            None => Supervisor::new(specs, now)?,
        };
        let init = match options.role {
            Role::Auto => rustix::process::getpid().is_init(),
            role => role == Role::Init,
        };
        let reaps = options.reap_orphans.unwrap_or(init);
        if reaps && !rustix::process::getpid().is_init() {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(Error::system("become a child subreaper"))?;
        }
        let mut mask = SigSet::empty();
        for signal in [
            NixSignal::SIGCHLD,
            NixSignal::SIGTERM,
            NixSignal::SIGINT,
            NixSignal::SIGHUP,
            NixSignal::SIGUSR1,
            NixSignal::SIGUSR2,
            NixSignal::SIGPWR,
        ] {
            mask.add(signal);
        }
        let old_mask =
            mask.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(Error::system("block signals"))?;
        let mut old_mask = old_mask;
        if legacy.is_some() {
            // blocked by the image before
            for signal in mask.iter() {
                old_mask.remove(signal);
            }
        }
        super::sys::hear_of_children();
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(Error::system("make a signalfd"))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(Error::system("make an epoll set"))?;
        let null = rustix::fs::open(
            "/dev/null",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .or_else(|_| empty_input())
        .map_err(Error::system("open /dev/null"))?;
        let limit = legacy.as_ref().and_then(|legacy| legacy.nofile);
        let nofile = raise_nofile(limit);
        let reset_oom = std::fs::read_to_string("/proc/self/oom_score_adj")
            .is_ok_and(|text| text.trim() != "0");
        let awaited = machine.awaited().into_iter().cloned().collect();
        let mut told = Vec::new();
        let cgroups = options.cgroup.as_deref().and_then(|path| match cgroup::Root::take(path) {
            Ok((root, missing)) => {
                if !missing.is_empty() {
                    let missing = missing.join(", ");
                    told.push(warning(format!("control groups without {missing}")));
                }
                Some(Arc::new(root))
            }
            Err(error) => {
                told.push(warning(format!("no control groups in {}: {error}", path.display())));
                None
            }
        });
        let nice = super::priority::original(legacy.as_ref().and_then(|legacy| legacy.nice));
        let wanted =
            options.nice.or_else(|| rustix::process::getpid().is_init().then_some(INIT_NICE));
        let spawner = Spawner::new().map_err(Error::system("start a thread"))?;
        let writer = Writer::new().map_err(Error::system("start a thread for logs"))?;
        // after the threads, which have the niceness of before
        let preferred = wanted.map(super::priority::prefer);
        if let (Some(Err(error)), Some(_)) = (preferred, options.nice) {
            told.push(warning(format!("no other niceness: {error}")));
        }
        let conditions = Conditions::new(awaited).map_err(Error::system("watch conditions"))?;
        let mut shell = Self {
            spawner,
            cgroups,
            conditions,
            probes: BTreeMap::new(),
            sockets: BTreeMap::new(),
            stored: BTreeMap::new(),
            doomed: Vec::new(),
            uncommitted: Vec::new(),
            heard_ready: Vec::new(),
            committed: machine.snapshot(),
            machine,
            options,
            panics: 0,
            last_panic: Time::ZERO,
            replace: false,
            told,
            epoll,
            signals,
            old_mask,
            init,
            reaps,
            more_to_reap: true,
            null: Arc::new(null),
            nofile,
            nice: nice.filter(|_| wanted.is_some()),
            reset_oom,
            lingering: BTreeSet::new(),
            children: BTreeMap::new(),
            channels: BTreeMap::new(),
            logs: BTreeMap::new(),
            writer,
            losses_at: Time::MAX,
            #[cfg(feature = "control")]
            control: None,
        };
        shell.watch(shell.signals.as_fd(), Key::Signal).map_err(Error::system("watch signals"))?;
        let spawned = shell.watch(shell.spawner.fd(), Key::Spawned);
        spawned.map_err(Error::system("watch for new processes"))?;
        let losses = shell.watch(shell.writer.fd(), Key::Losses);
        losses.map_err(Error::system("watch logs"))?;
        if let Some(fd) = shell.conditions.fd() {
            let watched = shell.watch(fd, Key::Conditions);
            watched.map_err(Error::system("watch conditions"))?;
        }
        for (source, index) in shell.options.sources.iter().zip(0..) {
            shell
                .watch(source.fd(), Key::Source(index))
                .map_err(Error::system("watch a source"))?;
        }
        let returned = estate.is_some_and(|estate| estate.returned);
        #[cfg(feature = "control")]
        shell.open_control(legacy.as_mut(), returned)?;
        match legacy {
            Some(legacy) => shell.inherit(legacy, returned),
            None => shell.end_those_before(),
        }
        if lost {
            let what = "the state before a panic was lost: all processes were killed";
            shell.told.push(warning(what.to_owned()));
        }
        shell.bounds_without_groups();
        for (condition, holds) in shell.conditions.all() {
            shell.machine.handle(Input::Condition { condition, holds }, now);
        }
        Ok(shell)
    }

    fn run_to_end(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<Outcome, Error> {
        loop {
            point();
            self.drain(on_event);
            for event in std::mem::take(&mut self.told) {
                self.tell(&event, on_event);
            }
            #[cfg(feature = "control")]
            self.serve(on_event);
            point();
            if self.options.on_panic != OnPanic::Unwind {
                self.committed = self.machine.snapshot();
                self.uncommitted.clear();
                self.heard_ready.clear();
            }
            point();
            let ended = self.options.exit_when_ended && self.machine.all_ended();
            if let Some(outcome) =
                self.machine.finished().or_else(|| ended.then_some(Outcome::Exit))
            {
                // Of whoever has gone down in this very turn.
                self.tend_sockets();
                self.flush_logs();
                self.losses(Time::MAX, on_event);
                let _ = self.old_mask.thread_set_mask();
                return Ok(outcome);
            }
            if std::mem::take(&mut self.replace) {
                self.reexec_on_request(on_event);
            }
            self.turn(on_event)?;
        }
    }

    /// Waits once, and deals with what came.
    fn turn(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        self.tend_sockets();
        let due = match self.machine.poll() {
            Output::Timeout(at) => {
                at.min(self.losses_at).min(self.spawner.deadline()).min(self.probes_due())
            }
            // drained before; whatever it is, it is not lost
            other => {
                self.perform(other, on_event);
                return Ok(());
            }
        };
        #[cfg(feature = "control")]
        let due = due.min(self.control_due());
        let now = super::now();
        let wait = if self.more_to_reap { Time::ZERO } else { due.saturating_sub(now) };
        let timeout = (due != Time::MAX || self.more_to_reap).then(|| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::system("wait for events")(error)),
        }
        for event in events {
            point();
            match Key::unpack(event.data) {
                Some(Key::Signal) => self.on_signals(on_event),
                Some(Key::Child(pid)) => self.on_child(pid, on_event),
                Some(Key::Notify(id)) => self.on_notify(id, on_event),
                Some(Key::Log(id)) => self.on_log(id),
                Some(Key::Source(index)) => self.on_source(index, on_event),
                Some(Key::Spawned) => self.on_spawned(on_event),
                Some(Key::Asked(id)) => self.on_asked(id, on_event),
                Some(Key::Socket(id)) => self.on_demand(id, on_event),
                Some(Key::Losses) => self.losses_at = Time::ZERO,
                Some(Key::Conditions) => self.on_conditions(on_event),
                #[cfg(feature = "control")]
                Some(Key::Control) => self.on_control(),
                None => {}
            }
        }
        point();
        if self.more_to_reap {
            self.reap(on_event);
        }
        point();
        let now = super::now();
        self.losses(now, on_event);
        if self.spawner.deadline() <= now {
            self.on_spawned(on_event);
        }
        self.late_probes(now, on_event);
        if due <= now {
            self.input(Input::Tick, on_event);
        }
        Ok(())
    }

    fn input(&mut self, input: Input, on_event: &mut dyn FnMut(&Event)) {
        point();
        self.machine.handle(input, super::now());
        point();
        self.drain(on_event);
    }

    fn drain(&mut self, on_event: &mut dyn FnMut(&Event)) {
        loop {
            match self.machine.poll() {
                Output::Timeout(_) => return,
                output => self.perform(output, on_event),
            }
        }
    }

    fn perform(&mut self, output: Output, on_event: &mut dyn FnMut(&Event)) {
        point();
        self.perform_one(output, on_event);
        point();
    }

    fn perform_one(&mut self, output: Output, on_event: &mut dyn FnMut(&Event)) {
        match output {
            Output::Event(event) => self.tell(&event, on_event),
            Output::Action(Action::Spawn { token, service }) => {
                if let Some(input) = self.spawn(token, service) {
                    self.machine.handle(input, super::now());
                }
            }
            Output::Action(Action::Listen { token, service }) => {
                let input = self.listen(token, service);
                self.machine.handle(input, super::now());
            }
            Output::Action(Action::Probe { token, service, timeout }) => {
                if let Some(input) = self.ask(token, service, timeout) {
                    self.machine.handle(input, super::now());
                }
            }
            Output::Action(Action::EndProbe { token }) => self.end_probe(token),
            Output::Action(Action::Signal { token, service, pid, signal, scope }) => {
                let error = self.send(service, pid, signal.as_raw(), scope);
                self.machine.handle(Input::Signalled { token, error }, super::now());
            }
            Output::Timeout(_) => {}
        }
    }

    fn tell(&mut self, event: &Event, on_event: &mut dyn FnMut(&Event)) {
        let shown = match self.options.console {
            Console::Quiet => false,
            Console::Problems => event.is_problem(),
            Console::Events => !matches!(event, Event::Reaped { .. } | Event::Ignored { .. }),
        };
        if shown {
            console::write(format!("supervisor: {event}\n").as_bytes());
        }
        #[cfg(feature = "control")]
        if let Some(server) = &mut self.control {
            server.hear(event, super::now());
        }
        on_event(event);
    }

    fn watch(&self, fd: BorrowedFd<'_>, key: Key) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, fd, key.pack(), epoll::EventFlags::IN)
    }

    fn on_signals(&mut self, on_event: &mut dyn FnMut(&Event)) {
        // bounded: a storm of signals is coalesced by the kernel to one of each kind
        for _ in 0..16 {
            let Ok(Some(info)) = self.signals.read_signal() else { return };
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            let outcome = match NixSignal::try_from(number) {
                Ok(NixSignal::SIGCHLD) => {
                    self.more_to_reap = true;
                    continue;
                }
                Ok(NixSignal::SIGHUP) => {
                    self.writer.reopen();
                    #[cfg(feature = "control")]
                    self.reopen_control(on_event);
                    continue;
                }
                Ok(NixSignal::SIGTERM | NixSignal::SIGINT) if self.init => Outcome::Reboot,
                Ok(NixSignal::SIGUSR1) if self.init => Outcome::Halt,
                Ok(NixSignal::SIGUSR2 | NixSignal::SIGPWR) if self.init => Outcome::PowerOff,
                Ok(NixSignal::SIGTERM | NixSignal::SIGINT) => Outcome::Exit,
                _ => continue,
            };
            let timeout = self.options.shutdown_timeout;
            self.input(Input::Shutdown { outcome, timeout }, on_event);
        }
    }

    fn on_child(&mut self, pid: Pid, on_event: &mut dyn FnMut(&Event)) {
        if (self.children.contains_key(&pid) || self.is_probe(pid))
            && let Some(status) = reap::look(pid)
        {
            self.ended(pid, status, true, on_event);
        }
    }

    /// A process has ended; it is a zombie until the machine has had its say.
    fn ended(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        zombie: bool,
        on_event: &mut dyn FnMut(&Event),
    ) {
        if self.is_probe(pid) {
            if zombie {
                reap::reap(pid);
            }
            return self.probe_ended(pid, status, on_event);
        }
        if let Some(child) = self.children.get_mut(&pid) {
            child.ended = true;
            if self.options.on_panic != OnPanic::Unwind {
                self.uncommitted.push((pid, status));
                // its successor has said nothing yet
                let service = child.service;
                self.heard_ready.retain(|id| *id != service);
            }
        }
        point();
        self.machine.handle(Input::Exited { pid, status }, super::now());
        point();
        self.drain(on_event);
        point();
        if zombie {
            reap::reap(pid);
        }
        point();
        if let Some(child) = self.children.remove(&pid) {
            if let Some(pidfd) = &child.pidfd {
                let _ = epoll::delete(&self.epoll, pidfd);
            }
            // a successor may be on its way already, and makes its own way clear
            if !self.machine.state(child.service).is_some_and(crate::State::is_live) {
                self.clear_away(child.service);
            }
        } else {
            // It may have been the last one of a group.
            self.remove_lingering();
        }
    }

    fn reap(&mut self, on_event: &mut dyn FnMut(&Event)) {
        self.more_to_reap = false;
        // those whose number is all we have
        let bare: Vec<Pid> =
            self.children.iter().filter(|(_, c)| c.pidfd.is_none()).map(|(pid, _)| *pid).collect();
        for pid in bare.into_iter().chain(self.probe_pids()) {
            self.on_child(pid, on_event);
        }
        self.doomed.retain(|pid| {
            let ended = reap::look(*pid).is_some();
            if ended {
                reap::reap(*pid);
            }
            !ended
        });
        if !self.reaps {
            return;
        }
        for _ in 0..REAP_BATCH {
            match reap::look_for_any() {
                // not an orphan, but one that we have not been told of yet
                Ended::Zombie(pid, _) if self.spawner.may_have(pid) => {
                    self.on_spawned(on_event);
                    if self.spawner.may_have(pid) {
                        return;
                    }
                }
                Ended::Zombie(pid, status) => self.ended(pid, status, true, on_event),
                Ended::Reaped(pid, status) => self.ended(pid, status, false, on_event),
                Ended::Nobody => return,
            }
        }
        self.more_to_reap = true;
    }

    fn on_notify(&mut self, id: ServiceId, on_event: &mut dyn FnMut(&Event)) {
        if self.machine.state(id) == Some(&crate::State::Starting) {
            self.on_spawned(on_event);
            if self.machine.state(id) == Some(&crate::State::Starting) {
                // it speaks before the thread that started it: a moment later we hear it again
                return;
            }
        }
        let Some(channel) = self.channels.get(&id) else { return };
        let pid = self.machine.state(id).and_then(crate::State::pid);
        let token = channel.token;
        let heard = channel.hear(pid);
        let done = !channel.stays();
        let is_ready = match &heard {
            Heard::Ready => true,
            Heard::Message(message) => message.ready,
            Heard::Nothing | Heard::Closed => false,
        };
        if is_ready && self.options.on_panic != OnPanic::Unwind {
            self.heard_ready.push(id);
        }
        point();
        match heard {
            Heard::Nothing => {}
            Heard::Closed => drop(self.channels.remove(&id)),
            Heard::Ready => {
                if done {
                    self.channels.remove(&id);
                }
                self.input(Input::Ready { token }, on_event);
            }
            Heard::Message(message) => {
                point();
                self.store(id, message.stored, &message.forgotten);
                if message.ready {
                    self.input(Input::Ready { token }, on_event);
                }
            }
        }
    }

    fn on_conditions(&mut self, on_event: &mut dyn FnMut(&Event)) {
        for (condition, holds) in self.conditions.changed() {
            self.input(Input::Condition { condition, holds }, on_event);
        }
    }

    fn on_log(&mut self, id: ServiceId) {
        if let Some(pipe) = self.logs.get_mut(&id) {
            pipe.pump(id, &mut self.writer);
            if self.writer.has_lost() {
                self.losses_at = self.losses_at.min(super::now());
            }
        }
    }

    /// Tells of output that was lost.
    fn losses(&mut self, now: Time, on_event: &mut dyn FnMut(&Event)) {
        if now < self.losses_at {
            return;
        }
        let (losses, later) = self.writer.losses(now);
        self.losses_at = later;
        for (id, bytes, errno) in losses {
            if let Some(service) = self.machine.name(id) {
                self.tell(&Event::LogDropped { service, bytes, errno }, on_event);
            }
        }
    }

    /// What services wrote last, before we leave.
    fn flush_logs(&mut self) {
        for (id, pipe) in &mut self.logs {
            // a pipe holds at most 1 MiB; a writer that lives on must not keep us
            for _ in 0..64 {
                if !pipe.pump(*id, &mut self.writer) {
                    break;
                }
            }
        }
        self.writer.flush(handover::FLUSH);
    }

    fn on_source(&mut self, index: u32, on_event: &mut dyn FnMut(&Event)) {
        let Some(source) = self.options.sources.get_mut(index as usize) else { return };
        let requests = source.take().unwrap_or_else(|error| {
            let _ = epoll::delete(&self.epoll, source.fd());
            vec![Request::Warn(format!("{source:?} given up: {error}"))]
        });
        for request in requests {
            let named = |name: &str| self.machine.id(name);
            let input = match &request {
                Request::Shutdown(outcome) => {
                    let timeout = self.options.shutdown_timeout;
                    Some(Input::Shutdown { outcome: *outcome, timeout })
                }
                Request::Start(name) => named(name).map(Input::Start),
                Request::Stop(name) => named(name).map(Input::Stop),
                Request::Restart(name) => named(name).map(Input::Restart),
                Request::Reexec => {
                    self.replace = true;
                    continue;
                }
                Request::Warn(what) => {
                    self.tell(&Event::Warning { what: what.clone() }, on_event);
                    continue;
                }
                #[expect(clippy::panic, reason = "asked for, to prove that it is survived")]
                Request::Panic => panic!("asked to panic"),
            };
            match input {
                Some(input) => self.input(input, on_event),
                None => self.tell(
                    &Event::Warning { what: format!("no such service: {request:?}") },
                    on_event,
                ),
            }
        }
    }
}

fn warning(what: String) -> Event {
    Event::Warning { what }
}

/// Something to read nothing from where there is no /dev/null.
fn empty_input() -> rustix::io::Result<OwnedFd> {
    rustix::fs::memfd_create("null", rustix::fs::MemfdFlags::CLOEXEC)
}

/// Raises the soft limit of open files to the hard one; gives the old for services to have, which is
/// known where an image before this one has raised it.
fn raise_nofile(known: Option<u64>) -> Option<Rlimit> {
    let old = rustix::process::getrlimit(Resource::Nofile);
    if known.is_some() {
        return Some(Rlimit { current: known, maximum: old.maximum });
    }
    if old.current == old.maximum {
        return None;
    }
    let new = Rlimit { current: old.maximum, maximum: old.maximum };
    rustix::process::setrlimit(Resource::Nofile, new).ok().map(|()| old)
}
