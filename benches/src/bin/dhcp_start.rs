//! How long from `exec` to a configured address: ours, dhclient and udhcpc, side by side.
//!
//! ```text
//! cargo build --release -p kiln-dhcp --example lease --features linux,serde
//! cargo run --release -p kiln-benches --bin dhcp_start -- target/release/examples/lease -n 20
//! ```
//! Needs root, `ip`, dnsmasq, dhclient and udhcpc. Two namespaces of its own, joined by a veth pair,
//! dnsmasq with `--no-ping` in one (its probe would dwarf everything), the clients in turn in the
//! other: interleaved, so that whatever else the machine does meets all of them alike. Each run
//! starts with the link down, without addresses, and with a fresh hardware address. The clock
//! starts before fork and exec (this program has entered the client's namespace) and stops when
//! `ip monitor` reports the address (RTM_NEWADDR). udhcpc and dhclient get the
//! smallest hook that configures an address: two calls of ip(8).
#![allow(clippy::exit, reason = "a program")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Measure exec to address for `lease --once`, dhclient and udhcpc.
#[derive(Parser)]
struct Arguments {
    /// The built example `lease`.
    lease: PathBuf,
    /// Runs of each client.
    #[arg(short, default_value_t = 20)]
    n: usize,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Two namespaces, dnsmasq, and a directory; gone when dropped.
struct Network {
    name: String,
    dir: PathBuf,
    server: Option<Child>,
}

fn run(command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let output = Command::new(program).args(arguments).output()?;
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
            Command::new("ip")
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
        let mut child = Command::new("ip")
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
    milliseconds: Vec<f64>,
    failures: usize,
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
        milliseconds: Vec::new(),
        failures: 0,
    };
    Ok(vec![
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
    ])
}

fn start(command: &[String]) -> Result<Child> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    Ok(Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => (value + sorted.get(middle.wrapping_sub(1)).unwrap_or(value)) / 2.0,
        (None, _) => f64::NAN,
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let network = Network::new()?;
    let namespace = network.client();
    let monitor = Monitor::start(&namespace)?;
    let mut clients = clients(&network, &arguments.lease)?;
    // What is spawned from here on is in the client's namespace; `ip -n` finds the others by name.
    let inside = fs::File::open(format!("/run/netns/{namespace}"))?;
    nix::sched::setns(inside, nix::sched::CloneFlags::CLONE_NEWNET)?;
    // Until dnsmasq listens: a run that does not count.
    let mut number = 0;
    let warm_up = clients.first().map(|client| client.command.clone()).ok_or("no client")?;
    network.reset(number)?;
    let mut child = start(&warm_up)?;
    let answered = monitor.address(Duration::from_secs(20));
    child.kill()?;
    child.wait()?;
    answered.ok_or("the first run got no address: is dnsmasq running?")?;

    for _ in 0..arguments.n {
        for client in &mut clients {
            number += 1;
            network.reset(number)?;
            monitor.forget();
            let began = Instant::now();
            let mut child = start(&client.command)?;
            match monitor.address(Duration::from_secs(10)) {
                Some(at) => client.milliseconds.push((at - began).as_secs_f64() * 1e3),
                None => client.failures += 1,
            }
            // dhclient -d stays; the others leave by themselves.
            let _ = child.kill();
            child.wait()?;
        }
    }
    report(arguments, &clients);
    Ok(())
}

fn report(arguments: &Arguments, clients: &[Client]) {
    let net = |client: &Client| median(&client.milliseconds);
    let ours = clients.first().map_or(f64::NAN, net);
    if arguments.json {
        let rows: Vec<_> = clients
            .iter()
            .map(|client| {
                serde_json::json!({
                    "client": client.name,
                    "runs": client.milliseconds.len(),
                    "failures": client.failures,
                    "median_ms": net(client),
                    "min_ms": client.milliseconds.iter().copied().fold(f64::INFINITY, f64::min),
                    "max_ms": client.milliseconds.iter().copied().fold(0.0, f64::max),
                    "ours_over_this": ours / net(client),
                })
            })
            .collect();
        let whole = serde_json::json!({
            "benchmark": "dhcp_start", "rows": rows,
        });
        println!("{whole:#}");
        return;
    }
    println!("| client | runs | failed | median ms | min | max | ours / this |");
    println!("|---|---|---|---|---|---|---|");
    for client in clients {
        let most = |a: f64, b: f64| a.max(b);
        println!(
            "| {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.2} |",
            client.name,
            client.milliseconds.len(),
            client.failures,
            net(client),
            client.milliseconds.iter().copied().fold(f64::INFINITY, f64::min),
            client.milliseconds.iter().copied().fold(0.0, most),
            ours / net(client),
        );
    }
}

fn main() {
    if let Err(error) = measure(&Arguments::parse()) {
        eprintln!("dhcp_start: {error}");
        std::process::exit(1);
    }
}
