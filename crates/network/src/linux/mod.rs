//! The Linux shell: reads a network namespace's state, and carries changes out (rtnetlink(7), generic
//! netlink for WireGuard, /proc/sys for what netlink cannot set).
//!
//! # Example: what a configuration would change here
//!
//! ```no_run
//! use kiln_network::{CommandLine, Config, difference, linux::Netlink, links, plan, target};
//!
//! let mut netlink = Netlink::open()?;
//! let (config, state) = (Config::default(), netlink.state()?);
//! let plan = plan(&config, &CommandLine::default(), &links(&config, &state));
//! let desired = target(&config, &plan, &Default::default(), &state);
//! for change in difference(&state, &desired) {
//!     println!("{change}");
//!     netlink.apply(&change)?;
//! }
//! # Ok::<(), kiln_network::linux::Error>(())
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::state::{AddressState, Kind, LinkState, Route, Rule, State};
use crate::{Change, CommandLine, Config, Plan, Problem, difference, links, plan, target};

mod keys;
mod read;
pub(crate) mod socket;
mod watch;
pub(crate) mod wire;
mod wireguard;
pub(crate) mod write;

pub use keys::read_keys;
pub use watch::Watch;

use read::RawLink;
use socket::Socket;
use wireguard::{Set, Wireguard};
use write::Verb;

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
const NEWRULE: u16 = 32;
const GETRULE: u16 = 34;

/// More of one kind than this are not read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Links. Default: 16,384.
    pub links: usize,
    /// Addresses. Default: 65,536.
    pub addresses: usize,
    /// Routes. Default: 200,000.
    pub routes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { links: 16_384, addresses: 65_536, routes: 200_000 }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel did not say what is there.
    #[error("read {what}: {source}")]
    Read {
        /// What of it.
        what: &'static str,
        /// What it said instead.
        source: io::Error,
    },
    /// The kernel did not do something.
    #[error("{change}: {source}")]
    Change {
        /// The command that would have done it.
        change: String,
        /// What it said.
        source: io::Error,
    },
    /// This thread is in another network namespace than it was when the socket was opened.
    #[error("{change}: /proc/sys is that of another network namespace here")]
    Elsewhere {
        /// The command that would have done it.
        change: String,
    },
}

/// What talks to the kernel about one network namespace: the one in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) socket: Socket,
    wireguard: Option<Wireguard>,
    /// Where it was opened.
    namespace: Option<(u64, u64)>,
    /// More than this is not read.
    pub limits: Limits,
    /// Whether IPv6 addresses are used at once, without asking whether others have them.
    pub without_dad: bool,
}

/// Device and inode of this thread's network namespace.
fn namespace() -> Option<(u64, u64)> {
    let found = fs::metadata("/proc/thread-self/ns/net").ok()?;
    Some((found.dev(), found.ino()))
}

/// What [`Netlink::converge`] found and did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// The last plan.
    pub plan: Plan,
    /// What cannot be done as it was said.
    pub problems: Vec<Problem>,
    /// The changes that were made.
    pub changes: Vec<Change>,
    /// Those that the kernel did not take.
    pub errors: Vec<Error>,
}

