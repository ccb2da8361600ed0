//! Declared links: converged, read back, compared with `ip`.

use std::process::Command;
use std::time::Duration;

use kiln_network::linux::{Netlink, Watch};
use kiln_network::state::{Kind, PROTOCOL, State};
use kiln_network::{CommandLine, Config, difference, from_toml, links, plan, target};

use crate::{apart, ip, ip_json, ready, until};

const TEXT: &str = r#"
[[network.bridge]]
name = "br0"
members = ["port*"]
stp = true

[[network.veth]]
name = "v0"
peer = "port9"

[[network.interface]]
match = "br0"
addresses = ["192.0.2.5/24", "192.0.2.6/24", "2001:db8::5/64"]
gateway = "192.0.2.1"
gateway6 = "fe80::1"
mtu = 1400
accept-ra = false

[[network.interface.route]]
to = "198.51.100.0/24"
via = "192.0.2.254"
source = "192.0.2.6"
table = 1000

[[network.interface.route]]
to = "2001:db8:bad::/48"
type = "unreachable"

[[network.interface.rule]]
priority = 100
from = "192.0.2.6/32"
mark = 7
table = 1000

[[network.interface.rule]]
priority = 101
table = 1000

[[network.interface]]
match = "v0"
addresses = ["203.0.113.1/32"]
gateway = "203.0.113.9"
metric = 5
"#;

/// A pair that others made, one end of which is a port of our bridge.
fn devices() {
    ip("link add port0 type veth peer name far0");
    ip("address add 10.1.1.1/24 dev far0");
    ip("link set far0 up");
    ip("route add 10.2.0.0/16 via 10.1.1.9");
}

fn converge(netlink: &mut Netlink, config: &Config) -> usize {
    let outcome = netlink.converge(config, &CommandLine::default()).unwrap();
    assert!(outcome.errors.is_empty(), "{:#?}", outcome.errors);
    assert!(outcome.problems.is_empty(), "{:#?}", outcome.problems);
    outcome.changes.len()
}

