//! Files by TFTP: one socket for each transfer, and a few threads for all of them.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZero;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::sending::Sending;
use super::transfers::Transfers;
use super::{End, Error, Event, Files, GLANCE, NoFile, Sink, socket};
use crate::tftp::{ErrorCode, Limits, Mode, PORT, Packet};

/// Bytes of a request that are read: RFC 2347 allows 512.
const REQUEST: usize = 1 << 11;
/// Threads at most, of which each has a part of the transfers.
const THREADS: usize = 4;
/// What one of them needs of a stack.
const STACK: usize = 256 << 10;

/// A server of files.
#[derive(Debug)]
pub struct Tftp {
    socket: Arc<UdpSocket>,
    files: Files,
    /// What transfers agree to.
    pub limits: Limits,
    /// Transfers at once; who comes then is told to come again. Default: 256.
    pub most: usize,
    busy: Arc<Mutex<BTreeSet<SocketAddr>>>,
}

impl Tftp {
    /// Listens at an address, on one interface alone where it is named.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn bind(address: SocketAddr, interface: Option<&str>, files: Files) -> Result<Self, Error> {
        let socket = Arc::new(socket::bind(address, interface)?);
        Ok(Self { socket, files, limits: Limits::default(), most: 256, busy: Arc::default() })
    }

    /// Listens at the port that it has everywhere.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn at(address: Ipv4Addr, interface: Option<&str>, files: Files) -> Result<Self, Error> {
        Self::bind((address, PORT).into(), interface, files)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn address(&self) -> Result<SocketAddr, Error> {
        self.socket.local_addr().map_err(fail)
    }

    /// Serves until the end is asked for. Transfers that have begun go on beside it to theirs.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn serve(&self, end: &End, sink: &Sink) -> Result<(), Error> {
        self.socket.set_nonblocking(true).map_err(fail)?;
        let (failed, failures) = mpsc::channel();
        // where one fails the others end too
        let closed = Closed(End::new());
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get).min(THREADS) {
            let door = Door {
                socket: Arc::clone(&self.socket),
                files: self.files.clone(),
                limits: self.limits.clone(),
                most: self.most,
                busy: Arc::clone(&self.busy),
            };
            let transfers = Transfers::new(door, closed.0.clone(), Arc::clone(sink));
            let transfers = transfers.map_err(fail)?;
            let failed = failed.clone();
            let thread = thread::Builder::new().name("tftp".into()).stack_size(STACK);
            let begun = thread.spawn(move || {
                if let Err(error) = transfers.serve() {
                    let _ = failed.send(error);
                }
            });
            begun.map_err(fail)?;
        }
        while !end.is_asked() {
            match failures.recv_timeout(GLANCE) {
                Ok(error) => return Err(fail(error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }
}

fn fail(source: io::Error) -> Error {
    Error::Socket { what: "TFTP", source }
}

/// Asks for an end when it is gone.
struct Closed(End);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.ask();
    }
}

/// Where clients come.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) socket: Arc<UdpSocket>,
    files: Files,
    limits: Limits,
    most: usize,
    busy: Arc<Mutex<BTreeSet<SocketAddr>>>,
}

/// Why something is not given: what the client is told, what it has asked for, and why in words.
type Refused = (ErrorCode, String, String);

impl Door {
    /// Takes a datagram of somebody who comes, where there is one, and begins what is asked for.
    pub(super) fn come(&self, now: Duration, sink: &Sink) -> io::Result<Option<Sending>> {
        let mut bytes = [0; REQUEST];
        let (len, peer) = match self.socket.recv_from(&mut bytes) {
            Ok(received) => received,
            Err(error) if socket::is_quiet(&error) => return Ok(None),
            // an answer to somebody who is gone
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            Err(error) => return Err(error),
        };
        let datagram = bytes.get(..len).unwrap_or_default();
        Ok(self.asked(datagram, peer, now).unwrap_or_else(|(code, file, why)| {
            let error = Packet::error(code, why.as_str()).encode();
            let _ = self.socket.send_to(&error, peer);
            sink(&Event::Refused { peer: peer.ip(), file, why });
            None
        }))
    }

    /// Begins what is asked for; else says what the client is told.
    fn asked(
        &self,
        datagram: &[u8],
        peer: SocketAddr,
        now: Duration,
    ) -> Result<Option<Sending>, Refused> {
        let request = match Packet::decode(datagram) {
            Ok(Packet::Read(request)) => request,
            Ok(Packet::Write(request)) => {
                let why = "files are given, not taken".to_owned();
                return Err((ErrorCode::AccessViolation, request.file, why));
            }
            // what belongs to no transfer, and noise: an answer could go round for ever
            _ => return Ok(None),
        };
        let refuse = |code, why: &str| Err((code, request.file.clone(), why.to_owned()));
        if request.mode == Mode::Netascii {
            return refuse(ErrorCode::IllegalOperation, "files are given as they are: octet");
        }
        let (file, len) = match self.files.open(&request.file) {
            Ok(opened) => opened,
            Err(error @ NoFile::NotFound) => {
                return refuse(ErrorCode::NotFound, &error.to_string());
            }
            Err(error) => return refuse(ErrorCode::AccessViolation, &error.to_string()),
        };
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.contains(&peer) {
            // it asks again because the answer has not come yet
            return Ok(None);
        }
        if busy.len() >= self.most {
            return refuse(ErrorCode::DiskFull, "too many transfers at once, try again");
        }
        busy.insert(peer);
        drop(busy);
        let turn = Turn { peer, busy: Arc::clone(&self.busy) };
        match self.connected(peer) {
            Ok(socket) => {
                Ok(Some(Sending::new(socket, (file, len), request, &self.limits, turn, now)))
            }
            Err(error) => refuse(ErrorCode::Undefined, &error.to_string()),
        }
    }

    /// A socket for one client alone, whose port is the transfer's name (RFC 1350 section 4).
    fn connected(&self, peer: SocketAddr) -> io::Result<UdpSocket> {
        let mut own = self.socket.local_addr()?;
        own.set_port(0);
        let socket = UdpSocket::bind(own)?;
        socket.set_nonblocking(true)?;
        socket.connect(peer)?;
        Ok(socket)
    }
}

/// A transfer, as long as it lasts.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) peer: SocketAddr,
    busy: Arc<Mutex<BTreeSet<SocketAddr>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.peer);
    }
}
