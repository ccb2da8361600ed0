//! The network service: does to links what the plan says, for as long as the machine runs.
//!
//! What a link should be like is [`kiln_network`]'s to say, and to do: bonds, VLANs, bridges and tunnels
//! are made, addresses and routes set. Here one thread hears of links, one thread a link keeps a DHCP
//! lease, and the main one puts together what they say: resolv.conf, the machine's name, time servers,
//! and whether the network is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use kiln_dhcp::Lease;
use kiln_dhcp::linux::{self, LinkMonitor, Notice, RunOptions};
use kiln_network::linux::{Netlink, read_keys};
use kiln_network::{
    CommandLine, Config, LinkPlan, Plan, State, difference, hosts, links, plan, resolv_conf, target,
};
use kiln_supervisor::pid1::host;
use rustix::event::{PollFd, PollFlags, poll};

use crate::console::tell;
use crate::{NOTES, Ready, SETTINGS, System, files, time};

/// How often the console is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long everything is looked at again, whatever was heard.
const AGAIN: Duration = Duration::from_secs(60);

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

fn say(what: impl std::fmt::Display) {
    tell("network", what);
}

/// What threads tell the main one.
enum News {
    /// Links may have come or gone.
    Links,
    /// A link has a lease, or none any more.
    Lease(String, u32, Option<Box<Lease>>),
    /// A link's DHCP client has ended.
    Ended(String, u32),
}

/// The service. Ready when [`Plan::is_ready`] says so.
pub(crate) fn run(system: &System, is_ready: &dyn Fn()) -> ExitCode {
    let path = Path::new(SETTINGS).join("network.toml");
    let config = match files::read(&path) {
        Ok(None) => Config::default(),
        Ok(Some(text)) => kiln_network::from_toml(&text).unwrap_or_else(|error| {
            for line in error.to_string().lines() {
                say(format_args!("{}: {line}", path.display()));
            }
            say(format_args!("{}: left out", path.display()));
            Config::default()
        }),
        Err(error) => {
            say(format_args!("{}: {error}: left out", path.display()));
            Config::default()
        }
    };
    let (command_line, problems) = CommandLine::parse(&files::command_line());
    for problem in problems {
        say(problem);
    }
    // Listen first, look then: what changes in between is news.
    let (sender, news) = mpsc::channel();
    let monitor = LinkMonitor::open().map_err(|error| error.to_string()).and_then(|monitor| {
        let sender = sender.clone();
        let listen = move || listen(monitor, &sender);
        std::thread::Builder::new().spawn(listen).map_err(|error| error.to_string())
    });
    if let Err(error) = monitor {
        say(format_args!("hear of links: {error}"));
    }
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(error) => {
            say(error);
            return ExitCode::FAILURE;
        }
    };
    let mut service = Service {
        config,
        command_line,
        sender,
        known: Vec::new(),
        links: BTreeMap::new(),
        plan: Plan::default(),
        resolv_conf: None,
        servers: None,
        name: None,
        told: BTreeSet::new(),
        done: false,
        ready: false,
        then: system.network_ready.clone(),
    };
    service.look(&mut netlink);
    loop {
        let patience = if service.ready { AGAIN } else { PATIENCE };
        match news.recv_timeout(patience) {
            Ok(News::Links) => service.look(&mut netlink),
            Ok(News::Lease(link, index, lease)) => service.lease(&link, index, lease),
            Ok(News::Ended(link, index)) => {
                service.links.retain(|name, kept| *name != link || kept.index != index);
            }
            Err(RecvTimeoutError::Timeout) => {
                service.look(&mut netlink);
                service.wait_aloud();
            }
            Err(RecvTimeoutError::Disconnected) => return ExitCode::FAILURE,
        }
        if service.settle() {
            is_ready();
        }
    }
}

fn listen(mut monitor: LinkMonitor, sender: &Sender<News>) {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(monitor.as_fd(), PollFlags::IN)];
        let _ = poll(&mut fds, None);
        if monitor.drain().is_err() || sender.send(News::Links).is_err() {
            return;
        }
    }
}

/// A link that something was done to.
struct Kept {
    index: u32,
    /// Whether it has the addresses that the plan gives it (not those of DHCP).
    addresses: bool,
    lease: Option<Box<Lease>>,
}

struct Service {
    config: Config,
    command_line: CommandLine,
    sender: Sender<News>,
    /// Indexes and names in order of appearance, so that the first link stays the first.
    known: Vec<(u32, String)>,
    links: BTreeMap<String, Kept>,
    plan: Plan,
    /// What was written last.
    resolv_conf: Option<String>,
    servers: Option<String>,
    name: Option<String>,
    /// Problems that were told.
    told: BTreeSet<String>,
    /// Whether everything was done for the links that there are.
    done: bool,
    ready: bool,
    /// What is done when it is.
    then: Option<Ready>,
}

