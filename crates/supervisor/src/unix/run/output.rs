//! What services write: moved from their pipes to their logs.

use std::os::fd::AsFd;

use rustix::event::epoll::{self, EventFlags};

use super::key::Key;
use super::{Shell, handover};
use crate::graph::ServiceId;
use crate::unix::log::LogPipe;
use crate::vocabulary::{Event, Time};

/// How long a pipe is left alone after little was in it. Whoever waits for a pipe makes each line
/// dear to its service, which wakes the reader on another processor each time; one that is read now
/// and then costs it a copy. A pipe that fills meanwhile makes its service wait no longer than this.
const REST: Time = Time::from_millis(2);
/// Less is little: a pipe holds 64 KiB.
const LITTLE: usize = 4096;
/// An event ends the watch, until it is taken up again.
const ONCE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

impl Shell {
    /// Watches a service's output.
    pub(super) fn keep_log(&mut self, id: ServiceId, pipe: LogPipe) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, &pipe.read, Key::Log(id).pack(), ONCE)?;
        // of one before, if it had the same place
        self.resting.retain(|(_, resting)| *resting != id);
        self.logs.insert(id, pipe);
        Ok(())
    }

    /// Something is in a pipe that is waited for.
    pub(super) fn on_log(&mut self, id: ServiceId) {
        match self.pump(id) {
            0..LITTLE => {
                let at = crate::unix::now().saturating_add(REST);
                self.resting.push_back((at, id));
            }
            _ => self.watch_log(id),
        }
    }

    /// When a pipe has rested.
    pub(super) fn logs_due(&self) -> Time {
        self.resting.front().map_or(Time::MAX, |(at, _)| *at)
    }

    /// Reads the pipes that have rested. One that is empty is waited for again.
    pub(super) fn read_logs(&mut self, now: Time) {
        while let Some((at, id)) = self.resting.front().copied()
            && at <= now
        {
            self.resting.pop_front();
            match self.pump(id) {
                1..LITTLE => self.resting.push_back((now.saturating_add(REST), id)),
                _ => self.watch_log(id),
            }
        }
    }

    fn pump(&mut self, id: ServiceId) -> usize {
        let Some(pipe) = self.logs.get_mut(&id) else { return 0 };
        let length = pipe.pump(id, &mut self.writer);
        if self.writer.has_lost() {
            self.losses_at = self.losses_at.min(crate::unix::now());
        }
        length
    }

    fn watch_log(&self, id: ServiceId) {
        if let Some(pipe) = self.logs.get(&id) {
            let _ = epoll::modify(&self.epoll, pipe.read.as_fd(), Key::Log(id).pack(), ONCE);
        }
    }

    /// Tells of output that was lost.
    pub(super) fn losses(&mut self, now: Time, on_event: &mut dyn FnMut(&Event)) {
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
    pub(super) fn flush_logs(&mut self) {
        for (id, pipe) in &mut self.logs {
            pipe.drain(*id, &mut self.writer);
        }
        self.writer.flush(handover::FLUSH);
    }
}
