//! The host's side: what has to be done for a network and its containers, and doing it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use super::book::{self, Kept};
use super::nft::Nftables;
use super::step::{Step, What};
use super::{Book, BridgeNetwork, CONTAINERS, Error, Forward, Lease, Namespace, PROTOCOL};
use crate::config::everywhere;
use crate::linux::{Netlink, write};
use crate::state::{BridgeKind, Kind, Route, State};
use crate::{Change, Desired, DesiredLink, Mac, difference};

/// The name that a container's link has inside.
const INSIDE: &str = "eth0";

/// IPV4_DEVCONF_ROUTE_LOCALNET (linux/ip.h).
const ROUTE_LOCALNET: u16 = 26;

/// The networks of containers of this namespace, with a directory that has a book for each. The
/// directory should not outlive the kernel: /run is right.
///
/// Everything may be called again: what is there stays. Whoever is killed in between leaves something
/// that the next call with the same arguments completes, or gives back.
#[derive(Debug, Clone)]
pub struct Networks {
    directory: PathBuf,
    /// Whether steps are only told. Default: no.
    pub dry_run: bool,
}

/// A container that is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// What it has.
    pub lease: Lease,
    /// The text for its /etc/resolv.conf.
    pub resolv_conf: String,
    /// What was done.
    pub steps: Vec<Step>,
}

impl Networks {
    /// With their books in a directory, which is made when it is needed.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), dry_run: false }
    }

    fn path(&self, network: &BridgeNetwork) -> PathBuf {
        self.directory.join(format!("{}.json", network.name))
    }

    fn open(&self, network: &BridgeNetwork) -> Result<Kept, Error> {
        let problems = network.check();
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let path = self.path(network);
        Kept::open(&self.directory, &network.name).map_err(|source| Error::Book { path, source })
    }

    /// What a network has given, as it is now.
    ///
    /// # Errors
    /// [`Error::Book`].
    pub fn book(&self, network: &BridgeNetwork) -> Result<Book, Error> {
        let path = self.path(network);
        let found = book::read(&path).map_err(|source| Error::Book { path, source })?;
        Ok(found.unwrap_or_default())
    }

    /// Sets a network up: the bridge, its addresses, forwarding, the firewall.
    ///
    /// # Errors
    /// [`Error`]; so for all methods.
    pub fn up(&self, network: &BridgeNetwork) -> Result<Vec<Step>, Error> {
        let kept = self.open(network)?;
        let mut host = Host::open()?;
        let state = host.netlink.state()?;
        self.perform(&mut host, None, up_steps(network, &state, &kept.book)?)
    }

    /// Attaches a container: gives it addresses, a link in its namespace with them and a default
    /// route, and ports of the host.
    ///
    /// # Errors
    /// [`Error`]; what was done is undone.
    pub fn attach(
        &self,
        network: &BridgeNetwork,
        owner: &str,
        namespace: &Namespace,
        forwards: &[Forward],
    ) -> Result<Attached, Error> {
        check_owner(owner)?;
        let no_way = |forward: &&Forward| {
            forward.address.is_some_and(|one| one.is_ipv6() && one.is_loopback())
        };
        if let Some(forward) = forwards.iter().find(no_way) {
            let what = format!("{forward}: nothing from ::1 can be sent over a link");
            return Err(Error::Asked(what));
        }
        let mut kept = self.open(network)?;
        let mut host = Host::open()?;
        let state = host.netlink.state()?;
        let mut steps = reap(&mut kept.book, &state, owner);
        let lease = kept.book.take(owner, &network.gateways, forwards)?;
        let addresses: Vec<String> = lease.addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(", ");
        steps.push(Step(What::Lease { owner: owner.into(), addresses }));
        // Before anything has the address: who is killed now has left a lease without a link.
        self.save(network, &kept)?;
        let mut made = || -> Result<Vec<Step>, Error> {
            let inner = inside(namespace, owner, Netlink::state)?;
            steps.extend(up_steps(network, &state, &kept.book)?);
            steps.extend(attach_steps(network, &lease, &state, &inner)?);
            self.perform(&mut host, Some((namespace, owner)), std::mem::take(&mut steps))
        };
        match made() {
            Ok(steps) => Ok(Attached { lease, resolv_conf: network.resolv_conf(), steps }),
            Err(error) => {
                // The first error is the one that tells.
                let _ = self.undo(network, &mut host, &mut kept, owner);
                Err(error)
            }
        }
    }

    /// Takes everything from a container: link, ports, addresses. One that has nothing is fine.
    ///
    /// # Errors
    /// [`Error`].
    pub fn detach(&self, network: &BridgeNetwork, owner: &str) -> Result<Vec<Step>, Error> {
        let mut kept = self.open(network)?;
        self.undo(network, &mut Host::open()?, &mut kept, owner)
    }

    /// Takes everything from containers that are not alive.
    ///
    /// # Errors
    /// [`Error`].
    pub fn sweep(
        &self,
        network: &BridgeNetwork,
        mut is_alive: impl FnMut(&str) -> bool,
    ) -> Result<Vec<Step>, Error> {
        let mut kept = self.open(network)?;
        let mut host = Host::open()?;
        let owners: Vec<String> = kept.book.leases().map(|lease| lease.owner.clone()).collect();
        let mut steps = Vec::new();
        for owner in owners.iter().filter(|owner| !is_alive(owner)) {
            steps.extend(self.undo(network, &mut host, &mut kept, owner)?);
        }
        Ok(steps)
    }

    /// Removes a network: links of containers, firewall, bridge, book. That packets are forwarded
    /// stays, for others may want it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn down(&self, network: &BridgeNetwork) -> Result<Vec<Step>, Error> {
        let kept = self.open(network)?;
        let mut host = Host::open()?;
        let state = host.netlink.state()?;
        let mut steps = vec![Step(What::NoTable(network.table_name()))];
        let links = kept.book.leases().map(|lease| lease.link.clone());
        for name in links.chain([network.bridge.clone()]) {
            if state.link(&name).is_some_and(|link| link.group == CONTAINERS) {
                steps.push(Step(What::Change(Change::RemoveLink { name })));
            }
        }
        let steps = self.perform(&mut host, None, steps)?;
        if !self.dry_run {
            let path = self.path(network);
            kept.forget().map_err(|source| Error::Book { path, source })?;
        }
        Ok(steps)
    }

    fn save(&self, network: &BridgeNetwork, kept: &Kept) -> Result<(), Error> {
        if self.dry_run {
            return Ok(());
        }
        let path = self.path(network);
        kept.save().map_err(|source| Error::Book { path, source })
    }

    fn undo(
        &self,
        network: &BridgeNetwork,
        host: &mut Host,
        kept: &mut Kept,
        owner: &str,
    ) -> Result<Vec<Step>, Error> {
        let Some(lease) = kept.book.give_back(owner) else { return Ok(Vec::new()) };
        let mut steps = Vec::new();
        let link = host.netlink.find(&lease.link);
        if link.is_ok_and(|link| link.group == CONTAINERS) {
            steps.push(Step(What::Change(Change::RemoveLink { name: lease.link })));
        }
        steps.push(Step(What::Table(network.table(kept.book.leases()))));
        steps.push(Step(What::GiveBack { owner: owner.into() }));
        let steps = self.perform(host, None, steps)?;
        // Last: an address is free when nothing has it any more.
        self.save(network, kept)?;
        Ok(steps)
    }

    fn perform(
        &self,
        host: &mut Host,
        container: Option<(&Namespace, &str)>,
        steps: Vec<Step>,
    ) -> Result<Vec<Step>, Error> {
        if self.dry_run {
            return Ok(steps);
        }
        // What happens inside happens on one thread there.
        let mut inner: Vec<&Change> = Vec::new();
        for step in &steps {
            match &step.0 {
                What::Inside(change) => inner.push(change),
                what => host.perform(what, container).map_err(|error| step.failed(error))?,
            }
        }
        if let (Some((namespace, owner)), false) = (container, inner.is_empty()) {
            inside(namespace, owner, |netlink| {
                netlink.without_dad = true;
                inner.iter().try_for_each(|change| netlink.apply(change))
            })?;
        }
        Ok(steps)
    }
}

