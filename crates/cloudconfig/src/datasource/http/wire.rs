//! One request: connected, asked, and its answer read within its bounds.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::header::{Framing, Header, chunks};
use super::reach::{Timed, is_late};
use super::url::{Host, Url};
use super::{Bounds, Reach, Stream};
use crate::datasource::ReadError;

/// What a server says.
pub(super) enum Reply {
    Content(Vec<u8>),
    Nothing,
    Elsewhere(String),
}

/// One request.
pub(super) struct Wire<'u> {
    pub(super) method: &'u str,
    pub(super) url: &'u Url,
    /// Fields besides the usual ones.
    pub(super) fields: &'u str,
    pub(super) began: Instant,
    pub(super) bounds: &'u Bounds,
    pub(super) most: usize,
    pub(super) reach: Option<&'u dyn Reach>,
}

impl Wire<'_> {
    pub(super) fn wrong(&self, why: impl ToString) -> ReadError {
        let why = why.to_string().replace(char::is_control, " ");
        ReadError::new(self.url.to_string(), why)
    }

    fn late(&self) -> ReadError {
        let waited = self.bounds.patience;
        self.wrong(format_args!("no whole answer within {waited:?}"))
    }

    fn left(&self) -> Result<Duration, ReadError> {
        let left = self.bounds.patience.checked_sub(self.began.elapsed());
        left.filter(|left| !left.is_zero()).ok_or_else(|| self.late())
    }

    /// Connects: to the first address that answers, over TLS where the URL says so.
    fn stream(&self) -> Result<Box<dyn Stream>, ReadError> {
        let (host, port) = (&self.url.host, self.url.port);
        let addresses = match (host, self.reach) {
            (Host::Address(address), _) => vec![*address],
            (Host::Name(_), None) => return Err(self.wrong("names are not looked up")),
            (Host::Name(name), Some(reach)) => {
                reach.addresses(name, self.left()?).map_err(|why| self.wrong(why))?
            }
        };
        let mut why = self.wrong("there is no address of that name");
        for (at, address) in addresses.iter().enumerate() {
            // the last one has all the time that is left
            let others = u32::try_from(addresses.len().saturating_sub(at)).unwrap_or(u32::MAX);
            let patience = self.left()?.checked_div(others).unwrap_or_default();
            let patience = patience.max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&SocketAddr::new(*address, port), patience) {
                Err(error) => why = self.wrong(format_args!("connecting: {error}")),
                Ok(stream) => {
                    let timed = Timed::new(stream, self.began, self.bounds.patience);
                    return self.secured(Box::new(timed));
                }
            }
        }
        Err(why)
    }

    fn secured(&self, plain: Box<dyn Stream>) -> Result<Box<dyn Stream>, ReadError> {
        match (self.url.secure, self.reach) {
            (false, _) => Ok(plain),
            (true, None) => Err(self.wrong("TLS is not spoken")),
            (true, Some(reach)) => {
                reach.secured(&self.url.host.to_string(), plain).map_err(|why| self.wrong(why))
            }
        }
    }

    /// Asks, and reads what the server says.
    pub(super) fn request(&self) -> Result<Reply, ReadError> {
        let mut stream = self.stream()?;
        let text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: */*\r\nUser-Agent: kiln-cloudconfig\r\n{}\r\n",
            self.method, self.url.path, self.url.authority, self.fields
        );
        let asked = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
        asked.map_err(|error| match is_late(&error) {
            true => self.late(),
            false => self.wrong(format_args!("asking: {error}")),
        })?;
        let mut bytes = Vec::new();
        let header = loop {
            if let Some(header) = Header::parse(&bytes).map_err(|why| self.wrong(why))? {
                break header;
            }
            if bytes.len() > self.bounds.header_bytes {
                let most = self.bounds.header_bytes;
                return Err(self.wrong(format_args!("a header of more than {most} bytes")));
            }
            if self.more(&mut *stream, &mut bytes)? == 0 {
                return Err(self.wrong("the answer ends in its header"));
            }
        };
        match header.status {
            200 => {}
            404 | 410 => return Ok(Reply::Nothing),
            400 | 403 | 405 | 501 if self.method != "GET" => return Ok(Reply::Nothing),
            301 | 302 | 303 | 307 | 308 => {
                let location =
                    header.location.ok_or_else(|| self.wrong("redirected to nowhere"))?;
                return Ok(Reply::Elsewhere(location));
            }
            status => return Err(self.wrong(format_args!("the server says {status}"))),
        }
        let body = bytes.split_off(header.length.min(bytes.len()));
        self.body(&mut *stream, body, &header.framing).map(Reply::Content)
    }

    /// Reads what there is, at least a byte; 0 at the end.
    fn more(&self, stream: &mut dyn Stream, into: &mut Vec<u8>) -> Result<usize, ReadError> {
        let mut buffer = [0_u8; 16 << 10];
        // a stream that has something has it even when it is late
        self.left()?;
        loop {
            match stream.read(&mut buffer) {
                Ok(count) => {
                    into.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_late(&error) => return Err(self.late()),
                Err(error) => return Err(self.wrong(format_args!("reading: {error}"))),
            }
        }
    }

    fn body(
        &self,
        stream: &mut dyn Stream,
        mut bytes: Vec<u8>,
        framing: &Framing,
    ) -> Result<Vec<u8>, ReadError> {
        let too_long = || self.wrong(format_args!("more than {} bytes", self.most));
        // What a server may add to each byte of content in chunks, and then some.
        let raw = self.most.saturating_mul(8).saturating_add(64 << 10);
        loop {
            match framing {
                Framing::Length(length) if *length > self.most => return Err(too_long()),
                Framing::Length(length) if bytes.len() >= *length => {
                    bytes.truncate(*length);
                    return Ok(bytes);
                }
                Framing::Close if bytes.len() > self.most => return Err(too_long()),
                Framing::Chunked if bytes.len() > raw => return Err(too_long()),
                _ => {}
            }
            // A server may keep the connection although it was asked not to.
            let looks_whole = *framing == Framing::Chunked && bytes.ends_with(b"0\r\n\r\n");
            if !(looks_whole && chunks(&bytes).is_some()) && self.more(stream, &mut bytes)? > 0 {
                continue;
            }
            return match framing {
                Framing::Close => Ok(bytes),
                Framing::Length(length) => {
                    Err(self.wrong(format_args!("cut off after {} of {length} bytes", bytes.len())))
                }
                Framing::Chunked => match chunks(&bytes) {
                    Some(content) if content.len() > self.most => Err(too_long()),
                    Some(content) => Ok(content),
                    None => Err(self.wrong("cut off, or damaged chunks")),
                },
            };
        }
    }
}
