//! Bonds, VLANs and tunnels on Debian's kernel, beside what iproute2 and wireguard-tools see of them.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kiln::{Cache, Progress, debian, guest, kernel};
use kiln_e2e::{LONG, alone, said};
use kiln_initramfs::elf::{self, Resolver};
use kiln_tree::{Metadata, Node, Tree, host};

const MODULES: [&str; 12] = [
    "bonding",
    "8021q",
    "wireguard",
    "veth",
    "bridge",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_masq",
    "nft_nat",
    "nft_fib_inet",
    "nf_conntrack",
];

fn tree(cache: &Cache, kernel: &kernel::Kernel) -> Result<Tree> {
    let sysroot = debian::sysroot(cache, &["iproute2", "wireguard-tools"])?;
    let mut resolver = Resolver::new(elf::Options::new(&sysroot))?;
    let roots = [("bin/ip", "/usr/sbin/ip"), ("usr/bin/wg", "/usr/bin/wg")]
        .map(|(from, to)| elf::Root::placed(sysroot.join(from), to));
    let mut tree = Tree::new();
    resolver.closure_of(&roots)?.add_to(&mut tree, &host::Policy::default())?;
    let init = guest::build("kiln-e2e-init", "links", &Progress::on_stderr())?;
    tree.insert("init", Node::executable(std::fs::read(init)?))?;
    tree.insert("sbin/modprobe", Node::symlink("/init"))?;
    for directory in ["run", "tmp", "etc"] {
        tree.insert(directory, Node::directory().with(Metadata::new(0o755)))?;
    }
    let wanted: Vec<(String, String)> =
        MODULES.map(|name| (name.to_owned(), "the test makes such links".to_owned())).into();
    let problems = kernel::add_modules(&mut tree, kernel, &wanted, cache)?;
    ensure!(problems.is_empty(), "{problems:?}");
    Ok(tree)
}

#[test]
fn bonds_vlans_and_tunnels_carry_packets() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cache = Cache::of_workspace();
    let kernel = debian::kernel(&cache, "linux-image-amd64")?;
    let mut machine =
        alone::machine(kernel.image.clone(), &tree(&cache, &kernel)?, directory.path())?;
    (machine.memory, machine.processors) = (512, 1);
    let began = Instant::now();
    let mut vm = machine.start()?;
    let done = vm.wait_exit(LONG);
    let console = vm.console().tail(400);
    done.with_context(|| console.clone())?;
    let all = said(&vm, "links: ");
    println!("{:.1?}\n{}", began.elapsed(), all.join("\n"));
    ensure!(all.iter().any(|line| line == "all done"), "{console}");
    for wrong in ["FAILED", "WRONG"] {
        ensure!(!all.iter().any(|line| line.contains(wrong)), "{console}");
    }
    for what in ["here", "there", "changed", "back", "nothing"] {
        let line = format!("{what}: 0 changes left");
        ensure!(all.contains(&line), "{line}\n{console}");
    }
    for what in [
        "a VLAN of a bond in a bridge",
        "the same by IPv6",
        "a tunnel",
        "a tunnel by IPv6",
        "with one cable",
        "with both again",
        "after it was changed and changed back",
        "a port of a container",
    ] {
        let line = format!("packets: {what}: kiln");
        ensure!(all.contains(&line), "{line}\n{console}");
    }
    for part in [
        "bond mode active-backup active_slave p1 miimon 50",
        "primary p1",
        "vlan protocol 802.1Q id 5",
        "active: p1",
        "bond mode 802.3ad miimon 50",
        "lacp_rate fast",
        "vlan protocol 802.1Q id 6",
        // wg show dump: endpoint, allowed addresses, …, keepalive.
        "192.0.2.2:51821\t10.9.0.2/32,fd00:9::2/128\t",
        "changed: wg set wg0 peer",
    ] {
        ensure!(all.iter().any(|line| line.contains(part)), "{part}\n{console}");
    }
    let keepalives: Vec<&str> = all
        .iter()
        .filter_map(|line| line.rsplit('\t').next())
        .filter(|end| end.starts_with("2"))
        .collect();
    ensure!(keepalives.contains(&"25") && keepalives.contains(&"26"), "{keepalives:?}\n{console}");
    let left = all.iter().skip_while(|line| !line.starts_with("left: ")).take(3);
    let left: Vec<&str> = left
        .filter_map(|line| line.trim_start_matches("left: ").split(['@', ' ']).next())
        .collect();
    ensure!(left == ["lo", "p0", "p1"], "{left:?}\n{console}");
    Ok(())
}
