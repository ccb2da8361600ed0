//! What runs is handed from one process image to the next: after a panic, or because somebody has
//! asked for it; and is taken over at its start.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::demand::Sockets;
use super::{Key, Purpose, Shell, warning};
use crate::graph::ServiceId;
use crate::snapshot::Snapshot;
use crate::unix::image::{self, OWN_PROGRAM};
use crate::unix::log::LogPipe;
use crate::unix::notify::{Channel, ChannelKind};
use crate::unix::panic::{FdKind, Inherited, Legacy};
use crate::unix::spawner::Done;
use crate::vocabulary::{Event, Input, Pid, Time};

/// A panic later than this after the one before starts the count again.
const PANIC_WINDOW: Time = Time::from_secs(60);

/// What is said where a new program has given up and the old one goes on.
pub(super) const NOT_UNDERSTOOD: &str =
    "the new program cannot go on with what the old one has left; the old one goes on as before";

/// Why there is another process image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Panic,
    /// Somebody has asked for it.
    Asked,
    /// Memory is short.
    Memory,
}

/// How long logs may take to be written before what waits of them is lost.
pub(super) const FLUSH: Time = Time::from_secs(2);

impl Shell {
    /// Takes over what runs from an earlier process image; one that has gone back to this program if
    /// `returned`.
    pub(super) fn inherit(&mut self, legacy: Legacy, returned: bool) {
        self.panics = legacy.panics;
        self.last_panic = legacy.last_panic;
        self.shortage.relieved = legacy.relieved;
        let mut pipes: BTreeMap<ServiceId, (Option<OwnedFd>, Option<OwnedFd>)> = BTreeMap::new();
        if legacy.time_set {
            self.conditions.time_was_set();
        }
        for Inherited { service, kind, number, name } in legacy.fds {
            let fd = crate::unix::sys::adopt_fd(number);
            let (Some(fd), Some(id)) = (fd, self.machine.id(&service)) else { continue };
            match kind {
                FdKind::Socket => {
                    let of = || self.machine.spec(id).map(|spec| spec.sockets.clone());
                    let sockets = self.sockets.entry(id);
                    let sockets = sockets
                        .or_insert_with(|| Sockets::new(Vec::new(), of().unwrap_or_default()));
                    sockets.fds.push((name, Arc::new(fd)));
                }
                FdKind::Stored => {
                    self.stored.entry(id).or_default().push((name, Arc::new(fd)));
                }
                FdKind::LogRead => pipes.entry(id).or_default().0 = Some(fd),
                FdKind::LogWrite => pipes.entry(id).or_default().1 = Some(fd),
                // of the shell itself, and taken out before if it is served here
                FdKind::ControlSocket
                | FdKind::ControlTimes
                | FdKind::ControlAsker
                | FdKind::Specs
                | FdKind::Unknown => {}
                FdKind::NotifyPipe | FdKind::NotifySocket => {
                    let Some(token) = self.machine.run_token(id) else { continue };
                    let stays =
                        self.machine.specs.get(id.index()).is_some_and(|spec| spec.fd_store > 0);
                    let kind = match kind {
                        FdKind::NotifySocket => ChannelKind::Socket { stays },
                        _ => ChannelKind::Pipe,
                    };
                    if self.watch(fd.as_fd(), Key::Notify(id)).is_ok() {
                        self.channels.insert(id, Channel { token, fd, kind });
                    }
                }
            }
        }
        for (id, ends) in pipes {
            let (Some(read), Some(write)) = ends else { continue };
            let Some(spec) = self.machine.spec(id) else { continue };
            let Some(sink) = self.sink(id, spec) else { continue };
            if let Ok(pipe) = LogPipe::with_ends(read, write, sink, spec.log.clone()) {
                let _ = self.keep_log(id, pipe);
            }
        }
        let running: Vec<(ServiceId, Pid)> = self
            .machine
            .snapshot()
            .processes()
            .filter_map(|(name, pid)| Some((self.machine.id(name)?, pid)))
            .collect();
        let services = running.len();
        for (id, pid) in running {
            match legacy.ended.iter().find(|(known, _)| *known == pid) {
                Some((_, status)) => {
                    let status = *status;
                    self.machine.handle(Input::Exited { pid, status }, crate::unix::now());
                }
                None => self.adopt(id, pid, None),
            }
        }
        for name in &legacy.ready {
            let token = self.machine.id(name).and_then(|id| self.machine.run_token(id));
            if let Some(token) = token {
                self.machine.handle(Input::Ready { token }, crate::unix::now());
            }
        }
        for (pid, unwanted) in legacy.left {
            if unwanted {
                signal(pid, rustix::process::Signal::KILL);
            }
            self.doomed.push(pid);
        }
        self.told.push(match (legacy.asked, legacy.for_memory) {
            (true, _) => Event::Reexecuted { services },
            (false, true) => Event::Relieved { services },
            (false, false) => Event::Resumed { panics: self.panics, services },
        });
        if returned {
            self.told.push(warning(NOT_UNDERSTOOD.to_owned()));
        }
    }

