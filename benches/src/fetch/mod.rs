//! Files fetched by many at once: clients that cost little beside the servers that are measured.
//!
//! All of them are in one thread, which waits for their sockets together. A client that hears nothing is
//! told so ten times a second, and all of it ends after `PATIENCE`.

pub mod http;
pub mod tftp;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::Result;

/// How long all clients together may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long sockets are waited for before the clients are told how late it is.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Bytes that are read at once.
const READ: usize = 256 << 10;

/// One that fetches.
pub trait Client {
    /// What it listens at.
    fn socket(&self) -> impl AsFd + '_;

    /// Asks for what it wants.
    ///
    /// # Errors
    /// The socket's.
    fn begin(&mut self) -> Result<()>;

    /// Something has come. Whether that was all.
    ///
    /// # Errors
    /// The socket's, and what the server says that is wrong.
    fn take(&mut self, buffer: &mut [u8]) -> Result<bool>;

    /// Time goes by.
    ///
    /// # Errors
    /// As [`Client::take`].
    fn late(&mut self) -> Result<()>;
}

/// Lets all begin at once, and waits until all have what they want.
///
/// # Errors
/// That of any client; it takes too long.
pub fn together<C: Client>(clients: &mut [C]) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (at, client) in clients.iter().enumerate() {
        let data = epoll::EventData::new_u64(at.try_into()?);
        epoll::add(&poll, client.socket(), data, epoll::EventFlags::IN)?;
    }
    let mut buffer = vec![0; READ];
    let mut events = Vec::with_capacity(128);
    let (begun, mut left) = (Instant::now(), clients.len());
    let mut told = begun;
    clients.iter_mut().try_for_each(Client::begin)?;
    while left > 0 {
        events.clear();
        match epoll::wait(&poll, spare_capacity(&mut events), Some(&GLANCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let at = usize::try_from(event.data.u64())?;
            let client = clients.get_mut(at).ok_or("an event of nobody")?;
            if client.take(&mut buffer)? {
                epoll::delete(&poll, client.socket())?;
                left -= 1;
            }
        }
        if told.elapsed() > Duration::from_millis(100) {
            told = Instant::now();
            clients.iter_mut().try_for_each(Client::late)?;
            if begun.elapsed() > PATIENCE {
                return Err(format!("{left} clients have not ended after {PATIENCE:?}").into());
            }
        }
    }
    Ok(())
}

/// Whether an error is only that nothing is there yet.
fn is_nothing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), Interrupted | WouldBlock)
}

/// Whether bytes are those of a file from an offset on. The file is `content`, again and again.
fn is_same(content: &[u8], offset: u64, bytes: &[u8]) -> Result<bool> {
    let (mut at, mut rest) = (usize::try_from(offset)? % content.len().max(1), bytes);
    while !rest.is_empty() {
        let wanted = content.get(at..).unwrap_or_default();
        let len = wanted.len().min(rest.len());
        if len == 0 || wanted.get(..len) != rest.get(..len) {
            return Ok(false);
        }
        rest = rest.get(len..).unwrap_or_default();
        at = 0;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_repeated() {
        let same = |offset, bytes: &[u8]| is_same(b"abc", offset, bytes).unwrap();
        assert!(same(0, b"abcabca") && same(4, b"bc") && same(2, b"") && same(5, b"cabca"));
        assert!(!same(0, b"abca-ca") && !same(1, b"abc"));
        assert!(!is_same(b"", 0, b"a").unwrap());
    }
}
