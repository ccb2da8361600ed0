//! What users of the RancherOS-like system configure: sources over the network, mounts and swap, links that
//! are made, proxies, TLS, files for containers, archives that the engine reads.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use kiln::qemu::{Card, Disk, Format as DiskFormat, Plugged};
use kiln_diskimg::{container, ext4};
use kiln_e2e::rancheros::{Guest, direct, small_image};
use kiln_e2e::{Identity, Server, tool};
use kiln_tree::{Node, Tree};
use rancheros::key;

/// A disk with a file system that has a label, and a file.
fn labelled(path: &Path, label: &str, name: &str, text: &str) -> Result<()> {
    let mut tree = Tree::new();
    tree.insert(name, Node::file(text))?;
    let mut options = ext4::Options::default();
    options.label = Some(label.into());
    let volume = ext4::Volume::plan(&tree, &options)?;
    container::write_file(container::Format::Raw, &volume, path)?;
    Ok(())
}

const RELEASES: &str = "current: os:v2.1.0\navailable: [os:v2.1.0, os:v2.0.0]\n";

/// An OEM's layer: a name, a list of versions at a port, and who vouches for servers.
fn oem(port: u16, authority: &str) -> String {
    let authority: Vec<String> = authority.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "#cloud-config\nhostname: by-oem\nrancher:\n  upgrade:\n    url: https://10.0.2.2:{port}/releases.yml\n  \
         cloud_init:\n    authorities:\n    - |\n{}",
        authority.concat()
    )
}

fn user_data(public: &str, proxy: u16) -> String {
    format!(
        r#"#cloud-config
hostname: ranch-9
ssh_authorized_keys: ["{public}"]
mounts:
- [LABEL=pasture, /mnt/pasture, ext4, noatime]
- [tmpfs, /srv/scratch, tmpfs, "size=1m"]
- [/dev/vdc, "", swap, ""]
- [/dev/vdz, /mnt/nothing, ext4, ""]
write_files:
- path: /etc/for-ntp
  container: ntp
  content: tick
- path: /etc/for-nobody
  container: nobody
  content: x
rancher:
  network:
    http_proxy: http://10.0.2.2:{proxy}
    https_proxy: http://10.0.2.2:{proxy}
    no_proxy: localhost,127.0.0.1
    pre_cmds: ["echo before > /run/network-pre"]
    post_cmds: ["cat /run/network-pre > /run/network-post; echo after >> /run/network-post"]
    interfaces:
      eth0: {{dhcp: true}}
      eth1: {{bond: bond0}}
      eth2: {{bond: bond0}}
      bond0: {{bond_opts: {{mode: '1', miimon: '50'}}, vlans: '100:lab'}}
      lab: {{bridge: br0}}
      br0: {{bridge: 'true', address: 192.0.2.5/24}}
"#
    )
}

