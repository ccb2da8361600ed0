//! The plan: what each link that is there should be like.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::members::Members;
use crate::{Argument, CommandLine, Config, Interface, Mac, PolicyRule, Problem, StaticRoute};

/// Metric of a route where nobody names one; links after the first have higher ones.
const METRIC: u32 = 100;

/// A link that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its hardware address: its own, where a bond has given it another.
    pub mac: Mac,
    /// Whether it is a device, and not made by software.
    pub physical: bool,
    /// Its driver, where one is known; for links made by software their kind.
    pub driver: Option<String>,
}

impl Link {
    /// A device.
    #[must_use]
    pub fn physical(name: impl Into<String>, mac: Mac) -> Self {
        Self { name: name.into(), mac, physical: true, driver: None }
    }

    /// A bridge, a VLAN, one end of a veth pair.
    #[must_use]
    pub fn made_by_software(name: impl Into<String>, mac: Mac) -> Self {
        Self { physical: false, ..Self::physical(name, mac) }
    }

    /// The same with a driver.
    #[must_use]
    pub fn driven_by(self, driver: impl Into<String>) -> Self {
        Self { driver: Some(driver.into()), ..self }
    }
}

/// What to ask a DHCP server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dhcp {
    /// Option 61; derived from the hardware address without.
    pub client_id: Option<Vec<u8>>,
    /// Option 12, for a server that keeps names.
    pub host_name: Option<String>,
}

/// What a link should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkPlan {
    /// The link's name.
    pub link: String,
    /// Which rule says so.
    pub because: String,
    /// Whether and how DHCP is asked.
    pub dhcp: Option<Dhcp>,
    /// Addresses to set.
    pub addresses: Vec<IpNet>,
    /// Gateways of default routes, at most one a family.
    pub gateways: Vec<IpAddr>,
    /// Its name servers.
    pub nameservers: Vec<IpAddr>,
    /// Domains to search.
    pub search: Vec<String>,
    /// The MTU in bytes, when one is asked for.
    pub mtu: Option<u32>,
    /// Metric of its routes.
    pub metric: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether router advertisements are believed, where somebody says so.
    pub accept_ra: Option<bool>,
    /// Whether it speaks IPv6, where somebody says so.
    pub ipv6: Option<bool>,
    /// Further routes over it.
    pub routes: Vec<StaticRoute>,
    /// Rules that say which packets use which routing table.
    pub rules: Vec<PolicyRule>,
    rule: usize,
}

/// What follows from configuration, command line and links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// Links that are to be configured, in the order of the links given.
    pub links: Vec<LinkPlan>,
    /// The machine's name, when one was given.
    pub hostname: Option<String>,
    /// Name servers beyond those of links, to be asked first.
    pub nameservers: Vec<IpAddr>,
    /// Domains to search before those of links.
    pub search: Vec<String>,
    /// Time servers, to be asked before those of DHCP.
    pub ntp: Vec<IpAddr>,
    /// Rules that must be met for the network to be ready, with what to call them.
    required: Vec<(usize, String)>,
    /// What cannot be done as it was said.
    pub problems: Vec<Problem>,
    /// Rules of the configuration that fit no link, members and parents that are not there: they may
    /// come late.
    pub unmatched: Vec<String>,
    pub(crate) members: Members,
}

impl Plan {
    /// Whether the network is ready when these links are configured: each required rule has one; where
    /// none is required, any link will do.
    #[must_use]
    pub fn is_ready(&self, configured: &BTreeSet<String>) -> bool {
        let mut done =
            self.links.iter().filter(|link| configured.contains(&link.link)).map(|link| link.rule);
        if self.required.is_empty() {
            return done.next().is_some();
        }
        let done: BTreeSet<usize> = done.collect();
        self.required.iter().all(|(rule, _)| done.contains(rule))
    }

    /// What the network still waits for when these links are configured.
    #[must_use]
    pub fn waits_for(&self, configured: &BTreeSet<String>) -> Vec<&str> {
        let done: BTreeSet<usize> = self
            .links
            .iter()
            .filter(|link| configured.contains(&link.link))
            .map(|link| link.rule)
            .collect();
        let open = self.required.iter().filter(|(rule, _)| !done.contains(rule));
        open.map(|(_, name)| name.as_str()).collect()
    }
}

