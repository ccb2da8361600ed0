//! Readiness: a newline on a descriptor, or `READY=1` on a socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(feature = "oci")]
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::sys;
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
    Socket {
        /// Whether it is of use after the service is ready.
        stays: bool,
    },
}

/// A descriptor that a service leaves with us, and its name.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) fd: OwnedFd,
}

/// What a datagram of sd_notify(3) says.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) ready: bool,
    pub(super) stored: Vec<Stored>,
    /// Names of descriptors to let go.
    pub(super) forgotten: Vec<String>,
}

/// What was heard.
#[derive(Debug)]
pub(super) enum Heard {
    Ready,
    Message(Message),
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
    let own = rustix::process::getpid().as_raw_nonzero();
    let name = format!("kiln-supervisor/{own}/{service}/{run}");
    let socket = bound(&SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    Ok((socket, format!("@{name}")))
}

/// A datagram socket with a file in a directory of its own, which is made anew: what a container can be
/// given, whose namespaces keep it from names without a file. Gives the file's path, too. All users may
/// write to it; whom to believe is seen by the sender.
#[cfg(feature = "oci")]
pub(super) fn socket_in(directory: &Path) -> std::io::Result<(OwnedFd, String)> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    forget(directory);
    if let Some(parent) = directory.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    std::fs::create_dir(directory)?;
    // a runtime that is root in a user namespace alone has to come through
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    mode(directory, 0o711)?;
    let path = directory.join("notify");
    let socket = bound(&SocketAddrUnix::new(&path)?)?;
    mode(&path, 0o666)?;
    Ok((socket, path.to_string_lossy().into_owned()))
}

/// Takes away what is there for a container.
#[cfg(feature = "oci")]
pub(super) fn forget(directory: &Path) {
    let _ = std::fs::remove_dir_all(directory);
}

fn bound(address: &SocketAddrUnix) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, address)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    Ok(socket)
}

/// Takes what has been said. On a socket only those are believed who may speak for the service: the
/// kernel names the sender.
pub(super) fn hear(
    fd: BorrowedFd<'_>,
    kind: ChannelKind,
    is_believed: impl FnOnce(Pid) -> bool,
) -> Heard {
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
        ChannelKind::Socket { stays } => {
            let mut buffer = [0_u8; 4096];
            let Ok(message) = sys::receive(fd, &mut buffer) else { return Heard::Nothing };
            if !message.sender.is_some_and(|sender| is_believed(Pid(sender))) {
                return Heard::Nothing;
            }
            let text = buffer.get(..message.bytes).unwrap_or_default();
            let said = understand(&String::from_utf8_lossy(text), message.descriptors);
            match (stays, said.ready) {
                (true, _) => Heard::Message(said),
                (false, true) => Heard::Ready,
                (false, false) => Heard::Nothing,
            }
        }
    }
}

/// The assignments of a datagram (sd_notify(3), sd_pid_notify_with_fds(3)).
fn understand(text: &str, descriptors: Vec<OwnedFd>) -> Message {
    let values = |key: &str| text.lines().rev().find_map(|line| line.strip_prefix(key));
    let is_name = |name: &&str| {
        (1..=255).contains(&name.len()) && !name.contains(|c: char| c == ':' || c.is_control())
    };
    let name = values("FDNAME=").filter(is_name);
    let mut message = Message { ready: values("READY=") == Some("1"), ..Message::default() };
    if values("FDSTORE=") == Some("1") {
        let stored = |fd| Stored { name: name.unwrap_or("stored").to_owned(), fd };
        message.stored = descriptors.into_iter().map(stored).collect();
    }
    if values("FDSTOREREMOVE=") == Some("1") {
        message.forgotten.extend(name.map(str::to_owned));
    }
    message
}

impl Channel {
    /// Whether there is something to hear after the service is ready.
    pub(super) fn stays(&self) -> bool {
        self.kind == ChannelKind::Socket { stays: true }
    }

    pub(super) fn hear(&self, is_believed: impl FnOnce(Pid) -> bool) -> Heard {
        hear(self.fd.as_fd(), self.kind, is_believed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_understood() {
        let said = understand("STATUS=x\nREADY=1\n", Vec::new());
        assert!(said.ready && said.stored.is_empty() && said.forgotten.is_empty());
        assert!(!understand("READY=0", Vec::new()).ready);
        assert!(!understand("READY=1x", Vec::new()).ready);
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let said = understand("FDSTORE=1\nFDNAME=web", vec![null(), null()]);
        let names: Vec<_> = said.stored.iter().map(|stored| stored.name.as_str()).collect();
        assert_eq!(names, ["web", "web"]);
        assert_eq!(understand("FDSTORE=1\nFDNAME=a:b", vec![null()]).stored[0].name, "stored");
        assert_eq!(understand("FDSTOREREMOVE=1\nFDNAME=web", Vec::new()).forgotten, ["web"]);
        assert!(understand("FDNAME=web", vec![null()]).stored.is_empty());
    }
}
