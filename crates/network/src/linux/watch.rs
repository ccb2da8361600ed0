//! News of links, addresses and routes, so that what comes late is configured.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::socket::open;

/// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Hears that something changed. Open it, look, then wait: what changes in between is news.
#[derive(Debug)]
pub struct Watch {
    socket: OwnedFd,
}

impl Watch {
    /// Begins to listen, in this thread's network namespace.
    ///
    /// # Errors
    /// What the kernel says; so for all methods.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: open(None, GROUPS)? })
    }

    /// Waits until something changes, for at most so long; whether something did. What is said is
    /// thrown away: look at the state.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, patience: Duration) -> io::Result<bool> {
        let until = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        match poll(&mut fds, until.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [0_u8; 8192];
        // Bounded, so that a storm of news does not hold up the rest.
        for _ in 0..1000 {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                // Where the kernel had to drop some, there was some.
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
