//! Transfers by TFTP that share a thread.
//!
//! A thread for each would change threads for each block of a client without windows, which takes longer than the
//! block itself where there are a hundred.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::sending::{Next, Sending};
use super::tftp::Door;
use super::{End, GLANCE, Sink};

/// What the door is called; transfers have the numbers after it.
const DOOR: u64 = 0;
/// Sockets that are looked at before it is waited again.
const EVENTS: usize = 64;

/// Some of a server's transfers.
pub(super) struct Transfers {
    door: Door,
    end: End,
    sink: Sink,
    poll: OwnedFd,
    begun: Instant,
    all: BTreeMap<u64, Sending>,
    last: u64,
    /// No transfer has to be told that it is late before this. It may be earlier than any of them says.
    due: Duration,
}

impl Transfers {
    pub(super) fn new(door: Door, end: End, sink: Sink) -> io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // who comes wakes one of the threads
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(&poll, &*door.socket, epoll::EventData::new_u64(DOOR), flags)?;
        let begun = Instant::now();
        let all = BTreeMap::new();
        Ok(Self { door, end, sink, poll, begun, all, last: DOOR, due: Duration::MAX })
    }

    /// Serves until the end is asked for, and then what has begun.
    pub(super) fn serve(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        let mut open = true;
        loop {
            if self.end.is_asked() {
                if open {
                    epoll::delete(&self.poll, &*self.door.socket)?;
                    open = false;
                }
                if self.all.is_empty() {
                    return Ok(());
                }
            }
            let wait = self.due.saturating_sub(self.begun.elapsed()).min(GLANCE);
            let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
            events.clear();
            match epoll::wait(&self.poll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let now = self.begun.elapsed();
            for event in &events {
                let number = event.data.u64();
                if number == DOOR {
                    if open && let Some(sending) = self.door.come(now, &self.sink)? {
                        self.begin(sending, now)?;
                    }
                } else if let Some(sending) = self.all.get_mut(&number) {
                    let next = sending.take(now);
                    self.after(number, next, now)?;
                }
            }
            if now >= self.due {
                self.late(now)?;
            }
        }
    }

    fn begin(&mut self, mut sending: Sending, now: Duration) -> io::Result<()> {
        self.last += 1;
        let number = self.last;
        let data = epoll::EventData::new_u64(number);
        epoll::add(&self.poll, sending.socket(), data, epoll::EventFlags::IN)?;
        let next = sending.go_on(now);
        self.all.insert(number, sending);
        self.after(number, next, now)
    }

    /// Does what a transfer needs next.
    fn after(&mut self, number: u64, next: Next, now: Duration) -> io::Result<()> {
        match next {
            Next::Wait { until, turned } => {
                self.due = self.due.min(until);
                match (turned, self.all.get(&number)) {
                    (Some(flags), Some(sending)) => {
                        let data = epoll::EventData::new_u64(number);
                        Ok(epoll::modify(&self.poll, sending.socket(), data, flags)?)
                    }
                    _ => Ok(()),
                }
            }
            Next::Ended(ended) => {
                // its socket leaves with it
                if let Some(sending) = self.all.remove(&number) {
                    (self.sink)(&sending.ended(ended, now));
                }
                Ok(())
            }
        }
    }

    /// Tells those that are late, and finds out who is the next.
    fn late(&mut self, now: Duration) -> io::Result<()> {
        self.due = Duration::MAX;
        let numbers: Vec<u64> = self.all.keys().copied().collect();
        for number in numbers {
            let Some(sending) = self.all.get_mut(&number) else { continue };
            let next = sending.late(now);
            self.after(number, next, now)?;
        }
        Ok(())
    }
}
