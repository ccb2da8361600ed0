//! The Kurma-like system from its disk, by a BIOS and by UEFI: what its OEM says is there from the beginning,
//! and is kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kiln::definition::{Definition, Files, Format, PartitionContent};
use kiln::qemu::{Disk, Firmware, Format as DiskFormat, Forward, Machine, Uefi, Vm};
use kiln::{Cache, Progress, build, cache, debian};
use kiln_e2e::get_until;
use kiln_oci::Compression;
use kiln_oci::appc::{self, App, ImageManifest};
use kiln_tree::{Node, Tree};

const LONG: Duration = Duration::from_secs(300);

/// What the OEM says: a pod that is reached by a port, and one that sees the machine and tells of it.
const OEM: &str = r#"{
    "hostname": "by-oem",
    "debug": true,
    "modules": ["br_netfilter"],
    "prefetchImages": ["/oem/images"],
    "initialPods": [
        {"name": "web", "image": "example.com/web", "ports": ["8080:80"]},
        {"name": "tells", "apps": [{"name": "tells", "image": {"name": "example.com/web"}, "app": {
            "exec": ["/bin/sh", "-c", "cd /host/proc; while :; do { printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; cat sys/kernel/hostname 1/mounts partitions modules; } | nc -l -p 8081; done"],
            "user": "0", "group": "0",
            "isolators": [{"name": "host/privileged", "value": true}]
        }}]}
    ]
}"#;

/// An image of busybox that serves a file.
fn web(path: &Path) -> Result<()> {
    let mut app =
        App::new(["/bin/httpd", "-f", "-p", "80", "-h", "/www"].map(str::to_owned).to_vec());
    app.working_directory = Some("/www".into());
    let mut manifest = ImageManifest::new("example.com/web".parse()?);
    manifest.app = Some(app);
    let root = debian::sysroot(&Cache::of_workspace(), &["busybox-static"])?;
    let busybox =
        fs::read(root.join("usr/bin/busybox")).or_else(|_| fs::read(root.join("bin/busybox")))?;
    let mut tree = Tree::new();
    tree.insert("bin/busybox", Node::executable(busybox))?;
    for name in ["cat", "httpd", "nc", "sh"] {
        tree.insert(format!("bin/{name}").as_str(), Node::symlink("busybox"))?;
    }
    tree.insert("www/index.html", Node::file("served by a pod\n"))?;
    tree.insert("etc/passwd", Node::file("root:x:0:0::/:/bin/sh\n"))?;
    tree.insert("etc/group", Node::file("root:x:0:\n"))?;
    let (bytes, _) = appc::write(&manifest, &tree, Compression::Gzip, Vec::new())?;
    Ok(cache::write_file(path, &bytes)?)
}

/// A disk of the system whose OEM says this.
fn disk(out: &Path) -> Result<PathBuf> {
    let oem = out.join("oem");
    fs::create_dir_all(oem.join("images"))?;
    web(&oem.join("images/web.aci"))?;
    cache::write_file(&oem.join("kurma_oem.json"), OEM.as_bytes())?;
    let mut definition =
        Definition::read(&cache::workspace_root().join("examples/kurma/image.toml"))?;
    let partitions = &mut definition.disk.partitions;
    let partition = partitions.iter_mut().find(|partition| partition.name.value == "OEM");
    match partition.map(|partition| &mut partition.content.value) {
        Some(PartitionContent::Files { files, .. }) => *files = Files::Tree(oem),
        other => anyhow::bail!("the partition OEM: {other:?}"),
    }
    let mut options = build::Options::default();
    options.formats = vec![Format::Raw];
    build::build(&definition, &options, out, &Progress::on_stderr())?;
    let larger = out.join("larger.raw");
    let copied = Command::new("cp")
        .arg("--sparse=always")
        .arg(out.join("kurma.raw"))
        .arg(&larger)
        .status()?;
    ensure!(copied.success(), "cp: {copied}");
    // a cloud gives it a larger disk than it was made for
    fs::OpenOptions::new().write(true).open(&larger)?.set_len(3 << 30)?;
    Ok(larger)
}

fn start(disk: &Path, firmware: Firmware) -> Result<Vm> {
    let mut machine = Machine::default();
    machine.memory = 1024;
    machine.firmware = firmware;
    let mut disk = Disk::new(disk, DiskFormat::Raw);
    disk.snapshot = false;
    machine.disks.push(disk);
    for guest in [8080, 8081] {
        machine.forwards.push(Forward { udp: false, host: 0, guest });
    }
    Ok(machine.start()?)
}

/// Sees that a machine is as its OEM says.
fn looks(vm: &mut Vm) -> Result<()> {
    let port = |vm: &Vm, guest| vm.forwarded(guest).context("no port leads to the guest");
    let web = port(vm, 8080)?;
    let said = get_until(web, "/", LONG);
    let said = said.with_context(|| vm.console().tail(80))?;
    assert_eq!(said, "served by a pod\n");
    println!("a pod answers {:.1} s after QEMU's start", vm.started().elapsed().as_secs_f64());
    let tells = port(vm, 8081)?;
    let told = get_until(tells, "/", LONG).with_context(|| vm.console().tail(80))?;
    ensure!(told.starts_with("by-oem\n"), "{told}");
    ensure!(told.contains(" /oem ext4 ro,") && told.contains(" /var/kurma ext4 rw,"), "{told}");
    ensure!(told.contains("\nbr_netfilter "), "{told}");
    // the last partition has what the disk has grown by
    let size = |name: &str| {
        let line = told.lines().find(|line| line.ends_with(&format!(" {name}")))?;
        line.split_whitespace().nth(2)?.parse::<u64>().ok()
    };
    ensure!(size("vda") == Some(3 << 20) && size("vda3") > Some(2 << 20), "{told}");
    Ok(())
}

#[test]
fn a_disk_starts_by_both_firmwares_and_runs_what_its_oem_says() -> Result<()> {
    let out = cache::workspace_root().join("target/e2e/kurma");
    let disk = disk(&out)?;
    let mut vm = start(&disk, Firmware::Bios)?;
    looks(&mut vm)?;
    vm.power_button()?;
    vm.wait_exit(LONG).with_context(|| vm.console().tail(40))?;
    let mut vm = start(&disk, Firmware::Uefi(Uefi::find(&Cache::of_workspace())?))?;
    looks(&mut vm)?;
    let console = vm.console().tail(200);
    // what was taken in before is there
    ensure!(!console.contains("image example.com/web is here"), "{console}");
    vm.power_button()?;
    vm.wait_exit(LONG).with_context(|| vm.console().tail(40))?;
    fs::remove_dir_all(&out)?;
    Ok(())
}
