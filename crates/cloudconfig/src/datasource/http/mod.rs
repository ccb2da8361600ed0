//! Files of a web server: plain HTTP/1.1 (RFC 9112) to an address. There are no names: a static
//! process 1 has no resolver, and metadata servers are reached by address. Time, size, headers and
//! redirections are bounded.

mod header;
mod url;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Files, ReadError};
use header::{Framing, Header, chunks};
use url::Url;

/// Bounds of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// How long everything may take, redirections included.
    pub patience: Duration,
    /// How many redirections are followed.
    pub redirections: usize,
    /// Bytes of an answer's header.
    pub header_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { patience: Duration::from_secs(10), redirections: 4, header_bytes: 16 << 10 }
    }
}

/// What is below an address such as `http://192.0.2.1/seed/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    base: Url,
    bounds: Bounds,
    /// Fields of each request besides the usual ones, as lines.
    fields: String,
}

impl Server {
    /// An address; files are below it, so it ends with a slash or gets one.
    ///
    /// # Errors
    /// Where it is no plain HTTP address without a name.
    pub fn new(url: &str, bounds: Bounds) -> Result<Self, ReadError> {
        let mut base = Url::parse(url).map_err(|why| ReadError::new(url, why))?;
        if !base.path.ends_with('/') {
            base.path.push('/');
        }
        Ok(Self { base, bounds, fields: String::new() })
    }

    /// The same, with a field in each request from now on: a token, for whom such a server wants one.
    ///
    /// # Errors
    /// Where it would be more than one field (RFC 9110 section 5.5).
    pub fn with_field(mut self, name: &str, value: &str) -> Result<Self, ReadError> {
        self.fields +=
            &field(name, value).map_err(|why| ReadError::new(self.base.to_string(), why))?;
        Ok(self)
    }

    /// What the server answers to a PUT without content, with a field beside those of each request. None
    /// where it says that there is no such thing: 400, 403, 404, 405, 410, 501.
    ///
    /// # Errors
    /// Where there is no answer, another one, or one beyond the bounds.
    pub fn put(
        &self,
        path: &str,
        (name, value): (&str, &str),
        most: usize,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let url = self.below(path);
        let own = field(name, value).map_err(|why| ReadError::new(url.to_string(), why))?;
        let fields = format!("{}{own}Content-Length: 0\r\n", self.fields);
        fetch("PUT", url, &fields, most, &self.bounds)
    }

    fn below(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.path.push_str(path);
        url
    }
}

/// The server of EC2's instance metadata: with a token (IMDSv2) where it gives one, else without.
///
/// # Errors
/// As [`Server::new`] and [`Server::put`].
pub fn imds(url: &str, bounds: Bounds) -> Result<Server, ReadError> {
    let server = Server::new(url, bounds)?;
    let time = ("X-aws-ec2-metadata-token-ttl-seconds", "21600");
    match server.put("latest/api/token", time, 4096)? {
        Some(token) => {
            let token = String::from_utf8_lossy(&token).trim().to_owned();
            server.with_field("X-aws-ec2-metadata-token", &token)
        }
        None => Ok(server),
    }
}

/// A line of a header.
fn field(name: &str, value: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_value = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    match !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_value) {
        true => Ok(format!("{name}: {value}\r\n")),
        false => Err(format!("{} is no field of a request", crate::place::quoted(name))),
    }
}

impl Files for Server {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, ReadError> {
        fetch("GET", self.below(path), &self.fields, most, &self.bounds)
    }
}

/// Gets what is at an address. None where the server says that there is nothing (404, 410).
///
/// # Errors
/// Where there is no answer, another one, or one beyond the bounds.
pub fn get(url: &str, most: usize, bounds: &Bounds) -> Result<Option<Vec<u8>>, ReadError> {
    fetch("GET", Url::parse(url).map_err(|why| ReadError::new(url, why))?, "", most, bounds)
}

fn fetch(
    method: &str,
    mut url: Url,
    fields: &str,
    most: usize,
    bounds: &Bounds,
) -> Result<Option<Vec<u8>>, ReadError> {
    let (began, host) = (Instant::now(), url.host.clone());
    for _ in 0..=bounds.redirections {
        // what is for one server is not for another one
        let fields = if url.host == host { fields } else { "" };
        let mut wire = Wire { method, url: &url, fields, began, bounds, most };
        match wire.request()? {
            Reply::Content(bytes) => return Ok(Some(bytes)),
            Reply::Nothing => return Ok(None),
            Reply::Elsewhere(location) => {
                url = url.join(&location).map_err(|why| {
                    wire.wrong(format_args!(
                        "redirected to {}: {why}",
                        crate::place::quoted(&location)
                    ))
                })?;
            }
        }
    }
    let most = bounds.redirections;
    Err(ReadError::new(url.to_string(), format_args!("redirected more than {most} times")))
}

enum Reply {
    Content(Vec<u8>),
    Nothing,
    Elsewhere(String),
}

/// One request.
struct Wire<'u> {
    method: &'u str,
    url: &'u Url,
    /// Fields besides the usual ones.
    fields: &'u str,
    began: Instant,
    bounds: &'u Bounds,
    most: usize,
}

impl Wire<'_> {
    fn wrong(&self, why: impl ToString) -> ReadError {
        let why = why.to_string().replace(char::is_control, " ");
        ReadError::new(self.url.to_string(), why)
    }

    fn left(&self) -> Result<Duration, ReadError> {
        let left = self.bounds.patience.checked_sub(self.began.elapsed());
        left.filter(|left| !left.is_zero()).ok_or_else(|| {
            let waited = self.bounds.patience;
            self.wrong(format_args!("no whole answer within {waited:?}"))
        })
    }

    fn request(&mut self) -> Result<Reply, ReadError> {
        let address = self.url.address;
        let mut stream = TcpStream::connect_timeout(&address, self.left()?)
            .map_err(|error| self.wrong(format_args!("connecting: {error}")))?;
        let text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: */*\r\nUser-Agent: kiln-cloudconfig\r\n{}\r\n",
            self.method, self.url.path, self.url.host, self.fields
        );
        let timeout = stream.set_write_timeout(Some(self.left()?));
        timeout
            .and_then(|()| stream.write_all(text.as_bytes()))
            .map_err(|error| self.wrong(format_args!("asking: {error}")))?;
        let mut bytes = Vec::new();
        let header = loop {
            if let Some(header) = Header::parse(&bytes).map_err(|why| self.wrong(why))? {
                break header;
            }
            if bytes.len() > self.bounds.header_bytes {
                let most = self.bounds.header_bytes;
                return Err(self.wrong(format_args!("a header of more than {most} bytes")));
            }
            if self.more(&mut stream, &mut bytes)? == 0 {
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
        self.body(&mut stream, body, &header.framing).map(Reply::Content)
    }

    /// Reads what there is, at least a byte; 0 at the end.
    fn more(&self, stream: &mut TcpStream, into: &mut Vec<u8>) -> Result<usize, ReadError> {
        let mut buffer = [0_u8; 16 << 10];
        loop {
            stream.set_read_timeout(Some(self.left()?)).map_err(|error| self.wrong(error))?;
            match stream.read(&mut buffer) {
                Ok(count) => {
                    into.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    return Ok(count);
                }
                // The time is looked at again.
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::Interrupted
                            | std::io::ErrorKind::WouldBlock
                            | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => return Err(self.wrong(format_args!("reading: {error}"))),
            }
        }
    }

    fn body(
        &self,
        stream: &mut TcpStream,
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
