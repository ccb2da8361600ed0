//! From a configuration and a state to changes, and that the changes lead there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use kiln_network::state::{AddressState, Kind, LinkState, Route, State};
use kiln_network::{
    Bond, Bridge, Change, CommandLine, Config, Desired, Interface, Key, Keys, Mac, Peer,
    PolicyRule, Secret, Selector, StaticRoute, Veth, Vlan, Wireguard, difference, links, plan,
    target,
};
use proptest::prelude::*;

/// A machine with these devices, which are down.
fn machine(devices: &[&str]) -> State {
    let mut state = State::default();
    for (number, name) in (1..).zip(devices) {
        let mut link = LinkState::new(number, *name);
        link.mac = Some(Mac([2, 0, 0, 0, 0, u8::try_from(number).unwrap()]));
        link.permanent_mac = link.mac;
        link.physical = true;
        link.driver = Some("virtio_net".into());
        link.accept_ra = Some(1);
        link.disable_ipv6 = Some(false);
        state.links.push(link);
    }
    state
}

fn keys() -> Keys {
    Keys::from([("/wg0.key".into(), Secret::new([1; 32]))])
}

fn desired(config: &Config, state: &State) -> Desired {
    let plan = plan(config, &CommandLine::default(), &links(config, state));
    target(config, &plan, &keys(), state)
}

/// Does what has to be done; every change has to be one that the kernel takes, and afterwards there
/// must be nothing left to do.
fn converge(config: &Config, state: &mut State) -> Vec<Change> {
    let changes = difference(state, &desired(config, state));
    for change in &changes {
        if let Err(refused) = state.apply(change) {
            panic!("{change}: {refused}\n{changes:#?}\n{state}");
        }
    }
    let again = difference(state, &desired(config, state));
    assert!(again.is_empty(), "{again:#?}\nafter {changes:#?}\n{state}");
    changes
}

fn commands(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("{change}\n")).collect()
}

fn name(text: &str) -> Selector {
    text.parse().unwrap()
}

fn with_address(link: &str, nets: &[&str]) -> Interface {
    let mut interface = Interface::matching(name(link));
    interface.addresses = nets.iter().map(|net| net.parse().unwrap()).collect();
    interface
}

/// A bond of two, a VLAN on it in a bridge, a pair, a tunnel.
fn all() -> Config {
    let mut config = Config::default();
    let mut bond = Bond::new("bond0", vec![name("eth*")]);
    bond.primary = Some("eth1".into());
    config.bonds = vec![bond];
    config.vlans = vec![Vlan::new("vlan5", name("bond0"), 5)];
    config.bridges = vec![Bridge::new("br0", vec![name("vlan5"), name("v1")])];
    config.veths = vec![Veth::new("v0", "v1")];
    let mut tunnel = Wireguard::new("wg0", "/wg0.key");
    tunnel.listen_port = Some(51_820);
    let mut peer = Peer::new(Key([7; 32]));
    peer.endpoint = Some("192.0.2.9:51820".parse().unwrap());
    peer.allowed_ips = vec!["10.9.0.0/16".parse().unwrap()];
    peer.keepalive = Some(25);
    tunnel.peers = vec![peer];
    config.wireguards = vec![tunnel];
    let mut bridge = with_address("br0", &["192.0.2.5/24", "2001:db8::5/64"]);
    bridge.gateway = Some("192.0.2.1".parse().unwrap());
    bridge.gateway6 = Some("fe80::1".parse().unwrap());
    bridge.accept_ra = Some(false);
    let mut tunnel = with_address("wg0", &["10.9.0.1/32"]);
    let mut route = StaticRoute::to("10.9.0.0/16".parse().unwrap());
    route.table = Some(100);
    tunnel.routes = vec![route];
    let mut rule = PolicyRule::new(1000, 100);
    rule.from = Some("10.9.0.1/32".parse().unwrap());
    tunnel.rules = vec![rule];
    config.interfaces = vec![bridge, tunnel, with_address("v0", &["198.51.100.1/24"])];
    config
}