impl Step {
    fn failed(&self, source: io::Error) -> Error {
        Error::Step { step: self.name(), source }
    }
}

/// Does something in a container's namespace.
fn inside<T: Send>(
    namespace: &Namespace,
    owner: &str,
    what: impl FnOnce(&mut Netlink) -> Result<T, crate::linux::Error> + Send,
) -> Result<T, Error> {
    let done = namespace.run(|| what(&mut Netlink::open()?));
    let done = done.map_err(|source| Error::Namespace { owner: owner.to_owned(), source })?;
    Ok(done?)
}

/// What an owner may be called: it is written on links and in files.
fn check_owner(owner: &str) -> Result<(), Error> {
    let is_good = |c: char| c.is_ascii_graphic() && c != '/' && c != '"' && c != '\\';
    if (1..=128).contains(&owner.len()) && owner.chars().all(is_good) {
        return Ok(());
    }
    let shown: String = owner.chars().take(140).flat_map(char::escape_default).collect();
    let expected = "expected 1 to 128 letters, digits and signs, without spaces, / \" and \\";
    Err(Error::Asked(format!("owner \"{shown}\": {expected}")))
}

/// Gives back what owners had whose links are gone: with the last process of a namespace its links go,
/// and who was killed before it had made one has none.
fn reap(book: &mut Book, state: &State, but: &str) -> Vec<Step> {
    let is_dead = |lease: &&Lease| lease.owner != but && state.link(&lease.link).is_none();
    let dead: Vec<String> =
        book.leases().filter(is_dead).map(|lease| lease.owner.clone()).collect();
    let give_back = |owner: String| {
        book.give_back(&owner);
        Step(What::GiveBack { owner })
    };
    dead.into_iter().map(give_back).collect()
}

