//! What runs is handed from one process image to the next: after a panic, and at its start.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{Key, Shell};
use crate::graph::ServiceId;
use crate::unix::log::LogPipe;
use crate::unix::notify::{Channel, ChannelKind};
use crate::unix::panic::{FdKind, Legacy};
use crate::vocabulary::{Event, Pid, Time};

/// A panic later than this after the one before starts the count again.
const PANIC_WINDOW: Time = Time::from_secs(60);

impl Shell {
    /// Takes over what runs from an earlier process image.
    pub(super) fn inherit(&mut self, legacy: Legacy) {
        self.panics = legacy.panics;
        self.last_panic = legacy.last_panic;
        let mut pipes: BTreeMap<ServiceId, (Option<OwnedFd>, Option<OwnedFd>)> = BTreeMap::new();
        for (name, kind, number) in legacy.fds {
            let (Some(fd), Some(id)) = (crate::unix::sys::adopt_fd(number), self.machine.id(&name))
            else {
                continue;
            };
            match kind {
                FdKind::LogRead => pipes.entry(id).or_default().0 = Some(fd),
                FdKind::LogWrite => pipes.entry(id).or_default().1 = Some(fd),
                // of the shell itself, and taken out before if it is served here
                FdKind::ControlSocket | FdKind::ControlTimes => {}
                FdKind::NotifyPipe | FdKind::NotifySocket => {
                    let Some(token) = self.machine.run_token(id) else { continue };
                    let kind = match kind {
                        FdKind::NotifySocket => ChannelKind::Socket,
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
            let Some(sink) = self.machine.spec(id).and_then(|spec| self.sink(spec)) else {
                continue;
            };
            if let Ok(pipe) = LogPipe::with_ends(read, write, sink) {
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
            self.adopt(id, pid);
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
        let mut hand = |id: ServiceId, kind: FdKind, fd: BorrowedFd<'_>| {
            if let Some(name) = self.machine.name(id) {
                fds.push((name.to_string(), kind, fd.as_raw_fd()));
            }
        };
        for (id, pipe) in &self.logs {
            hand(*id, FdKind::LogRead, pipe.read.as_fd());
            hand(*id, FdKind::LogWrite, pipe.write.as_fd());
            keep.extend([pipe.read.as_fd(), pipe.write.as_fd()]);
        }
        for (id, channel) in &self.channels {
            let kind = match channel.kind {
                ChannelKind::Pipe => FdKind::NotifyPipe,
                ChannelKind::Socket => FdKind::NotifySocket,
            };
            hand(*id, kind, channel.fd.as_fd());
            keep.push(channel.fd.as_fd());
        }
        #[cfg(feature = "control")]
        let _times = self.hand_control(&mut fds, &mut keep);
        let legacy = Legacy { snapshot, panics: self.panics, last_panic: now, fds };
        let error = legacy.reexec(&keep);
        format!("cannot execute /proc/self/exe again: {error}")
    }
}