/// What a state has that was declared, as text: what the kernel adds by itself is left out.
fn declared(state: &State) -> String {
    let mut text = String::new();
    for link in state.links.iter().filter(|link| link.name != "lo") {
        let ours = link.addresses.iter().filter(|one| one.protocol == PROTOCOL);
        let mut nets: Vec<String> = ours.map(|one| one.net.to_string()).collect();
        nets.sort();
        let kind = match &link.kind {
            Some(Kind::Bridge(bridge)) => format!("{} {}", bridge.stp, bridge.forward_delay),
            kind => format!("{:?}", kind.as_ref().map(Kind::name)),
        };
        text += &format!(
            "{} {kind} up {} mtu {} master {:?} {nets:?} ra {:?}\n",
            link.name, link.up, link.mtu, link.master, link.accept_ra
        );
    }
    for route in state.routes.iter().filter(|route| route.protocol == PROTOCOL) {
        text += &format!("{route}\n");
    }
    for rule in state.rules.iter().filter(|rule| rule.protocol == PROTOCOL) {
        text += &format!("{rule}\n");
    }
    // In another order of making, links have other numbers.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn what_is_declared_is_what_ip_sees() {
    if !ready(&["ip"]) {
        return;
    }
    apart(|| {
        devices();
        let config = from_toml(TEXT).unwrap();
        let mut netlink = Netlink::open().unwrap();
        assert!(converge(&mut netlink, &config) > 10);
        assert_eq!(converge(&mut netlink, &config), 0, "a second time there is nothing to do");

        let all = ip_json("address show");
        let link = |name: &str| all.iter().find(|link| link["ifname"] == name).unwrap();
        let bridge = link("br0");
        assert_eq!(bridge["mtu"], 1400);
        assert_eq!(bridge["group"], "27499");
        assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
        assert_eq!(bridge["linkinfo"]["info_data"]["stp_state"], 1);
        assert_eq!(bridge["linkinfo"]["info_data"]["forward_delay"], 1500);
        for port in ["port0", "port9"] {
            assert_eq!(link(port)["master"], "br0", "{port}");
            assert!(link(port)["flags"].as_array().unwrap().iter().any(|flag| flag == "UP"));
        }
        let addresses: Vec<String> = bridge["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["scope"] == "global")
            .map(|one| format!("{}/{}", one["local"].as_str().unwrap(), one["prefixlen"]))
            .collect();
        assert_eq!(addresses, ["192.0.2.5/24", "192.0.2.6/24", "2001:db8::5/64"]);
        assert_eq!(bridge["addr_info"][0]["broadcast"], "192.0.2.255");

        let routes: Vec<String> = ip("-4 -N route show table all proto 107")
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        // No carrier yet, and that in `linkdown`, comes and goes with time.
        let routes: Vec<String> = routes.iter().map(|line| line.replace(" linkdown", "")).collect();
        assert_eq!(
            routes,
            [
                "198.51.100.0/24 via 192.0.2.254 dev br0 table 1000 src 192.0.2.6 metric 100",
                "default via 203.0.113.9 dev v0 metric 5",
                "default via 192.0.2.1 dev br0 metric 100",
                "203.0.113.9 dev v0 scope 253 metric 5",
            ]
        );
        let routes = ip("-6 -N route show table all proto 107");
        assert!(routes.contains("default via fe80::1 dev br0 metric 100"), "{routes}");
        assert!(routes.contains("7 2001:db8:bad::/48 dev lo metric 100"), "{routes}");
        let rules = ip("-N rule show");
        assert!(rules.contains("100:\tfrom 192.0.2.6 fwmark 0x7 lookup 1000 proto 107"), "{rules}");
        assert!(ip("-6 -N rule show").contains("101:\tfrom all lookup 1000 proto 107"));
        let ra = std::fs::read_to_string("/proc/sys/net/ipv6/conf/br0/accept_ra").unwrap();
        assert_eq!(ra.trim(), "0");
    });
}

/// The commands of a dry run do what the changes do, and so does the model of the kernel.
#[test]
fn a_dry_run_says_what_would_be_done() {
    if !ready(&["ip", "sysctl"]) {
        return;
    }
    let config = from_toml(TEXT).unwrap();
    let changed = r#"
[[network.bridge]]
name = "br0"
members = ["port0"]
[[network.interface]]
match = "br0"
addresses = ["192.0.2.6/24"]
gateway = "192.0.2.2"
"#;
    let changed = from_toml(changed).unwrap();
    let steps = |netlink: &mut Netlink, config: &Config| {
        let state = netlink.state().unwrap();
        let plan = plan(config, &CommandLine::default(), &links(config, &state));
        let changes = difference(&state, &target(config, &plan, &Default::default(), &state));
        let mut model = state;
        changes.iter().for_each(|change| model.apply(change).unwrap());
        (changes, model)
    };
    apart(|| {
        devices();
        let mut netlink = Netlink::open().unwrap();
        for config in [&config, &changed] {
            let (changes, model) = steps(&mut netlink, config);
            changes.iter().for_each(|change| netlink.apply(change).unwrap());
            let by_us = netlink.state().unwrap();
            assert_eq!(declared(&by_us), declared(&model), "the model");
        }
        let by_us = declared(&netlink.state().unwrap());
        let by_ip = apart(|| {
            devices();
            let mut netlink = Netlink::open().unwrap();
            for config in [&config, &changed] {
                for change in steps(&mut netlink, config).0 {
                    let line = change.to_string();
                    if line.contains(" address add ") {
                        // iproute2 says who set an address only since 6.4.
                        netlink.apply(&change).unwrap();
                        continue;
                    }
                    let output = Command::new("sh").args(["-ec", &line]).output().unwrap();
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{line}: {said}");
                }
            }
            declared(&netlink.state().unwrap())
        });
        assert_eq!(by_us, by_ip);
    });
}

#[test]
fn what_others_made_stays() {
    if !ready(&["ip"]) {
        return;
    }
    apart(|| {
        devices();
        let before = (ip("route show"), ip("address show far0"));
        let mut netlink = Netlink::open().unwrap();
        converge(&mut netlink, &from_toml(TEXT).unwrap());
        ip("address add 192.0.2.77/24 dev br0");
        // Nothing is declared but that port0 is there.
        let mut config = Config::default();
        config.interfaces = vec![kiln_network::Interface::dhcp("port0".parse().unwrap())];
        converge(&mut netlink, &config);
        let left: Vec<String> = ip_json("link show")
            .iter()
            .map(|link| link["ifname"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(left, ["lo", "far0", "port0"]);
        let after = (ip("route show"), ip("address show far0"));
        let clean = |text: &str| text.replace(" linkdown", "");
        assert_eq!(clean(&before.0), clean(&after.0));
        assert!(after.1.contains("10.1.1.1/24"));
        assert_eq!(ip("-N rule show table 1000"), "");
    });
}

#[test]
fn a_link_that_comes_late_is_configured() {
    if !ready(&["ip"]) {
        return;
    }
    apart(|| {
        let config = from_toml(TEXT).unwrap();
        let mut netlink = Netlink::open().unwrap();
        let watch = Watch::open().unwrap();
        let outcome = netlink.converge(&config, &CommandLine::default()).unwrap();
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        while watch.wait(Duration::from_millis(300)).unwrap() {}
        devices();
        assert!(watch.wait(crate::PATIENCE).unwrap());
        until("port0 is in the bridge", || {
            converge(&mut netlink, &config);
            let state = netlink.state().unwrap();
            (state.link("port0")?.master.as_deref() == Some("br0")).then_some(())
        });
    });
}

#[test]
fn an_error_names_the_change() {
    if !ready(&[]) {
        return;
    }
    apart(|| {
        let mut netlink = Netlink::open().unwrap();
        let net = "192.0.2.1/24".parse().unwrap();
        let change = kiln_network::Change::AddAddress { link: "no".into(), net, protocol: 1 };
        let error = netlink.apply(&change).unwrap_err().to_string();
        assert!(error.starts_with("ip -4 address add 192.0.2.1/24 broadcast 192.0.2.255 dev no"));
        assert!(error.contains("No such device"), "{error}");
        // /proc/sys would be that of this thread, not of the one that opened the socket.
        let change = kiln_network::Change::AcceptRa { link: "lo".into(), value: 0 };
        let moved = &mut netlink;
        let error = apart(|| moved.apply(&change).unwrap_err().to_string());
        assert!(error.contains("another network namespace"), "{error}");
    });
}
