use serde_json::json;

use super::*;

fn load(file: &str, line: &str, oem: &str) -> Loaded {
    let mut layers = Layers::new();
    layers.text(
        "built-in",
        b"networkConfig: {interfaces: [{device: lo, address: 127.0.0.1/8}]}\nmodules: [loop]\n",
    );
    layers.text("kurma.yml", file.as_bytes());
    layers.command_line(line);
    layers.text("oem", oem.as_bytes());
    layers.load()
}

#[test]
fn layers_have_their_order_and_some_lists_are_joined() {
    let loaded = load(
        "hostname: file\ndebug: false\nmodules: [a, 'b x=1']\nprefetchImages: [/one]\ninitialPods: [example.com/one:1]\n",
        "quiet kurma.debug kurma.hostname=line kurma.modules=c,d kurma.booted=PARTLABEL=KURMA-B",
        "hostname: oem\nprefetchImages: [/two]\ninitialPods: [{name: two, image: i, ports: ['80:80']}]\n",
    );
    let found = loaded.configuration;
    assert_eq!(loaded.findings.to_string(), "");
    assert_eq!((found.hostname.as_deref(), found.debug), (Some("oem"), true));
    assert_eq!(found.modules, [vec!["loop"], vec!["a"], vec!["b", "x=1"], vec!["c"], vec!["d"]]);
    assert_eq!(found.prefetch, ["/two"]);
    assert_eq!(found.booted.as_deref(), Some("PARTLABEL=KURMA-B"));
    let names: Vec<&str> = found.initial_pods.iter().map(|pod| pod.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(
        found.initial_pods[1].create,
        json!({"name": "two", "image": "i", "ports": ["80:80"]})
    );
    assert!(loaded.merged.explain().contains("hostname = oem (oem:1"));
}

#[test]
fn json_and_keys_of_2015_are_the_same() {
    let old = r#"{
        "oem_config": {"device": "LABEL=OEM", "config_path": "/kurma_oem.json"},
        "parent_cgroup_name": "pods",
        "network_config": {"dns": ["192.0.2.53"], "gateway": "192.0.2.1", "proxy_url": "http://p",
            "interfaces": [{"device": "eth.+", "address": "192.0.2.7/24", "mtu": 1400}, {"device": "en.*", "dhcp": true}]},
        "disks": [{"device": "PARTLABEL=ROOT", "fstype": "ext4", "usage": ["images", "pods"], "resize": true}],
        "services": {"ntp": {"servers": ["192.0.2.9"]}, "console": {"password": "x", "ssh_keys": ["k"]}},
        "pod_networks": [
            {"name": "one", "type": "bridge", "bridge": "one0", "ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}},
            {"name": "two", "default": true, "gateways": ["10.2.0.1/16", "fd00:2::1/64"], "ipMasq": false}
        ],
        "init_containers": [{"name": "p", "apps": [{"name": "a", "image": {"name": "i"}}]}]
    }"#;
    let loaded = load(old, "", "");
    let findings = loaded.findings.to_string();
    assert!(
        findings.ends_with("networkConfig.proxyUrl: not supported")
            && findings.lines().count() == 1,
        "{findings}"
    );
    let found = loaded.configuration;
    assert_eq!(
        (found.oem.device.as_deref(), found.oem.path.as_deref()),
        (Some("LABEL=OEM"), Some("/kurma_oem.json"))
    );
    assert_eq!(found.parent_cgroup.as_deref(), Some("pods"));
    let network = found.network.unwrap();
    let selectors: Vec<String> =
        network.interfaces.iter().map(|one| one.selector.to_string()).collect();
    assert_eq!(selectors, ["eth?*", "en*"]);
    assert_eq!(network.interfaces[0].gateway.unwrap().to_string(), "192.0.2.1");
    assert_eq!(found.disks[0].usage, [Usage::Images, Usage::Pods]);
    assert_eq!((found.console.password.as_deref(), found.console.ssh_keys.len()), (Some("x"), 1));
    assert_eq!(found.ntp.servers.len(), 1);
    let names: Vec<&str> = found.pod_networks.iter().map(|one| one.network.name.as_str()).collect();
    assert_eq!(names, ["two", "one"]);
    assert_eq!(found.pod_networks[1].network.gateways[0].to_string(), "10.1.0.1/16");
    assert_eq!(found.initial_pods[0].create["pod"]["apps"][0]["image"]["name"], "i");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let bad = "debgu: true\nhostname: a_b\ndisks:\n- {device: sda}\n- {device: /dev/sda, usage: [logs]}\n\
               networkConfig:\n  gateway: 192.0.2.1\n  interfaces: [{device: '(a|b)'}]\n\
               podNetworks: [{name: x}]\nparentCgroupName: a/b\ndatasources: [ec2]\napi: {plain: everywhere}\n";
    let findings = load(bad, "", "").findings.to_string();
    for expected in [
        "kurma.yml:1: unknown key \"debgu\", did you mean \"debug\"?",
        "kurma.yml:2: hostname: ",
        "kurma.yml:4: disks[0].device: ",
        "kurma.yml:5: disks[1].usage[0]: ",
        "gateway 192.0.2.1 is on no interface's network",
        "networkConfig.interfaces[0].device: ",
        "podNetworks[0]",
        "parentCgroupName: ",
        "datasources: not supported",
        "api.plain: ",
    ] {
        assert!(findings.contains(expected), "{expected:?} is not in\n{findings}");
    }
}
