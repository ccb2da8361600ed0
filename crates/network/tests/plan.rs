//! Which link gets what, as tables.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::collections::BTreeSet;

use kiln_network::{CommandLine, Config, Interface, Link, Plan, plan};
use proptest::prelude::*;

fn links(names: &[&str]) -> Vec<Link> {
    (1..)
        .zip(names)
        .map(|(number, name)| {
            let mac = format!("52:54:00:00:00:{number:02x}").parse().unwrap();
            match name.strip_prefix('~') {
                Some(name) => Link::made_by_software(name, mac),
                None => Link::physical(*name, mac),
            }
        })
        .collect()
}

fn command_line(text: &str) -> CommandLine {
    let (found, problems) = CommandLine::parse(text);
    assert!(problems.is_empty(), "{problems:?}");
    found
}

/// `eth0=dhcp eth1=192.0.2.5/24,192.0.2.1`, in order.
fn shown(plan: &Plan) -> String {
    let shown = plan.links.iter().map(|link| {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(link.dhcp.as_ref().map(|_| "dhcp".to_owned()));
        parts.extend(link.addresses.iter().map(ToString::to_string));
        parts.extend(link.gateways.iter().map(ToString::to_string));
        format!("{}={}", link.link, parts.join(","))
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn file() -> Config {
    let mut lan = Interface::matching("eth1".parse().unwrap());
    lan.addresses = vec!["192.0.2.5/24".parse().unwrap()];
    lan.gateway = Some("192.0.2.1".parse().unwrap());
    let mut config = Config::default();
    config.interfaces = vec![Interface::dhcp("en*".parse().unwrap()), lan];
    config.hostname = Some("file".into());
    config
}

#[test]
fn rules_and_links() {
    let none = Config::default();
    let file = file();
    for (config, text, names, expected) in [
        // The default: the first physical link.
        (&none, "", &["~br0", "eth0", "eth1"][..], "eth0=dhcp"),
        (&none, "", &[][..], ""),
        (&none, "BOOTIF=01-52-54-00-00-00-02", &["eth0", "eth1"], "eth1=dhcp"),
        // The kernel tries all devices when none is named.
        (&none, "ip=dhcp", &["~br0", "eth0", "eth1"], "eth0=dhcp eth1=dhcp"),
        (&none, "ip=dhcp BOOTIF=01-52-54-00-00-00-02", &["eth0", "eth1"], "eth1=dhcp"),
        (&none, "ip=off", &["eth0", "eth1"], ""),
        (&none, "ip=192.0.2.9:::24", &["eth0", "eth1"], "eth0=192.0.2.9/24"),
        (&none, "ip=192.0.2.9:::24 ip=eth0:dhcp", &["eth0", "eth1"], "eth0=dhcp eth1=192.0.2.9/24"),
        (
            &none,
            "ip=192.0.2.9::192.0.2.1:24::eth1:none ip=eth0:dhcp",
            &["eth0", "eth1", "eth2"],
            "eth0=dhcp eth1=192.0.2.9/24,192.0.2.1",
        ),
        (&none, "ip=eth7:dhcp", &["eth0"], ""),
        // The file, by pattern.
        (
            &file,
            "",
            &["ens3", "ens4", "eth1", "eth2"],
            "ens3=dhcp ens4=dhcp eth1=192.0.2.5/24,192.0.2.1",
        ),
        // The command line over the file, link by link.
        (&file, "ip=eth1:dhcp", &["ens3", "eth1"], "ens3=dhcp eth1=dhcp"),
        (&file, "ip=off", &["ens3", "eth1"], ""),
    ] {
        let plan = plan(config, &command_line(text), &links(names));
        assert_eq!(shown(&plan), expected, "{text} {names:?}");
        assert!(plan.problems.is_empty());
    }
}

#[test]
fn names_servers_and_metrics() {
    let mut config = file();
    config.ntp = vec!["192.0.2.123".parse().unwrap()];
    let text = "ip=::::line:ens3:dhcp:::192.0.2.124";
    let plan = plan(&config, &command_line(text), &links(&["ens3", "eth1"]));
    assert_eq!(plan.hostname.as_deref(), Some("line"));
    assert_eq!(plan.ntp.len(), 2);
    assert_eq!(plan.ntp[0].to_string(), "192.0.2.124");
    assert_eq!(plan.links[0].dhcp.as_ref().unwrap().host_name.as_deref(), Some("line"));
    assert_eq!((plan.links[0].metric, plan.links[1].metric), (100, 101));
}

#[test]
fn addresses_go_to_one_link() {
    let mut config = Config::default();
    config.interfaces = vec![Interface::matching("eth*".parse().unwrap())];
    config.interfaces[0].addresses = vec!["192.0.2.5/24".parse().unwrap()];
    let plan = plan(&config, &CommandLine::default(), &links(&["eth0", "eth1"]));
    assert_eq!(shown(&plan), "eth0=192.0.2.5/24");
    assert_eq!(plan.problems.len(), 1);
}

#[test]
fn readiness() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let mut config = file();
    let all = links(&["ens3", "ens4", "eth1"]);
    let any = plan(&config, &CommandLine::default(), &all);
    assert!(!any.is_ready(&set(&[])));
    assert!(any.is_ready(&set(&["eth1"])));
    assert!(!any.is_ready(&set(&["lo"])), "a link that is in no plan is none");

    config.interfaces[0].required = true;
    let both = plan(&config, &CommandLine::default(), &all);
    assert!(!both.is_ready(&set(&["eth1"])));
    assert_eq!(both.waits_for(&set(&["eth1"])), ["interface 1 (en*)"]);
    assert!(both.is_ready(&set(&["ens4"])), "one link of the rule is enough");

    // A link that the command line names must be there.
    let named = plan(&config, &command_line("ip=eth0:dhcp"), &all);
    assert!(!named.is_ready(&set(&["ens3", "ens4", "eth1"])));
}

#[test]
fn problems_are_told_all_at_once_with_their_place() {
    let mut config = file();
    config.hostname = Some("a b".into());
    config.search = vec!["x y".into()];
    config.ntp = vec!["0.0.0.0".parse().unwrap()];
    config.nameservers = (1..=4).map(|n| std::net::Ipv4Addr::new(192, 0, 2, n).into()).collect();
    let bad = &mut config.interfaces[1];
    bad.gateway = Some("198.51.100.1".parse().unwrap());
    bad.gateway6 = Some("2001:db8::1".parse().unwrap());
    bad.addresses.push("192.0.2.5/24".parse().unwrap());
    bad.addresses.push("192.0.2.0/24".parse().unwrap());
    bad.mtu = Some(100);
    config.interfaces.push(Interface::matching("eth1".parse().unwrap()));
    let problems = config.check();
    let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
    for part in [
        "hostname: \"a b\"",
        "search: \"x y\"",
        "ntp: 0.0.0.0",
        "nameservers: 4, of which a resolver reads 3",
        "interface 2 (eth1): gateway 198.51.100.1 is on no network",
        "gateway 2001:db8::1",
        "192.0.2.5 is there twice",
        "192.0.2.0/24 is the address of a network",
        "mtu 100, expected 576",
        "interface 3 (eth1): neither dhcp nor addresses",
        "interface 3 (eth1): an interface above matches",
    ] {
        assert!(text.iter().any(|line| line.contains(part)), "{part}: {text:#?}");
    }
    assert_eq!(problems.len(), 11);
}

#[cfg(feature = "toml")]
#[test]
fn toml_is_strict_and_says_where() {
    let text = kiln_network::to_toml(&file()).unwrap();
    assert_eq!(kiln_network::from_toml(&text).unwrap(), file(), "{text}");
    for (text, at, part) in [
        ("[network]\nhostnme = \"x\"\n", "2:1", "unknown field"),
        (
            "[network]\n[[network.interface]]\nmatch = \"eth0\"\naddresses = [\"192.0.2.5\"]\n",
            "4:14",
            "invalid",
        ),
        ("[network]\n[[network.interface]]\ndhcp = true\n", "2:1", "missing field `match`"),
        (
            "[network]\n[[network.interface]]\nmatch = \"a/b\"\n",
            "3:9",
            "neither the name of a link",
        ),
        ("[network\n", "1:9", ""),
    ] {
        let error = kiln_network::from_toml(text).unwrap_err().to_string();
        assert!(error.starts_with(at) && error.contains(part), "{text}: {error}");
    }
    let error =
        kiln_network::from_toml("[network]\nhostname = \"a b\"\nsearch = [\"x y\"]\n").unwrap_err();
    assert_eq!(error.to_string().lines().count(), 2, "{error}");
}

prop_compose! {
    fn interface()(name in "[a-z*?]{1,4}[0-9]?", dhcp: bool, address: Option<(u32, u8)>, gateway: Option<u32>, required: bool) -> Interface {
        let mut interface = Interface::matching(name.parse().unwrap());
        interface.dhcp = dhcp;
        interface.addresses = address
            .map(|(address, len)| kiln_network::IpNet::new(std::net::Ipv4Addr::from(address).into(), len % 33).unwrap())
            .into_iter()
            .collect();
        interface.gateway = gateway.map(std::net::Ipv4Addr::from);
        interface.required = required;
        interface
    }
}

proptest! {
    /// No link has two plans, every plan is of a link that is there, and all configured is ready
    /// where every required rule has a link.
    #[test]
    fn every_link_once(
        interfaces in prop::collection::vec(interface(), 0..5),
        text in "(ip=[a-z0-9.:]{0,30} ?){0,3}",
        names in prop::collection::btree_set("[a-z]{1,4}[0-9]?", 0..6)
    ) {
        let mut config = Config::default();
        config.interfaces = interfaces;
        let _ = config.check();
        let (command_line, _) = CommandLine::parse(&text);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = links(&names);
        let found = plan(&config, &command_line, &all);
        let planned: Vec<&str> = found.links.iter().map(|link| link.link.as_str()).collect();
        let set: BTreeSet<String> = planned.iter().map(|name| (*name).to_owned()).collect();
        prop_assert_eq!(set.len(), planned.len());
        prop_assert!(planned.iter().all(|name| names.contains(name)));
        prop_assert_eq!(found.is_ready(&set), found.waits_for(&set).is_empty() && !set.is_empty());
        prop_assert_eq!(&found, &plan(&config, &command_line, &all));
    }

    #[cfg(feature = "toml")]
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = kiln_network::from_toml(&text);
    }
}
