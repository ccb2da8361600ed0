//! Processes end.

use std::os::fd::OwnedFd;

use rustix::event::epoll;

use super::Shell;
use crate::graph::ServiceId;
use crate::unix::OnPanic;
use crate::unix::fault::point;
use crate::unix::reap::{self, Ended};
use crate::vocabulary::{Event, ExitStatus, Input, Pid, Time};

/// So many orphans are reaped before services are looked after again.
const REAP_BATCH: u32 = 256;

/// And so long: those who ask something of us wait meanwhile.
const REAP_TIME: Time = Time::from_millis(3);
/// How long they are left alone then, until somebody ends.
const PAUSE: Time = Time::from_millis(2);
/// The same where each is dear to find: the kernel looks through all that live for one that has ended, so
/// of thousands that end by and by each costs that, and of thousands that have ended none does.
const LONG_PAUSE: Time = Time::from_millis(20);
/// More than one takes among few.
const DEAR: Time = Time::from_micros(20);

#[derive(Debug)]
pub(super) struct Child {
    pub(super) service: ServiceId,
    /// Absent if there was no descriptor left for it: then `SIGCHLD` must do.
    pub(super) pidfd: Option<OwnedFd>,
    /// Whether its end is being dealt with.
    pub(super) ended: bool,
    /// Whether it was given credentials.
    pub(super) credentials: bool,
}

impl Shell {
    pub(super) fn on_child(&mut self, pid: Pid, on_event: &mut dyn FnMut(&Event)) {
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
        self.machine.handle(Input::Exited { pid, status }, crate::unix::now());
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
                self.clear_away(child.service, child.credentials);
            }
        } else {
            // It may have been the last one of a group.
            self.remove_lingering();
        }
    }

    /// Deals with those that are known by their numbers alone, now that somebody has ended.
    pub(super) fn reap(&mut self, on_event: &mut dyn FnMut(&Event)) {
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
        if self.reaps {
            self.orphans_at = self.orphans_at.min(self.orphans_from);
        }
    }

    /// Reaps what others have left behind.
    pub(super) fn reap_orphans(&mut self, on_event: &mut dyn FnMut(&Event)) {
        self.orphans_at = Time::MAX;
        let began = crate::unix::now();
        let (mut found, mut waits) = (0_u32, false);
        let more = loop {
            if found == REAP_BATCH || crate::unix::now().saturating_sub(began) > REAP_TIME {
                break true;
            }
            match reap::look_for_any() {
                // not an orphan, but one that we have not been told of yet
                Ended::Zombie(pid, _) if self.spawner.may_have(pid) => {
                    self.on_spawned(on_event);
                    if self.spawner.may_have(pid) {
                        waits = true;
                        break true;
                    }
                }
                Ended::Zombie(pid, status) => self.ended(pid, status, true, on_event),
                Ended::Reaped(pid, status) => self.ended(pid, status, false, on_event),
                Ended::Nobody => break false,
            }
            found = found.saturating_add(1);
        };
        let now = crate::unix::now();
        let took = now.saturating_sub(began);
        let is_dear = took > DEAR.saturating_mul(found.max(1));
        let pause = if is_dear { LONG_PAUSE } else { PAUSE };
        self.orphans_from = now.saturating_add(pause);
        if more {
            // those who ask something of us have their turn first; and where each is dear, more have
            // ended after a pause, and fewer live that the kernel looks through
            self.orphans_at = if waits || is_dear { self.orphans_from } else { Time::ZERO };
        }
    }
}
