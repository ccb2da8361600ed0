//! The configuration as text: every mistake with its place, everything that cannot be, all of it at
//! once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]
#![cfg(feature = "toml")]

use kiln_network::{from_toml, to_toml};

const ALL: &str = r#"
[network]
nameservers = ["192.0.2.53"]

[[network.interface]]
match = "bond0"
driver = "bond"
dhcp = true
accept-ra = true

[[network.interface]]
match = "driver:virtio_net"
up = false

[[network.interface]]
match = "vlan5"
addresses = ["192.0.2.5/24", "2001:db8::5/64"]
mtu = 1400
ipv6 = true

[[network.interface.route]]
to = "198.51.100.0/24"
via = "192.0.2.1"
metric = 5
table = 100

[[network.interface.route]]
to = "default"
type = "unreachable"
metric = 9999

[[network.interface.rule]]
priority = 100
from = "192.0.2.5/32"
table = 100

[[network.bond]]
name = "bond0"
members = ["eth*", "52:54:00:12:34:56"]
mode = "802.3ad"
lacp-rate = "fast"
transmit-hash = "layer3+4"
monitor = 50

[[network.vlan]]
name = "vlan5"
parent = "bond0"
id = 5

[[network.bridge]]
name = "br0"
members = ["veth0"]
stp = true

[[network.veth]]
name = "veth0"
peer = "veth1"

[[network.wireguard]]
name = "wg0"
private-key-file = "/etc/kiln/wg0.key"
listen-port = 51820

[[network.wireguard.peer]]
public-key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
endpoint = "[2001:db8::1]:51820"
allowed-ips = ["10.0.0.0/8"]
keepalive = 25
"#;

#[test]
fn everything_is_read_and_written() {
    let config = from_toml(ALL).unwrap();
    assert_eq!(config.bonds[0].members.len(), 2);
    assert_eq!(config.wireguards[0].peers[0].keepalive, Some(25));
    assert_eq!(from_toml(&to_toml(&config).unwrap()).unwrap(), config);
}

#[test]
fn each_mistake_has_its_place_and_what_was_meant() {
    let text = r#"[network]
hostnme = "x"
search = 5

[[network.interface]]
match = "eth0"
adresses = ["192.0.2.5/24"]
gateway = "192.0.2"

[[network.interface]]
match = "eth1"
addresses = ["192.0.2.5", "x"]

[[network.bond]]
name = "bond0"
mode = "active"

[[network.wireguard]]
name = "wg0"
private-key-file = "/key"

[[network.wireguard.peer]]
public-key = "short"
qqq = 1

[[network.vlam]]
id = 1
"#;
    let error = from_toml(text).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    let expected = [
        ("2:1: ", "unknown field `hostnme`, did you mean `hostname`?"),
        ("3:10: ", "expected a sequence"),
        ("7:1: ", "did you mean `addresses`?"),
        ("8:11: ", "invalid IPv4"),
        ("12:14: ", "invalid"),
        ("12:27: ", "invalid"),
        ("14:1: ", "missing field `members`"),
        ("16:8: ", "unknown variant `active`, expected"),
        ("23:14: ", "expected a key"),
        ("24:1: ", "unknown field `qqq`, expected one of"),
        ("26:11: ", "did you mean `vlan`?"),
    ];
    assert_eq!(lines.len(), expected.len(), "{error}");
    for (line, (at, part)) in lines.iter().zip(expected) {
        assert!(line.starts_with(at) && line.contains(part), "{at}{part}: {line}");
    }
}

#[test]
fn what_cannot_be_is_told_all_at_once() {
    let text = r#"
[[network.interface]]
match = "eth0"
addresses = ["192.0.2.5/24"]
mtu = 1400
[[network.interface.route]]
to = "10.0.0.1/8"
via = "198.51.100.1"
[[network.interface.rule]]
priority = 40000
table = 0
[[network.interface]]
match = "v1"
addresses = ["192.0.2.5/24"]
mtu = 1500
[[network.bond]]
name = "bond0"
members = ["eth1", "eth1", "br0"]
lacp-rate = "slow"
[[network.bridge]]
name = "br0"
members = ["eth1", "eth0", "v2"]
forward-delay = 31
[[network.vlan]]
name = "v1"
parent = "eth0"
id = 4095
[[network.vlan]]
name = "v2"
parent = "bond0"
id = 1
[[network.vlan]]
name = "a-name-that-is-too-long"
parent = "eth0"
id = 4095
[[network.veth]]
name = "br0"
peer = "lo"
[[network.wireguard]]
name = "wg0"
private-key-file = "key"
"#;
    let error = from_toml(text).unwrap_err().to_string();
    let expected = [
        "interface 1 (eth0): route to 10.0.0.1/8: expected 10.0.0.0/8, the network",
        "interface 1 (eth0): route to 10.0.0.1/8: via 198.51.100.1 is on no network",
        "interface 1 (eth0): rule 40000: expected a priority of 1 to 32765",
        "interface 1 (eth0): rule 40000: table 0 is none",
        "interface 2 (v1): the address 192.0.2.5 is there twice",
        "veth br0: another link has this name",
        "veth lo: the kernel means something else by this name",
        "vlan a-name-that-is-too-long: no name of a link",
        "bond bond0: lacp-rate is for mode 802.3ad, not for active-backup",
        "bridge br0: forward-delay 31",
        "vlan v1: id 4095, expected 1 to 4094",
        "vlan a-name-that-is-too-long: id 4095, expected 1 to 4094",
        "vlan a-name-that-is-too-long: v1 is VLAN 4095 of eth0 already",
        "wireguard wg0: private-key-file \"key\" is not absolute",
        "bond bond0: eth1 is there twice",
        "bridge br0: eth1 is a member of bond0 already",
        "interface 1 (eth0): a member of br0 has neither addresses nor routes",
        "bond bond0: it stands on itself",
        "bridge br0: it stands on itself",
        "vlan v2: it stands on itself",
        "vlan v1: mtu 1500 is above 1400, that of eth0",
    ];
    for part in expected {
        assert!(error.contains(part), "{part} is not in\n{error}");
    }
}