impl Service {
    /// Sees which links there are, makes those that are to be made, and begins with what is new.
    fn look(&mut self, netlink: &mut Netlink) {
        let mut state = match netlink.state() {
            Ok(state) => state,
            Err(error) => return say(error),
        };
        let is = |index: u32, name: &str| state.link(name).is_some_and(|link| link.index == index);
        let before = self.known.len();
        self.known.retain(|(index, name)| is(*index, name));
        self.links.retain(|name, kept| is(kept.index, name));
        self.done &= self.known.len() == before;
        let mut all = links(&self.config, &state);
        // eth2 before eth10.
        all.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        for name in all.iter().map(|link| &link.name) {
            let index = state.link(name).map(|link| link.index);
            if let Some(index) =
                index.filter(|_| !self.known.iter().any(|(_, known)| known == name))
            {
                self.known.push((index, name.clone()));
                self.done = false;
            }
        }
        let place = |name: &str| self.known.iter().position(|(_, known)| known == name);
        // What is still to be made comes last.
        all.sort_by_key(|link| place(&link.name).unwrap_or(usize::MAX));
        self.plan = plan(&self.config, &self.command_line, &all);
        for problem in &self.plan.problems {
            tell_once(&mut self.told, problem.to_string());
        }
        if !self.done {
            self.done = self.settle_links(netlink, &mut state);
        }
        for planned in &self.plan.links {
            let Some(there) = state.link(&planned.link) else { continue };
            let has = |net| there.addresses.iter().any(|one| one.net == net);
            let addresses =
                !planned.addresses.is_empty() && planned.addresses.iter().all(|net| has(*net));
            match self.links.get_mut(&planned.link) {
                Some(kept) => kept.addresses = addresses,
                None => {
                    begin(there.index, planned, addresses, &self.sender);
                    let kept = Kept { index: there.index, addresses, lease: None };
                    self.links.insert(planned.link.clone(), kept);
                }
            }
        }
    }

    /// Does to links what the plan says; whether all of it could be done.
    fn settle_links(&mut self, netlink: &mut Netlink, state: &mut State) -> bool {
        let (keys, problems) = read_keys(&self.config);
        let desired = target(&self.config, &self.plan, &keys, state);
        for problem in problems.iter().chain(&desired.problems) {
            tell_once(&mut self.told, problem.to_string());
        }
        let changes = difference(state, &desired);
        let mut done = true;
        for change in &changes {
            if let Err(error) = netlink.apply(change) {
                done = false;
                tell_once(&mut self.told, error.to_string());
            }
        }
        if !changes.is_empty() {
            match netlink.state() {
                Ok(new) => *state = new,
                Err(error) => say(error),
            }
        }
        done
    }

    fn lease(&mut self, link: &str, index: u32, lease: Option<Box<Lease>>) {
        if let Some(kept) = self.links.get_mut(link).filter(|kept| kept.index == index) {
            kept.lease = lease;
        }
    }

    /// The planned links with what is known of them, in the plan's order.
    fn kept(&self) -> impl Iterator<Item = (&LinkPlan, &Kept)> {
        self.plan.links.iter().filter_map(|link| Some((link, self.links.get(&link.link)?)))
    }

    fn configured(&self) -> BTreeSet<String> {
        let configured = self.kept().filter(|(_, kept)| kept.addresses || kept.lease.is_some());
        configured.map(|(link, _)| link.link.clone()).collect()
    }

    /// Brings what belongs to the machine in line with what is known of its links. Whether the network is ready
    /// now, and was not before.
    fn settle(&mut self) -> bool {
        self.set_name();
        self.write_resolv_conf();
        let ready = self.plan.is_ready(&self.configured());
        if ready || self.ready {
            self.write_servers();
        }
        let news = ready && !self.ready;
        if news {
            self.ready = true;
            if let Some(Ready(then)) = &self.then {
                then();
            }
        }
        news
    }

    /// The name that was given, else the one of the first lease that has one.
    fn set_name(&mut self) {
        let leased = self.kept().find_map(|(_, kept)| kept.lease.as_ref()?.host_name.clone());
        let Some(name) = self.plan.hostname.clone().or(leased) else { return };
        // The kernel takes 64 bytes; the first label is what people call the machine.
        let name = if name.len() > 64 { name.split('.').next().unwrap_or_default() } else { &name };
        if self.name.as_deref() == Some(name) {
            return;
        }
        let name = name.to_owned();
        match host::set_hostname(&name) {
            Ok(()) => say(format_args!("this machine is {name}")),
            Err(error) => say(format_args!("set the host name {name}: {error}")),
        }
        let before = std::fs::read_to_string(HOSTS).unwrap_or_default();
        if let Err(error) =
            files::replace(Path::new(HOSTS), hosts(&before, &name).as_bytes(), 0o644, false)
        {
            say(format_args!("{HOSTS}: {error}"));
        }
        self.name = Some(name);
    }