    /// Goes on as a new process image after a panic; returns why that was not possible.
    pub(super) fn reexec_after_panic(&mut self, limit: u32) -> String {
        let now = crate::unix::now();
        if now.saturating_sub(self.last_panic) > PANIC_WINDOW {
            self.panics = 0;
        }
        self.panics = self.panics.saturating_add(1);
        self.last_panic = now;
        if self.panics > limit {
            return format!("{} panics in a row", self.panics);
        }
        let (started, _) = self.spawner.close();
        // what is read is no longer in its pipe
        self.writer.flush(FLUSH);
        let snapshot = std::mem::take(&mut self.committed);
        let error = self.execute(Path::new(OWN_PROGRAM), snapshot, &started, Cause::Panic);
        format!("cannot execute {OWN_PROGRAM} again: {error}")
    }

    /// Goes on as a new process image because somebody has asked for it. If that is not possible,
    /// all goes on as before.
    pub(super) fn reexec_on_request(&mut self, on_event: &mut dyn FnMut(&Event)) {
        let Some(reexec) = &self.options.reexec else {
            let what = "asked to execute itself again, which it was not told that it may";
            return self.tell(&warning(what.to_owned()), on_event);
        };
        let program = reexec.program.clone();
        if let Err(why) = (reexec.check)() {
            return self.stay(&program, &why, on_event);
        }
        self.go_over(&program, Cause::Asked, on_event);
    }

    /// Goes on as a new process image with the state of now. If that is not possible, all goes on as
    /// before.
    pub(super) fn go_over(
        &mut self,
        program: &Path,
        cause: Cause,
        on_event: &mut dyn FnMut(&Event),
    ) {
        if let Err(error) = image::check_size(0) {
            return self.stay(program, &error, on_event);
        }
        #[cfg(feature = "control")]
        self.say_farewell();
        let (started, queue) = self.spawner.close();
        self.flush_logs();
        let error = self.execute(program, self.machine.snapshot(), &started, cause);
        self.stay(program, &error, on_event);
        if let Err(error) = self.spawner.reopen(queue) {
            self.tell(&warning(format!("no thread that starts processes: {error}")), on_event);
        }
        self.take_in(started, on_event);
    }

    fn stay(
        &mut self,
        program: &Path,
        why: &dyn std::fmt::Display,
        on_event: &mut dyn FnMut(&Event),
    ) {
        let why = format!("cannot go on as {}: {why}; it goes on as before", program.display());
        #[cfg(feature = "control")]
        self.refuse_askers(&why);
        self.tell(&warning(why), on_event);
    }

