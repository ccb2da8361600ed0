//! How servers are reached: connections that end in time, and what others know of names and TLS.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

/// What comes and goes over a connection. Each call ends before the request's time is over, with
/// [`ErrorKind::TimedOut`] if need be.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send + ?Sized> Stream for T {}

/// What a request by name or over TLS takes besides.
pub trait Reach: Debug + Send + Sync {
    /// The addresses of a name, the best first.
    ///
    /// # Errors
    /// A sentence: there are none, or nobody says so within that time.
    fn addresses(&self, name: &str, patience: Duration) -> Result<Vec<IpAddr>, String>;

    /// The same connection over TLS, with who proves to be that name or address.
    ///
    /// # Errors
    /// A sentence: TLS cannot be had. Who is at the other end may be told when the stream is used.
    fn secured(&self, host: &str, plain: Box<dyn Stream>) -> Result<Box<dyn Stream>, String>;
}

/// A connection that ends in time, however slowly its other end goes on.
#[derive(Debug)]
pub(super) struct Timed {
    stream: TcpStream,
    began: Instant,
    patience: Duration,
}

impl Timed {
    pub(super) fn new(stream: TcpStream, began: Instant, patience: Duration) -> Self {
        Self { stream, began, patience }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.patience.checked_sub(self.began.elapsed()).unwrap_or_default();
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(late)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// socket(7): a time that is over looks as if there were nothing yet.
fn late(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

pub(super) fn is_late(error: &io::Error) -> bool {
    error.kind() == ErrorKind::TimedOut
}