    fn write_resolv_conf(&mut self) {
        let mut sources: Vec<(Vec<IpAddr>, Vec<String>)> =
            vec![(self.plan.nameservers.clone(), self.plan.search.clone())];
        for (link, kept) in self.kept() {
            sources.push((link.nameservers.clone(), link.search.clone()));
            if let Some(lease) = &kept.lease {
                let servers = lease.dns.iter().copied().map(IpAddr::from).collect();
                sources
                    .push((servers, lease.domain.iter().chain(&lease.search).cloned().collect()));
            }
        }
        let anything =
            sources.iter().any(|(servers, search)| !servers.is_empty() || !search.is_empty());
        if !anything && self.resolv_conf.is_none() {
            return;
        }
        let text = resolv_conf(sources.iter().map(|(a, b)| (a.as_slice(), b.as_slice())));
        if self.resolv_conf.as_deref() == Some(&text) {
            return;
        }
        if let Err(error) = files::replace(Path::new(RESOLV_CONF), text.as_bytes(), 0o644, false) {
            say(format_args!("{RESOLV_CONF}: {error}"));
        }
        self.resolv_conf = Some(text);
    }

    /// For the time service: whom to ask, nobody included.
    fn write_servers(&mut self) {
        let mut servers: Vec<IpAddr> = Vec::new();
        let leased = self.kept().filter_map(|(_, kept)| kept.lease.as_ref());
        let leased = leased.flat_map(|lease| lease.ntp.iter().copied().map(IpAddr::from));
        for server in self.plan.ntp.iter().copied().chain(leased) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
        let text: String = servers.iter().map(|server| format!("{server}\n")).collect();
        if self.servers.as_deref() == Some(&text) {
            return;
        }
        let notes = Path::new(NOTES);
        let written = std::fs::create_dir_all(notes).and_then(|()| {
            files::replace(&notes.join(time::SERVERS), text.as_bytes(), 0o644, false)
        });
        if let Err(error) = written {
            say(format_args!("{}: {error}", notes.display()));
        }
        self.servers = Some(text);
    }

    /// Says what the network is not ready for.
    fn wait_aloud(&self) {
        if self.ready {
            return;
        }
        let waits_for = self.plan.waits_for(&self.configured());
        if self.plan.links.is_empty() {
            say("no link to configure, still waiting");
        } else if !waits_for.is_empty() {
            say(format_args!("still waiting for {}", waits_for.join(", ")));
        }
    }
}

fn tell_once(told: &mut BTreeSet<String>, what: String) {
    if !told.contains(&what) {
        say(&what);
        told.insert(what);
    }
}

/// Says what a link has, and sets a DHCP client to work where one is wanted.
fn begin(index: u32, planned: &LinkPlan, addresses: bool, sender: &Sender<News>) {
    let link = planned.link.as_str();
    if addresses {
        let shown: Vec<String> = planned.addresses.iter().map(ToString::to_string).collect();
        let via: String =
            planned.gateways.iter().map(|gateway| format!(" via {gateway}")).collect();
        say(format_args!("{link}: {}{via}, as {} says", shown.join(", "), planned.because));
    }
    if let Some(dhcp) = &planned.dhcp {
        let mut options = RunOptions::default();
        options.config.client_id.clone_from(&dhcp.client_id);
        options.config.host_name.clone_from(&dhcp.host_name);
        options.metric = planned.metric;
        options.mtu = planned.mtu.is_none();
        let (name, sender) = (planned.link.clone(), sender.clone());
        let client = move || {
            keep_lease(&name, index, &options, &sender);
            let _ = sender.send(News::Ended(name, index));
        };
        if let Err(error) = std::thread::Builder::new().spawn(client) {
            say(format_args!("{link}: start a DHCP client: {error}"));
        }
    }
}

/// A link's DHCP client, until the link goes away.
fn keep_lease(name: &str, index: u32, options: &RunOptions, sender: &Sender<News>) {
    let mut notice = |notice: &Notice<'_>| {
        // A first attempt is no news; that there is no answer is.
        if !matches!(notice, Notice::Sent { .. } | Notice::LinkUp) {
            say(format_args!("{name}: {notice}"));
        }
        let lease = match notice {
            Notice::Bound(lease) | Notice::Renewed(lease) => Some(Box::new((*lease).clone())),
            Notice::Lost { .. } => None,
            _ => return,
        };
        let _ = sender.send(News::Lease(name.to_owned(), index, lease));
    };
    if let Err(error) = linux::run(name, options, &mut notice) {
        say(error);
    }
}
