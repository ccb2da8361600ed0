//! Readiness: a newline on a descriptor, or `READY=1` on a socket.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

use crate::vocabulary::{Pid, Token};

/// The receiving end of a service's readiness protocol, for one run.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) token: Token,
    pub(super) fd: OwnedFd,
    pub(super) kind: ChannelKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelKind {
    Pipe,
    Socket,
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Ready,
    Nothing,
    /// The other end is closed: it will never say anything. The ready timeout decides.
    Closed,
}

/// A pipe: ours and the service's end.
pub(super) fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((read, write))
}

/// A datagram socket in the abstract namespace, and its name for `NOTIFY_SOCKET`.
pub(super) fn socket(service: &str, run: u64) -> rustix::io::Result<(OwnedFd, String)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    let own = rustix::process::getpid().as_raw_nonzero();
    let name = format!("kiln-supervisor/{own}/{service}/{run}");
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    Ok((socket, format!("@{name}")))
}

/// Takes what has been said. On a socket only `from` is believed: the kernel names the sender.
pub(super) fn hear(fd: BorrowedFd<'_>, kind: ChannelKind, from: Option<Pid>) -> Heard {
    match kind {
        ChannelKind::Pipe => {
            let mut buffer = [0_u8; 256];
            // bounded: what comes after is heard in the next turn
            match rustix::io::read(fd, &mut buffer) {
                Ok(0) => Heard::Closed,
                Ok(length) if buffer.iter().take(length).any(|byte| *byte == b'\n') => Heard::Ready,
                _ => Heard::Nothing,
            }
        }
        ChannelKind::Socket => {
            let mut buffer = [0_u8; 4096];
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(16))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let message = {
                let mut slices = [IoSliceMut::new(&mut buffer)];
                rustix::net::recvmsg(fd, &mut slices, &mut control, flags)
            };
            let Ok(message) = message else { return Heard::Nothing };
            let sender = control.drain().find_map(|item| match item {
                RecvAncillaryMessage::ScmCredentials(credentials) => {
                    Some(Pid(credentials.pid.as_raw_nonzero().get()))
                }
                _ => None,
            });
            let text = buffer.get(..message.bytes).unwrap_or_default();
            let ready = text.split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
            if ready && sender.is_some() && sender == from { Heard::Ready } else { Heard::Nothing }
        }
    }
}

impl Channel {
    pub(super) fn hear(&self, from: Option<Pid>) -> Heard {
        hear(self.fd.as_fd(), self.kind, from)
    }
}
