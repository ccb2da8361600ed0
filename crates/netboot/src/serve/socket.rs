//! Sockets for datagrams.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, setsockopt, sockopt};

use super::{Error, GLANCE};

/// A socket at an address, on one interface alone where it is named. Others may listen there too: what is sent to
/// everybody reaches each of them.
pub(super) fn bind(address: SocketAddr, interface: Option<&str>) -> Result<UdpSocket, Error> {
    let made = || -> io::Result<UdpSocket> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket::socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        if let Some(interface) = interface {
            setsockopt(&fd, sockopt::BindToDevice, &interface.into())?;
        }
        use std::os::fd::AsRawFd as _;
        let at = socket::SockaddrStorage::from(address);
        socket::bind(fd.as_raw_fd(), &at)?;
        let socket = UdpSocket::from(fd);
        socket.set_read_timeout(Some(GLANCE))?;
        Ok(socket)
    };
    made().map_err(|source| Error::Listen {
        address,
        interface: interface.map(str::to_owned),
        source,
    })
}

/// Whether an error of a socket is only that nothing has come.
pub(super) fn is_quiet(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
