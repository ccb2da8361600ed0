//! The loop: wait, feed the client, do what it says.

mod apply;
mod vocabulary;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::netlink::{Link, LinkMonitor, LinkNews, Netlink};
use super::packet_socket::PacketSocket;
use super::resolv::ResolvConf;
use super::{Error, Result, now, sys, system};
use crate::client::{Client, Event, Ignored, Input, Output, Transmit};
use crate::lease::Lease;
use crate::wire::HardwareAddr;
use crate::wire::udp::{self, CLIENT_PORT, Endpoints, SERVER_PORT};

pub use vocabulary::{Notice, Outcome, RunOptions};

/// Frames or datagrams taken from one socket before the others have their turn.
const BATCH: usize = 64;

/// Brings `interface` up, gets a lease, configures it, and (unless `once`) keeps it for as long as
/// the interface exists and `stop` is silent.
///
/// # Errors
/// [`Error`] when the interface does not exist, is not Ethernet or goes away, when the process may
/// not do this (it needs `CAP_NET_RAW` and `CAP_NET_ADMIN`), or when the address cannot be set.
/// What servers send is never an error.
pub fn run(
    interface: &str,
    options: &RunOptions,
    on_event: &mut dyn FnMut(&Notice<'_>),
) -> Result<Outcome> {
    let mut netlink = Netlink::open().map_err(system("open netlink"))?;
    // Listen first, look then: what changes in between is news.
    let monitor = LinkMonitor::open().map_err(system("open netlink"))?;
    let link = look(&mut netlink, interface)?;
    let mac = link
        .mac
        .filter(|_| link.is_ethernet())
        .ok_or_else(|| Error::NotEthernet(interface.to_owned()))?;
    let client = Client::new(options.config.clone(), mac, seed(mac), now())?;
    let timer = rustix::time::timerfd_create(
        TimerfdClockId::Boottime,
        TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
    )
    .map_err(|error| system("create timer")(error.into()))?;
    let mut shell = Shell {
        name: interface,
        options,
        on_event,
        index: link.index,
        mac,
        mtu: link.mtu,
        max_mtu: link.max_mtu,
        mtu_before: None,
        netlink,
        monitor,
        timer,
        client,
        packet: None,
        udp: None,
        carrier: false,
        running: false,
        server_mac: HardwareAddr::BROADCAST,
        applied: None,
        resolv_conf: options.resolv_conf.as_deref().map(ResolvConf::new),
        reasons_told: Vec::new(),
        deadline: options.deadline.map(|after| now() + after),
        seen_carrier: false,
        bound: None,
    };
    if !link.is_up() {
        shell.netlink.set_up(link.index).map_err(shell.failed("set up"))?;
    }
    // Again after the change: news of it may take a moment, or never come when it was up before.
    let link = look(&mut shell.netlink, interface)?;
    shell.link_changed(&link);
    shell.run()
}

fn look(netlink: &mut Netlink, interface: &str) -> Result<Link> {
    netlink.link(interface).map_err(|source| match source.raw_os_error() {
        Some(libc::ENODEV) => Error::NotFound(interface.to_owned()),
        _ => Error::Interface { interface: interface.to_owned(), what: "look up", source },
    })
}

/// From the kernel's random source, without waiting for it: at worst (very early at boot, on a very
/// old kernel) from the clock and the hardware address.
fn seed(mac: HardwareAddr) -> u64 {
    for flags in [GetRandomFlags::NONBLOCK, GetRandomFlags::INSECURE] {
        let mut bytes = [0; 8];
        if getrandom(&mut bytes, flags).is_ok_and(|len| len == bytes.len()) {
            return u64::from_ne_bytes(bytes);
        }
    }
    let [a, b, c, d, e, f] = mac.0;
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
        ^ now().as_nanos().try_into().unwrap_or(u64::MAX).rotate_left(20)
}

struct Shell<'a> {
    name: &'a str,
    options: &'a RunOptions,
    on_event: &'a mut dyn FnMut(&Notice<'_>),
    index: u32,
    mac: HardwareAddr,
    mtu: u32,
    max_mtu: u32,
    mtu_before: Option<u32>,
    netlink: Netlink,
    monitor: LinkMonitor,
    timer: OwnedFd,
    client: Client,
    packet: Option<PacketSocket>,
    udp: Option<OwnedFd>,
    carrier: bool,
    running: bool,
    /// Who sent the last frame: where to renew when the address is not configured.
    server_mac: HardwareAddr,
    applied: Option<Lease>,
    resolv_conf: Option<ResolvConf>,
    reasons_told: Vec<Ignored>,
    deadline: Option<Duration>,
    seen_carrier: bool,
    bound: Option<Box<Lease>>,
}

