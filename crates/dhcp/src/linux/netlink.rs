//! As much rtnetlink as links need that are configured by a lease or by hand: links, addresses,
//! routes (rtnetlink(7), linux/rtnetlink.h).
//!
//! A message is `nlmsghdr` (16 bytes: length, type, flags, sequence, port), a fixed header by type,
//! and attributes (length, type, data, padded to 4 bytes), all in the host's byte order but for
//! addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::lease::{Lease, Route};
use crate::wire::HardwareAddr;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;
const F_REPLACE: u16 = 0x100;
const F_CREATE: u16 = 0x400;
const F_APPEND: u16 = 0x800;

const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;
const IFF_LOWER_UP: u32 = 0x1_0000;
const ARPHRD_ETHER: u16 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_MAX_MTU: u16 = 51;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;

const RTPROT_STATIC: u8 = 4;
const RTPROT_DHCP: u8 = 16;
const RT_TABLE_MAIN: u8 = 254;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTMGRP_LINK: u32 = 1;

const HEADER_LEN: usize = 16;
/// Room for one read: the kernel fills dumps in pieces of at most 32 KiB.
const BUFFER_LEN: usize = 32 * 1024;

/// A link as the kernel describes it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Link {
    /// Its index, by which everything else names it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<HardwareAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The greatest MTU that its driver takes; 0 where it does not say.
    pub max_mtu: u32,
    flags: u32,
    hardware: u16,
    /// Made by software (bridge, veth, VLAN …): the kernel names its kind.
    pub is_virtual: bool,
}

impl Link {
    /// Whether it is administratively up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// Whether it has carrier. Frames may still be dropped for a moment.
    #[must_use]
    pub const fn has_carrier(&self) -> bool {
        self.flags & IFF_LOWER_UP != 0
    }

    /// Carrier, and the kernel's queues know of it: frames are not dropped any more. The kernel looks
    /// at links once a second, so this can come a second after carrier while frames get through
    /// (`linkwatch_schedule_work` of `net/core/link_watch.c`).
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.flags & (IFF_LOWER_UP | IFF_RUNNING) == IFF_LOWER_UP | IFF_RUNNING
    }

    /// Whether it is Ethernet, and not the loopback.
    #[must_use]
    pub const fn is_ethernet(&self) -> bool {
        self.hardware == ARPHRD_ETHER && self.flags & IFF_LOOPBACK == 0
    }
}

/// News about a link.
#[derive(Debug)]
pub enum LinkNews {
    /// The link of this index changed.
    Changed(u32),
    /// The link of this index was removed.
    Gone(u32),
}

/// An address to put on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Length of its network's prefix in bits.
    pub prefix_len: u8,
    /// The broadcast address of an IPv4 network.
    pub broadcast: Option<Ipv4Addr>,
    /// After so long the kernel takes it away by itself; `None` is never.
    pub lifetime: Option<Duration>,
}

impl Address {
    pub(super) fn of(lease: &Lease, lifetime: Option<Duration>) -> Self {
        Self {
            address: lease.address.into(),
            prefix_len: lease.prefix_len,
            broadcast: lease.broadcast,
            lifetime,
        }
    }
}

/// Who a route comes from (rtnetlink's `rtm_protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Somebody's configuration.
    Static,
    /// A DHCP server.
    Dhcp,
}

/// A route over a link, in the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteTo {
    /// The first address of the destination; unspecified with prefix 0 is the default route.
    pub destination: IpAddr,
    /// Length of the destination's prefix in bits.
    pub prefix_len: u8,
    /// The next hop; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The address that packets are sent from, when it matters.
    pub source: Option<IpAddr>,
    /// Among routes to one destination the least wins.
    pub metric: u32,
    /// Who it comes from.
    pub origin: Origin,
}

impl RouteTo {
    pub(super) fn of(route: &Route, source: Ipv4Addr, metric: u32) -> Self {
        Self {
            destination: route.destination.into(),
            prefix_len: route.prefix_len,
            gateway: route.gateway.map(IpAddr::from),
            source: Some(source.into()),
            metric,
            origin: Origin::Dhcp,
        }
    }
}

/// A family's number, and an address's bytes.
fn family(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    }
}

/// A request under construction.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((F_REQUEST | flags).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend_from_slice(fixed);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, data: &[u8]) -> Self {
        let len = u16::try_from(4 + data.len()).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some(field) = self.0.get_mut(0..4) {
            field.copy_from_slice(&len.to_ne_bytes());
        }
        if let Some(field) = self.0.get_mut(8..12) {
            field.copy_from_slice(&sequence.to_ne_bytes());
        }
        self.0
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Splits a read into messages: type, sequence number, body.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = (u16_at(bytes, 4)?, u32_at(bytes, 8)?, bytes.get(HEADER_LEN..len)?);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Splits attributes: type (without flags), data.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let attribute = (u16_at(bytes, 2)? & 0x3fff, bytes.get(4..len)?);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

