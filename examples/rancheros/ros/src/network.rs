//! `rancher.network`: the original's keys, as a configuration of links, and what is beside it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::process::{Command, Stdio};
use std::str::FromStr;

use kiln_cloudconfig::Cursor;
use kiln_network::{
    Bond, BondMode, Bridge, Config, Interface, IpNet, LacpRate, Selector, TransmitHash, Vlan,
};

use crate::compose::scalar;
use crate::configuration::Configuration;
use crate::places;

/// What the section says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    /// Links, addresses, name servers.
    pub(crate) config: Config,
    /// Lines for a shell before links are touched, and when the network is ready.
    pub(crate) pre_cmds: Vec<String>,
    pub(crate) post_cmds: Vec<String>,
    /// Variables that name proxies, as programs look for them.
    pub(crate) proxies: BTreeMap<String, String>,
}

/// Links as the configuration has them, and the machine's name if anybody but the system itself says it:
/// without, one that comes by DHCP counts. Nothing where nothing is said.
pub(crate) fn links(configuration: &Configuration) -> Option<Config> {
    let said = configuration.merged.root.at(["hostname"]);
    let said = said.filter(|node| &*node.place.source != places::BUILT_IN);
    let configured = configuration.rancher.network.as_ref().map(|network| network.config.clone());
    let name = said.and_then(|_| configuration.cloud.hostname.clone());
    let Some(name) = name else { return configured };
    let mut config = configured.unwrap_or_default();
    config.hostname = Some(name);
    if !config.check().is_empty() {
        config.hostname = None;
    }
    Some(config)
}

/// Whether links are as a text says, whatever the machine is called in either.
pub(crate) fn same_whatever_its_name(links: &Config, before: &str) -> bool {
    let Ok(mut before) = kiln_network::from_toml(before) else { return false };
    before.hostname.clone_from(&links.hostname);
    *links == before
}

/// Reads the section.
pub(crate) fn network(at: &Cursor<'_>) -> Option<Network> {
    let mut fields = at.fields()?;
    let mut network = Network::default();
    if let Some(at) = fields.field("dns") {
        let mut fields = at.fields()?;
        network.config.nameservers = fields.list("nameservers", parsed);
        network.config.search = fields.texts("search");
        fields.finish();
    }
    if let Some(at) = fields.field("interfaces") {
        network.config = interfaces(&at, network.config)?;
    }
    network.pre_cmds = fields.texts("pre_cmds");
    network.post_cmds = fields.texts("post_cmds");
    for key in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = fields.get(key, line) {
            // some programs look for one, some for the other
            network.proxies.insert(key.to_uppercase(), value.clone());
            network.proxies.insert(key.to_owned(), value);
        }
    }
    fields.not_supported(&["dhcp_timeout", "modem_networks", "wifi_networks"]);
    fields.finish();
    for problem in network.config.check() {
        at.wrong::<()>(problem);
    }
    Some(network)
}

fn line(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    match text.contains(char::is_control) {
        true => at.expected("one line"),
        false => Some(text.to_owned()),
    }
}

/// An interface of the section: what links that match are like, and what they are part of.
struct Link {
    interface: Interface,
    /// The name of its bridge; the link itself is one with `true`.
    bridge: Option<String>,
    bond: Option<String>,
    bond_opts: Option<Bond>,
    /// Numbers, some with a name.
    vlans: Vec<(u16, Option<String>)>,
}

