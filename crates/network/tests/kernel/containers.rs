//! Setting up and tearing down: what `nft` reads, again and after a crash.

use kiln_network::Change;
use kiln_network::container::{BridgeNetwork, Error, Forward, Namespace, Networks, Step};
use kiln_network::linux::Netlink;

use crate::{apart, ip, ip_json, ready, run, until};

fn network() -> BridgeNetwork {
    let mut network = BridgeNetwork::new("pods", "pods0");
    network.gateways = vec!["10.220.0.1/29".parse().unwrap(), "fd00:220::1/64".parse().unwrap()];
    network.mtu = Some(1400);
    network
}

fn forwards(texts: &[&str]) -> Vec<Forward> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

/// What netlink made of a table is what `nft -f` makes of the text that is shown.
#[test]
fn nft_reads_the_same_from_the_text() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let all =
        forwards(&["8080:80", "127.0.0.1:1:2", "192.0.2.1:53:53/udp", "[2001:db8::1]:443:443"]);
    for (masquerade, open) in [(true, false), (false, true)] {
        let mut network = network();
        (network.masquerade, network.open) = (masquerade, open);
        let directory = tempfile::tempdir().unwrap();
        let (by_us, shown) = apart(|| {
            let networks = Networks::new(directory.path());
            networks.up(&network).unwrap();
            let container = Namespace::new().unwrap();
            let attached = networks.attach(&network, "a", &container, &all).unwrap();
            let shown = text(&attached.steps);
            let json = run(&["nft", "-j", "list", "ruleset"]);
            assert!(json.contains("\"family\": \"inet\""), "{json}");
            (run(&["nft", "list", "ruleset"]), shown)
        });
        let script = shown.split("nft -f - <<.\n").nth(1).unwrap().split("\n.\n").next().unwrap();
        let file = directory.path().join("script");
        std::fs::write(&file, script).unwrap();
        let by_nft = apart(|| {
            run(&["nft", "-f", file.to_str().unwrap()]);
            run(&["nft", "list", "ruleset"])
        });
        assert_eq!(by_us, by_nft);
        assert_eq!(by_us.matches("dnat ip").count(), 9, "{by_us}");
    }
}

#[test]
fn again_changes_nothing_and_what_is_missing_is_mended() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let network = network();
    let directory = tempfile::tempdir().unwrap();
    apart(|| {
        let networks = Networks::new(directory.path());
        networks.up(&network).unwrap();
        let container = Namespace::new().unwrap();
        let first = networks.attach(&network, "a", &container, &forwards(&["1:2"])).unwrap();
        let changes = |steps: &[Step]| -> Vec<String> {
            let lines = steps.iter().map(ToString::to_string);
            lines.filter(|line| line.starts_with("ip ") || line.starts_with("in the")).collect()
        };
        assert!(changes(&first.steps).len() > 5);
        let again = networks.attach(&network, "a", &container, &forwards(&["1:2"])).unwrap();
        assert_eq!(changes(&again.steps), [""; 0]);
        assert_eq!(again.lease, first.lease);
        assert_eq!(changes(&networks.up(&network).unwrap()), [""; 0]);

        // Somebody took its link, then its address.
        ip(&format!("link delete {}", first.lease.link));
        let mended = networks.attach(&network, "a", &container, &[]).unwrap();
        assert_eq!(mended.lease.addresses, first.lease.addresses);
        assert!(mended.lease.forwards.is_empty());
        container.run(|| ip("address delete 10.220.0.2/29 dev eth0")).unwrap();
        let mended = networks.attach(&network, "a", &container, &[]).unwrap();
        let lines = changes(&mended.steps);
        assert_eq!(lines.len(), 2, "{lines:#?}");
        let inner = container.run(|| ip_json("address show eth0")).unwrap();
        assert_eq!(inner[0]["mtu"], 1400);
        let addresses: Vec<&str> = inner[0]["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["scope"] == "global")
            .map(|one| one["local"].as_str().unwrap())
            .collect();
        assert_eq!(addresses, ["10.220.0.2", "fd00:220::2"]);
    });
}

