//! Process 1 of a machine that makes the links which not every kernel has: bonds, VLANs, tunnels. Two
//! namespaces are two machines, joined by two cables. What comes of it is said on the console, beside
//! what iproute2 and wireguard-tools see; the test reads that.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kiln_network::container::{BridgeNetwork, Namespace, Networks};
use kiln_network::linux::Netlink;
use kiln_network::{CommandLine, from_toml};
use kiln_supervisor::pid1::{self, Boot, BoxError, Loader, mounts};
use kiln_supervisor::{Outcome, unix};

type Result<T = ()> = std::result::Result<T, BoxError>;

/// Longer than anything takes on an emulated machine whose host has other work.
const PATIENCE: Duration = Duration::from_secs(120);

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

fn main() -> ExitCode {
    let mut words = std::env::args().skip_while(|word| !word.ends_with("modprobe")).peekable();
    if words.next().is_some() {
        // The kernel calls for what it wants beside that.
        let wanted: Vec<String> = words.filter(|word| !word.starts_with('-')).collect();
        let _ = Loader::loadable_of_running_kernel().map(|mut loader| loader.load(&wanted));
        return ExitCode::SUCCESS;
    }
    pid1::start(|boot| {
        say(match prove(boot) {
            Ok(()) => "all done".to_owned(),
            Err(error) => format!("FAILED: {error}"),
        });
        Ok(Outcome::PowerOff)
    })
}

fn say(what: impl std::fmt::Display) {
    for line in what.to_string().lines() {
        unix::console_line(format_args!("links: {line}"));
    }
}

fn prove(boot: &mut Boot) -> Result {
    boot.mounts(mounts::STANDARD).console().modules(&MODULES, 16);
    for problem in boot.problems() {
        say(problem);
    }
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    cables(&here, &there)?;
    let texts = keys()?;
    let here_text = HERE.replace("PEER", &texts[1]);
    let there_text = THERE.replace("PEER", &texts[0]);
    converged("here", &here, &here_text)?;
    converged("there", &there, &there_text)?;
    for line in ["-d link show bond0", "-d link show vlan5", "-d link show br0"] {
        say(format_args!("ip {line}: {}", here.run(|| run("/usr/sbin/ip", line))??));
    }
    packets("a VLAN of a bond in a bridge", &here, &there, "192.0.2.2:7")?;
    packets("the same by IPv6", &here, &there, "[2001:db8::2]:7")?;
    packets("a tunnel", &here, &there, "10.9.0.2:7")?;
    packets("a tunnel by IPv6", &here, &there, "[fd00:9::2]:7")?;
    say(format_args!("wg: {}", here.run(peer)??));

    // The member that works loses its cable.
    say(format_args!("active: {}", active(&here)?));
    there.run(|| run("/usr/sbin/ip", "link set q1 down"))??;
    until("the other member works", || Ok(active(&here)? == "p0"))?;
    packets("with one cable", &here, &there, "192.0.2.2:7")?;
    there.run(|| run("/usr/sbin/ip", "link set q1 up"))??;
    until("the primary works again", || Ok(active(&here)? == "p1"))?;
    packets("with both again", &here, &there, "192.0.2.2:7")?;

    // Another mode, other peers, another VLAN.
    let changed = here_text
        .replace("\"active-backup\"\nprimary = \"p1\"", "\"802.3ad\"\nlacp-rate = \"fast\"")
        .replace("keepalive = 25", "keepalive = 26")
        .replace("id = 5", "id = 6");
    converged("changed", &here, &changed)?;
    for line in ["-d link show bond0", "-d link show vlan5"] {
        say(format_args!("ip {line}: {}", here.run(|| run("/usr/sbin/ip", line))??));
    }
    say(format_args!("wg: {}", here.run(peer)??));
    converged("back", &here, &here_text)?;
    packets("after it was changed and changed back", &here, &there, "192.0.2.2:7")?;
    converged("nothing", &here, "[[network.interface]]\nmatch = \"p0\"\nmtu = 1500\n")?;
    say(format_args!("left: {}", here.run(|| run("/usr/sbin/ip", "-o -br link show"))??));
    containers()
}

/// Two cables between two machines.
fn cables(here: &Namespace, there: &Namespace) -> Result {
    let fd = there.as_fd().as_raw_fd();
    let netns = format!("/proc/{}/fd/{fd}", std::process::id());
    for number in 0..2 {
        let line = format!("link add p{number} type veth peer name q{number} netns {netns}");
        here.run(|| run("/usr/sbin/ip", &line))??;
    }
    Ok(())
}

const HERE: &str = r#"
[[network.bond]]
name = "bond0"
members = ["p*"]
mode = "active-backup"
primary = "p1"
monitor = 50

[[network.vlan]]
name = "vlan5"
parent = "bond0"
id = 5

[[network.bridge]]
name = "br0"
members = ["vlan5"]

[[network.interface]]
match = "br0"
addresses = ["192.0.2.1/24", "2001:db8::1/64"]

[[network.interface]]
match = "wg0"
addresses = ["10.9.0.1/24", "fd00:9::1/64"]

