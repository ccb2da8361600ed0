//! A client of HTTP/1.1: one connection, one request after the other, what comes is counted and left.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{Client, is_nothing, is_same};
use crate::Result;

/// How long a connection may take to be made, and say nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// Reads of one client before the next has its turn.
const TURN: usize = 8;
/// Bytes of the longest head of an answer.
const HEAD: usize = 8 << 10;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Where the server listens.
    pub server: SocketAddr,
    /// The file's name there.
    pub file: &'a str,
    /// Its bytes.
    pub len: u64,
    /// What is in it, again and again, where it is to be compared.
    pub content: Option<&'a [u8]>,
    /// The parts that are asked for; all of it at once where there are none.
    pub parts: Vec<Range<u64>>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection<'a> {
    wanted: Wanted<'a>,
    stream: TcpStream,
    /// Which part is coming.
    part: usize,
    head: Vec<u8>,
    /// What of the file is still to come, once the head is there.
    rest: Option<Range<u64>>,
    begun: Instant,
    heard: Instant,
    /// How long each request took, in seconds.
    pub took: Vec<f64>,
}

impl<'a> Connection<'a> {
    /// Connects.
    ///
    /// # Errors
    /// The socket's.
    pub fn new(wanted: Wanted<'a>) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&wanted.server, SILENCE)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let now = Instant::now();
        Ok(Self {
            wanted,
            stream,
            part: 0,
            head: Vec::new(),
            rest: None,
            begun: now,
            heard: now,
            took: Vec::new(),
        })
    }

    fn ask(&mut self) -> Result<()> {
        let Wanted { server, file, parts, .. } = &self.wanted;
        let range = parts.get(self.part).map_or_else(String::new, |part| {
            format!("Range: bytes={}-{}\r\n", part.start, part.end.saturating_sub(1))
        });
        let request =
            format!("GET /{file} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: bench\r\n{range}\r\n");
        self.begun = Instant::now();
        self.heard = self.begun;
        // as short as it is, it has room
        Ok(self.stream.write_all(request.as_bytes())?)
    }

    /// Takes the head of an answer, as much of it as is there. How many bytes that were.
    fn head(&mut self, bytes: &[u8]) -> Result<usize> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = self.head.windows(4).position(|it| it == b"\r\n\r\n") else {
            if self.head.len() > HEAD {
                return Err("the head of an answer does not end".into());
            }
            return Ok(bytes.len());
        };
        let text = std::str::from_utf8(self.head.get(..end).unwrap_or_default())?.to_owned();
        let value = |name: &str| {
            text.lines().skip(1).find_map(|line| {
                let (own, value) = line.split_once(':')?;
                own.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let len = self.wanted.len;
        let (status, part, range) = match self.wanted.parts.get(self.part) {
            None => ("200", 0..len, None),
            Some(part) => {
                let range = format!("bytes {}-{}/{len}", part.start, part.end - 1);
                ("206", part.clone(), Some(range))
            }
        };
        let wanted = (part.end - part.start).to_string();
        let is_it = text.split_whitespace().nth(1) == Some(status)
            && value("content-length") == Some(&wanted)
            && value("content-range") == range.as_deref();
        if !is_it {
            return Err(format!("{}: not what was asked for: {text}", self.wanted.file).into());
        }
        self.rest = Some(part);
        self.head.clear();
        Ok(end + 4 - before)
    }
}

impl Client for Connection<'_> {
    fn socket(&self) -> impl AsFd + '_ {
        &self.stream
    }

    fn begin(&mut self) -> Result<()> {
        self.ask()
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<bool> {
        for _ in 0..TURN {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err("the server has closed the connection".into()),
                Ok(len) => len,
                Err(error) if is_nothing(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            self.heard = Instant::now();
            let mut bytes = buffer.get(..len).unwrap_or_default();
            if self.rest.is_none() {
                let taken = self.head(bytes)?;
                bytes = bytes.get(taken..).unwrap_or_default();
            }
            let Some(rest) = &mut self.rest else { continue };
            if let Some(content) = self.wanted.content
                && !is_same(content, rest.start, bytes)?
            {
                return Err(format!("{}: wrong bytes", self.wanted.file).into());
            }
            rest.start += u64::try_from(bytes.len())?;
            if rest.start > rest.end {
                return Err("more has come than was asked for".into());
            }
            if !rest.is_empty() {
                continue;
            }
            self.rest = None;
            self.took.push(self.begun.elapsed().as_secs_f64());
            self.part += 1;
            if self.part >= self.wanted.parts.len() {
                return Ok(true);
            }
            self.ask()?;
        }
        Ok(false)
    }

    fn late(&mut self) -> Result<()> {
        let done = self.part > 0 && self.part >= self.wanted.parts.len();
        if !done && self.heard.elapsed() > SILENCE {
            return Err(format!("{}: the server is silent", self.wanted.file).into());
        }
        Ok(())
    }
}