#[test]
fn everything_from_nothing_in_an_order_that_the_kernel_takes() {
    let config = all();
    assert_eq!(config.check(), []);
    let mut state = machine(&["eth0", "eth1"]);
    let text = commands(&converge(&config, &mut state));
    let expected = "\
ip link add name bond0 group 27499 type bond mode active-backup miimon 100
ip link set dev bond0 up
ip link add name br0 group 27499 type bridge stp_state 0 forward_delay 0
sysctl -w net/ipv6/conf/br0/accept_ra=0
ip link set dev br0 up
ip link add name v0 group 27499 type veth peer name v1 group 27499
ip link set dev v0 up
ip link add name wg0 group 27499 type wireguard
wg set wg0 private-key (hidden) listen-port 51820 peer BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc= \
endpoint 192.0.2.9:51820 persistent-keepalive 25 allowed-ips \"10.9.0.0/16\"
ip link set dev wg0 up
ip link set dev eth0 master bond0
ip link set dev eth1 master bond0
ip link set dev v1 master br0
ip link set dev v1 up
ip link add link bond0 name vlan5 group 27499 type vlan protocol 802.1q id 5
ip link set dev vlan5 master br0
ip link set dev vlan5 up
ip link set dev bond0 type bond mode active-backup miimon 100 primary eth1
ip -4 address add 192.0.2.5/24 broadcast 192.0.2.255 dev br0 proto 107
ip -6 address add 2001:db8::5/64 dev br0 proto 107
ip -4 address add 198.51.100.1/24 broadcast 198.51.100.255 dev v0 proto 107
ip -4 address add 10.9.0.1/32 dev wg0 proto 107
ip -4 route add 10.9.0.0/16 dev wg0 table 100 proto 107 metric 102
ip -4 route add default via 192.0.2.1 dev br0 proto 107 metric 100
ip -6 route add default via fe80::1 dev br0 proto 107 metric 100
ip -4 rule add from 10.9.0.1/32 lookup 100 pref 1000 proto 107
";
    assert_eq!(text, expected);
    assert!(!format!("{state}{state:?}").contains("AQEBAQ"), "a secret is shown");
}

#[test]
fn a_dump_says_what_there_is() {
    let mut state = machine(&["eth0", "eth1"]);
    converge(&all(), &mut state);
    state.links[0].alias = Some("uplink".into());
    insta::assert_snapshot!(state);
}

#[test]
fn what_nobody_wants_any_more_goes_and_what_others_made_stays() {
    let mut state = machine(&["eth0", "eth1"]);
    converge(&all(), &mut state);
    // Somebody else's.
    let foreign: AddressState = AddressState::new("203.0.113.7/24".parse().unwrap(), 0);
    let bond = state.links.iter_mut().find(|link| link.name == "eth0").unwrap();
    bond.addresses.push(foreign);
    let mut docker = LinkState::new(90, "docker0");
    docker.kind = Some(Kind::Bridge(Default::default()));
    state.links.push(docker);
    let mut theirs = Route::new("10.77.0.0/16".parse().unwrap(), "docker0");
    theirs.protocol = 4;
    state.routes.insert(theirs.clone());

    let text = commands(&converge(&Config::default(), &mut state));
    for line in ["ip link delete dev bond0", "ip link delete dev br0", "ip link delete dev wg0"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("ip -4 rule delete from 10.9.0.1/32 lookup 100"), "{text}");
    let left: Vec<&str> = state.links.iter().map(|link| link.name.as_str()).collect();
    assert_eq!(left, ["eth0", "eth1", "docker0"]);
    assert!(state.routes.contains(&theirs));
    assert_eq!(state.link("eth0").unwrap().addresses, [foreign]);
}

#[test]
fn a_new_address_is_there_before_the_old_one_goes() {
    let mut state = machine(&["eth0"]);
    let mut config = Config::default();
    config.interfaces = vec![with_address("eth0", &["192.0.2.5/24"])];
    config.interfaces[0].gateway = Some("192.0.2.1".parse().unwrap());
    converge(&config, &mut state);
    config.interfaces[0].addresses = vec!["192.0.2.6/24".parse().unwrap()];
    config.interfaces[0].gateway = Some("192.0.2.2".parse().unwrap());
    let text = commands(&converge(&config, &mut state));
    assert_eq!(
        text,
        "\
ip -4 address add 192.0.2.6/24 broadcast 192.0.2.255 dev eth0 proto 107
ip -4 route replace default via 192.0.2.2 dev eth0 proto 107 metric 100
sysctl -w net/ipv4/conf/eth0/promote_secondaries=1
ip -4 address delete 192.0.2.5/24 dev eth0
"
    );
}

#[test]
fn a_member_moves_without_its_old_master_in_the_way() {
    let mut state = machine(&["eth0", "eth1", "eth2"]);
    let mut config = Config::default();
    config.bonds = vec![Bond::new("a", vec![name("eth0"), name("eth1")])];
    converge(&config, &mut state);
    // By its own hardware address, although the bond may have given it another.
    state.links[1].mac = state.links[0].mac;
    config.bonds[0].members.pop();
    config.bonds.push(Bond::new("b", vec![name("02:00:00:00:00:02")]));
    let text = commands(&converge(&config, &mut state));
    assert!(text.contains("ip link set dev eth1 down\nip link set dev eth1 master b\n"), "{text}");
    config.bonds.pop();
    converge(&config, &mut state);
    assert_eq!(state.link("eth1").unwrap().master, None);
    assert_eq!(state.link("eth0").unwrap().master.as_deref(), Some("a"));
}

