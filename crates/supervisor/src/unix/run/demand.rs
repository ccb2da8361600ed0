//! Sockets that services inherit, and the demand that starts them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::{Key, Shell};
use crate::graph::ServiceId;
use crate::spec::Socket;
use crate::state::State;
use crate::unix::notify::Stored;
use crate::unix::socket;
use crate::unix::spawn::unprepared;
use crate::vocabulary::{Event, Input, SpawnError, Token};

/// The open sockets of a service.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) fds: Vec<(String, Arc<OwnedFd>)>,
    /// What was asked for when they were opened.
    of: Vec<Socket>,
    watched: bool,
}

impl Sockets {
    pub(super) fn new(fds: Vec<(String, Arc<OwnedFd>)>, of: Vec<Socket>) -> Self {
        Self { fds, of, watched: false }
    }
}

impl Shell {
    /// Opens the sockets of a service that are not open yet. Those that were opened for other ones
    /// of it are closed.
    pub(super) fn open_sockets(&mut self, id: ServiceId) -> Result<(), SpawnError> {
        let Some(spec) = self.machine.specs.get(id.index()).map(Arc::clone) else { return Ok(()) };
        if self.sockets.get(&id).is_some_and(|sockets| sockets.of != spec.sockets) {
            self.close_sockets(id);
        }
        if spec.sockets.is_empty() || self.sockets.contains_key(&id) {
            return Ok(());
        }
        let mut fds = Vec::new();
        for wanted in &spec.sockets {
            let fd = socket::listen(wanted)
                .map_err(|error| unprepared(format!("socket {}", wanted.listen), &error))?;
            fds.push((wanted.name.clone(), Arc::new(fd)));
        }
        self.sockets.insert(id, Sockets::new(fds, spec.sockets.clone()));
        Ok(())
    }

    /// Closes the sockets of a service, and removes their files.
    pub(super) fn close_sockets(&mut self, id: ServiceId) {
        let closed = self.sockets.remove(&id);
        let Some(Sockets { fds, of, watched }) = closed else { return };
        for (_, fd) in fds.iter().filter(|_| watched) {
            let _ = epoll::delete(&self.epoll, fd.as_fd());
        }
        // a file is taken away when nobody listens any more
        drop(fds);
        of.iter().for_each(socket::unlink);
    }

    pub(super) fn listen(&mut self, token: Token, id: ServiceId) -> Input {
        match self.open_sockets(id) {
            Ok(()) => Input::Listening { token, waited_for: self.is_waited_for(id) },
            Err(error) => Input::SpawnFailed { token, error },
        }
    }

    /// Whether somebody waits at one of a service's sockets.
    fn is_waited_for(&self, id: ServiceId) -> bool {
        self.sockets.get(&id).is_some_and(|sockets| {
            sockets.fds.iter().any(|(_, fd)| {
                let mut polled = [PollFd::new(fd, PollFlags::IN)];
                poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
            })
        })
    }

    /// What a new process finds from descriptor 3 on.
    pub(super) fn inherited(&self, id: ServiceId) -> Vec<(String, Arc<OwnedFd>)> {
        let sockets = self.sockets.get(&id).map(|sockets| sockets.fds.as_slice());
        let stored = self.stored.get(&id).map(Vec::as_slice);
        sockets.into_iter().chain(stored).flatten().cloned().collect()
    }

    /// Somebody turns to a service that listens.
    pub(super) fn on_demand(&mut self, id: ServiceId, on_event: &mut dyn FnMut(&Event)) {
        if self.machine.state(id) == Some(&State::Listening) {
            self.input(Input::Demand(id), on_event);
        }
    }

    /// Watches the sockets of services that listen, and of no others; closes those of services that
    /// are down.
    pub(super) fn tend_sockets(&mut self) {
        let mut closed = Vec::new();
        for (id, sockets) in &mut self.sockets {
            let state = self.machine.state(*id);
            let listens = state == Some(&State::Listening);
            if listens != sockets.watched {
                sockets.watched = listens;
                for (_, fd) in &sockets.fds {
                    let _ = if listens {
                        epoll::add(
                            &self.epoll,
                            fd.as_fd(),
                            Key::Socket(*id).pack(),
                            epoll::EventFlags::IN,
                        )
                    } else {
                        epoll::delete(&self.epoll, fd.as_fd())
                    };
                }
            }
            if state == Some(&State::Down) && !self.machine.comes_again(*id) {
                closed.push(*id);
            }
        }
        for id in closed {
            self.close_sockets(id);
        }
        let machine = &self.machine;
        self.stored
            .retain(|id, _| machine.state(*id) != Some(&State::Down) || machine.comes_again(*id));
    }

    /// Keeps descriptors for the next process of a service, or forgets some by name.
    pub(super) fn store(&mut self, id: ServiceId, stored: Vec<Stored>, forgotten: &[String]) {
        let most = self.machine.specs.get(id.index()).map_or(0, |spec| spec.fd_store as usize);
        let kept = self.stored.entry(id).or_default();
        kept.retain(|(name, _)| !forgotten.contains(name));
        for Stored { name, fd } in stored {
            // a full store takes no more, and says nothing, as systemd's
            if kept.len() < most {
                kept.push((name, Arc::new(fd)));
            }
        }
        if kept.is_empty() {
            self.stored.remove(&id);
        }
    }
}