/// Which links a rule takes.
enum Takes<'a> {
    Selected(&'a Interface),
    Named(&'a str),
    /// The link that the machine was booted over.
    Mac(Mac),
    /// The first physical one that no rule before has taken.
    FirstPhysical,
    AllPhysical,
    All,
}

struct Rule<'a> {
    takes: Takes<'a>,
    because: String,
    required: bool,
    /// `None`: leave the link alone.
    says: Option<Says<'a>>,
}

enum Says<'a> {
    Argument(&'a Argument),
    Interface(&'a Interface),
    Default,
}

fn rules<'a>(config: &'a Config, command_line: &'a CommandLine) -> Vec<Rule<'a>> {
    let mut rules = Vec::new();
    let arguments = &command_line.arguments;
    // Those that name a link go first, wherever they stand.
    let named = arguments.iter().filter(|argument| argument.device.is_some());
    let others = arguments.iter().filter(|argument| argument.device.is_none());
    for argument in named.chain(others) {
        let takes = match (&argument.device, command_line.boot_link) {
            (Some(device), _) => Takes::Named(device),
            (None, _) if argument.off => Takes::All,
            (None, Some(mac)) => Takes::Mac(mac),
            (None, None) if argument.dhcp => Takes::AllPhysical,
            (None, None) => Takes::FirstPhysical,
        };
        rules.push(Rule {
            required: argument.device.is_some(),
            takes,
            because: argument.word.clone(),
            says: (!argument.off).then_some(Says::Argument(argument)),
        });
    }
    for (at, interface) in config.interfaces.iter().enumerate() {
        rules.push(Rule {
            takes: Takes::Selected(interface),
            because: interface.place(at),
            required: interface.required,
            says: Some(Says::Interface(interface)),
        });
    }
    if rules.is_empty() {
        let (takes, because) = match command_line.boot_link {
            Some(mac) => (Takes::Mac(mac), "BOOTIF="),
            None => (Takes::FirstPhysical, "the default"),
        };
        let because = because.to_owned();
        rules.push(Rule { takes, because, required: false, says: Some(Says::Default) });
    }
    rules
}

impl Takes<'_> {
    fn takes(&self, link: &Link, taken_before: bool) -> bool {
        match self {
            Self::Selected(interface) => interface.matches(link),
            Self::Named(name) => *name == link.name,
            Self::Mac(mac) => *mac == link.mac,
            Self::FirstPhysical => link.physical && !taken_before,
            Self::AllPhysical => link.physical,
            Self::All => true,
        }
    }
}