impl Netlink {
    /// Opens sockets in this thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(None)
            .map_err(|source| Error::Read { what: "a netlink socket", source })?;
        Ok(Self {
            socket,
            // A kernel without WireGuard has no such family.
            wireguard: Wireguard::open().ok(),
            namespace: namespace(),
            limits: Limits::default(),
            without_dad: false,
        })
    }

    /// What is there.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn state(&mut self) -> Result<State, Error> {
        let at = |what| move |source| Error::Read { what, source };
        let mut raw = self.links().map_err(at("links"))?;
        raw.sort_by_key(|raw| raw.link.index);
        let names: Vec<(u32, String)> =
            raw.iter().map(|raw| (raw.link.index, raw.link.name.clone())).collect();
        let name = |index: Option<u32>| {
            let found = names.iter().find(|(number, _)| Some(*number) == index);
            found.map(|(_, name)| name.clone())
        };
        let mut state = State::default();
        for RawLink { mut link, master, lower, primary, device } in raw {
            link.master = name(master);
            if let Some((bus, device)) = device {
                link.driver = driver(&bus, &device).or(link.driver);
            }
            match &mut link.kind {
                Some(Kind::Bond(bond)) => bond.primary = name(primary),
                Some(Kind::Vlan(vlan)) => vlan.parent = name(lower),
                Some(Kind::Veth { peer }) => *peer = name(lower),
                Some(Kind::Wireguard(tunnel)) => {
                    // Who may not ask sees the link all the same.
                    let found = self.wireguard().and_then(|family| family.tunnel(link.index));
                    *tunnel = found.ok();
                }
                _ => {}
            }
            state.links.push(link);
        }
        for (index, address) in self.addresses().map_err(at("addresses"))? {
            if let Some(link) = state.links.iter_mut().find(|link| link.index == index) {
                link.addresses.push(address);
            }
        }
        for (mut route, index) in self.routes().map_err(at("routes"))? {
            route.link = name(index);
            // Of a link that has come since, or of none.
            if route.link.is_some() || index.is_none() {
                state.routes.insert(route);
            }
        }
        state.rules = self.rules().map_err(at("rules"))?;
        Ok(state)
    }

    fn links(&mut self) -> io::Result<Vec<RawLink>> {
        let limit = self.limits.links;
        // RTEXT_FILTER_SKIP_STATS: nobody counts packets here.
        let fill = |message: wire::Message| message.u32(29, 8);
        self.socket.dump(GETLINK, &[0; 16], fill, |links: &mut Vec<RawLink>, received| {
            if received.kind == NEWLINK {
                links.extend(read::link(received.body));
            }
            bounded(links.len(), limit)
        })
    }

    fn addresses(&mut self) -> io::Result<Vec<(u32, AddressState)>> {
        type All = Vec<(u32, AddressState)>;
        let limit = self.limits.addresses;
        self.socket.dump(
            GETADDR,
            &[0; 8],
            |message| message,
            |all: &mut All, received| {
                if received.kind == NEWADDR {
                    all.extend(read::address(received.body));
                }
                bounded(all.len(), limit)
            },
        )
    }

    fn routes(&mut self) -> io::Result<Vec<(Route, Option<u32>)>> {
        type All = Vec<(Route, Option<u32>)>;
        let limit = self.limits.routes;
        let mut routes = All::new();
        for family in [read::AF_INET, read::AF_INET6] {
            let mut fixed = [0; 12];
            fixed[0] = family;
            let each = |all: &mut All, received: wire::Received<'_>| {
                if received.kind == NEWROUTE {
                    all.extend(read::route(received.body));
                }
                bounded(all.len(), limit)
            };
            routes.extend(self.socket.dump(GETROUTE, &fixed, |message| message, each)?);
        }
        Ok(routes)
    }

    fn rules(&mut self) -> io::Result<BTreeSet<Rule>> {
        let limit = self.limits.routes;
        let mut rules = BTreeSet::new();
        for family in [read::AF_INET, read::AF_INET6] {
            let mut fixed = [0; 12];
            fixed[0] = family;
            let each = |all: &mut BTreeSet<Rule>, received: wire::Received<'_>| {
                if received.kind == NEWRULE {
                    all.extend(read::rule(received.body));
                }
                bounded(all.len(), limit)
            };
            match self.socket.dump(GETRULE, &fixed, |message| message, each) {
                Ok(found) => rules.extend(found),
                // A kernel without rules of this family has none.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rules)
    }

    /// The number of a link.
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub(crate) fn index(&mut self, name: &str) -> io::Result<u32> {
        Ok(self.find(name)?.index)
    }

    /// A link, without the names of others.
    pub(crate) fn find(&mut self, name: &str) -> io::Result<LinkState> {
        let message = socket::request(GETLINK, 0, &[0; 16]).text(3, name);
        let mut found = None;
        self.socket.ask(message, |received| {
            if received.kind == NEWLINK {
                found = read::link(received.body);
            }
            Ok(())
        })?;
        found.map(|raw| raw.link).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn wireguard(&mut self) -> io::Result<&mut Wireguard> {
        if self.wireguard.is_none() {
            // Its module may have come meanwhile.
            self.wireguard = Some(Wireguard::open()?);
        }
        self.wireguard.as_mut().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Carries out one change. A link that is to go may have gone by itself meanwhile, as the kernel takes a
    /// pair away some time after the last process of the namespace at its other end.
    ///
    /// # Errors
    /// [`Error::Change`] with the command that would do the same, [`Error::Elsewhere`] where a setting
    /// in /proc is asked for from another network namespace.
    pub fn apply(&mut self, change: &Change) -> Result<(), Error> {
        let needs_proc = matches!(change, Change::AcceptRa { .. } | Change::DisableIpv6 { .. });
        if needs_proc && namespace() != self.namespace {
            return Err(Error::Elsewhere { change: change.to_string() });
        }
        self.try_apply(change)
            .map_err(|source| Error::Change { change: change.to_string(), source })
    }

    fn try_apply(&mut self, change: &Change) -> io::Result<()> {
        let message = match change {
            Change::AddLink { name, kind, group } => {
                let lower = match kind {
                    Kind::Vlan(vlan) => {
                        let parent = vlan.parent.as_deref().ok_or(io::ErrorKind::InvalidInput)?;
                        Some(self.index(parent)?)
                    }
                    _ => None,
                };
                write::add_link(name, kind, *group, lower)
            }
            Change::RemoveLink { name } => {
                let removed = self
                    .index(name)
                    .and_then(|index| self.socket.change(write::remove_link(index)));
                return match removed {
                    Err(error) if is_no_device(&error) => Ok(()),
                    removed => removed,
                };
            }
            Change::MarkLink { name } => write::set_group(self.index(name)?),
            Change::SetKind { name, kind } => {
                let primary = match kind {
                    Kind::Bond(bond) => bond.primary.as_deref(),
                    _ => None,
                };
                let primary = primary.map(|name| self.index(name)).transpose()?;
                write::set_kind(self.index(name)?, kind, primary)
            }
            Change::SetTunnel { name, private_key, listen_port, mark, peers, forget } => {
                let index = self.index(name)?;
                let set = Set {
                    private_key: private_key.as_ref(),
                    listen_port: *listen_port,
                    mark: *mark,
                    peers,
                    forget,
                };
                return self.wireguard()?.set(index, &set);
            }
            Change::SetMtu { link, mtu } => write::set_mtu(self.index(link)?, *mtu),
            Change::SetMaster { link, master } => {
                let master = master.as_deref().map(|master| self.index(master)).transpose()?;
                write::set_master(self.index(link)?, master.unwrap_or(0))
            }
            Change::SetUp { link, up } => write::set_up(self.index(link)?, *up),
            Change::AcceptRa { link, value } => return set_ipv6(link, "accept_ra", *value),
            Change::DisableIpv6 { link, disable } => {
                return set_ipv6(link, "disable_ipv6", u32::from(*disable));
            }
            // IPV4_DEVCONF_PROMOTE_SECONDARIES.
            Change::PromoteSecondaries { link } => write::set_ipv4(self.index(link)?, 20, 1),
            Change::AddAddress { link, net, protocol } => {
                write::address(self.index(link)?, *net, Some(*protocol), self.without_dad)
            }
            Change::RemoveAddress { link, net } => {
                write::address(self.index(link)?, *net, None, false)
            }
            Change::AddRoute(route) => self.route(route, Verb::Add)?,
            Change::ReplaceRoute(route) => self.route(route, Verb::Replace)?,
            Change::RemoveRoute(route) => self.route(route, Verb::Remove)?,
            Change::AddRule(rule) => write::rule(rule, true),
            Change::RemoveRule(rule) => write::rule(rule, false),
        };
        self.socket.change(message)
    }

    fn route(&mut self, route: &Route, verb: Verb) -> io::Result<wire::Message> {
        let index = route.link.as_deref().map(|link| self.index(link)).transpose()?;
        Ok(write::route(route, index, verb))
    }

    /// Makes what is there as it should be. What the kernel does not take is told, and the rest is
    /// done; what only shows when something else was done is done in a second turn.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn converge(
        &mut self,
        config: &Config,
        command_line: &CommandLine,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let (keys, problems) = read_keys(config);
        for _ in 0..3 {
            let state = self.state()?;
            outcome.plan = plan(config, command_line, &links(config, &state));
            let desired = target(config, &outcome.plan, &keys, &state);
            outcome.problems.clone_from(&problems);
            outcome.problems.extend(outcome.plan.problems.iter().cloned());
            outcome.problems.extend(desired.problems.iter().cloned());
            let changes = difference(&state, &desired);
            outcome.errors.clear();
            if changes.is_empty() {
                break;
            }
            for change in changes {
                match self.apply(&change) {
                    Ok(()) => outcome.changes.push(change),
                    Err(error) => outcome.errors.push(error),
                }
            }
        }
        Ok(outcome)
    }
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn bounded(len: usize, limit: usize) -> io::Result<()> {
    if len <= limit { Ok(()) } else { Err(io::Error::other(format!("more than {limit}"))) }
}

/// The driver of a device. /sys/bus is the same in every network namespace.
fn driver(bus: &str, device: &str) -> Option<String> {
    let link = Path::new("/sys/bus").join(bus).join("devices").join(device).join("driver");
    Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
}

fn set_ipv6(link: &str, setting: &str, value: u32) -> io::Result<()> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(link).join(setting);
    fs::write(path, value.to_string())
}
