//! Files by TFTP: one socket and one thread for each transfer.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::{End, Error, Event, Files, Sink, Transferred, socket};
use crate::tftp::{Ended, ErrorCode, Limits, Mode, Output, PORT, Packet, Request, Transfer};

/// Bytes of a request that are read: RFC 2347 allows 512.
const REQUEST: usize = 1 << 11;
/// Bytes that go to the kernel at once, and datagrams (`UDP_MAX_SEGMENTS` of linux/udp.h).
const BATCH: usize = 60_000;
const SEGMENTS: usize = 64;
/// What a transfer's thread needs of a stack.
const STACK: usize = 128 << 10;

/// A server of files.
#[derive(Debug)]
pub struct Tftp {
    socket: UdpSocket,
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
        let socket = socket::bind(address, interface)?;
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
        self.socket.local_addr().map_err(|source| Error::Socket { what: "TFTP", source })
    }

    /// Serves until the end is asked for. Transfers that have begun go on beside it to theirs.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn serve(&self, end: &End, sink: &Sink) -> Result<(), Error> {
        let mut bytes = [0; REQUEST];
        while !end.is_asked() {
            let (len, peer) = match self.socket.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(error) if socket::is_quiet(&error) => continue,
                // an answer to somebody who is gone
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(source) => return Err(Error::Socket { what: "TFTP", source }),
            };
            let datagram = bytes.get(..len).unwrap_or_default();
            if let Err((code, file, why)) = self.asked(datagram, peer, sink) {
                let error = Packet::error(code, why.as_str()).encode();
                let _ = self.socket.send_to(&error, peer);
                sink(&Event::Refused { peer: peer.ip(), file, why });
            }
        }
        Ok(())
    }

    /// Begins what is asked for; else says what the client is told.
    fn asked(
        &self,
        datagram: &[u8],
        peer: SocketAddr,
        sink: &Sink,
    ) -> Result<(), (ErrorCode, String, String)> {
        let request = match Packet::decode(datagram) {
            Ok(Packet::Read(request)) => request,
            Ok(Packet::Write(request)) => {
                let why = "files are given, not taken".to_owned();
                return Err((ErrorCode::AccessViolation, request.file, why));
            }
            // what belongs to no transfer, and noise: an answer could go round for ever
            _ => return Ok(()),
        };
        let refuse = |code, why: &str| Err((code, request.file.clone(), why.to_owned()));
        if request.mode == Mode::Netascii {
            return refuse(ErrorCode::IllegalOperation, "files are given as they are: octet");
        }
        let (file, len) = match self.files.open(&request.file) {
            Ok(opened) => opened,
            Err(error @ super::NoFile::NotFound) => {
                return refuse(ErrorCode::NotFound, &error.to_string());
            }
            Err(error) => return refuse(ErrorCode::AccessViolation, &error.to_string()),
        };
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.contains(&peer) {
            // it asks again because the answer has not come yet
            return Ok(());
        }
        if busy.len() >= self.most {
            return refuse(ErrorCode::DiskFull, "too many transfers at once, try again");
        }
        busy.insert(peer);
        drop(busy);
        let turn = Turn { peer, busy: Arc::clone(&self.busy) };
        let made = self.connected(peer);
        let (limits, sink) = (self.limits.clone(), Arc::clone(sink));
        let name = request.file.clone();
        let begun = made.and_then(|socket| {
            thread::Builder::new().name("tftp".into()).stack_size(STACK).spawn(move || {
                let _turn = turn;
                let begun = Instant::now();
                let mut transfer = Transfer::new(&request, len, &limits, Duration::ZERO);
                let ended = send(&socket, &file, &request, &limits, &mut transfer, begun);
                let (file, took) = (request.file, begun.elapsed());
                let bytes = transfer.bytes();
                sink(&Event::Transferred(Transferred { peer, file, bytes, took, ended }));
            })
        });
        begun.map(drop).map_err(|error| (ErrorCode::Undefined, name, error.to_string()))
    }

    /// A socket for one client alone, whose port is the transfer's name (RFC 1350 section 4).
    fn connected(&self, peer: SocketAddr) -> io::Result<UdpSocket> {
        let mut own = self.socket.local_addr()?;
        own.set_port(0);
        let socket = UdpSocket::bind(own)?;
        socket.connect(peer)?;
        Ok(socket)
    }
}

