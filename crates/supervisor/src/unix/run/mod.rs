//! The loop: wait, tell the machine, perform what it asks for.

mod ask;
mod begin;
mod children;
#[cfg(feature = "control")]
mod control;
mod demand;
mod handover;
mod key;
mod output;
mod reload;
mod shortage;
#[cfg(feature = "control")]
mod specs;
mod start;
mod unsound;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::SignalFd;
use rustix::event::{Timespec, epoll};
use rustix::process::Rlimit;

use children::Child;
use key::Key;

use super::conditions::Conditions;
use super::fault::point;
use super::log::{LogPipe, Writer};
use super::notify::{Channel, Heard};
use super::spawner::Spawner;
use super::{Console, Error, OnPanic, Options, Request, cgroup, console, credentials, reserve};
use crate::graph::ServiceId;
use crate::machine::Supervisor;
use crate::snapshot::Snapshot;
use crate::spec::ServiceSpec;
use crate::vocabulary::{Action, Event, ExitStatus, Input, Outcome, Output, Pid, Time, Token};

/// Runs `specs` until a shutdown has ended, or, with [`Options::exit_when_ended`], until nothing
/// is left to run. `on_event` is told everything, in order, and must not wait for anything.
///
/// Blocks the signals that it listens to in the calling thread, and raises the soft limit of open
/// files to the hard one while it runs (services get the old one).
///
/// # Errors
/// Unsound specs ([`Options::unsound`]), or a system call without which nothing can be supervised.
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
    /// Somebody has ended.
    more_to_reap: bool,
    /// When orphans are looked for next, and before when they are not.
    orphans_at: Time,
    orphans_from: Time,
    null: Arc<OwnedFd>,
    nofile: Option<Rlimit>,
    /// The niceness of before.
    nice: Option<i32>,
    /// Whether that was less.
    is_nicer: bool,
    reset_oom: bool,
    /// Ended services whose control groups still have processes that die.
    lingering: BTreeSet<ServiceId>,
    children: BTreeMap<Pid, Child>,
    channels: BTreeMap<ServiceId, Channel>,
    logs: BTreeMap<ServiceId, LogPipe>,
    /// Pipes that are read next at a time rather than as soon as something is in them.
    resting: VecDeque<(Time, ServiceId)>,
    writer: Writer,
    loader: reload::Loader,
    shortage: shortage::Shortage,
    /// When losses of logs are looked at next.
    losses_at: Time,
    #[cfg(feature = "control")]
    control: Option<super::control::Server>,
}

impl Shell {
    fn run_to_end(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<Outcome, Error> {
        // what is left out, before anything starts
        self.tell_those(on_event);
        loop {
            point();
            self.drain(on_event);
            self.tell_those(on_event);
            #[cfg(feature = "control")]
            self.serve(on_event);
            point();
            if self.options.on_panic != OnPanic::Unwind {
                self.machine.snapshot_into(&mut self.committed);
                self.uncommitted.clear();
                self.heard_ready.clear();
                #[cfg(feature = "control")]
                self.commit_specs();
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
            self.mind_memory(on_event);
            self.turn(on_event)?;
        }
    }

    /// Waits once, and deals with what came.
    fn turn(&mut self, on_event: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        self.tend_sockets();
        let due = match self.machine.poll() {
            Output::Timeout(at) => {
                let own = self.losses_at.min(self.logs_due()).min(self.shortage.due());
                at.min(own).min(self.spawner.deadline()).min(self.probes_due())
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
        let wake = if self.more_to_reap { Time::ZERO } else { due.min(self.orphans_at) };
        let wait = wake.saturating_sub(now);
        let timeout = (wake != Time::MAX).then(|| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        // on the stack: what is drawn on the reserve from here on is seen after the wait only
        let mut room = [const { MaybeUninit::uninit() }; 64];
        let events: &[epoll::Event] =
            match epoll::wait(&self.epoll, room.as_mut_slice(), timeout.as_ref()) {
                Ok((events, _)) => events,
                Err(rustix::io::Errno::INTR) => &[],
                Err(error) => return Err(Error::system("wait for events")(error)),
            };
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
                Some(Key::Loaded) => self.on_loaded(on_event),
                // looked at before the next wait
                Some(Key::Memory) => reserve::forget_wake(),
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
        if self.orphans_at <= super::now() {
            self.reap_orphans(on_event);
        }
        point();
        let now = super::now();
        self.read_logs(now);
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
            Output::Action(Action::Forget { token, service }) => {
                self.forget(service);
                self.machine.handle(Input::Forgotten { token }, super::now());
            }
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
            console::console_line(format_args!("supervisor: {event}"));
        }
        #[cfg(feature = "control")]
        if let Some(server) = &mut self.control {
            server.hear(event, super::now());
        }
        on_event(event);
    }

    fn tell_those(&mut self, on_event: &mut dyn FnMut(&Event)) {
        for event in std::mem::take(&mut self.told) {
            self.tell(&event, on_event);
        }
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
                    self.reload_services(reload::Asker::Machine, on_event);
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

    fn on_notify(&mut self, id: ServiceId, on_event: &mut dyn FnMut(&Event)) {
        if self.machine.state(id) == Some(&crate::State::Starting) {
            self.on_spawned(on_event);
            if self.machine.state(id) == Some(&crate::State::Starting) {
                // it speaks before the thread that started it: a moment later we hear it again
                return;
            }
        }
        let Some(channel) = self.channels.get(&id) else { return };
        let token = channel.token;
        let heard = channel.hear(|sender| self.speaks_for(id, sender));
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

    /// Whether a process may say of a service that it is ready: its main process, or one of its container.
    fn speaks_for(&self, id: ServiceId, sender: Pid) -> bool {
        let Some(main) = self.machine.state(id).and_then(crate::State::pid) else { return false };
        #[cfg(feature = "oci")]
        if let Some(spec) = self.machine.spec(id).filter(|spec| spec.container.is_some())
            && super::container::is_of(sender, main, &spec.name, self.cgroups.is_some())
        {
            return true;
        }
        sender == main
    }

    fn on_conditions(&mut self, on_event: &mut dyn FnMut(&Event)) {
        for (condition, holds) in self.conditions.changed() {
            self.input(Input::Condition { condition, holds }, on_event);
        }
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
                Request::Reload => {
                    self.reload_services(reload::Asker::Machine, on_event);
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