/// What became readable.
#[derive(Default)]
struct Ready {
    stop: bool,
    links: bool,
    packet: bool,
    udp: bool,
}

impl Shell<'_> {
    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
        let interface = self.name.to_owned();
        move |source| Error::Interface { interface, what, source }
    }

    fn tell(&mut self, notice: &Notice<'_>) {
        (self.on_event)(notice);
    }

    fn problem(&mut self, what: &'static str, source: io::Error) {
        let error = self.failed(what)(source);
        self.tell(&Notice::Problem(&error));
    }

    fn run(&mut self) -> Result<Outcome> {
        loop {
            let until = self.drain()?;
            if self.options.once
                && let Some(lease) = self.bound.take()
            {
                return Ok(Outcome::Bound(lease));
            }
            if self.deadline.is_some_and(|deadline| deadline <= now()) {
                return Ok(Outcome::TimedOut);
            }
            let wake = match (until, self.deadline) {
                (Some(until), Some(deadline)) => Some(until.min(deadline)),
                (until, deadline) => until.or(deadline),
            };
            let ready = self.wait(wake)?;
            if ready.stop {
                let input = if self.options.release_on_stop { Input::Release } else { Input::Stop };
                self.client.handle(input, now());
                self.drain()?;
                return Ok(Outcome::Stopped);
            }
            if ready.links {
                self.read_links()?;
            }
            if ready.packet {
                self.read_packet();
            }
            if ready.udp {
                self.read_udp();
            }
            self.client.handle(Input::Timeout, now());
            self.tell_ignored();
        }
    }

    /// Waits until something is readable or the time has come.
    fn wait(&mut self, until: Option<Duration>) -> Result<Ready> {
        let until = until.map(|until| until.max(Duration::from_nanos(1)));
        let value = until.and_then(|at| Timespec::try_from(at).ok()).unwrap_or_default();
        let timer = Itimerspec { it_interval: Timespec::default(), it_value: value };
        // Setting it also takes back an expiry that nobody read.
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer)
            .map_err(|error| system("set timer")(error.into()))?;

        let mut fds = vec![
            PollFd::from_borrowed_fd(self.timer.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.monitor.as_fd(), PollFlags::IN),
        ];
        let mut add = |fd: Option<_>| {
            fd.map(|fd| {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                fds.len() - 1
            })
        };
        let stop = add(self.options.stop.as_ref().map(|fd| fd.as_fd()));
        let packet = add(self.packet.as_ref().map(AsFd::as_fd));
        let udp = add(self.udp.as_ref().map(AsFd::as_fd));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(system("poll")(error.into())),
        }
        let is_ready = |at: Option<usize>| {
            at.and_then(|at| fds.get(at)).is_some_and(|fd| !fd.revents().is_empty())
        };
        Ok(Ready {
            stop: is_ready(stop),
            links: is_ready(Some(1)),
            packet: is_ready(packet),
            udp: is_ready(udp),
        })
    }

    fn read_links(&mut self) -> Result<()> {
        let ours = match self.monitor.drain().map_err(system("read netlink"))? {
            Some(news) => {
                if news.iter().any(|news| matches!(news, LinkNews::Gone(i) if *i == self.index)) {
                    return Err(Error::Gone(self.name.to_owned()));
                }
                news.iter().any(|news| matches!(news, LinkNews::Changed(i) if *i == self.index))
            }
            None => true,
        };
        // News tells that something changed, not how things are: several changes may be queued,
        // and acting on an old one would take a fresh link for a lost one.
        if ours {
            let link = match look(&mut self.netlink, self.name) {
                Err(Error::NotFound(name)) => return Err(Error::Gone(name)),
                other => other?,
            };
            if link.index != self.index {
                return Err(Error::Gone(self.name.to_owned()));
            }
            self.link_changed(&link);
        }
        Ok(())
    }

    fn link_changed(&mut self, link: &Link) {
        let ran = std::mem::replace(&mut self.running, link.is_running());
        if link.has_carrier() == self.carrier {
            if self.running && !ran {
                self.client.handle(Input::LinkReady, now());
            }
            return;
        }
        self.carrier = link.has_carrier();
        if self.carrier {
            if !self.seen_carrier {
                self.seen_carrier = true;
                self.deadline = self.options.deadline.map(|after| now() + after);
            }
            self.tell(&Notice::LinkUp);
            self.client.handle(Input::LinkUp, now());
            // Taking a link down took its routes away.
            if let Some(lease) = self.applied.clone() {
                self.add_routes(&lease);
            }
        } else {
            self.tell(&Notice::LinkDown);
            self.client.handle(Input::LinkDown, now());
            // It reports ENETDOWN for ever when the link was taken down; a new one is made when
            // there is something to send.
            self.packet = None;
        }
    }

    fn read_packet(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..BATCH {
            let Some(packet) = &self.packet else { return };
            match packet.receive(&mut buffer) {
                Ok(Some((bytes, checksum))) => {
                    if let Some(source) = bytes.get(6..12).and_then(|mac| mac.try_into().ok()) {
                        self.server_mac = HardwareAddr(source);
                    }
                    self.client.handle(Input::Frame { bytes, checksum }, now());
                }
                // ENETDOWN is told once by the socket and properly by netlink.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn read_udp(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..BATCH {
            let Some(udp) = &self.udp else { return };
            // Errors are ICMP answers to what was sent: the retransmission deals with them.
            let Ok((len, source_port)) = sys::receive_udp(udp.as_fd(), &mut buffer) else { return };
            let payload = buffer.get(..len).unwrap_or_default();
            self.client.handle(Input::Datagram { source_port, payload }, now());
        }
    }

    fn tell_ignored(&mut self) {
        let fresh: Vec<_> = self
            .client
            .ignored()
            .map(|(reason, _)| reason)
            .filter(|reason| !self.reasons_told.contains(reason))
            .collect();
        for reason in fresh {
            self.reasons_told.push(reason);
            self.tell(&Notice::Ignored(reason));
        }
    }

    /// Does what the client says until it has nothing more to say.
    fn drain(&mut self) -> Result<Option<Duration>> {
        loop {
            match self.client.poll() {
                Output::Transmit(transmit) => self.transmit(&transmit)?,
                Output::Event(event) => self.event(event)?,
                Output::Timeout(at) => {
                    // Only now, with the address in place: closing waits for an RCU grace period.
                    if self.udp.is_some()
                        && matches!(self.client.lease(), Some(lease) if self.applied.as_ref() == Some(lease))
                    {
                        self.packet = None;
                    }
                    return Ok(at);
                }
            }
        }
    }

    fn transmit(&mut self, transmit: &Transmit) -> Result<()> {
        let sent = match transmit {
            Transmit::Frame(frame) => self.send_frame(frame)?,
            Transmit::Datagram { source, destination, payload } => match &self.udp {
                Some(udp) => {
                    sys::send_udp(udp.as_fd(), *source, *destination, SERVER_PORT, payload)
                }
                None => self.send_framed_datagram(*source, *destination, payload)?,
            },
        };
        // The client sends again in time.
        if let Err(error) = sent {
            self.problem("send", error);
        }
        Ok(())
    }

    fn send_frame(&mut self, frame: &[u8]) -> Result<io::Result<()>> {
        let packet = match self.packet.take() {
            Some(packet) => packet,
            None => {
                PacketSocket::open(self.index).map_err(|source| match source.raw_os_error() {
                    Some(libc::ENODEV | libc::ENXIO) => Error::Gone(self.name.to_owned()),
                    _ => self.failed("open packet socket")(source),
                })?
            }
        };
        let sent = packet.send(frame);
        self.packet = Some(packet);
        Ok(sent)
    }

    /// Without the address on the interface, an ordinary socket cannot send from it: the frame goes
    /// to whoever brought the last reply.
    fn send_framed_datagram(
        &mut self,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        payload: &[u8],
    ) -> Result<io::Result<()>> {
        let destination_mac =
            if destination.is_broadcast() { HardwareAddr::BROADCAST } else { self.server_mac };
        let to = Endpoints {
            source_mac: self.mac,
            destination_mac,
            source,
            destination,
            source_port: CLIENT_PORT,
            destination_port: SERVER_PORT,
        };
        match udp::encode(&to, payload) {
            Some(frame) => self.send_frame(&frame),
            None => Ok(Err(io::ErrorKind::InvalidInput.into())),
        }
    }

    fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Sent { kind, attempt } => self.tell(&Notice::Sent { kind, attempt }),
            Event::StillTrying { elapsed } => self.tell(&Notice::StillTrying { elapsed }),
            Event::Refused => self.tell(&Notice::Refused),
            Event::Bound(lease) => {
                self.deadline = None;
                self.apply(&lease)?;
                self.tell(&Notice::Bound(&lease));
                self.bound = Some(lease);
            }
            Event::Renewed(lease) => {
                self.apply(&lease)?;
                self.tell(&Notice::Renewed(&lease));
            }
            Event::Lost { reason } => {
                self.withdraw();
                self.bound = None;
                self.tell(&Notice::Lost { reason });
            }
        }
        Ok(())
    }
}