/// A transfer, as long as it lasts.
#[derive(Debug)]
struct Turn {
    peer: SocketAddr,
    busy: Arc<Mutex<BTreeSet<SocketAddr>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.peer);
    }
}

/// Datagrams that go to the kernel together.
struct Batch<'a> {
    socket: &'a UdpSocket,
    bytes: Vec<u8>,
    /// Bytes of each but the last.
    segment: usize,
    /// Whether the kernel takes them apart (UDP_SEGMENT of udp(7)).
    together: bool,
}

impl Batch<'_> {
    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        if self.together {
            match self.socket.send(&self.bytes) {
                Ok(_) => {
                    self.bytes.clear();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(error);
                }
                // a device that cannot; from now on one by one
                Err(_) => {
                    self.together = false;
                    let _ = setsockopt(self.socket, sockopt::UdpGsoSegment, &0);
                }
            }
        }
        for datagram in self.bytes.chunks(self.segment.max(1)) {
            self.socket.send(datagram)?;
        }
        self.bytes.clear();
        Ok(())
    }

    fn is_full(&self) -> bool {
        let next = self.bytes.len() + self.segment;
        next > BATCH || self.bytes.len() / self.segment.max(1) >= SEGMENTS
    }
}

/// Sends a file to its end, or to that of the client's patience.
fn send(
    socket: &UdpSocket,
    file: &File,
    request: &Request,
    limits: &Limits,
    transfer: &mut Transfer,
    begun: Instant,
) -> Ended {
    let segment = usize::from(transfer.block_size()) + 4;
    let together = request.option("windowsize").is_some_and(|blocks| blocks > 1)
        && limits.window > 1
        && i32::try_from(segment)
            .is_ok_and(|segment| setsockopt(socket, sockopt::UdpGsoSegment, &segment).is_ok());
    let mut batch = Batch { socket, bytes: Vec::new(), segment, together };
    let mut bytes = [0; REQUEST];
    loop {
        let done = match transfer.poll() {
            Output::Send(datagram) => batch.flush().and_then(|()| socket.send(&datagram)).map(drop),
            Output::Block { number, offset, len } => {
                let at = batch.bytes.len();
                batch.bytes.extend([0, 3]);
                batch.bytes.extend(number.to_be_bytes());
                batch.bytes.resize(at + 4 + len, 0);
                let place = batch.bytes.get_mut(at + 4..).unwrap_or_default();
                if let Err(error) = file.read_exact_at(place, offset) {
                    batch.bytes.truncate(at);
                    transfer.abort(&format!("the file cannot be read: {error}"));
                }
                if batch.is_full() { batch.flush() } else { Ok(()) }
            }
            Output::Wait(at) => batch.flush().and_then(|()| {
                let wait = at.saturating_sub(begun.elapsed());
                if wait.is_zero() {
                    transfer.late(begun.elapsed());
                    return Ok(());
                }
                socket.set_read_timeout(Some(wait))?;
                match socket.recv(&mut bytes) {
                    Ok(len) => {
                        transfer.handle(bytes.get(..len).unwrap_or_default(), begun.elapsed())
                    }
                    Err(error) if socket::is_quiet(&error) => transfer.late(begun.elapsed()),
                    Err(error) => return Err(error),
                }
                Ok(())
            }),
            Output::Ended(ended) => {
                let _ = batch.flush();
                return ended;
            }
        };
        if let Err(error) = done {
            // its port is closed: it has gone on without saying so
            if error.kind() == io::ErrorKind::ConnectionRefused {
                return Ended::Silent;
            }
            batch.bytes.clear();
            transfer.abort(&error.to_string());
        }
    }
}