/// Connections of one container go on while others come and go: their gateway's hardware address, which they
/// have learnt, stays.
#[test]
fn the_bridge_keeps_its_address_whoever_comes_and_goes() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let network = network();
    let directory = tempfile::tempdir().unwrap();
    apart(|| {
        let networks = Networks::new(directory.path());
        networks.up(&network).unwrap();
        let address = || ip_json("link show pods0")[0]["address"].as_str().unwrap().to_owned();
        let first = address();
        assert!(first.starts_with("02:"), "{first}");
        for round in 0..3 {
            // each link has an address by chance, any of which may be the lowest
            let containers: Vec<Namespace> = (0..4).map(|_| Namespace::new().unwrap()).collect();
            for (at, container) in containers.iter().enumerate() {
                networks.attach(&network, &format!("{round}.{at}"), container, &[]).unwrap();
                assert_eq!(address(), first);
            }
            for at in 0..4 {
                networks.detach(&network, &format!("{round}.{at}")).unwrap();
                assert_eq!(address(), first);
            }
        }
        // one that was made before it was so is mended
        ip("link set dev pods0 address 02:00:00:00:00:01");
        networks.up(&network).unwrap();
        assert_eq!(address(), first);
    });
}

#[test]
fn the_dead_give_back_and_the_living_keep() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let network = network();
    let directory = tempfile::tempdir().unwrap();
    apart(|| {
        let networks = Networks::new(directory.path());
        let mut alive = Vec::new();
        // 10.220.0.2 to .6.
        for name in ["a", "b", "c", "d", "e"] {
            let container = Namespace::new().unwrap();
            networks.attach(&network, name, &container, &[]).unwrap();
            alive.push(container);
        }
        let extra = Namespace::new().unwrap();
        let error = networks.attach(&network, "f", &extra, &[]).unwrap_err();
        assert!(matches!(&error, Error::Refused(_)), "{error}");
        assert_eq!(error.to_string(), "no address of 10.220.0.1/29 is free");
        // With the last of a namespace its link goes, some time.
        drop(alive.remove(1));
        let attached =
            until("b's address is free", || networks.attach(&network, "f", &extra, &[]).ok());
        assert_eq!(attached.lease.addresses[0].to_string(), "10.220.0.3/29");
        let owners: Vec<String> =
            networks.book(&network).unwrap().leases().map(|lease| lease.owner.clone()).collect();
        assert_eq!(owners, ["a", "c", "d", "e", "f"]);
        networks.sweep(&network, |owner| owner != "c" && owner != "f").unwrap();
        assert_eq!(networks.book(&network).unwrap().leases().count(), 3);
        let left = ip("-o link show group 27500");
        assert_eq!(left.lines().count(), 4, "three links and the bridge: {left}");
    });
}

/// The kernel takes a link away some time after its namespace: between seeing it and removing it, too.
#[test]
fn a_link_that_goes_by_itself_is_gone() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let network = network();
    let directory = tempfile::tempdir().unwrap();
    apart(|| {
        let networks = Networks::new(directory.path());
        networks.up(&network).unwrap();
        for _ in 0..30 {
            let container = Namespace::new().unwrap();
            let attached = networks.attach(&network, "a", &container, &[]).unwrap();
            drop(container);
            networks.detach(&network, "a").unwrap();
            let gone = Change::RemoveLink { name: attached.lease.link };
            Netlink::open().unwrap().apply(&gone).unwrap();
        }
    });
}