#[test]
fn what_the_network_says_is_done_and_kept() -> Result<()> {
    let Some(mkswap) = tool("mkswap") else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name);
    let public = key::ensure(&place("key"))?;
    let archive = small_image(&place("small"))?;
    File::create(place("disk"))?.set_len(10 << 30)?;
    labelled(&place("pasture"), "pasture", "grass", "green\n")?;
    File::create(place("swap"))?.set_len(64 << 20)?;
    let made = Command::new(mkswap).arg("-q").arg(place("swap")).status()?;
    ensure!(made.success(), "mkswap: {made}");

    let proxy = Server::start("through a proxy\n")?;
    // who vouches for either, the OEM says
    let identity = Identity::new("10.0.2.2")?;
    let authority = identity.authority.clone();
    let releases = Server::secure(identity.clone(), RELEASES)?;
    let source = Server::secure(identity, user_data(&public, proxy.port))?;
    let oem = oem(releases.port, &authority);
    labelled(&place("oem"), "RANCHER_OEM", "oem-config.yml", &oem)?;
    let mut machine = direct(&place("disk"))?;
    for name in ["pasture", "swap", "oem"] {
        machine.disks.push(Disk::new(place(name), DiskFormat::Raw));
    }
    machine.cards = vec![Card::new(Plugged::Nowhere), Card::new(Plugged::Nowhere)];
    let again = machine.clone();
    let words = |machine: &mut kiln::qemu::Machine, sources: &str| -> Result<()> {
        let kernel = machine.kernel.as_mut().context("no kernel")?;
        kernel.command_line += &format!(
            " rancher.state.directory=ranch/one rancher.cloud_init.datasources=[{sources}]"
        );
        Ok(())
    };
    words(&mut machine, &format!("configdrive,url:https://10.0.2.2:{}/user-data", source.port))?;
    let guest = Guest::start(machine, &place("key"))?;

    // The source is asked when the network is there, and everything starts with what it says.
    let console = guest.vm.console().tail(400);
    ensure!(console.contains("config: asking url:https://10.0.2.2:"), "{console}");
    assert_eq!(source.requests(), ["GET /user-data HTTP/1.1"]);
    assert_eq!(guest.run("hostname")?, "ranch-9\n");
    let state = guest.run("sudo grep ' /state ' /proc/1/mountinfo")?;
    ensure!(state.contains(" /ranch/one /state "), "{state}");

    // Whom everybody trusts is where who asks the network looks for it: before there is a console.
    let trusted =
        "sudo sh -c 'cat /run/ros/bundles/network-*/rootfs/etc/ssl/certs/ca-certificates.crt'";
    ensure!(guest.run(trusted)?.contains("BEGIN CERTIFICATE"), "nobody is trusted");

    // What the OEM's partition says counts, and less than what the user says.
    let listed = guest.run("sudo ros os list")?;
    assert_eq!(listed, "-  v2.0.0           running\n-  os:v2.1.0  current\n-  os:v2.0.0\n");
    let mounts = guest.run("cat /usr/share/ros/oem/oem-config.yml; sudo cat /proc/1/mounts")?;
    ensure!(mounts.starts_with(&oem) && mounts.contains("/usr/share/ros/oem ext4 ro,"), "{mounts}");

    // Mounts and swap, and what is not there.
    ensure!(console.contains("config: mounts: /dev/vdz is not there"), "{console}");
    assert_eq!(guest.run("cat /mnt/pasture/grass")?, "green\n");
    let mounts = guest.run("cat /proc/mounts")?;
    ensure!(mounts.contains("/mnt/pasture ext4 rw,noatime"), "{mounts}");
    ensure!(guest.run("cat /proc/swaps")?.contains("/dev/vdc"), "no swap");
    guest.until("docker info --format '{{.Driver}}'", "overlay2")?;
    guest.feed("docker load", &archive)?;
    let run = |words: &str| guest.run(&format!("docker run --rm {words}"));
    let seen = run("-v /mnt:/mnt -v /srv/scratch:/scratch rancher/os-base:v1 /bin/sh -c \
                    'cat /mnt/pasture/grass; echo there > /scratch/file'")?;
    assert_eq!(seen, "green\n");
    assert_eq!(guest.run("cat /srv/scratch/file")?, "there\n");
    ensure!(guest.run("grep ' /srv/scratch ' /proc/mounts")?.contains("tmpfs"), "no tmpfs");

    // A mount in one container is seen in another, both ways.
    run("--privileged -v /mnt:/mnt:rshared rancher/os-base:v1 /bin/sh -c \
         'mkdir -p /mnt/shared && mount -t tmpfs shared /mnt/shared && echo out > /mnt/shared/a'")?;
    assert_eq!(guest.run("cat /mnt/shared/a")?, "out\n");
    guest.run(
        "sudo mkdir /media/own && sudo mount -t tmpfs own /media/own && sudo touch /media/own/b",
    )?;
    assert_eq!(run("-v /media:/media rancher/os-base:v1 /bin/ls /media/own")?, "b\n");

    // A file for another container, and one for nobody.
    ensure!(console.contains("config: write_files: /etc/for-nobody: "), "{console}");
    assert_eq!(guest.run("sudo sh -c 'cat /run/ros/bundles/ntp-*/rootfs/etc/for-ntp'")?, "tick");

    // Links that are made, and what is done before and after.
    let bond =
        guest.run("cat /sys/class/net/bond0/bonding/slaves /sys/class/net/bond0/bonding/mode")?;
    assert_eq!(bond, "eth1 eth2\nactive-backup 1\n");
    assert_eq!(guest.run("ls /sys/class/net/br0/brif")?, "lab\n");
    ensure!(guest.run("ip addr show dev br0")?.contains("192.0.2.5/24"), "no address");
    ensure!(guest.run("sudo cat /proc/net/vlan/lab")?.contains("VID: 100"), "no VLAN");
    assert_eq!(guest.run("cat /run/network-post")?, "before\nafter\n");

    // Proxies: shells, the engine, other services.
    let got = guest.run("bash -lc 'wget -q -O - http://anything.test/hello'")?;
    assert_eq!(got, "through a proxy\n");
    ensure!(guest.run("docker pull registry.test/nothing:1").is_err(), "a proxy that is none");
    let asked = proxy.requests();
    ensure!(
        asked.iter().any(|line| line == "GET http://anything.test/hello HTTP/1.1"),
        "{asked:?}"
    );
    ensure!(asked.iter().any(|line| line.contains("registry.test")), "{asked:?}");
    let environment =
        guest.run("sudo sh -c 'cat /proc/$(pidof dockerd)/environ' | tr '\\0' '\\n'")?;
    ensure!(environment.contains("no_proxy=localhost,127.0.0.1\n"), "{environment}");

    // TLS for the engine: who has a certificate is answered, nobody else.
    guest.run("sudo ros tls generate --server")?;
    guest.run("sudo ros config set rancher.docker.tls true && sudo ros service restart docker")?;
    guest.run("sudo ros tls generate")?;
    assert_eq!(
        guest.run("stat -c '%a %U' .docker/key.pem && sudo stat -c %a /var/lib/rancher/conf/cloud-config.yml")?,
        "600 rancher\n600\n"
    );
    let by_tls =
        "docker --tlsverify --host tcp://127.0.0.1:2376 version --format '{{.Server.Version}}'";
    guest.until(by_tls, ".")?;
    let without = "mkdir -p /tmp/none && cp .docker/ca.pem /tmp/none/ && \
                   DOCKER_CONFIG=/tmp/none docker --tlsverify --host tcp://127.0.0.1:2376 version";
    let refused = guest.run(without).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("remote error: tls"), "who has no certificate: {refused}");
    let plain = guest.run("wget -q -O - http://127.0.0.1:2376/version").is_err();
    ensure!(plain, "the engine is spoken with in plain text");

    // An archive for the engine to read at the next start.
    guest.run("docker image rm rancher/os-base:v1")?;
    guest.feed(
        "sudo mkdir -p /var/lib/rancher/preload/docker && sudo tee /var/lib/rancher/preload/docker/a.tar > \
         /dev/null",
        &archive,
    )?;
    guest.power_off()?;

    // The next boot: nobody is at the first address, the second is EC2's metadata with a token.
    let metadata = Server::answering(move |request| {
        let has = |line: &str| request.lines().any(|own| own == line);
        let path = request.split(' ').nth(1)?;
        let text = match path {
            "/latest/api/token" if request.starts_with("PUT ") => "token".to_owned(),
            _ if !has("X-aws-ec2-metadata-token: token") => return None,
            "/latest/meta-data/instance-id" => "i-0123".into(),
            "/latest/meta-data/local-hostname" => "ranch-10.internal".into(),
            "/latest/meta-data/public-keys/" => "0=mine".into(),
            "/latest/meta-data/public-keys/0/openssh-key" => public.clone(),
            "/latest/user-data" => "#cloud-config\nruncmd: [echo by ec2 > /run/said]\n".into(),
            _ => return None,
        };
        Some(text.into_bytes())
    })?;
    let mut machine = again;
    let gone = source.port;
    drop(source);
    words(
        &mut machine,
        &format!("url:http://10.0.2.2:{gone}/,ec2:http://10.0.2.2:{}/", metadata.port),
    )?;
    let guest = Guest::start(machine, &place("key"))?;
    let console = guest.vm.console().tail(400);
    ensure!(
        console.contains(&format!("datasource \"url:http://10.0.2.2:{gone}/\": ")),
        "{console}"
    );
    assert_eq!(guest.run("hostname")?, "ranch-10.internal\n");
    guest.until("cat /run/said", "by ec2")?;
    guest.until("docker image ls --format '{{.Repository}}'", "rancher/os-base")?;
    guest.until(by_tls, ".")?;
    guest.power_off()
}