fn interfaces(at: &Cursor<'_>, mut config: Config) -> Option<Config> {
    let mut bonds: BTreeMap<String, Bond> = BTreeMap::new();
    let mut bridges: BTreeMap<String, Bridge> = BTreeMap::new();
    for (name, at) in at.entries()? {
        let Some(link) = at.whole(|at| link(name, at)) else { continue };
        let selector = link.interface.selector.clone();
        let is_part = link.bond.is_some() || link.bridge.as_deref().is_some_and(|it| it != "true");
        let is_made = link.bond_opts.is_some() || link.bridge.as_deref() == Some("true");
        let is_parent = !link.vlans.is_empty();
        if let Some(bond) = link.bond {
            let made = bonds.entry(bond.clone());
            made.or_insert_with(|| Bond::new(bond, Vec::new())).members.push(selector.clone());
        }
        if let Some(options) = link.bond_opts {
            let made = bonds.entry(name.to_owned()).or_insert_with(|| Bond::new(name, Vec::new()));
            let members = std::mem::take(&mut made.members);
            *made = options;
            made.members = members;
        }
        match link.bridge.as_deref() {
            None => {}
            Some("true") => {
                bridges.entry(name.into()).or_insert_with(|| Bridge::new(name, Vec::new()));
            }
            Some(bridge) => {
                let made = bridges.entry(bridge.into());
                let made = made.or_insert_with(|| Bridge::new(bridge, Vec::new()));
                made.members.push(selector.clone());
            }
        }
        for (id, own) in link.vlans {
            match (own, &selector) {
                (Some(name), _) => config.vlans.push(Vlan::new(name, selector.clone(), id)),
                (None, Selector::Name(parent)) if !parent.contains(['*', '?']) => {
                    config.vlans.push(Vlan::new(format!("{parent}.{id}"), selector.clone(), id));
                }
                (None, _) => {
                    at.wrong::<()>(format_args!(
                        "vlans: {id} wants a name of its own (\"{id}:NAME\"), because the link may have any"
                    ));
                }
            }
        }
        let mut interface = link.interface;
        let nothing = Interface::matching(selector);
        // What is only there for its VLANs has no address, whatever a pattern says of all links.
        if interface == nothing && is_parent && !is_part {
            interface.ipv6 = Some(false);
        }
        if interface != nothing || !(is_part || is_made) {
            config.interfaces.push(interface);
        }
    }
    (config.bonds, config.bridges) =
        (bonds.into_values().collect(), bridges.into_values().collect());
    // `lo` and a pattern for all others stand in the same map: what names one goes first
    config.interfaces.sort_by_key(|link| link.selector.to_string().contains(['*', '?']));
    Some(config)
}

fn link(name: &str, at: &Cursor<'_>) -> Option<Link> {
    let mut fields = at.fields()?;
    let matched = fields.get("match", |at| at.text().map(str::to_owned));
    let selector = matched.as_deref().unwrap_or(name);
    let selector = selector.strip_prefix("mac:").unwrap_or(selector);
    let mut link = match selector.parse() {
        Ok(selector) => Interface::matching(selector),
        Err(error) => return at.wrong(error),
    };
    link.dhcp = fields.get("dhcp", Cursor::bool).unwrap_or_default();
    link.addresses.extend(fields.get("address", parsed::<IpNet>));
    link.addresses.extend(fields.list("addresses", parsed::<IpNet>));
    link.gateway = fields.get("gateway", parsed);
    link.gateway6 = fields.get("gateway_ipv6", parsed);
    link.mtu = fields.get("mtu", Cursor::integer);
    let part = |at: &Cursor<'_>| scalar(at).filter(|name| !name.is_empty() && name != "false");
    let link = Link {
        bridge: fields.get("bridge", part),
        bond: fields.get("bond", part),
        bond_opts: fields.get("bond_opts", |at| bond(name, at)),
        vlans: fields.get("vlans", vlans).unwrap_or_default(),
        interface: link,
    };
    fields.not_supported(&["dhcp_args", "ipv4ll", "post_up", "pre_up", "wifi_network"]);
    fields.finish();
    Some(link)
}

/// `ID` or `ID:NAME`, with commas between them.
fn vlans(at: &Cursor<'_>) -> Option<Vec<(u16, Option<String>)>> {
    let text = scalar(at)?;
    let one = |text: &str| {
        let (id, name) = text.split_once(':').map_or((text, None), |(id, name)| (id, Some(name)));
        Some((id.trim().parse().ok()?, name.map(|name| name.trim().to_owned())))
    };
    let found: Option<Vec<_>> = text.split(',').map(|text| one(text.trim())).collect();
    found.or_else(|| at.expected("numbers with commas between them, each with a name: 100,200:lab"))
}

