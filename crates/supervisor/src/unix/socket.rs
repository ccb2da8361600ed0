//! Sockets by address: to listen at, and to connect to.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as connect_to,
    socket_with, sockopt,
};

use crate::spec::{Address, Socket};

/// Connections that may wait to be accepted: the kernel's own bound (`net.core.somaxconn`) counts.
const BACKLOG: i32 = 4096;

fn unix_address(path: &Path) -> rustix::io::Result<SocketAddrUnix> {
    match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
        None => SocketAddrUnix::new(path),
    }
}

fn make(family: AddressFamily, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

/// A socket that listens, or waits for datagrams; it blocks, as those who inherit it expect.
pub(super) fn listen(socket: &Socket) -> std::io::Result<OwnedFd> {
    let fd = match &socket.listen {
        Address::Tcp(address) => {
            let fd = make(AddressFamily::of(*address), SocketType::STREAM)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            bind(&fd, address)?;
            rustix::net::listen(&fd, BACKLOG)?;
            fd
        }
        Address::Udp(address) => {
            let fd = make(AddressFamily::of(*address), SocketType::DGRAM)?;
            bind(&fd, address)?;
            fd
        }
        Address::Unix(path) => {
            let fd = make(AddressFamily::UNIX, SocketType::STREAM)?;
            let named = !path.to_string_lossy().starts_with('@');
            if named {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                remove_stale(path);
            }
            bind(&fd, &unix_address(path)?)?;
            if named {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(socket.mode))?;
            }
            rustix::net::listen(&fd, BACKLOG)?;
            fd
        }
    };
    Ok(fd)
}

trait OfAddress {
    fn of(address: std::net::SocketAddr) -> Self;
}

impl OfAddress for AddressFamily {
    fn of(address: std::net::SocketAddr) -> Self {
        if address.is_ipv4() { Self::INET } else { Self::INET6 }
    }
}

/// The file of a socket at which nobody listens any more is in the way.
fn remove_stale(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    let refused = || {
        let address = Address::Unix(path.to_owned());
        connect(&address).is_err_and(|errno| errno == rustix::io::Errno::CONNREFUSED)
    };
    if is_socket && refused() {
        let _ = std::fs::remove_file(path);
    }
}

/// Takes the file of a socket away that is closed.
pub(super) fn unlink(socket: &Socket) {
    if let Address::Unix(path) = &socket.listen {
        remove_stale(path);
    }
}

/// Begins a connection; whether it is made already comes with it.
pub(super) fn connect(address: &Address) -> rustix::io::Result<(OwnedFd, bool)> {
    let begin = |family| {
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
    };
    let (fd, result) = match address {
        Address::Tcp(address) => {
            let fd = begin(AddressFamily::of(*address))?;
            let result = connect_to(&fd, address);
            (fd, result)
        }
        Address::Udp(_) => return Err(rustix::io::Errno::PROTOTYPE),
        Address::Unix(path) => {
            let fd = begin(AddressFamily::UNIX)?;
            let result = connect_to(&fd, &unix_address(path)?);
            (fd, result)
        }
    };
    match result {
        Ok(()) => Ok((fd, true)),
        Err(rustix::io::Errno::INPROGRESS) => Ok((fd, false)),
        // the queue of a Unix socket is full: somebody is there
        Err(rustix::io::Errno::AGAIN) => Ok((fd, true)),
        Err(errno) => Err(errno),
    }
}