/// `struct ifinfomsg`: family, pad, type (2), index (4), flags (4), change (4).
fn link(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        hardware: u16_at(body, 2)?,
        index: u32_at(body, 4)?,
        flags: u32_at(body, 8)?,
        name: String::new(),
        mac: None,
        mtu: 1500,
        max_mtu: 0,
        is_virtual: false,
    };
    for (kind, data) in attributes(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => {
                let name = data.split(|byte| *byte == 0).next().unwrap_or_default();
                link.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_ADDRESS => link.mac = data.try_into().ok().map(HardwareAddr),
            IFLA_MTU => link.mtu = u32_at(data, 0).unwrap_or(link.mtu),
            IFLA_MAX_MTU => link.max_mtu = u32_at(data, 0).unwrap_or(0),
            IFLA_LINKINFO => link.is_virtual = true,
            _ => {}
        }
    }
    Some(link)
}

fn open(groups: u32, flags: SocketFlags) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC | flags,
        // Protocol 0, NETLINK_ROUTE.
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// A socket for requests. The kernel answers within the call, so reading never waits for long.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one.
    ///
    /// # Errors
    /// What the kernel says; so for all methods.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            socket: open(0, SocketFlags::empty())?,
            sequence: 0,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// Sends and reads until the acknowledgement or the end of the dump.
    fn ask(&mut self, request: Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        rustix::net::send(&self.socket, &bytes, SendFlags::NOSIGNAL)?;
        loop {
            let (len, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty())
            })?;
            for (kind, sequence, body) in messages(self.buffer.get(..len).unwrap_or_default()) {
                match kind {
                    _ if sequence != self.sequence => {}
                    ERROR => {
                        // 0 acknowledges; otherwise a negated errno.
                        let code = u32_at(body, 0).unwrap_or(0).cast_signed();
                        return match code {
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                        };
                    }
                    DONE => return Ok(()),
                    _ => each(kind, body),
                }
            }
        }
    }

    /// All links.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.ask(Request::new(GETLINK, F_DUMP, &[0; 16]), |kind, body| {
            if kind == NEWLINK {
                links.extend(link(body));
            }
        })?;
        Ok(links)
    }

    /// One link by name.
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub fn link(&mut self, name: &str) -> io::Result<Link> {
        let mut found = None;
        let mut name_with_nul = name.as_bytes().to_vec();
        name_with_nul.push(0);
        let request = Request::new(GETLINK, F_ACK, &[0; 16]).attribute(IFLA_IFNAME, &name_with_nul);
        self.ask(request, |kind, body| {
            if kind == NEWLINK {
                found = link(body);
            }
        })?;
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change_link(&mut self, index: u32, flags: u32, mtu: Option<u32>) -> io::Result<()> {
        let mut fixed = [0; 16];
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
        fixed[12..16].copy_from_slice(&flags.to_ne_bytes());
        let mut request = Request::new(NEWLINK, F_ACK, &fixed);
        if let Some(mtu) = mtu {
            request = request.attribute(IFLA_MTU, &mtu.to_ne_bytes());
        }
        self.ask(request, |_, _| {})
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_up(&mut self, index: u32) -> io::Result<()> {
        self.change_link(index, IFF_UP, None)
    }

    /// Sets the MTU in bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        self.change_link(index, 0, Some(mtu))
    }

    fn address(kind: u16, flags: u16, index: u32, address: &Address) -> Request {
        // struct ifaddrmsg: family, prefix length, flags, scope, index (4).
        let [a, b, c, d] = index.to_ne_bytes();
        let (family, bytes) = family(address.address);
        let fixed = [family, address.prefix_len, 0, RT_SCOPE_UNIVERSE, a, b, c, d];
        Request::new(kind, flags, &fixed)
            .attribute(IFA_LOCAL, &bytes)
            .attribute(IFA_ADDRESS, &bytes)
    }

    /// Adds an address, or refreshes its lifetime: the kernel takes it away in the end even when this
    /// process is gone by then.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_address(&mut self, index: u32, address: &Address) -> io::Result<()> {
        let seconds = address
            .lifetime
            .map_or(u32::MAX, |left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1));
        // struct ifa_cacheinfo: preferred, valid, created, updated.
        let mut lifetimes = [0; 16];
        lifetimes[0..4].copy_from_slice(&seconds.to_ne_bytes());
        lifetimes[4..8].copy_from_slice(&seconds.to_ne_bytes());
        let mut request = Self::address(NEWADDR, F_ACK | F_CREATE | F_REPLACE, index, address)
            .attribute(IFA_CACHEINFO, &lifetimes);
        if let Some(broadcast) = address.broadcast {
            request = request.attribute(IFA_BROADCAST, &broadcast.octets());
        }
        self.ask(request, |_, _| {})
    }

    /// Takes an address off.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` when it is not there.
    pub fn remove_address(&mut self, index: u32, address: &Address) -> io::Result<()> {
        self.ask(Self::address(DELADDR, F_ACK, index, address), |_, _| {})
    }

    fn route(kind: u16, flags: u16, index: u32, route: &RouteTo) -> Request {
        // struct rtmsg: family, destination and source length, TOS, table, protocol, scope, type,
        // flags (4).
        let (family_number, destination) = family(route.destination);
        let scope = match (kind, route.gateway) {
            (DELROUTE, _) => RT_SCOPE_NOWHERE,
            (_, None) if family_number == AF_INET => RT_SCOPE_LINK,
            _ => RT_SCOPE_UNIVERSE,
        };
        let origin = match route.origin {
            Origin::Static => RTPROT_STATIC,
            Origin::Dhcp => RTPROT_DHCP,
        };
        let fixed = [
            family_number,
            route.prefix_len,
            0,
            0,
            RT_TABLE_MAIN,
            origin,
            scope,
            RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let mut request = Request::new(kind, flags, &fixed)
            .attribute(RTA_OIF, &index.to_ne_bytes())
            .attribute(RTA_PRIORITY, &route.metric.to_ne_bytes());
        if let Some(source) = route.source {
            request = request.attribute(RTA_PREFSRC, &family(source).1);
        }
        if route.prefix_len > 0 {
            request = request.attribute(RTA_DST, &destination);
        }
        if let Some(gateway) = route.gateway {
            request = request.attribute(RTA_GATEWAY, &family(gateway).1);
        }
        request
    }

    /// Adds a route beside whatever routes there are to the same destination; one that is there
    /// already is fine.
    ///
    /// # Errors
    /// `ENETUNREACH` when the gateway is on no network of the link, or what else the kernel says.
    pub fn add_route(&mut self, index: u32, route: &RouteTo) -> io::Result<()> {
        let flags = F_ACK | F_CREATE | F_APPEND;
        match self.ask(Self::route(NEWROUTE, flags, index, route), |_, _| {}) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Removes a route.
    ///
    /// # Errors
    /// `ESRCH` when it is not there.
    pub fn remove_route(&mut self, index: u32, route: &RouteTo) -> io::Result<()> {
        self.ask(Self::route(DELROUTE, F_ACK, index, route), |_, _| {})
    }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A socket that hears of changes of links.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl LinkMonitor {
    /// Begins to listen.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: open(RTMGRP_LINK, SocketFlags::NONBLOCK)?, buffer: vec![0; BUFFER_LEN] })
    }

    /// All news there is now; `None` when the kernel dropped some (ENOBUFS), so that the caller must
    /// look for itself.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn drain(&mut self) -> io::Result<Option<Vec<LinkNews>>> {
        let mut news = Vec::new();
        let mut lost = false;
        // Bounded, so that a storm of news does not hold up the rest.
        for _ in 0..64 {
            match rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((len, _)) => {
                    for (kind, _, body) in messages(self.buffer.get(..len).unwrap_or_default()) {
                        match (kind, link(body)) {
                            (NEWLINK, Some(link)) => news.push(LinkNews::Changed(link.index)),
                            (DELLINK, Some(link)) => news.push(LinkNews::Gone(link.index)),
                            _ => {}
                        }
                    }
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::NOBUFS) => lost = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok((!lost).then_some(news))
    }
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_messages_end_the_iteration() {
        let whole = Request::new(NEWLINK, 0, &[0; 16]).attribute(IFLA_IFNAME, b"eth0\0").finish(3);
        assert_eq!(messages(&whole).count(), 1);
        let (_, _, body) = messages(&whole).next().unwrap();
        assert_eq!(link(body).unwrap().name, "eth0");
        for len in 0..whole.len() {
            assert_eq!(messages(&whole[..len]).count(), 0, "{len}");
        }
        for len in 0..body.len() {
            let _ = link(&body[..len]);
        }
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0, "length 0 does not loop");
        assert_eq!(messages(&[0; 32]).count(), 0, "length 0 does not loop");
    }
}