/// Options of a bond by the names that the kernel's driver has for them
/// (Documentation/networking/bonding.rst), values as numbers or words.
fn bond(name: &str, at: &Cursor<'_>) -> Option<Bond> {
    let mut fields = at.fields()?;
    let mut bond = Bond::new(name, Vec::new());
    let known = |from: fn(u8) -> Option<BondMode>| (0..=6).filter_map(from).collect::<Vec<_>>();
    if let Some(mode) = fields.get("mode", |at| one_of(at, &known(BondMode::from_number))) {
        bond.mode = mode;
    }
    bond.monitor = fields.get("miimon", parsed);
    let rates = [LacpRate::Slow, LacpRate::Fast];
    bond.lacp_rate = fields.get("lacp_rate", |at| one_of(at, &rates));
    let hashes: Vec<TransmitHash> = (0..=5).filter_map(TransmitHash::from_number).collect();
    bond.transmit_hash = fields.get("xmit_hash_policy", |at| one_of(at, &hashes));
    bond.primary = fields.get("primary", scalar);
    fields.not_supported(&[
        "active_slave",
        "ad_select",
        "all_slaves_active",
        "arp_interval",
        "arp_ip_target",
        "arp_validate",
        "downdelay",
        "fail_over_mac",
        "lp_interval",
        "min_links",
        "num_grat_arp",
        "num_unsol_na",
        "packets_per_slave",
        "primary_reselect",
        "queue_id",
        "resend_igmp",
        "updelay",
        "use_carrier",
    ]);
    fields.finish();
    Some(bond)
}

/// A value by its name, or by its place among all.
fn one_of<T: Copy + Display>(at: &Cursor<'_>, known: &[T]) -> Option<T> {
    let text = scalar(at)?;
    let mut values = known.iter().enumerate();
    let found =
        values.find(|(number, value)| value.to_string() == text || number.to_string() == text);
    match found {
        Some((_, value)) => Some(*value),
        None => {
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            at.wrong(format_args!("unknown value {text:?}, known here: {}", names.join(", ")))
        }
    }
}

fn parsed<T: FromStr<Err: Display>>(at: &Cursor<'_>) -> Option<T> {
    match at.word()?.parse() {
        Ok(value) => Some(value),
        Err(error) => at.wrong(error),
    }
}

