//! Which interfaces there are, and waiting for one.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::netlink::{Link, LinkMonitor, Netlink};
use super::{Error, Result, now, system};
use crate::wire::HardwareAddr;

/// An Ethernet interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its hardware address.
    pub mac: HardwareAddr,
    /// Administratively up.
    pub up: bool,
    /// The link has carrier, so frames get through, or soon will (always `false` while not up).
    pub carrier: bool,
    /// A device on a bus (`/sys/class/net/NAME/device` exists). Where /sys is not mounted: the
    /// kernel names no kind of virtual link for it.
    pub physical: bool,
    /// The driver behind the device, when /sys tells.
    pub driver: Option<String>,
}

impl Interface {
    fn from_link(link: &Link) -> Option<Self> {
        let mac = link.mac.filter(|mac| link.is_ethernet() && mac.is_unicast())?;
        let class = Path::new("/sys/class/net");
        let device = class.join(&link.name).join("device");
        let physical =
            if class.join(&link.name).exists() { device.exists() } else { !link.is_virtual };
        let driver = fs::read_link(device.join("driver"))
            .ok()
            .and_then(|target| Some(target.file_name()?.to_str()?.to_owned()));
        Some(Self {
            name: link.name.clone(),
            index: link.index,
            mac,
            up: link.is_up(),
            carrier: link.has_carrier(),
            physical,
            driver,
        })
    }
}

fn list(netlink: &mut Netlink) -> Result<Vec<Interface>> {
    let links = netlink.links().map_err(system("list links"))?;
    let mut interfaces: Vec<_> = links.iter().filter_map(Interface::from_link).collect();
    // eth2 before eth10.
    interfaces.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    Ok(interfaces)
}

/// The Ethernet interfaces of this network namespace (the loopback is none), in order of name with
/// shorter names first.
///
/// # Errors
/// [`Error::System`] when netlink does not work.
pub fn interfaces() -> Result<Vec<Interface>> {
    list(&mut Netlink::open().map_err(system("open netlink"))?)
}

/// The first interface that `filter` accepts, waiting for one to appear (a driver may still be
/// loading) for at most `deadline`, or for ever without one. Wakes on news from the kernel.
///
/// ```no_run
/// # use std::time::Duration;
/// let eth = kiln_dhcp::linux::wait_for_interface(|i| i.physical, Some(Duration::from_secs(10)))?;
/// # Ok::<(), kiln_dhcp::linux::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoInterface`] when the time is over, [`Error::System`] when netlink does not work.
pub fn wait_for_interface(
    filter: impl Fn(&Interface) -> bool,
    deadline: Option<Duration>,
) -> Result<Interface> {
    // Listen first, look then: what appears in between is news.
    let mut monitor = LinkMonitor::open().map_err(system("open netlink"))?;
    let mut netlink = Netlink::open().map_err(system("open netlink"))?;
    let start = now();
    loop {
        if let Some(found) = list(&mut netlink)?.into_iter().find(&filter) {
            return Ok(found);
        }
        let left = match deadline {
            None => None,
            Some(deadline) => {
                let left = deadline.saturating_sub(now().saturating_sub(start));
                if left.is_zero() {
                    return Err(Error::NoInterface(deadline));
                }
                Timespec::try_from(left).ok()
            }
        };
        let mut fds = [PollFd::from_borrowed_fd(monitor.as_fd(), PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(system("poll")(error.into())),
        }
        monitor.drain().map_err(system("read netlink"))?;
    }
}
