//! What runs is handed from one process image to the next: after a panic, and at its start.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::demand::Sockets;
use super::{Key, Purpose, Shell};
use crate::graph::ServiceId;
use crate::unix::log::LogPipe;
use crate::unix::notify::{Channel, ChannelKind};
use crate::unix::panic::{FdKind, Inherited, Legacy};
use crate::vocabulary::{Event, Pid, Time};

/// A panic later than this after the one before starts the count again.
const PANIC_WINDOW: Time = Time::from_secs(60);

/// How long logs may take to be written before what waits of them is lost.
pub(super) const FLUSH: Time = Time::from_secs(2);

impl Shell {
    /// Takes over what runs from an earlier process image.
    pub(super) fn inherit(&mut self, legacy: Legacy) {
        self.panics = legacy.panics;
        self.last_panic = legacy.last_panic;
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
                FdKind::ControlSocket | FdKind::ControlTimes | FdKind::Specs => {}
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
                let _ = self.watch(pipe.read.as_fd(), Key::Log(id));
                self.logs.insert(id, pipe);
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
            self.adopt(id, pid, None);
        }
        self.told.push(Event::Resumed { panics: self.panics, services });
    }

    /// Goes on as a new process image; returns why that was not possible.
    pub(super) fn reexec(&mut self, limit: u32) -> String {
        let now = crate::unix::now();
        if now.saturating_sub(self.last_panic) > PANIC_WINDOW {
            self.panics = 0;
        }
        self.panics = self.panics.saturating_add(1);
        if self.panics > limit {
            return format!("{} panics in a row", self.panics);
        }
        for done in self.spawner.close() {
            if let (Purpose::Service(id, _), Ok((pid, pidfd))) = (done.key, done.result) {
                self.adopt(id, pid, pidfd);
            }
        }
        // what is read is no longer in its pipe
        self.writer.flush(FLUSH);
        let mut snapshot = std::mem::take(&mut self.committed);
        for status in self.machine.status() {
            let id = self.machine.id(status.name.as_str());
            let pids = self.children.iter().filter(|(_, c)| Some(c.service) == id);
            // one that has ended is still here while its end is dealt with: its successor counts
            let pid = pids.min_by_key(|(_, c)| c.ended).map(|(pid, _)| *pid);
            snapshot.set_process(status.name.as_str(), pid);
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
        let time_set = self.conditions.was_set();
        #[cfg(feature = "control")]
        let _times = self.hand_control(&mut fds, &mut keep);
        #[cfg(feature = "control")]
        let _specs = self.hand_specs(&mut fds);
        let legacy = Legacy { snapshot, panics: self.panics, last_panic: now, time_set, fds };
        let error = legacy.reexec(&keep);
        format!("cannot execute /proc/self/exe again: {error}")
    }
}
