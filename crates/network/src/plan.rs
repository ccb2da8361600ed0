//! The plan: what each link that is there should be like.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Argument, CommandLine, Config, Interface, Mac, Problem, Selector};

/// Metric of a route where nobody names one; links after the first have higher ones.
const METRIC: u32 = 100;

/// A link that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Whether it is a device, and not made by software.
    pub physical: bool,
}

impl Link {
    /// A device.
    #[must_use]
    pub fn physical(name: impl Into<String>, mac: Mac) -> Self {
        Self { name: name.into(), mac, physical: true }
    }

    /// A bridge, a VLAN, one end of a veth pair.
    #[must_use]
    pub fn made_by_software(name: impl Into<String>, mac: Mac) -> Self {
        Self { physical: false, ..Self::physical(name, mac) }
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
    Selected(&'a Selector),
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
            takes: Takes::Selected(&interface.selector),
            because: format!("interface {} ({})", at.saturating_add(1), interface.selector),
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
            Self::Selected(selector) => selector.matches(link),
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
    // How many links each rule has got so far.
    let mut counts = vec![0_usize; rules.len()];
    for link in links {
        let found =
            rules.iter().zip(&counts).position(|(rule, count)| rule.takes.takes(link, *count > 0));
        let Some((number, rule)) = found.and_then(|at| Some((at, rules.get(at)?))) else {
            continue;
        };
        let count = counts.get_mut(number).map_or(0, |count| {
            *count = count.saturating_add(1);
            *count
        });
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
        if count > 1 && !found.addresses.is_empty() {
            let what =
                format!("{} matches it too, but has the addresses already: left alone", link.name);
            plan.problems.push(Problem::new(&rule.because, what));
            continue;
        }
        plan.links.push(found);
    }
    plan
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
    }
}
