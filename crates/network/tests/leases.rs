//! Leases under random takes, returns and crashes: no address and no port is ever two owners'.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]
#![cfg(feature = "container")]

use std::collections::{BTreeMap, BTreeSet};

use kiln_network::IpNet;
use kiln_network::container::{Book, Forward, Pool, Refusal, Transport};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Act {
    Take(u8, Vec<u16>),
    GiveBack(u8),
    /// What is not written yet is lost; the network has another prefix from now on.
    Crash(u8),
    /// It is written.
    Save,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0_u8..12, prop::collection::vec(1_u16..6, 0..3)).prop_map(|(n, ports)| Act::Take(n, ports)),
        3 => (0_u8..12).prop_map(Act::GiveBack),
        1 => (26_u8..30).prop_map(Act::Crash),
        2 => Just(Act::Save),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn nothing_is_given_twice(acts in prop::collection::vec(act(), 1..80)) {
        let mut book = Book::default();
        let mut written = serde_json::to_string(&book).unwrap();
        let mut gateways: Vec<IpNet> =
            vec!["192.0.2.1/28".parse().unwrap(), "fd00::1/125".parse().unwrap()];
        for act in acts {
            match act {
                Act::Take(number, ports) => {
                    let owner = format!("c{number}");
                    let forwards: Vec<Forward> =
                        ports.iter().map(|port| Forward::new(Transport::Tcp, *port, 80)).collect();
                    let had = book.lease(&owner).cloned();
                    let before = book.clone();
                    match book.take(&owner, &gateways, &forwards) {
                        Ok(lease) => {
                            prop_assert_eq!(lease.addresses.len(), gateways.len());
                            for (address, gateway) in lease.addresses.iter().zip(&gateways) {
                                prop_assert!(gateway.contains(&address.addr()));
                                prop_assert_ne!(address.addr(), gateway.addr());
                                prop_assert_ne!(address.addr(), gateway.network());
                            }
                            if let Some(had) = had.filter(|had| gateways[0].contains(&had.addresses[0].addr())) {
                                prop_assert_eq!(had.addresses[0].addr(), lease.addresses[0].addr());
                                prop_assert_eq!(had.link, lease.link);
                            }
                        }
                        Err(Refusal::Full(net)) => {
                            let used = before.leases().filter(|lease| {
                                lease.addresses.iter().any(|one| net.contains(&one.addr()))
                            });
                            let room = if net.addr().is_ipv4() { (1 << (32 - net.prefix_len())) - 3 } else { 6 };
                            prop_assert!(used.count() >= room, "{} is not full", net);
                            prop_assert_eq!(&before, &book);
                        }
                        Err(_) => prop_assert_eq!(&before, &book),
                    }
                }
                Act::GiveBack(number) => {
                    let owner = format!("c{number}");
                    book.give_back(&owner);
                    prop_assert!(book.lease(&owner).is_none());
                }
                Act::Save => written = serde_json::to_string(&book).unwrap(),
                Act::Crash(prefix) => {
                    book = serde_json::from_str(&written).unwrap();
                    gateways[0] = format!("192.0.2.1/{prefix}").parse().unwrap();
                }
            }
            let mut addresses = BTreeSet::new();
            let mut links = BTreeSet::new();
            let mut ports: BTreeMap<u16, &str> = BTreeMap::new();
            for lease in book.leases() {
                for address in &lease.addresses {
                    prop_assert!(addresses.insert(address.addr()), "{} twice", address);
                }
                prop_assert!(links.insert(&lease.link) && lease.link.len() <= 15);
                for forward in &lease.forwards {
                    prop_assert!(ports.insert(forward.host_port, &lease.owner).is_none());
                }
            }
        }
    }

    #[test]
    fn a_pool_gives_all_it_has(prefix in 24_u8..31, number in 0_u32..256) {
        let address = std::net::Ipv4Addr::from(0xc000_0200 | number);
        let gateway = IpNet::new(address.into(), prefix).unwrap();
        let mut pool = Pool::new(gateway);
        let mut given = BTreeSet::new();
        while let Some(address) = pool.take(&given.len().to_string()) {
            prop_assert!(given.insert(address));
            prop_assert!(gateway.contains(&address) && address != gateway.addr());
        }
        let hosts = (1_usize << (32 - prefix)) - 2;
        let is_host = gateway.addr() != gateway.network() && gateway.addr() != gateway.broadcast();
        prop_assert_eq!(given.len(), hosts - usize::from(is_host));
    }
}