/// Runs lines, one after the other; how one ended is told if it did not end well.
pub(crate) fn execute(lines: &[String]) {
    for line in lines {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).stdin(Stdio::null());
        let why = match command.status() {
            Ok(status) if status.success() => continue,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        kiln_supervisor::unix::console_line(format_args!("network: {line}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use kiln_cloudconfig::{Limits, Notes, document};

    use super::*;

    fn read(text: &str) -> (Network, String) {
        let limits = Limits::default();
        let (root, findings) = document::read("n.yml", text.as_bytes(), &limits);
        assert!(findings.is_empty(), "{findings}");
        let notes = Notes::new(&limits);
        let found = network(&notes.cursor(&root)).unwrap_or_default();
        (found, notes.finish().to_string())
    }

    /// As the original's documentation has it.
    const FARM: &str = "
interfaces:
  bond0:
    addresses: [192.168.101.33/31]
    gateway: 192.168.101.32
    bond_opts: {mode: '4', miimon: '100', lacp_rate: '1', xmit_hash_policy: layer3+4}
  p2p1: {bond: bond0}
  p2p2: {bond: bond0}
  br0: {bridge: 'true', address: 192.0.2.5/24}
  eth1: {bridge: br0}
  eth*: {dhcp: true}
  eth2: {vlans: '100, 200:lab'}
  lab: {address: 198.51.100.5/24, mtu: 1400}
";

    #[test]
    fn links_that_are_made_follow_from_their_members() {
        let (found, said) = read(FARM);
        assert_eq!(said, "");
        insta::assert_snapshot!(kiln_network::to_toml(&found.config).unwrap(), @r#"
        [[network.interface]]
        match = "bond0"
        dhcp = false
        addresses = ["192.168.101.33/31"]
        gateway = "192.168.101.32"
        required = false

        [[network.interface]]
        match = "br0"
        dhcp = false
        addresses = ["192.0.2.5/24"]
        required = false

        [[network.interface]]
        match = "eth2"
        dhcp = false
        required = false
        ipv6 = false

        [[network.interface]]
        match = "lab"
        dhcp = false
        addresses = ["198.51.100.5/24"]
        mtu = 1400
        required = false

        [[network.interface]]
        match = "eth*"
        dhcp = true
        required = false

        [[network.bond]]
        name = "bond0"
        members = ["p2p1", "p2p2"]
        mode = "802.3ad"
        monitor = 100
        lacp-rate = "fast"
        transmit-hash = "layer3+4"

        [[network.vlan]]
        name = "eth2.100"
        parent = "eth2"
        id = 100

        [[network.vlan]]
        name = "lab"
        parent = "eth2"
        id = 200

        [[network.bridge]]
        name = "br0"
        members = ["eth1"]
        "#);
    }

    #[test]
    fn another_name_is_no_other_network() {
        let (Network { mut config, .. }, _) = read("interfaces: {eth0: {dhcp: true}}");
        assert!(same_whatever_its_name(&Config::default(), ""));
        assert!(!same_whatever_its_name(&config, ""));
        config.hostname = Some("a".into());
        let before = kiln_network::to_toml(&config).unwrap();
        config.hostname = Some("b".into());
        assert!(same_whatever_its_name(&config, &before));
        config.interfaces.clear();
        assert!(!same_whatever_its_name(&config, &before));
        assert!(!same_whatever_its_name(&config, "x"));
    }

    #[test]
    fn what_is_wrong_or_not_done_is_told() {
        for (text, expected) in [
            (
                "interfaces: {eth0: {dhcp: true, dhcp_args: '-x', post_up: [a]}}",
                "n.yml:1: interfaces.eth0.dhcp_args: not supported\n\
                 n.yml:1: interfaces.eth0.post_up: not supported",
            ),
            (
                "interfaces: {b: {bond_opts: {mode: fast, updelay: 1}}}",
                "n.yml:1: interfaces.b.bond_opts.mode: unknown value \"fast\", known here: balance-rr, \
                 active-backup, balance-xor, broadcast, 802.3ad, balance-tlb, balance-alb",
            ),
            ("interfaces: {eth0: {vlans: x}}", "n.yml:1: interfaces.eth0.vlans: expected numbers"),
            ("interfaces: {'eth*': {vlans: 5}}", "n.yml:1: interfaces.eth*: vlans: 5 wants a name"),
            (
                "interfaces: {eth0: {vlans: 5000}}",
                "n.yml:1: vlan eth0.5000: id 5000, expected 1 to 4094",
            ),
            ("interfaces: {b: {bond_opts: {}}}", "n.yml:1: bond b: no members"),
            ("http_proxy: \"http://a\\nb\"", "n.yml:1: http_proxy: expected one line"),
        ] {
            let (_, said) = read(text);
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn proxies_are_variables_in_both_spellings() {
        let (found, said) =
            read("http_proxy: http://192.0.2.1:3128\nno_proxy: localhost,10.0.0.0/8\n");
        assert_eq!(said, "");
        let names: Vec<&str> = found.proxies.keys().map(String::as_str).collect();
        assert_eq!(names, ["HTTP_PROXY", "NO_PROXY", "http_proxy", "no_proxy"]);
        assert_eq!(found.proxies["http_proxy"], "http://192.0.2.1:3128");
    }
}
