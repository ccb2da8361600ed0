//! Files of a web server: plain HTTP/1.1 (RFC 9112) to an address. There are no names: a static
//! process 1 has no resolver, and metadata servers are reached by address. Time, size, headers and
//! redirections are bounded.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Files, ReadError};

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
        Ok(Self { base, bounds })
    }
}

impl Files for Server {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let mut url = self.base.clone();
        url.path.push_str(path);
        fetch(url, most, &self.bounds)
    }
}

/// Gets what is at an address. None where the server says that there is nothing (404, 410).
///
/// # Errors
/// Where there is no answer, another one, or one beyond the bounds.
pub fn get(url: &str, most: usize, bounds: &Bounds) -> Result<Option<Vec<u8>>, ReadError> {
    fetch(Url::parse(url).map_err(|why| ReadError::new(url, why))?, most, bounds)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    address: SocketAddr,
    /// What goes into the `Host` field.
    host: String,
    path: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err("expected http://ADDRESS/PATH; nothing else is spoken".into());
        };
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let path = path.split('#').next().unwrap_or_default();
        if path.len() > 2048 || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a path with blanks or other letters than ASCII's".into());
        }
        let address = host.parse::<SocketAddr>().ok().or_else(|| {
            let inner = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
            let ip: Option<IpAddr> = match inner {
                Some(v6) => v6.parse().ok().filter(IpAddr::is_ipv6),
                None => host.parse().ok().filter(IpAddr::is_ipv4),
            };
            ip.map(|ip| SocketAddr::new(ip, 80))
        });
        let Some(address) = address else {
            return Err(
                "names are not looked up, expected an address such as http://192.0.2.1/".into()
            );
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { address, host: host.to_owned(), path: format!("{slash}{path}") })
    }

    /// RFC 3986 section 5.2, of which servers use these: an address, or a path from the root.
    fn join(&self, location: &str) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            let whole = format!("http://{}{location}", self.host);
            return Self::parse(&whole);
        }
        Self::parse(location)
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

fn fetch(mut url: Url, most: usize, bounds: &Bounds) -> Result<Option<Vec<u8>>, ReadError> {
    let began = Instant::now();
    for _ in 0..=bounds.redirections {
        let mut wire = Wire { url: &url, began, bounds, most };
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
    url: &'u Url,
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
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: */*\r\nUser-Agent: kiln-cloudconfig\r\n\r\n",
            self.url.path, self.url.host
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

/// How long a body is (RFC 9112 section 6.3).
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    status: u16,
    location: Option<String>,
    framing: Framing,
    /// Bytes up to the body.
    length: usize,
}

impl Header {
    /// The header that bytes begin with; none where it is not whole.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|digits| digits.parse::<u16>().ok())
            .ok_or_else(|| "what answers does not speak HTTP/1.1".to_owned())?;
        let mut found =
            Self { status, location: None, framing: Framing::Close, length: end.saturating_add(4) };
        let mut length: Option<usize> = None;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "location" => found.location = Some(value.to_owned()),
                "content-length" => {
                    let size =
                        value.parse().map_err(|_| "a length that is no number".to_owned())?;
                    if length.is_some_and(|earlier| earlier != size) {
                        return Err("two lengths that differ".into());
                    }
                    length = Some(size);
                }
                "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                    found.framing = Framing::Chunked;
                }
                "transfer-encoding" => return Err("a transfer encoding that is not known".into()),
                "content-encoding" if !value.eq_ignore_ascii_case("identity") => {
                    return Err("a content encoding that nobody asked for".into());
                }
                _ => {}
            }
        }
        if let (Framing::Close, Some(length)) = (&found.framing, length) {
            found.framing = Framing::Length(length);
        }
        Ok(Some(found))
    }
}

/// RFC 9112 section 7.1; none where they are not whole. What follows the last one is passed over.
fn chunks(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        bytes = bytes.get(end.checked_add(2)?..)?;
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, path) in [
            ("http://192.0.2.1", "192.0.2.1:80", "/"),
            ("http://192.0.2.1:8080/a?b#c", "192.0.2.1:8080", "/a?b"),
            ("http://[2001:db8::1]/x", "[2001:db8::1]:80", "/x"),
            ("http://[::1]:81?x", "[::1]:81", "/?x"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.address.to_string().as_str(), url.path.as_str()), (host, path));
        }
        for bad in [
            "https://192.0.2.1/",
            "http://example.org/",
            "http:///x",
            "http://::1/",
            "http://1.2.3.4/a b",
            "http://a@1.2.3.4/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn chunked_bodies() {
        assert_eq!(chunks(b"4;x=y\r\nWiki\r\n1\r\n!\r\n0\r\n\r\n").unwrap(), b"Wiki!");
        for bad in [
            &b"4\r\nWik"[..],
            b"4\r\nWikiX\r\n0\r\n",
            b"",
            b"ffffffffffffffffff\r\n",
            b"+1\r\na\r\n0\r\n",
        ] {
            assert_eq!(chunks(bad), None);
        }
    }
}