/// What each link should be like. `links` come in order of preference: where one link of several is
/// to be taken, it is the first.
#[must_use]
pub fn plan(config: &Config, command_line: &CommandLine, links: &[Link]) -> Plan {
    let rules = rules(config, command_line);
    let arguments = &command_line.arguments;
    let mut plan = Plan {
        hostname: arguments
            .iter()
            .find_map(|argument| argument.hostname.clone())
            .or_else(|| config.hostname.clone()),
        nameservers: config.nameservers.clone(),
        search: config.search.clone(),
        ntp: arguments.iter().filter_map(|argument| argument.ntp).collect(),
        ..Plan::default()
    };
    plan.ntp.extend(&config.ntp);
    for (number, rule) in rules.iter().enumerate() {
        if rule.required {
            plan.required.push((number, rule.because.clone()));
        }
    }
    plan.members = Members::of(config, links);
    plan.problems.clone_from(&plan.members.problems);
    // How many links each rule has got so far.
    let mut counts = vec![0_usize; rules.len()];
    // Which rule each link has: the first that takes it, or a member of it.
    let mut taken = vec![None; links.len()];
    for link in links {
        let is_member = plan.members.masters.contains_key(&link.name);
        let found = rules.iter().zip(&counts).position(|(rule, count)| {
            rule.takes.takes(link, *count > 0) && (!is_member || rule.suits_member())
        });
        let Some((number, rule)) = found.and_then(|at| Some((at, rules.get(at)?))) else {
            continue;
        };
        if let Some(count) = counts.get_mut(number) {
            *count = count.saturating_add(1);
        }
        // Members have no addresses: the command line means what they are members of.
        let is_moved = is_member && !matches!(rule.takes, Takes::Selected(_));
        let top = if is_moved { plan.members.top(&link.name) } else { &link.name };
        let place = links.iter().position(|link| link.name == top);
        if let Some(slot) = place.and_then(|place| taken.get_mut(place)) {
            // What was said of a member counts more than what was said of its master: the command
            // line comes first.
            *slot = Some(slot.map_or(number, |before: usize| before.min(number)));
        }
    }
    let mut used = BTreeSet::new();
    for (link, number) in links.iter().zip(taken) {
        let Some((number, rule)) = number.and_then(|at: usize| Some((at, rules.get(at)?))) else {
            continue;
        };
        let Some(says) = &rule.says else { continue };
        let mut found = LinkPlan {
            link: link.name.clone(),
            because: rule.because.clone(),
            dhcp: None,
            addresses: Vec::new(),
            gateways: Vec::new(),
            nameservers: Vec::new(),
            search: Vec::new(),
            mtu: None,
            metric: METRIC.saturating_add(u32::try_from(plan.links.len()).unwrap_or(u32::MAX)),
            up: true,
            accept_ra: None,
            ipv6: None,
            routes: Vec::new(),
            rules: Vec::new(),
            rule: number,
        };
        match says {
            Says::Default => found.dhcp = Some(Dhcp::default()),
            Says::Argument(argument) => found.follow_argument(argument),
            Says::Interface(interface) => found.follow(interface),
        }
        if let Some(dhcp) = &mut found.dhcp {
            dhcp.host_name.clone_from(&plan.hostname);
        }
        if !used.insert(number) && !found.addresses.is_empty() {
            let what =
                format!("{} matches it too, but has the addresses already: left alone", link.name);
            plan.problems.push(Problem::new(&rule.because, what));
            continue;
        }
        plan.links.push(found);
    }
    let idle = rules.iter().zip(&counts).filter(|(rule, count)| {
        **count == 0 && matches!(rule.takes, Takes::Selected(_) | Takes::Mac(_) | Takes::Named(_))
    });
    plan.unmatched = idle.map(|(rule, _)| rule.because.clone()).collect();
    plan.unmatched.extend(plan.members.unmatched.iter().cloned());
    plan
}

impl Rule<'_> {
    /// Whether it says nothing that a member of a bond or bridge cannot have; what the command line
    /// says goes to the master.
    fn suits_member(&self) -> bool {
        match &self.takes {
            Takes::Selected(interface) => !interface.needs_addresses(),
            _ => true,
        }
    }
}

impl LinkPlan {
    fn follow_argument(&mut self, argument: &Argument) {
        self.dhcp =
            argument.dhcp.then(|| Dhcp { client_id: argument.client_id.clone(), host_name: None });
        self.addresses.extend(argument.address);
        self.gateways.extend(argument.gateway);
        self.nameservers.clone_from(&argument.nameservers);
        self.mtu = argument.mtu;
    }

    fn follow(&mut self, interface: &Interface) {
        self.dhcp = interface.dhcp.then(Dhcp::default);
        self.addresses.clone_from(&interface.addresses);
        self.gateways.extend(interface.gateway.map(IpAddr::from));
        self.gateways.extend(interface.gateway6.map(IpAddr::from));
        self.nameservers.clone_from(&interface.nameservers);
        self.search.clone_from(&interface.search);
        self.mtu = interface.mtu;
        self.metric = interface.metric.unwrap_or(self.metric);
        self.up = interface.up;
        self.accept_ra = interface.accept_ra;
        self.ipv6 = interface.ipv6;
        self.routes.clone_from(&interface.routes);
        self.rules.clone_from(&interface.rules);
    }
}
