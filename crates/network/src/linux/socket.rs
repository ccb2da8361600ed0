//! A netlink socket: requests and their answers.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

use super::wire::{F_ACK, F_DUMP, F_DUMP_INTR, Message, Received, messages, u32_at};

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Room for one read: the kernel fills dumps in pieces of at most 32 KiB.
const BUFFER_LEN: usize = 64 * 1024;

/// The kernel answers within the call; who waits longer waits for nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a dump is begun anew because something changed meanwhile.
const TRIES: u32 = 20;

/// Opens a socket that hears of these groups (a mask as in `sockaddr_nl`).
pub(super) fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// A socket for requests.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let socket = open(protocol, 0)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER_LEN] })
    }

    /// Sends a request that changes something, and waits until it has.
    pub(crate) fn change(&mut self, message: Message) -> io::Result<()> {
        self.exchange(message, |_| Ok(()))
    }

    /// Asks for one thing.
    pub(crate) fn ask(
        &mut self,
        message: Message,
        each: impl FnMut(Received<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.exchange(message, each)
    }

    /// Asks for all of something, again if it was not of one moment. `begin` is called before each
    /// try.
    pub(crate) fn dump<T: Default>(
        &mut self,
        kind: u16,
        fixed: &[u8],
        fill: impl Fn(Message) -> Message,
        mut each: impl FnMut(&mut T, Received<'_>) -> io::Result<()>,
    ) -> io::Result<T> {
        for _ in 0..TRIES {
            let mut found = T::default();
            let request = fill(Message::new(kind, F_DUMP, fixed));
            match self.exchange(request, |received| each(&mut found, received)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(found),
            }
        }
        Err(io::Error::other("it changes all the time"))
    }

    fn exchange(
        &mut self,
        message: Message,
        each: impl FnMut(Received<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let bytes = message.finish(sequence);
        rustix::io::retry_on_intr(|| send(&self.socket, &bytes, SendFlags::NOSIGNAL))?;
        self.answers(sequence, sequence, each)
    }

    /// Sends several requests at once, which the kernel carries out all or none, and reads the answer
    /// to each that asked for one. The number of the first that failed comes with the error.
    #[cfg(feature = "container")]
    pub(crate) fn batch(&mut self, batch: Vec<Message>) -> Result<(), (usize, io::Error)> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let count = batch.len();
        for message in batch {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend(message.finish(self.sequence));
        }
        let of_all = |error: io::Error| (0, error);
        // A socket takes as much as its buffer has room for.
        let room = bytes.len().saturating_mul(2).max(1 << 20);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.socket, room);
        rustix::io::retry_on_intr(|| send(&self.socket, &bytes, SendFlags::NOSIGNAL))
            .map_err(|error| of_all(error.into()))?;
        // The last of the batch proper is answered last; an error may come for any.
        let last = self.sequence.wrapping_sub(1);
        let mut at = first;
        self.answers_in(first, last, |_| Ok(()), &mut at).map_err(|error| {
            let at = usize::try_from(at.wrapping_sub(first)).unwrap_or(count);
            (at, error)
        })
    }

    fn answers(
        &mut self,
        first: u32,
        last: u32,
        each: impl FnMut(Received<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.answers_in(first, last, each, &mut 0)
    }

    /// Reads until the acknowledgement of the last request, or the end of the dump.
    fn answers_in(
        &mut self,
        first: u32,
        last: u32,
        mut each: impl FnMut(Received<'_>) -> io::Result<()>,
        failed: &mut u32,
    ) -> io::Result<()> {
        let mut interrupted = false;
        // What went wrong with a part of the answer: the rest is read all the same, so that nobody
        // takes it for another one's.
        let mut wrong: Option<io::Error> = None;
        loop {
            let (len, whole) = rustix::io::retry_on_intr(|| {
                recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC)
            })
            .map_err(|error| match error {
                Errno::AGAIN => {
                    io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer")
                }
                error => error.into(),
            })?;
            if whole > len {
                return Err(io::Error::other("an answer longer than 64 KiB"));
            }
            for received in messages(self.buffer.get(..len).unwrap_or_default()) {
                let at = received.sequence;
                if at.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                interrupted |= received.flags & F_DUMP_INTR != 0;
                match received.kind {
                    ERROR | DONE => {
                        // 0 acknowledges; otherwise a negated errno.
                        let code = u32_at(received.body, 0).unwrap_or(0).cast_signed();
                        if code < 0 {
                            *failed = at;
                            return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                        }
                        if at == last {
                            return match wrong {
                                Some(error) => Err(error),
                                None if interrupted => Err(io::ErrorKind::Interrupted.into()),
                                None => Ok(()),
                            };
                        }
                    }
                    _ if wrong.is_none() => wrong = each(received).err(),
                    _ => {}
                }
            }
        }
    }
}

/// A request that is answered when it is done.
pub(crate) fn request(kind: u16, flags: u16, fixed: &[u8]) -> Message {
    Message::new(kind, F_ACK | flags, fixed)
}