[[network.wireguard]]
name = "wg0"
private-key-file = "/run/0.key"
listen-port = 51820

[[network.wireguard.peer]]
public-key = "PEER"
preshared-key-file = "/run/shared.key"
endpoint = "192.0.2.2:51821"
allowed-ips = ["10.9.0.2/32", "fd00:9::2/128"]
keepalive = 25
"#;

/// A switch with two ports, and a VLAN over it.
const THERE: &str = r#"
[[network.bridge]]
name = "switch"
members = ["q0", "q1"]

[[network.vlan]]
name = "five"
parent = "switch"
id = 5

[[network.interface]]
match = "five"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]

[[network.interface]]
match = "wg0"
addresses = ["10.9.0.2/24", "fd00:9::2/64"]

[[network.wireguard]]
name = "wg0"
private-key-file = "/run/1.key"
listen-port = 51821

[[network.wireguard.peer]]
public-key = "PEER"
preshared-key-file = "/run/shared.key"
allowed-ips = ["10.9.0.1/32", "fd00:9::1/128"]
"#;

/// Private keys in files; the public ones.
fn keys() -> Result<Vec<String>> {
    let mut public = Vec::new();
    for name in ["0", "1", "shared"] {
        let key = run("/usr/bin/wg", "genkey")?;
        let path = format!("/run/{name}.key");
        fs::write(&path, format!("{key}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let mut child = Command::new("/usr/bin/wg")
            .arg("pubkey")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        child.stdin.take().ok_or("no stdin")?.write_all(key.as_bytes())?;
        let output = child.wait_with_output()?;
        public.push(String::from_utf8(output.stdout)?.trim().to_owned());
    }
    Ok(public)
}

/// Makes a namespace as a text says, twice: the second time there must be nothing to do.
fn converged(name: &str, namespace: &Namespace, text: &str) -> Result {
    let config = from_toml(text)?;
    let (first, second) = namespace.run(|| -> Result<_> {
        let mut netlink = Netlink::open()?;
        let first = netlink.converge(&config, &CommandLine::default())?;
        let second = netlink.converge(&config, &CommandLine::default())?;
        Ok((first, second))
    })??;
    for change in &first.changes {
        say(format_args!("{name}: {change}"));
    }
    let problems = first.problems.iter().chain(&second.problems).map(ToString::to_string);
    let errors = first.errors.iter().chain(&second.errors).map(ToString::to_string);
    problems.chain(errors).for_each(|what| say(format_args!("{name}: WRONG: {what}")));
    say(format_args!("{name}: {} changes left", second.changes.len()));
    Ok(())
}

fn run(program: &str, words: &str) -> Result<String> {
    let output = Command::new(program).args(words.split_whitespace()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{program} {words}: {said}").into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What `wg` says of the peer, without the keys that nobody else may see.
fn peer() -> Result<String> {
    let text = run("/usr/bin/wg", "show wg0 dump")?;
    let line = text.lines().nth(1).ok_or("no peer")?;
    let fields = line.split('\t').enumerate().filter(|(at, _)| *at != 1);
    Ok(fields.map(|(_, field)| field).collect::<Vec<_>>().join("\t"))
}

/// A word over TCP, there and back; patience, because bonds and bridges take a moment.
fn packets(what: &str, here: &Namespace, there: &Namespace, to: &str) -> Result {
    let to: SocketAddr = to.parse()?;
    let listener = there.run(|| TcpListener::bind(("::", 7)))??;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut word = [0; 4];
        stream.read_exact(&mut word)?;
        stream.write_all(&word)
    });
    let mut stream = until_some(what, || {
        let soon = Duration::from_secs(2);
        Ok(here.run(|| TcpStream::connect_timeout(&to, soon))?.ok())
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"kiln")?;
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    server.join().map_err(|_| "the server panicked")??;
    say(format_args!("packets: {what}: {}", word.escape_ascii()));
    Ok(())
}

fn active(namespace: &Namespace) -> Result<String> {
    let text = namespace.run(|| run("/usr/sbin/ip", "-d link show bond0"))??;
    let mut words = text.split_whitespace().skip_while(|word| *word != "active_slave");
    Ok(words.nth(1).unwrap_or("none").to_owned())
}

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result {
    until_some(what, || Ok(holds()?.then_some(())))
}

fn until_some<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("not in time: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A container's port, on a kernel of a distribution whose firewall is modules.
fn containers() -> Result {
    let host = Namespace::new()?;
    let container = Namespace::new()?;
    let mut network = BridgeNetwork::new("pods", "pods0");
    network.gateways = vec!["10.220.0.1/16".parse()?, "fd00:220::1/64".parse()?];
    let networks = Networks::new("/run/networks");
    let ports = ["7000:7".parse()?];
    host.run(|| networks.attach(&network, "a", &container, &ports))??;
    packets("a port of a container", &host, &container, "127.0.0.1:7000")?;
    host.run(|| networks.detach(&network, "a"))??;
    host.run(|| networks.down(&network))??;
    Ok(())
}