    /// Executes a program that goes on with a state; `started` are processes that the machine has not
    /// been told of.
    fn execute(
        &self,
        program: &Path,
        mut snapshot: Snapshot,
        started: &[Done<Purpose>],
        cause: Cause,
    ) -> std::io::Error {
        let mut left: Vec<(Pid, bool)> = self.doomed.iter().map(|pid| (*pid, false)).collect();
        left.extend(self.probe_pids().into_iter().map(|pid| (pid, true)));
        #[cfg(feature = "control")]
        left.extend(self.command_pids().into_iter().map(|pid| (pid, false)));
        let mut fresh: BTreeMap<ServiceId, Pid> = BTreeMap::new();
        for done in started {
            match (&done.key, &done.result) {
                (Purpose::Service(id, _), Ok((pid, _))) => drop(fresh.insert(*id, *pid)),
                (Purpose::Probe(..), Ok((pid, _))) => left.push((*pid, true)),
                #[cfg(feature = "control")]
                (Purpose::Reload(..), Ok((pid, _))) => left.push((*pid, false)),
                (_, Err(_)) => {}
            }
        }
        for status in self.machine.status() {
            let Some(id) = self.machine.id(status.name.as_str()) else { continue };
            let pids = self.children.iter().filter(|(_, c)| c.service == id);
            // one that has ended is still here while its end is dealt with: its successor counts
            let known = pids.min_by_key(|(_, c)| c.ended).map(|(pid, _)| *pid);
            let pid = fresh.get(&id).copied().or(known);
            snapshot.set_process(status.name.as_str(), pid);
            let others =
                self.children.iter().filter(|(other, c)| c.service == id && Some(**other) != pid);
            left.extend(others.map(|(other, _)| (*other, false)));
        }
        let mut fds = Vec::new();
        let mut keep = Vec::new();
        for (id, pipe) in &self.logs {
            keep.push((*id, FdKind::LogRead, pipe.read.as_fd(), ""));
            keep.push((*id, FdKind::LogWrite, pipe.write.as_fd(), ""));
        }
        for (id, channel) in &self.channels {
            let kind = match channel.kind {
                ChannelKind::Pipe => FdKind::NotifyPipe,
                ChannelKind::Socket { .. } => FdKind::NotifySocket,
            };
            keep.push((*id, kind, channel.fd.as_fd(), ""));
        }
        let sockets = self.sockets.iter().map(|(id, sockets)| (id, FdKind::Socket, &sockets.fds));
        let stored = self.stored.iter().map(|(id, stored)| (id, FdKind::Stored, stored));
        for (id, kind, named) in sockets.chain(stored) {
            keep.extend(named.iter().map(|(name, fd)| (*id, kind, fd.as_fd(), name.as_str())));
        }
        for (id, kind, fd, name) in &keep {
            if let Some(service) = self.machine.name(*id) {
                let (service, name) = (service.to_string(), (*name).to_owned());
                fds.push(Inherited { service, kind: *kind, number: fd.as_raw_fd(), name });
            }
        }
        #[cfg_attr(
            not(feature = "control"),
            expect(unused_mut, reason = "nothing more is handed on")
        )]
        let mut keep: Vec<BorrowedFd<'_>> = keep.into_iter().map(|(_, _, fd, _)| fd).collect();
        #[cfg(feature = "control")]
        let times = self.hand_control(&mut fds, &mut keep);
        #[cfg(feature = "control")]
        let specs = match self.hand_specs(&mut fds, cause) {
            // what was read last is better than nothing; who is not forced to goes on with what there is
            Err(error) if cause != Cause::Panic => return error,
            specs => specs.ok().flatten(),
        };
        #[cfg(feature = "control")]
        let handed = [&specs, &times].into_iter().flatten().map(length).sum();
        #[cfg(not(feature = "control"))]
        let handed = 0;
        let legacy = Legacy {
            snapshot,
            panics: self.panics,
            last_panic: self.last_panic,
            time_set: self.conditions.was_set(),
            asked: cause == Cause::Asked,
            for_memory: cause == Cause::Memory,
            relieved: self.shortage.relieved,
            nofile: self.nofile.and_then(|limit| limit.current),
            nice: self.nice,
            left,
            ended: self.uncommitted.clone(),
            ready: self
                .heard_ready
                .iter()
                .filter_map(|id| Some(self.machine.name(*id)?.to_string()))
                .collect(),
            fds,
        };
        legacy.execute(program, &keep, handed)
    }
}

#[cfg(feature = "control")]
fn length(file: &OwnedFd) -> u64 {
    rustix::fs::fstat(file).map_or(0, |stat| stat.st_size.try_into().unwrap_or(0))
}

fn signal(pid: Pid, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid.0).filter(|pid| !pid.is_init()) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