fn up_steps(network: &BridgeNetwork, state: &State, book: &Book) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let mut change = |change| steps.push(Step(What::Change(change)));
    let bridge = network.bridge.clone();
    let there = state.link(&bridge);
    match there {
        None => change(Change::AddLink {
            name: bridge.clone(),
            kind: Kind::Bridge(BridgeKind::default()),
            group: CONTAINERS,
        }),
        Some(link) if matches!(link.kind, Some(Kind::Bridge(_))) => {}
        Some(_) => return Err(Error::Asked(format!("{bridge} is there, and is no bridge"))),
    }
    let ours = there.is_none_or(|there| there.group == CONTAINERS);
    let mac = address_of(&bridge);
    let address = (ours && there.is_none_or(|there| there.mac != Some(mac)))
        .then(|| Step(What::Address { bridge: bridge.clone(), mac }));
    if let Some(mtu) = network.mtu.filter(|mtu| there.is_none_or(|there| there.mtu != *mtu)) {
        change(Change::SetMtu { link: bridge.clone(), mtu });
    }
    for net in &network.gateways {
        let has = there.is_some_and(|there| there.addresses.iter().any(|one| one.net == *net));
        if !has {
            change(Change::AddAddress { link: bridge.clone(), net: *net, protocol: PROTOCOL });
        }
    }
    // Ours alone: a bridge that others made may have further addresses.
    let old = there.into_iter().flat_map(|there| &there.addresses);
    for one in old.filter(|one| one.protocol == PROTOCOL && !network.gateways.contains(&one.net)) {
        change(Change::RemoveAddress { link: bridge.clone(), net: one.net });
    }
    if there.is_none_or(|there| !there.up) {
        change(Change::SetUp { link: bridge.clone(), up: true });
    }
    // before anybody speaks to it
    let after = usize::from(there.is_none());
    steps.splice(after..after, address);
    let sysctl = |path: &str, value| Step(What::Sysctl { path: path.into(), value });
    let has = |v4: bool| network.gateways.iter().any(|net| net.addr().is_ipv4() == v4);
    if has(true) {
        if read_sysctl("net/ipv4/ip_forward") != Some(1) {
            steps.push(sysctl("net/ipv4/ip_forward", 1));
        }
        steps.push(Step(What::RouteLocalnet { bridge }));
    }
    let all = "net/ipv6/conf/all/forwarding";
    if has(false) && read_sysctl(all) != Some(1) {
        // Who forwards does not believe router advertisements, unless told so.
        for link in state.links.iter().filter(|link| link.accept_ra == Some(1) && link.name != "lo")
        {
            let (link, value) = (link.name.clone(), 2);
            steps.push(Step(What::Change(Change::AcceptRa { link, value })));
        }
        steps.push(sysctl(all, 1));
    }
    steps.push(Step(What::Table(network.table(book.leases()))));
    Ok(steps)
}

/// The hardware address of a bridge: one that is nobody's (IEEE 802, locally administered), and the same each
/// time. FNV-1a of its name: bridges of one machine differ.
fn address_of(bridge: &str) -> Mac {
    let hash = bridge.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let [a, b, c, d, e, ..] = hash.to_le_bytes();
    Mac([0x02, a, b, c, d, e])
}

