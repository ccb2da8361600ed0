//! A client of TFTP: blocks as large as asked for (RFC 2348), in windows (RFC 7440).
//!
//! Each block is compared with what it has to be. What is lost is asked for again: at once where a later
//! block of a window comes, else after a second.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Client, is_nothing, is_same};
use crate::Result;

/// How long an answer is waited for before something is said again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many times in a row.
const TRIES: u32 = 20;
/// Datagrams that are taken of one client before the next has its turn.
const TURN: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The file's name there.
    pub file: &'a str,
    /// What is in it.
    pub content: &'a [u8],
    /// Bytes of a block.
    pub block: u16,
    /// Blocks of a window; 1 is not asked for, since servers without windows have it.
    pub window: u16,
}

/// One transfer.
#[derive(Debug)]
pub struct Transfer<'a> {
    wanted: Wanted<'a>,
    socket: UdpSocket,
    /// Bytes of a block and blocks of a window, as the server says.
    block: usize,
    window: u64,
    /// Whether the server has answered, from a port of its own.
    known: bool,
    /// Blocks that are here, and that the server has been told of.
    here: u64,
    told: u64,
    /// Whether it was said that a block is missing.
    missed: bool,
    ended: bool,
    begun: Instant,
    heard: Instant,
    tries: u32,
    /// How many times something was said again for want of an answer.
    pub again: u32,
    /// How long it took, in seconds.
    pub took: f64,
}

impl<'a> Transfer<'a> {
    /// Of one file.
    ///
    /// # Errors
    /// The socket's.
    pub fn new(wanted: Wanted<'a>) -> Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_nonblocking(true)?;
        let now = Instant::now();
        Ok(Self {
            wanted,
            socket,
            block: 512,
            window: 1,
            known: false,
            here: 0,
            told: 0,
            missed: false,
            ended: false,
            begun: now,
            heard: now,
            tries: 0,
            again: 0,
            took: 0.0,
        })
    }

    /// Blocks of the window that the server has agreed to.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.window
    }

    fn ask(&self) -> Result<()> {
        let Wanted { server, file, block, window, .. } = self.wanted;
        let mut request = format!("\0\x01{file}\0octet\0blksize\0{block}\0");
        if window > 1 {
            request += &format!("windowsize\0{window}\0");
        }
        self.socket.send_to(request.as_bytes(), server)?;
        Ok(())
    }

    fn tell(&mut self) -> Result<()> {
        let [.., high, low] = self.here.to_be_bytes();
        self.told = self.here;
        match self.socket.send(&[0, 4, high, low]) {
            // said again when nothing comes
            Err(error) if is_nothing(&error) => Ok(()),
            done => Ok(done.map(drop)?),
        }
    }

    fn options(&mut self, text: &[u8]) -> Result<()> {
        let words: Vec<&[u8]> = text.split(|byte| *byte == 0).collect();
        for option in words.chunks_exact(2) {
            let [name, value] = option else { continue };
            let value: u16 = std::str::from_utf8(value)?.parse()?;
            match name.to_ascii_lowercase().as_slice() {
                b"blksize" => self.block = value.into(),
                b"windowsize" => self.window = value.into(),
                _ => {}
            }
        }
        Ok(())
    }

    fn data(&mut self, number: u16, bytes: &[u8]) -> Result<()> {
        let [.., high, low] = (self.here + 1).to_be_bytes();
        if number != u16::from_be_bytes([high, low]) {
            // in a window of one it is what has come before, whose answer was lost
            if self.window == 1 || !self.missed {
                self.missed = true;
                self.tell()?;
            }
            return Ok(());
        }
        let offset = self.here * u64::try_from(self.block)?;
        if bytes.len() > self.block || !is_same(self.wanted.content, offset, bytes)? {
            return Err(format!("{}: wrong bytes at {offset}", self.wanted.file).into());
        }
        self.here += 1;
        self.missed = false;
        self.ended = bytes.len() < self.block;
        if self.ended {
            let len = offset + u64::try_from(bytes.len())?;
            if len != u64::try_from(self.wanted.content.len())? {
                return Err(format!("{} ends after {len} bytes", self.wanted.file).into());
            }
            self.took = self.begun.elapsed().as_secs_f64();
        }
        if self.ended || self.here - self.told >= self.window {
            self.tell()?;
        }
        Ok(())
    }
}

impl Client for Transfer<'_> {
    fn socket(&self) -> impl AsFd + '_ {
        &self.socket
    }

    fn begin(&mut self) -> Result<()> {
        self.begun = Instant::now();
        self.heard = self.begun;
        self.ask()
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<bool> {
        for _ in 0..TURN {
            let (len, from) = match self.socket.recv_from(buffer) {
                Ok(received) => received,
                Err(error) if is_nothing(&error) => break,
                Err(error) => return Err(error.into()),
            };
            if !self.known {
                self.socket.connect(from)?;
                self.known = true;
            }
            self.heard = Instant::now();
            self.tries = 0;
            match buffer.get(..len).unwrap_or_default() {
                [0, 3, high, low, data @ ..] => {
                    self.data(u16::from_be_bytes([*high, *low]), data)?;
                }
                [0, 6, options @ ..] => {
                    self.options(options)?;
                    self.tell()?;
                }
                other => {
                    let text = String::from_utf8_lossy(other);
                    return Err(format!("{}: {text:?}", self.wanted.file).into());
                }
            }
            if self.ended {
                break;
            }
        }
        Ok(self.ended)
    }

    fn late(&mut self) -> Result<()> {
        if self.ended || self.heard.elapsed() < AGAIN {
            return Ok(());
        }
        if self.tries == TRIES {
            let (file, here) = (self.wanted.file, self.here);
            return Err(format!("{file}: the server is silent after {here} blocks").into());
        }
        (self.tries, self.again) = (self.tries + 1, self.again + 1);
        self.heard = Instant::now();
        if self.known { self.tell() } else { self.ask() }
    }
}
