//! DHCP and proxyDHCP, on one interface.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use kiln_dhcp_wire::{Message, MessageType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{End, Error, Event, GLANCE, Sink, socket};
use crate::{Boot, Client, Reply, Server, proxy};

/// Bytes of the longest message that is read; none is longer than a frame of Ethernet in practice.
const LONGEST: usize = 1 << 12;

/// How machines get their addresses.
#[derive(Debug)]
enum How {
    /// From us.
    Server(Box<Server>),
    /// From another.
    Proxy(Boot),
}

/// A server of DHCP on an interface.
#[derive(Debug)]
pub struct Dhcp {
    socket: UdpSocket,
    /// Where boot servers are asked directly.
    direct: Option<UdpSocket>,
    how: How,
    begun: Instant,
}

impl Dhcp {
    /// Gives addresses on an interface.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn server(interface: &str, server: Server) -> Result<Self, Error> {
        let socket = listen(interface, proxy::SERVER_PORT)?;
        let how = How::Server(Box::new(server));
        Ok(Self { socket, direct: None, how, begun: Instant::now() })
    }

    /// Tells machines on an interface where they boot from, beside a server that gives addresses.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn proxy(interface: &str, boot: Boot) -> Result<Self, Error> {
        let socket = listen(interface, proxy::SERVER_PORT)?;
        let direct = Some(listen(interface, proxy::PORT)?);
        Ok(Self { socket, direct, how: How::Proxy(boot), begun: Instant::now() })
    }

    /// Who has what, where addresses are given.
    #[must_use]
    pub fn leases(&self) -> Option<&crate::Leases> {
        match &self.how {
            How::Server(server) => Some(server.leases()),
            How::Proxy(_) => None,
        }
    }

    /// Serves until the end is asked for.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn serve(&mut self, end: &End, sink: &Sink) -> Result<(), Error> {
        let fail = |source| Error::Socket { what: "DHCP", source };
        let glance = Timespec { tv_sec: 0, tv_nsec: GLANCE.subsec_nanos().into() };
        let mut bytes = [0; LONGEST];
        while !end.is_asked() {
            let sockets: Vec<&UdpSocket> = [&self.socket].into_iter().chain(&self.direct).collect();
            let mut wait: Vec<PollFd<'_>> = sockets
                .iter()
                .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
                .collect();
            match poll(&mut wait, Some(&glance)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(fail(error.into())),
            }
            let ready: Vec<bool> = wait.iter().map(|it| !it.revents().is_empty()).collect();
            for (direct, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                let socket = if direct == 0 {
                    &self.socket
                } else {
                    self.direct.as_ref().unwrap_or(&self.socket)
                };
                let (len, from) = match socket.recv_from(&mut bytes) {
                    Ok((len, SocketAddr::V4(from))) => (len, from),
                    Ok(_) => continue,
                    Err(error) if socket::is_quiet(&error) => continue,
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                    Err(source) => return Err(fail(source)),
                };
                let Ok(asked) = Message::decode(bytes.get(..len).unwrap_or_default()) else {
                    continue;
                };
                let reply = self.how.answer(&asked, from, direct == 1, self.begun.elapsed(), sink);
                let socket = if direct == 0 {
                    &self.socket
                } else {
                    self.direct.as_ref().unwrap_or(&self.socket)
                };
                if let Some(Reply { message, to }) = reply
                    && let Err(error) = socket.send_to(&message.encode(), to)
                {
                    sink(&Event::Problem(format!("answer {to}: {error}")));
                }
            }
        }
        Ok(())
    }
}

impl How {
    fn answer(
        &mut self,
        asked: &Message,
        from: SocketAddrV4,
        directly: bool,
        now: Duration,
        sink: &Sink,
    ) -> Option<Reply> {
        let boots = Client::of(asked);
        let (reply, file) = match self {
            Self::Server(server) => {
                let reply = server.handle(asked, now);
                if let Some(reply) = &reply {
                    let (mac, kind) = (asked.chaddr, reply.message.kind);
                    let address = reply.message.yiaddr;
                    sink(&Event::Answered { mac, kind, address });
                }
                let file = reply.as_ref().map(|reply| reply.message.file.clone());
                (reply, file.unwrap_or_default())
            }
            Self::Proxy(boot) => {
                let reply = proxy::answer(boot, asked, from, directly).map(|(_, reply)| reply);
                let file = reply.as_ref().map(|reply| reply.message.file.clone());
                (reply, file.unwrap_or_default())
            }
        };
        match (boots, file.is_empty()) {
            (Some(client), false) => {
                let file = String::from_utf8_lossy(&file).into_owned();
                sink(&Event::Told { client, file });
            }
            (Some(client), true) if asked.kind == MessageType::Discover => {
                sink(&Event::Unserved(client));
            }
            _ => {}
        }
        reply
    }
}

fn listen(interface: &str, port: u16) -> Result<UdpSocket, Error> {
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into();
    let socket = socket::bind(address, Some(interface))?;
    let made = socket.set_broadcast(true);
    made.map_err(|source| Error::Listen { address, interface: Some(interface.into()), source })?;
    Ok(socket)
}