#[test]
fn a_bond_of_another_mode_is_made_anew_and_gets_its_members_back() {
    let mut state = machine(&["eth0", "eth1"]);
    let mut config = all();
    converge(&config, &mut state);
    config.bonds[0].mode = kiln_network::BondMode::Lacp;
    config.bonds[0].primary = None;
    let text = commands(&converge(&config, &mut state));
    assert!(text.starts_with("ip link delete dev bond0\nip link add name bond0"), "{text}");
    assert!(text.contains("ip link add link bond0 name vlan5"), "{text}");
}

#[test]
fn tunnels_change_by_peer() {
    let mut state = machine(&["eth0"]);
    let mut config = all();
    config.bonds[0].members = vec![name("eth0")];
    config.bonds[0].primary = None;
    converge(&config, &mut state);
    let mut peer = Peer::new(Key([8; 32]));
    peer.allowed_ips = vec!["10.8.0.0/16".parse().unwrap()];
    config.wireguards[0].peers.push(peer);
    let added = commands(&converge(&config, &mut state));
    assert_eq!(added.lines().count(), 1);
    assert!(!added.contains("BwcHBw") && added.contains("peer CAgI"), "{added}");
    // A peer that has no declared endpoint may be heard from anywhere.
    let Some(Kind::Wireguard(Some(tunnel))) =
        state.links.iter_mut().find(|link| link.name == "wg0").and_then(|link| link.kind.as_mut())
    else {
        panic!()
    };
    tunnel.peers[1].endpoint = Some("203.0.113.1:9".parse().unwrap());
    assert!(converge(&config, &mut state).is_empty());
    config.wireguards[0].peers.remove(0);
    let removed = commands(&converge(&config, &mut state));
    assert!(removed.contains("peer BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc= remove"));
}

#[test]
fn what_cannot_be_is_told_and_the_rest_is_done() {
    let mut state = machine(&["eth0", "eth1", "eth2"]);
    state.links[1].name = "br0".into();
    let mut theirs = Route::new("0.0.0.0/0".parse().unwrap(), "eth2");
    (theirs.metric, theirs.via) = (100, Some("192.0.2.9".parse().unwrap()));
    theirs.protocol = 16;
    state.routes.insert(theirs);
    let mut config = Config::default();
    config.bridges = vec![Bridge::new("br0", vec![name("eth0")])];
    config.vlans = vec![Vlan::new("lost", name("eth7"), 1)];
    config.wireguards = vec![Wireguard::new("wg9", "/no/such.key")];
    config.interfaces = vec![with_address("eth2", &["192.0.2.5/24"])];
    config.interfaces[0].gateway = Some("192.0.2.1".parse().unwrap());
    // What check() says of names aside.
    let wanted = desired(&config, &state);
    let text: String = wanted.problems.iter().map(|problem| format!("{problem}\n")).collect();
    for part in [
        "bridge br0: there is a device of this name already: left alone",
        "wireguard wg9: no key from /no/such.key: left out",
        "route default via 192.0.2.1 dev eth2 proto 107 metric 100: somebody else has default via \
         192.0.2.9",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = plan(&config, &CommandLine::default(), &links(&config, &state));
    assert_eq!(found.unmatched, ["vlan lost: parent eth7"]);
    assert!(wanted.link("lost").is_none() && wanted.link("br0").is_none());
}

#[test]
fn boot_link_of_a_bond_is_the_bond() {
    let state = machine(&["eth0", "eth1", "eth2"]);
    let mut config = Config::default();
    config.bonds = vec![Bond::new("bond0", vec![name("eth1"), name("eth2")])];
    for text in
        ["BOOTIF=01-02-00-00-00-00-02", "ip=eth2:dhcp", "ip=dhcp BOOTIF=01-02-00-00-00-00-03"]
    {
        let (line, _) = CommandLine::parse(text);
        let found = plan(&config, &line, &links(&config, &state));
        let planned: Vec<_> = found.links.iter().map(|link| link.link.as_str()).collect();
        assert_eq!(planned, ["bond0"], "{text}");
        assert!(found.links[0].dhcp.is_some());
    }
    // All physical links, members by their bond.
    let (line, _) = CommandLine::parse("ip=dhcp");
    let found = plan(&config, &line, &links(&config, &state));
    let planned: Vec<_> = found.links.iter().map(|link| link.link.as_str()).collect();
    assert_eq!(planned, ["eth0", "bond0"]);
}

#[test]
fn drivers_match() {
    let mut state = machine(&["eth0", "eth1"]);
    state.links[1].driver = Some("e1000".into());
    let mut config = Config::default();
    config.interfaces = vec![Interface::dhcp(name("driver:virtio*"))];
    let found = plan(&config, &CommandLine::default(), &links(&config, &state));
    assert_eq!(found.links.len(), 1);
    assert_eq!(found.links[0].link, "eth0");
    config.interfaces = vec![Interface::dhcp(name("eth*"))];
    config.interfaces[0].driver = Some("e1000".into());
    let found = plan(&config, &CommandLine::default(), &links(&config, &state));
    assert_eq!(found.links[0].link, "eth1");
    config.interfaces = vec![Interface::dhcp(name("enp*"))];
    let found = plan(&config, &CommandLine::default(), &links(&config, &state));
    assert_eq!(found.unmatched, ["interface 1 (enp*)"]);
}

const NAMES: [&str; 6] = ["eth0", "eth1", "eth2", "x", "y", "z"];

fn a_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&NAMES[..])
}

