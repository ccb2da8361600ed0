//! From QEMU's start to a finished job: NomadOS beside an image of the same content whose init is a
//! shell script with busybox and udhcpc. Kernel, compression, loader and machine are the same; only
//! what runs as process 1 and gets the address differs. Runs alternate.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use kiln::boot::{self as programs, Programs, System};
use kiln::definition::Format;
use kiln::disk::Boot;
use kiln::{Cache, Progress, cache, debian};
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit, median};
use kiln_diskimg::container;
use kiln_initramfs::{Compression, cpio, write_image};
use kiln_tree::{Node, Source};
use nomados::build;
use nomados::run::{self, Options, Phase};

/// The peer's process 1: what images made by hand do, with the modules that this machine needs
/// named one by one.
const SCRIPT: &str = r#"#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
$B mkdir -p /dev/pts /dev/shm
$B mount -t devpts devpts /dev/pts
$B mount -t tmpfs tmpfs /dev/shm
$B mount -t tmpfs tmpfs /run
$B mount -t tmpfs tmpfs /tmp
$B mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "[$($B cut -d' ' -f1 /proc/uptime)] peer: /init started"
$B hostname nomados
$B ip link set lo up
for module in button evdev virtio_pci virtio_net; do $B modprobe $module; done
echo "[$($B cut -d' ' -f1 /proc/uptime)] peer: network: started"
$B udhcpc -q -n -i eth0 -s /lease
echo "[$($B cut -d' ' -f1 /proc/uptime)] peer: network: up"
$B mkdir -p /new
$B mount --bind / /new
cd /new
for directory in proc sys dev run tmp; do $B mount --move /$directory $directory; done
$B mount --move . /
exec $B chroot . /bin/busybox sh /services
"#;

const SERVICES: &str = r#"export PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
mount -t tmpfs tmpfs /var/lib/nomad
trap 'poweroff -f' TERM
(while :; do nomad agent -config=/etc/nomad/init.json > /var/log/nomad.log 2>&1; sleep 1; done) &
cat /dev/input/event0 | head -c 1 > /dev/null
kill $!
sync
/bin/busybox poweroff -f
"#;

const LEASE: &str = r#"#!/bin/busybox sh
B=/bin/busybox
case $1 in
deconfig) $B ip link set $interface up ;;
bound)
  $B ip addr add $ip/$mask dev $interface
  $B ip route add default via $router
  for server in $dns; do echo nameserver $server; done > /etc/resolv.conf ;;
esac
"#;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Medium {
    /// QEMU loads kernel and initramfs
    Initramfs,
    /// SeaBIOS and SYSLINUX load them from a disk
    Raw,
}

/// NomadOS beside a busybox-and-shell image of the same content.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<10>,
    /// What is booted
    #[arg(long, value_enum, default_value = "raw")]
    medium: Medium,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("boot", &arguments.common, || Ok(measure(&arguments)?))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let (ours, peer) = images()?;
    let name = match arguments.medium {
        Medium::Initramfs => "nomados.initramfs",
        Medium::Raw => "nomados.raw",
    };
    let mut series: [Vec<Vec<Phase>>; 2] = [Vec::new(), Vec::new()];
    for round in 0..arguments.common.n as usize {
        // Who is first alternates too.
        for turn in [round % 2, 1 - round % 2] {
            let directory = if turn == 0 { &ours } else { &peer };
            let phases = boot(&directory.join(name))
                .with_context(|| format!("round {round}, {}", directory.display()))?;
            let total: f64 = phases.iter().map(|phase| phase.seconds).sum();
            eprintln!("{} {total:.2} s", if turn == 0 { "ours" } else { "peer" });
            if let Some(series) = series.get_mut(turn) {
                series.push(phases);
            }
        }
    }
    Ok(report(&series))
}

/// Our images, and the peer's made of their content.
fn images() -> Result<(PathBuf, PathBuf)> {
    let out = cache::workspace_root().join("target/bench/boot");
    let (ours, peer) = (out.join("ours"), out.join("peer"));
    let mut options = build::Options::new(&ours);
    options.formats = vec![Format::Initramfs, Format::Raw];
    let report = build::build(&options, &Progress::on_stderr())?;

    let path = ours.join("nomados.initramfs");
    let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let unpacked = cpio::unpack(std::io::BufReader::new(file), cpio::Limits::default())?;
    let mut tree = unpacked.tree;
    tree.replace("init", Node::executable(SCRIPT))?;
    // Ours is /init itself.
    tree.replace("usr/sbin/modprobe", Node::symlink("/usr/bin/busybox"))?;
    tree.insert("services", Node::executable(SERVICES))?;
    tree.insert("lease", Node::executable(LEASE))?;
    let initramfs: Arc<[u8]> = write_image(&tree, &Compression::ZSTD, Vec::new())?.into();
    std::fs::create_dir_all(&peer).with_context(|| format!("make {}", peer.display()))?;
    cache::write_file(&peer.join("nomados.initramfs"), &initramfs)?;
    let kernel = std::fs::read(ours.join("nomados.vmlinuz")).context("read our kernel")?;
    cache::write_file(&peer.join("nomados.vmlinuz"), &kernel)?;
    let root = debian::sysroot(&Cache::of_workspace(), &programs::PACKAGES)?;
    let programs = Programs::from_root(&root)?;
    let (kernel, command_line) = (Source::from(kernel), report.manifest.command_line);
    let system = System::new("nomados", kernel, initramfs, &command_line);
    let disk = Boot::new(system, &programs);
    container::write_file(container::Format::Raw, &disk.only()?, peer.join("nomados.raw"))?;
    Ok((ours, peer))
}

fn boot(image: &Path) -> Result<Vec<Phase>> {
    let quiet = Progress::quiet();
    let mut running = run::start(&Options::new(image))?;
    let started = Instant::now();
    running.wait_ready(&quiet)?;
    let output = running.run_job(&run::hello(), &quiet)?;
    let took = started.elapsed();
    if !output.starts_with("hello from nomados") {
        bail!("the job said {output:?} after {took:?}");
    }
    Ok(running.phases())
}

fn report([ours, peer]: &[Vec<Vec<Phase>>; 2]) -> Report {
    let names = ours.first().into_iter().flatten().map(|phase| Some(phase.name.as_str()));
    let mut report = Report::new();
    // `None` stands for all phases together.
    for name in names.chain([None]) {
        for (who, series) in [("NomadOS", ours), ("busybox", peer)] {
            let seconds = |phases: &Vec<Phase>| {
                phases
                    .iter()
                    .filter(|phase| name.is_none_or(|name| phase.name == name))
                    .map(|phase| phase.seconds)
                    .sum()
            };
            let samples = series.iter().map(seconds).collect();
            report.add(name.unwrap_or("together"), who, Unit::Seconds, samples);
        }
    }
    // The machine's own load changes from minute to minute and meets both of a round alike.
    let total = |phases: &Vec<Phase>| phases.iter().map(|phase| phase.seconds).sum::<f64>();
    let mut pairs: Vec<f64> =
        ours.iter().zip(peer).map(|(ours, peer)| total(ours) / total(peer)).collect();
    pairs.sort_by(f64::total_cmp);
    report.note(format!("ours over theirs, round by round: {:.2}", median(&pairs)));
    report
}