/// `inner` is the state of the container's namespace.
fn attach_steps(
    network: &BridgeNetwork,
    lease: &Lease,
    state: &State,
    inner: &State,
) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let alias = format!("{} {}", network.name, lease.owner);
    let link = lease.link.clone();
    let has_alias = |state: &State, name: &str| {
        state.link(name).is_some_and(|link| link.alias.as_ref() == Some(&alias))
    };
    let is_there = has_alias(state, &link) && has_alias(inner, INSIDE);
    let mut now = inner.clone();
    if !is_there {
        if let Some(old) = state.link(&link) {
            if old.group != CONTAINERS {
                return Err(Error::Asked(format!("there is a link {link}, of somebody else")));
            }
            // With its other end.
            steps.push(Step(What::Change(Change::RemoveLink { name: link.clone() })));
            now.links.retain(|link| link.name != INSIDE || !has_alias(inner, INSIDE));
        }
        if now.link(INSIDE).is_some() {
            let what = format!("{} has a link {INSIDE} already", lease.owner);
            return Err(Error::Asked(what));
        }
        steps.push(Step(What::Pair { link: link.clone(), peer: INSIDE }));
        let (peer, link) = (Some(link.clone()), INSIDE.to_owned());
        let pair = Change::AddLink { name: link, kind: Kind::Veth { peer }, group: CONTAINERS };
        // For the thought: its other end is elsewhere.
        let _ = now.apply(&pair);
    }
    if let Some(mtu) = network.mtu.filter(|mtu| state.link(&link).is_none_or(|one| one.mtu != *mtu))
    {
        steps.push(Step(What::Change(Change::SetMtu { link: link.clone(), mtu })));
    }
    let there = state.link(&link).filter(|_| is_there);
    if there.is_none_or(|there| there.master.as_ref() != Some(&network.bridge)) {
        let master = Some(network.bridge.clone());
        steps.push(Step(What::Change(Change::SetMaster { link: link.clone(), master })));
        steps.push(Step(What::Hairpin { link: link.clone() }));
    }
    if there.is_none_or(|there| !there.up) {
        steps.push(Step(What::Change(Change::SetUp { link: link.clone(), up: true })));
    }
    let wanted = inside_desired(network, lease);
    if inner.link("lo").is_some_and(|lo| !lo.up) {
        steps.push(Step(What::Inside(Change::SetUp { link: "lo".into(), up: true })));
    }
    steps.extend(difference(&now, &wanted).into_iter().map(|change| Step(What::Inside(change))));
    if !is_there {
        // Last: what it is written on is whole.
        steps.push(Step(What::Alias { link, alias }));
    }
    Ok(steps)
}

/// What a container has inside.
fn inside_desired(network: &BridgeNetwork, lease: &Lease) -> Desired {
    let mut desired = Desired::default();
    desired.links.push(DesiredLink {
        name: INSIDE.to_owned(),
        up: true,
        mtu: network.mtu,
        addresses: lease.addresses.clone(),
        // It is told all that it needs.
        accept_ra: None,
        ..DesiredLink::default()
    });
    for gateway in &network.gateways {
        let v4 = gateway.addr().is_ipv4();
        desired.routes.insert(Route {
            via: Some(gateway.addr()),
            metric: if v4 { 0 } else { 1024 },
            ..Route::new(everywhere(v4), INSIDE)
        });
    }
    desired
}

fn read_sysctl(path: &str) -> Option<u32> {
    fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok()
}

/// What talks to the kernel about this thread's namespace.
#[derive(Debug)]
struct Host {
    netlink: Netlink,
    firewall: Option<Nftables>,
}

impl Host {
    fn open() -> Result<Self, Error> {
        let mut netlink = Netlink::open()?;
        // A bridge without members has no carrier, so nobody would answer.
        netlink.without_dad = true;
        Ok(Self { netlink, firewall: None })
    }

    fn firewall(&mut self) -> io::Result<&mut Nftables> {
        if self.firewall.is_none() {
            self.firewall = Some(Nftables::open()?);
        }
        self.firewall.as_mut().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn perform(&mut self, what: &What, container: Option<(&Namespace, &str)>) -> io::Result<()> {
        match what {
            What::Change(change) => self.netlink.apply(change).map_err(|error| match error {
                crate::linux::Error::Change { source, .. } => source,
                error => io::Error::other(error),
            }),
            What::Pair { link, peer } => {
                let (namespace, _) = container.ok_or(io::ErrorKind::InvalidInput)?;
                let fd = namespace.as_fd().as_raw_fd();
                self.netlink.socket.change(write::add_pair(link, CONTAINERS, peer, fd))
            }
            What::Hairpin { link } => {
                let index = self.netlink.index(link)?;
                self.netlink.socket.change(write::set_hairpin(index))
            }
            What::Address { bridge, mac } => {
                let index = self.netlink.index(bridge)?;
                self.netlink.socket.change(write::set_address(index, *mac))
            }
            What::Alias { link, alias } => {
                let index = self.netlink.index(link)?;
                self.netlink.socket.change(write::set_alias(index, alias))?;
                let (namespace, owner) = container.ok_or(io::ErrorKind::InvalidInput)?;
                let inner = inside(namespace, owner, |netlink| {
                    let index = netlink.index(INSIDE);
                    Ok(index.and_then(|at| netlink.socket.change(write::set_alias(at, alias))))
                });
                inner.map_err(io::Error::other)?
            }
            What::Sysctl { path, value } => {
                fs::write(Path::new("/proc/sys").join(path), value.to_string())
            }
            What::RouteLocalnet { bridge } => {
                let index = self.netlink.index(bridge)?;
                self.netlink.socket.change(write::set_ipv4(index, ROUTE_LOCALNET, 1))
            }
            What::Table(table) => self.firewall()?.replace(table),
            What::NoTable(name) => self.firewall()?.remove(name),
            // The book is written by who holds it.
            What::Inside(_) | What::Lease { .. } | What::GiveBack { .. } => Ok(()),
        }
    }
}