fn an_interface() -> impl Strategy<Value = Interface> {
    let nets = prop::sample::subsequence(
        vec![
            "10.0.0.1/24",
            "10.0.0.2/24",
            "10.0.1.1/16",
            "2001:db8::1/64",
            "2001:db8::2/64",
            "2001:db8:1::1/48",
        ],
        0..4,
    );
    (
        a_name(),
        nets,
        any::<(bool, Option<bool>, Option<bool>)>(),
        prop::option::of(1280_u32..9000),
        0_u8..4,
        0_u8..4,
    )
        .prop_map(|(link, nets, (down, ra, v6), mtu, gateway, route)| {
            let mut one = with_address(link, &nets);
            let has = |v4: bool| one.addresses.iter().any(|net| net.addr().is_ipv4() == v4);
            let (has_v4, has_v6) = (has(true), has(false));
            one.up = !down || !one.addresses.is_empty();
            (one.accept_ra, one.mtu) = (ra, mtu);
            one.ipv6 = v6.filter(|on| *on || !has_v6);
            if gateway == 1 && has_v4 {
                one.gateway = Some("10.0.0.254".parse().unwrap());
            } else if gateway == 2 && has_v6 {
                one.gateway6 = Some("fe80::1".parse().unwrap());
            }
            if route > 0 && one.up {
                let mut add = StaticRoute::to(format!("10.{route}.0.0/16").parse().unwrap());
                add.table = (route == 1).then_some(77);
                one.routes.push(add);
            }
            if route == 2 {
                one.rules.push(PolicyRule::new(u32::from(gateway) + 1, 77));
            }
            one
        })
}

fn a_config() -> impl Strategy<Value = Config> {
    let made = (0_u8..5, prop::sample::subsequence(NAMES.to_vec(), 1..4), a_name(), 1_u16..4);
    (prop::collection::vec(made, 0..4), prop::collection::vec(an_interface(), 0..4)).prop_map(
        |(made, interfaces)| {
            let mut config = Config::default();
            for (number, (kind, members, other, id)) in made.into_iter().enumerate() {
                let own = ["x", "y", "z", "w"][number];
                let members: Vec<Selector> = members.into_iter().map(name).collect();
                match kind {
                    0 => config.bonds.push(Bond::new(own, members)),
                    1 => config.bridges.push(Bridge::new(own, members)),
                    2 => config.vlans.push(Vlan::new(own, name(other), id)),
                    3 => config.veths.push(Veth::new(own, format!("{own}-peer"))),
                    _ => config.wireguards.push(Wireguard::new(own, "/wg0.key")),
                }
            }
            config.interfaces = interfaces;
            config
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// From any declared state to any other: every change is one that the kernel takes, and what comes
    /// out is what was wanted.
    #[test]
    fn differences_converge(configs in prop::collection::vec(a_config(), 1..4)) {
        let mut state = machine(&["eth0", "eth1", "eth2"]);
        for config in configs.iter().filter(|config| config.check().is_empty()) {
            converge(config, &mut state);
            let wanted = desired(config, &state);
            for link in &wanted.links {
                let there = state.link(&link.name).unwrap();
                prop_assert_eq!(there.up, link.up);
                prop_assert!(link.master.is_none() || there.master == link.master);
                prop_assert!(link.mtu.is_none_or(|mtu| mtu == there.mtu));
                for net in &link.addresses {
                    prop_assert!(there.addresses.iter().any(|one| one.net == *net));
                }
            }
            for route in &wanted.routes {
                prop_assert!(state.routes.contains(route));
            }
        }
        // And back to nothing.
        converge(&Config::default(), &mut state);
        prop_assert_eq!(state.links.len(), 3);
        prop_assert!(state.rules.is_empty());
        prop_assert!(state.routes.iter().all(|route| route.protocol != 107));
    }
}
