//! Files of a web server: HTTP/1.1 (RFC 9112), by itself plain and to an address, as metadata servers are
//! reached. A static process 1 has no resolver and no certificates: names and TLS are what [`Reach`] is
//! asked for. Time, size, headers and redirections are bounded.

mod header;
mod reach;
mod url;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Files, ReadError};
pub use reach::{Reach, Stream};
use url::Url;
use wire::{Reply, Wire};

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
#[derive(Debug, Clone)]
pub struct Server {
    base: Url,
    bounds: Bounds,
    reach: Option<Arc<dyn Reach>>,
    /// Fields of each request besides the usual ones, as lines.
    fields: String,
}

impl Server {
    /// An address; files are below it, so it ends with a slash or gets one.
    ///
    /// # Errors
    /// Where it is no address that begins with `http://` or `https://`.
    pub fn new(url: &str, bounds: Bounds) -> Result<Self, ReadError> {
        let mut base = Url::parse(url).map_err(|why| ReadError::new(url, why))?;
        if !base.path.ends_with('/') {
            base.path.push('/');
        }
        Ok(Self { base, bounds, reach: None, fields: String::new() })
    }

    /// The same, by name or over TLS too.
    #[must_use]
    pub fn reached_by(mut self, reach: Arc<dyn Reach>) -> Self {
        self.reach = Some(reach);
        self
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
        fetch("PUT", url, &fields, most, &self.bounds, self.reach.as_deref())
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
/// As [`Server::put`].
pub fn imds(server: Server) -> Result<Server, ReadError> {
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
        let url = self.below(path);
        fetch("GET", url, &self.fields, most, &self.bounds, self.reach.as_deref())
    }
}

/// Gets what is at an address. None where the server says that there is nothing (404, 410). Without a
/// [`Reach`] by plain HTTP and without names.
///
/// # Errors
/// Where there is no answer, another one, or one beyond the bounds.
pub fn get(
    url: &str,
    most: usize,
    bounds: &Bounds,
    reach: Option<&dyn Reach>,
) -> Result<Option<Vec<u8>>, ReadError> {
    let parsed = Url::parse(url).map_err(|why| ReadError::new(url, why))?;
    fetch("GET", parsed, "", most, bounds, reach)
}

fn fetch(
    method: &str,
    mut url: Url,
    fields: &str,
    most: usize,
    bounds: &Bounds,
    reach: Option<&dyn Reach>,
) -> Result<Option<Vec<u8>>, ReadError> {
    let (began, first) = (Instant::now(), url.clone());
    for _ in 0..=bounds.redirections {
        // what is for one server is not for another one
        let fields = if url.is_same_server(&first) { fields } else { "" };
        let wire = Wire { method, url: &url, fields, began, bounds, most, reach };
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
