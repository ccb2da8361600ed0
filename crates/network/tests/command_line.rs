//! `ip=` as the kernel's documentation has it, and what dracut adds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::net::IpAddr;

use kiln_network::{Argument, CommandLine};
use proptest::prelude::*;

fn one(word: &str) -> Argument {
    let (found, problems) = CommandLine::parse(word);
    assert!(problems.is_empty(), "{word}: {problems:?}");
    let [argument] = found.arguments.as_slice() else { panic!("{word}: {found:?}") };
    argument.clone()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Every field of Documentation/admin-guide/nfs/nfsroot.rst.
#[test]
fn every_field_of_the_kernel() {
    let word = "ip=192.0.2.5:192.0.2.9:192.0.2.1:255.255.255.0:node-1.nis:eth0:none:192.0.2.53:192.0.2.54:192.0.2.123";
    let found = one(word);
    assert_eq!(found.address.unwrap().to_string(), "192.0.2.5/24");
    assert_eq!(found.gateway, Some(ip("192.0.2.1")));
    assert_eq!(found.hostname.as_deref(), Some("node-1"), "the NIS domain is cut off");
    assert_eq!(found.device.as_deref(), Some("eth0"));
    assert_eq!(found.nameservers, [ip("192.0.2.53"), ip("192.0.2.54")]);
    assert_eq!(found.ntp, Some(ip("192.0.2.123")));
    assert!(!found.dhcp && !found.off);
}

#[test]
fn autoconfiguration_alone() {
    for (word, dhcp, off) in [
        ("ip=dhcp", true, false),
        ("ip=on", true, false),
        ("ip=any", true, false),
        ("ip=", true, false),
        ("ip=off", false, true),
        ("ip=none", false, true),
    ] {
        let found = one(word);
        assert_eq!((found.dhcp, found.off), (dhcp, off), "{word}");
    }
    assert_eq!(one("ip=dhcp,1,node").client_id.as_deref(), Some(&b"\x01node"[..]));
    assert_eq!(one("ip=::::node::dhcp").hostname.as_deref(), Some("node"));
    assert!(one("ip=:::::eth1:dhcp").dhcp);
    assert!(one("ip=:::::eth1").dhcp, "any is the default");
    assert!(one("nfsaddrs=dhcp").dhcp, "the older name");
}

#[test]
fn netmasks_by_mask_length_and_class() {
    for (word, net) in [
        ("ip=192.0.2.5::::::none", "192.0.2.5/24"),
        ("ip=172.16.0.5::::::off", "172.16.0.5/16"),
        ("ip=10.0.0.5", "10.0.0.5/8"),
        ("ip=10.0.0.5:::255.255.255.252", "10.0.0.5/30"),
        ("ip=10.0.0.5:::0.0.0.0", "10.0.0.5/8"),
        ("ip=10.0.0.5:::22", "10.0.0.5/22"),
        ("ip=[2001:db8::5]::[2001:db8::1]:48:node:eth0:none", "2001:db8::5/48"),
        ("ip=[2001:db8::5]", "2001:db8::5/64"),
    ] {
        assert_eq!(one(word).address.unwrap().to_string(), net, "{word}");
    }
    // The kernel ignores addresses of 0.0.0.0.
    assert!(one("ip=0.0.0.0:0.0.0.0:0.0.0.0:::eth0:dhcp").dhcp);
}

#[test]
fn an_address_that_is_given_needs_no_dhcp() {
    assert!(!one("ip=192.0.2.5:::::eth0:dhcp").dhcp);
}

#[test]
fn dracuts_forms() {
    let found = one("ip=ens3:dhcp:1400");
    assert_eq!((found.device.as_deref(), found.dhcp, found.mtu), (Some("ens3"), true, Some(1400)));
    let found = one("ip=192.0.2.5::192.0.2.1:24:node:ens3:none:9000");
    assert_eq!((found.mtu, found.nameservers.len()), (Some(9000), 0));
    let (several, problems) = CommandLine::parse("ip=eth0:dhcp x ip=192.0.2.5:::24::eth1:none");
    assert!(problems.is_empty());
    assert_eq!(several.arguments.len(), 2);
}

#[test]
fn the_link_that_was_booted_over() {
    let (found, problems) = CommandLine::parse("BOOTIF=01-52-54-00-12-34-56");
    assert!(problems.is_empty());
    assert_eq!(found.boot_link.unwrap().to_string(), "52:54:00:12:34:56");
    assert_eq!(CommandLine::parse("BOOTIF=20-52-54-00-12-34-56").1.len(), 1);
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_word() {
    let text = "ip=192.0.2.300:x:192.0.2.1:255.0.255.0:a_b:eth/0:never:1.2.3:: ip=rarp quiet BOOTIF=zz ip=eth0:dhcp ip=eth0:dhcp";
    let (found, problems) = CommandLine::parse(text);
    assert_eq!(found.arguments.len(), 2, "the two that are right are kept");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    for part in [
        "192.0.2.300",
        "\"x\"",
        "a_b",
        "eth/0",
        "never",
        "1.2.3",
        "RARP",
        "BOOTIF=zz",
        "two of them",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:#?}");
    }
    for word in [
        "ip=1.2.3.4:::255.0.255.0",
        "ip=127.0.0.1",
        "ip=1.2.3.4:::33",
        "ip=:::::eth0:none",
        "ip=eth0:none",
        "ip=eth0:dhcp:1",
        "ip=dhcp,x,y",
        "ip=dhcp,1",
        "ip=a:b:c:d:e:f:g:h:i:j:k",
        "ip=[::1",
        "ip=[2001:db8::5]:::255.255.0.0",
    ] {
        assert!(!CommandLine::parse(word).1.is_empty(), "{word}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = CommandLine::parse(&text);
    }

    #[test]
    fn nothing_like_an_argument_panics(
        fields in prop::collection::vec("([0-9a-z.:,\\[\\]/-]{0,20}|192\\.0\\.2\\.[0-9]{1,3}|\\[2001:db8::[0-9]\\]|eth0|dhcp|none)", 0..12)
    ) {
        let (found, problems) = CommandLine::parse(&format!("ip={}", fields.join(":")));
        prop_assert!(found.arguments.len() == 1 || !problems.is_empty());
    }

    /// What is written in the kernel's form is read as it was meant.
    #[test]
    fn what_is_written_is_read(
        address: [u8; 4], len in 1_u8..=32, host in "[a-z][a-z0-9]{0,10}", device in "[a-z]{2,4}[0-9]"
    ) {
        let address = std::net::Ipv4Addr::from(address);
        let net = ipnet_of(address, len);
        let word = format!("ip={address}:::{}:{host}:{device}:none", net.netmask());
        let (found, problems) = CommandLine::parse(&word);
        let first = address.octets()[0];
        if first == 0 || first == 127 || first >= 224 && (address.is_multicast() || address.is_broadcast()) {
            prop_assert!(!problems.is_empty() || found.arguments[0].address.is_none());
        } else {
            prop_assert!(problems.is_empty(), "{:?}", problems);
            prop_assert_eq!(found.arguments[0].address, Some(kiln_network::IpNet::V4(net)));
            prop_assert_eq!(found.arguments[0].hostname.as_deref(), Some(host.as_str()));
            prop_assert_eq!(found.arguments[0].device.as_deref(), Some(device.as_str()));
        }
    }
}

fn ipnet_of(address: std::net::Ipv4Addr, len: u8) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new(address, len).unwrap()
}
