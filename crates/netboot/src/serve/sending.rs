//! One file on its way to one client.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::epoll::EventFlags;

use super::batch::{Ahead, Batch};
use super::tftp::Turn;
use super::{Event, GLANCE, Transferred, socket};
use crate::tftp::{Ended, Limits, Output, Request, Transfer};

/// Bytes of an answer that are read: errors have a text.
const ANSWER: usize = 1 << 10;
/// How long the kernel may have no room for what is to be sent.
const STUCK: Duration = Duration::from_secs(30);

/// What a transfer needs.
#[derive(Debug)]
pub(super) enum Next {
    /// To be called when something has come, and at this time at the latest.
    Wait {
        /// The time.
        until: Duration,
        /// What is to be waited for from now on, where it is something else than before.
        turned: Option<EventFlags>,
    },
    /// Nothing any more.
    Ended(Ended),
}

/// A transfer with its socket and its file. Times are those of the thread's clock.
#[derive(Debug)]
pub(super) struct Sending {
    socket: UdpSocket,
    file: Ahead,
    name: String,
    transfer: Transfer,
    batch: Batch,
    begun: Duration,
    /// Since when the kernel has no room for what is to be sent.
    stuck: Option<Duration>,
    turn: Turn,
}

impl Sending {
    pub(super) fn new(
        socket: UdpSocket,
        (file, len): (File, u64),
        request: Request,
        limits: &Limits,
        turn: Turn,
        now: Duration,
    ) -> Self {
        let transfer = Transfer::new(&request, len, limits, now);
        let segment = usize::from(transfer.block_size()) + 4;
        let together = request.option("windowsize").is_some_and(|blocks| blocks > 1)
            && limits.window > 1
            && i32::try_from(segment)
                .is_ok_and(|segment| setsockopt(&socket, sockopt::UdpGsoSegment, &segment).is_ok());
        let batch = Batch::new(segment, together);
        let file = Ahead::new(file);
        Self { socket, file, name: request.file, transfer, batch, begun: now, stuck: None, turn }
    }

    pub(super) const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// What is said of it in the end.
    pub(super) fn ended(self, ended: Ended, now: Duration) -> Event {
        let (peer, bytes) = (self.turn.peer, self.transfer.bytes());
        let took = now.saturating_sub(self.begun);
        Event::Transferred(Transferred { peer, file: self.name, bytes, took, ended })
    }

    /// Something has come, or there is room again.
    pub(super) fn take(&mut self, now: Duration) -> Next {
        let mut bytes = [0; ANSWER];
        match self.socket.recv(&mut bytes) {
            Ok(len) => self.transfer.handle(bytes.get(..len).unwrap_or_default(), now),
            Err(error) if socket::is_quiet(&error) => {}
            Err(error) => {
                if let Some(ended) = self.failed(&error) {
                    return Next::Ended(ended);
                }
            }
        }
        self.go_on(now)
    }

    /// It has become so late.
    pub(super) fn late(&mut self, now: Duration) -> Next {
        self.transfer.late(now);
        self.go_on(now)
    }

    /// Sends what can be sent.
    pub(super) fn go_on(&mut self, now: Duration) -> Next {
        let was_stuck = self.stuck.is_some();
        loop {
            let stuck = self.stuck.take();
            let done = if stuck.is_some() { self.flush() } else { self.step() };
            match done {
                Ok(None) => {}
                Ok(Some(Next::Wait { until, .. })) => {
                    return Next::Wait { until, turned: was_stuck.then_some(EventFlags::IN) };
                }
                Ok(Some(ended)) => return ended,
                // what is left waits for room
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let since = stuck.unwrap_or(now);
                    if now.saturating_sub(since) > STUCK {
                        return Next::Ended(Ended::Silent);
                    }
                    self.stuck = Some(since);
                    let turned = (!was_stuck).then_some(EventFlags::IN | EventFlags::OUT);
                    return Next::Wait { until: now + GLANCE, turned };
                }
                Err(error) => {
                    if let Some(ended) = self.failed(&error) {
                        return Next::Ended(ended);
                    }
                }
            }
        }
    }

    /// Does the next thing.
    fn step(&mut self) -> io::Result<Option<Next>> {
        match self.transfer.poll() {
            Output::Send(datagram) => {
                self.flush()?;
                self.socket.send(&datagram)?;
            }
            Output::Block { number, offset, len } => {
                if let Err(error) = self.batch.add(number, &mut self.file, offset, len) {
                    self.transfer.abort(&format!("the file cannot be read: {error}"));
                }
                if self.batch.is_full() {
                    self.flush()?;
                }
            }
            Output::Wait(until) => {
                self.flush()?;
                return Ok(Some(Next::Wait { until, turned: None }));
            }
            Output::Ended(ended) => {
                let _ = self.flush();
                return Ok(Some(Next::Ended(ended)));
            }
        }
        Ok(None)
    }

    fn flush(&mut self) -> io::Result<Option<Next>> {
        self.batch.flush(&self.socket).map(|()| None)
    }

    /// A socket that cannot be used: the end, where the client is gone.
    fn failed(&mut self, error: &io::Error) -> Option<Ended> {
        self.batch.clear();
        // its port is closed: it has gone on without saying so
        if error.kind() == io::ErrorKind::ConnectionRefused {
            return Some(Ended::Silent);
        }
        self.transfer.abort(&error.to_string());
        None
    }
}