#[test]
fn there_may_be_many_ports() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let network = network();
    let directory = tempfile::tempdir().unwrap();
    apart(|| {
        let networks = Networks::new(directory.path());
        let container = Namespace::new().unwrap();
        let ports: Vec<Forward> =
            (1..=2000).map(|port| format!("{port}:80").parse().unwrap()).collect();
        networks.attach(&network, "a", &container, &ports).unwrap();
        let rules = run(&["nft", "list", "ruleset"]);
        assert_eq!(rules.matches("dnat ip to").count(), 4000);
        networks.detach(&network, "a").unwrap();
    });
}

#[test]
fn what_is_refused_leaves_nothing() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let network = network();
    let directory = tempfile::tempdir().unwrap();
    apart(|| {
        let networks = Networks::new(directory.path());
        let container = Namespace::new().unwrap();
        networks.attach(&network, "a", &container, &forwards(&["80:80"])).unwrap();
        let other = Namespace::new().unwrap();
        let attach = |owner: &str, ports: &[&str]| {
            networks.attach(&network, owner, &other, &forwards(ports)).unwrap_err().to_string()
        };
        assert_eq!(
            attach("b", &["192.0.2.1:80:1"]),
            "192.0.2.1:80:1/tcp: the port leads to a already"
        );
        assert_eq!(attach("b", &["1:1", "1:2"]), "1:2/tcp: the port leads to b already");
        assert!(attach("b", &["[::1]:1:1"]).contains("::1"));
        assert!(attach("b/c", &[]).contains("expected 1 to 128 letters"));
        // A container with a link of its own of that name.
        other.run(|| ip("link add eth0 type veth peer name eth1")).unwrap();
        assert!(attach("b", &[]).contains("has a link eth0 already"));
        assert_eq!(networks.book(&network).unwrap().leases().count(), 1);
        // A book that cannot be read is not begun anew.
        std::fs::write(directory.path().join("pods.json"), "{").unwrap();
        assert!(attach("b", &[]).contains("pods.json"));
        let mut bad = network.clone();
        bad.name = "../x".into();
        bad.gateways.push("10.0.0.0/8".parse().unwrap());
        let error = networks.up(&bad).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 3, "{error}");
    });
}

#[test]
fn a_dry_run_does_nothing() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let network = network();
    let directory = tempfile::tempdir().unwrap();
    apart(|| {
        let mut networks = Networks::new(directory.path());
        networks.dry_run = true;
        let container = Namespace::new().unwrap();
        let attached = networks.attach(&network, "a", &container, &forwards(&["80:80"])).unwrap();
        let shown = text(&attached.steps);
        for part in [
            "lease of a: 10.220.0.2/29, fd00:220::2/64",
            "ip link add name pods0 group 27500 type bridge",
            "sysctl -w net/ipv4/ip_forward=1",
            "table inet kiln-pods {",
            "meta nfproto ipv4 fib daddr type local tcp dport 80 dnat ip to 10.220.0.2:80",
            "netns CONTAINER",
            "in the container: ip -4 route add default via 10.220.0.1 dev eth0 proto 107",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(ip_json("link show").len(), 1);
        assert_eq!(run(&["nft", "list", "ruleset"]), "");
        assert_eq!(networks.book(&network).unwrap().leases().count(), 0);
    });
}

#[test]
fn namespaces_are_kept_by_their_files() {
    if !ready(&["ip"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web");
    let kept = Namespace::keep(&path).unwrap();
    kept.run(|| ip("link add x0 type veth peer name x1")).unwrap();
    drop(kept);
    let again = Namespace::keep(&path).unwrap();
    let links = again.run(|| ip_json("link show")).unwrap();
    assert_eq!(links.len(), 3);
    assert!(links.iter().any(|link| {
        link["ifname"] == "lo" && link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP")
    }));
    assert!(Namespace::open(&directory.path().join("nothing")).is_err());
    assert!(Namespace::open("/etc/passwd".as_ref()).is_err());
    Namespace::remove(&path).unwrap();
    Namespace::remove(&path).unwrap();
    assert!(!path.exists());
    assert!(Namespace::remove("/etc/hostname".as_ref()).is_err());
}
