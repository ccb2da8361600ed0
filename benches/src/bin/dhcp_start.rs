//! How long from `exec` to a configured address: ours, dhclient and udhcpc, side by side.
//!
//! Needs root, `ip` and dnsmasq. Two namespaces of its own, joined by a veth pair,
//! dnsmasq with `--no-ping` in one (its probe would dwarf everything), the clients in turn in the
//! other. Each run
//! starts with the link down, without addresses, and with a fresh hardware address. The clock
//! starts before fork and exec (this program has entered the client's namespace) and stops when
//! `ip monitor` reports the address (RTM_NEWADDR). udhcpc and dhclient get the
//! smallest hook that configures an address: two calls of ip(8).

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, take_turns};
use kiln_benches::{Result, machine};

/// From exec to address: `lease --once`, dhclient and udhcpc
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<20>,
    /// The example `lease` [default: examples/lease beside this program]
    #[arg(long, value_name = "PROGRAM")]
    lease: Option<PathBuf>,
}

/// Two namespaces, dnsmasq, and a directory; gone when dropped.
struct Network {
    name: String,
    dir: PathBuf,
    server: Option<Child>,
}

fn run(command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let output = machine::command(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr)).into())
}

impl Network {
    fn new() -> Result<Self> {
        let name = format!("kb{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir)?;
        let mut network = Self { name, dir, server: None };
        let (client, server) = (network.client(), network.server_name());
        run(&["ip", "netns", "add", &client])?;
        run(&["ip", "netns", "add", &server])?;
        run(&[
            "ip", "-n", &client, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
            "netns", &server,
        ])?;
        run(&["ip", "-n", &server, "addr", "add", "10.77.0.1/16", "dev", "eth0"])?;
        run(&["ip", "-n", &server, "link", "set", "eth0", "up"])?;
        let leases = network.dir.join("leases");
        network.server = Some(
            machine::command("ip")
                .args(["netns", "exec", &server, "dnsmasq", "--conf-file=/dev/null"])
                .args(["--keep-in-foreground", "--log-facility=-", "--port=0", "--no-ping"])
                .args(["--user=root", "--interface=eth0"])
                .args(["--dhcp-range=10.77.1.1,10.77.9.250,255.255.0.0,1h"])
                .arg("--dhcp-lease-max=5000")
                .arg(format!("--dhcp-leasefile={}", leases.display()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
        Ok(network)
    }

    fn client(&self) -> String {
        format!("{}c", self.name)
    }

    fn server_name(&self) -> String {
        format!("{}s", self.name)
    }

    fn hook(&self, name: &str, text: &str) -> Result<String> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path.to_str().ok_or("temporary directory: not UTF-8")?.to_owned())
    }

    /// Link down, no address, a hardware address that the server has not seen.
    fn reset(&self, number: usize) -> Result<()> {
        let client = self.client();
        run(&["ip", "-n", &client, "addr", "flush", "dev", "eth0"])?;
        run(&["ip", "-n", &client, "link", "set", "eth0", "down"])?;
        let [high, low] = u16::try_from(number)?.to_be_bytes();
        let mac = format!("02:6b:{:02x}:00:{high:02x}:{low:02x}", std::process::id() & 0xff);
        run(&["ip", "-n", &client, "link", "set", "eth0", "address", &mac])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        for namespace in [self.client(), self.server_name()] {
            let _ = run(&["ip", "netns", "del", &namespace]);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// `ip monitor address` in the client's namespace: when each line came.
struct Monitor {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Monitor {
    fn start(namespace: &str) -> Result<Self> {
        let mut child = machine::command("ip")
            .args(["-n", namespace, "-4", "-o", "monitor", "address"])
            .stdout(Stdio::piped())
            .spawn()?;
        let (sender, lines) = mpsc::channel();
        let output = child.stdout.take().ok_or("no pipe")?;
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// When an address of the pool was added, after `start`.
    fn address(&self, patience: Duration) -> Option<Instant> {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (at, line) = self.lines.recv_timeout(left).ok()?;
            if line.contains("inet 10.77.") && !line.contains("Deleted") {
                return Some(at);
            }
        }
    }

    fn forget(&self) {
        while self.lines.recv_timeout(Duration::from_millis(30)).is_ok() {}
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    name: &'static str,
    command: Vec<String>,
}

fn clients(network: &Network, lease: &Path) -> Result<Vec<Client>> {
    // dhclient calls its script for PREINIT too, which is where the link comes up.
    let dhclient = network.hook(
        "dhclient-hook",
        "#!/bin/sh\n\
         case $reason in\n\
         PREINIT) ip link set $interface up ;;\n\
         BOUND|RENEW|REBIND|REBOOT) ip addr add $new_ip_address/16 dev $interface\n\
         ip route add default via 10.77.0.1 ;;\n\
         esac\n",
    )?;
    let udhcpc = network.hook(
        "udhcpc-hook",
        "#!/bin/sh\n\
         case $1 in\n\
         deconfig) ip link set $interface up ;;\n\
         bound|renew) ip addr add $ip/16 dev $interface\n\
         ip route add default via 10.77.0.1 ;;\n\
         esac\n",
    )?;
    let config = network.hook("dhclient.conf", "request subnet-mask, routers;\n")?;
    let path = |name: &str| network.dir.join(name).display().to_string();
    let lease = fs::canonicalize(lease)?;
    let lease = lease.to_str().ok_or("path of the example: not UTF-8")?;
    let client = |name, command: &[&str]| Client {
        name,
        command: command.iter().map(|&word| word.to_owned()).collect(),
    };
    let mut clients = vec![
        client("kiln lease --once", &[lease, "eth0", "--once"]),
        client(
            "dhclient -1",
            &[
                "dhclient",
                "-1",
                "-d",
                "-q",
                "-sf",
                &dhclient,
                "-cf",
                &config,
                "-lf",
                &path("dhclient.leases"),
                "-pf",
                &path("dhclient.pid"),
                "eth0",
            ],
        ),
        client("udhcpc -q", &["udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", &udhcpc]),
    ];
    clients.retain(|client| client.command.first().is_some_and(|it| machine::are_installed(&[it])));
    Ok(clients)
}

fn start(command: &[String]) -> Result<Child> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    Ok(machine::command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?)
}

/// A run of a client: seconds to the address, or none within 10 s.
fn to_address(
    network: &Network,
    monitor: &Monitor,
    number: usize,
    client: &Client,
) -> Result<Option<f64>> {
    network.reset(number)?;
    monitor.forget();
    let began = Instant::now();
    let mut child = start(&client.command)?;
    let at = monitor.address(Duration::from_secs(10));
    // dhclient -d stays; the others leave by themselves.
    let _ = child.kill();
    child.wait()?;
    Ok(at.map(|at| (at - began).as_secs_f64()))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces (run it as root)");
        return Ok(report);
    }
    if !machine::are_installed(&["ip", "dnsmasq"]) {
        return Ok(report);
    }
    let lease = match &arguments.lease {
        Some(path) => path.clone(),
        None => machine::example("kiln-dhcp", "lease")?,
    };
    let network = Network::new()?;
    let namespace = network.client();
    let monitor = Monitor::start(&namespace)?;
    let clients = clients(&network, &lease)?;
    // What is spawned from here on is in the client's namespace; `ip -n` finds the others by name.
    let inside = fs::File::open(format!("/run/netns/{namespace}"))?;
    nix::sched::setns(inside, nix::sched::CloneFlags::CLONE_NEWNET)?;
    // Until dnsmasq listens: a run that does not count.
    let warm_up = clients.first().ok_or("no client")?;
    network.reset(0)?;
    let mut child = start(&warm_up.command)?;
    let answered = monitor.address(Duration::from_secs(20));
    child.kill()?;
    child.wait()?;
    answered.ok_or("the first run got no address: is dnsmasq running?")?;

    let number = Cell::new(0);
    let mut contenders = Vec::new();
    for client in &clients {
        contenders.push(Contender::new(client.name, || {
            number.set(number.get() + 1);
            to_address(&network, &monitor, number.get(), client)
        }));
    }
    let samples = take_turns(arguments.common.n, &mut contenders)?;
    for (contender, samples) in contenders.iter().zip(samples) {
        let failures = samples.iter().filter(|sample| sample.is_none()).count();
        let samples = samples.into_iter().flatten().collect();
        report.add("exec to address", contender.who(), Unit::Milliseconds, samples);
        if failures > 0 {
            report.note(format!("{failures} failed"));
        }
    }
    Ok(report)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("dhcp_start", &arguments.common, || measure(&arguments))
}
