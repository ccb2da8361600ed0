//! What the kernel announces about devices: `lib/kobject_uevent.c`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

/// The kernel's `UEVENT_BUFFER_SIZE` with room for the path before it.
const LARGEST: usize = 8192;
/// So many are taken in one turn, so that a device that comes and goes for ever holds nobody up.
const MOST: usize = 4096;

/// A socket on which every device that comes or goes is announced from now on.
#[derive(Debug)]
pub(super) struct Uevents(OwnedFd);

/// Announcements were lost, because more came than the socket holds: what there is has to be looked
/// at instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl Uevents {
    pub(super) fn listen() -> rustix::io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )?;
        // group 1: the kernel's own announcements
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1))?;
        Ok(Self(socket))
    }

    /// Takes the announcements that are there, without waiting for more.
    pub(super) fn take(&self, mut each: impl FnMut(&Announcement<'_>)) -> Result<(), Lost> {
        let mut buffer = [0_u8; LARGEST];
        let mut lost = false;
        for _ in 0..MOST {
            match rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    each(&Announcement(buffer.get(..length).unwrap_or_default()));
                }
                Err(rustix::io::Errno::NOBUFS) => lost = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if lost { Err(Lost) } else { Ok(()) }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `ACTION@PATH` and `KEY=VALUE` lines, each ended by a NUL.
#[derive(Debug)]
pub(super) struct Announcement<'a>(&'a [u8]);

impl<'a> Announcement<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.0
            .split(|byte| *byte == 0)
            .find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        let text =
            b"add@/devices/x\0ACTION=add\0XMODALIAS=no\0MODALIAS=virtio:d1\0EMPTY=\0SEQNUM=9";
        let announcement = Announcement(text);
        assert_eq!(announcement.get("MODALIAS"), Some(&b"virtio:d1"[..]));
        assert_eq!(announcement.get("EMPTY"), Some(&b""[..]));
        assert_eq!(announcement.get("SEQ"), None);
        assert_eq!(Announcement(b"").get("ACTION"), None);
    }
}
