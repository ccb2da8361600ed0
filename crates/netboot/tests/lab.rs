//! A lab in a network namespace: the program, and DHCP clients of others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether this can run here. Where `CI` is set it has to.
fn ready(programs: &[&str]) -> bool {
    let there = |program: &&&str| {
        ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .iter()
            .any(|it| Path::new(it).join(program).exists())
    };
    let mut missing: Vec<&str> = programs.iter().filter(|it| !there(it)).copied().collect();
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout != b"0\n" {
        missing.push("root");
    }
    assert!(
        missing.is_empty() || std::env::var_os("CI").is_none(),
        "missing in CI: {}",
        missing.join(", ")
    );
    if !missing.is_empty() {
        println!("skipped: {}", missing.join(", "));
    }
    missing.is_empty()
}

/// A server's network and a client's, which are joined by a pair of links. `$N` is the program, `$D` a directory;
/// `client` runs a command on the other side, `until` waits for a line in a file.
const NETWORKS: &str = r#"
set -eu
cd "$D"
ip link set lo up
mount -t tmpfs none /run
mkdir -p /run/netns
ip netns add client
ip link add lab0 type veth peer name eth0 netns client
ip addr add 192.0.2.1/24 dev lab0
ip link set lab0 up
client() { ip netns exec client "$@"; }
client ip link set lo up
client ip link set eth0 address 52:54:00:00:00:01 up
until_said() {
  for i in $(seq 600); do grep -q -- "$2" "$1" && return; sleep 0.1; done
  echo "not said: $2"; cat "$1"; exit 1
}
"$N" run lab.toml > server.log 2>&1 &
server=$!
until_said server.log 'ready on lab0'
"#;

/// Runs a script between the two, and gives what it says.
fn run(lab: &str, script: &str) -> (String, String) {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("files")).unwrap();
    std::fs::write(
        place.path().join("lab.toml"),
        lab.replace("FILES", &place.path().join("files").display().to_string()),
    )
    .unwrap();
    let end = "\nkill $server; wait $server; echo whole\n";
    let mut shell = Command::new("timeout");
    shell.args(["300", "unshare", "--net", "--mount", "--propagation", "private", "sh", "-s"]);
    shell.env("N", env!("CARGO_BIN_EXE_kiln-netboot")).env("D", place.path());
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let text = format!("{NETWORKS}{script}{end}");
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let log = std::fs::read_to_string(place.path().join("server.log")).unwrap_or_default();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.ends_with("whole\n"), "{said}\n{errors}\n{log}");
    (said, log)
}

const LAB: &str = r#"
interface = "lab0"
address = "192.0.2.1/24"
mode = "dhcp"
files = ["FILES"]
[dhcp]
first = "192.0.2.100"
last = "192.0.2.101"
router = "192.0.2.1"
dns = ["192.0.2.53"]
domain = "lab.example"
[boot]
kernel = "vmlinuz"
[machine."52:54:00:00:00:09"]
address = "192.0.2.9"
name = "nine"
"#;

#[test]
fn clients_of_others_get_and_keep_addresses() {
    if !ready(&["ip", "unshare", "busybox", "dhclient"]) {
        return;
    }
    let script = r#"
cat > hook <<'.'
#!/bin/sh
echo "$1 ${ip:-} ${subnet:-} ${router:-} ${dns:-} ${domain:-} ${hostname:-} ${lease:-}"
[ "$1" != bound ] || ip addr add "$ip/24" dev "$interface"
.
chmod +x hook
udhcpc() { client busybox udhcpc -f -n -q -i eth0 -s ./hook "$@" 2> udhcpc.log || { cat udhcpc.log; exit 1; }; }
udhcpc
# asked to renew, and to give it back
ip netns exec client busybox udhcpc -f -i eth0 -s ./hook > kept 2>&1 & kept=$!
until_said kept '^bound'
kill -USR1 $kept
until_said kept '^renew'
kill -USR2 $kept
until_said kept '^deconfig'
kill $kept; wait $kept || true
client ip addr flush dev eth0
# one that has an address of its own
client ip link set eth0 address 52:54:00:00:00:09
udhcpc -O hostname
client ip addr flush dev eth0
client ip link set eth0 address 52:54:00:00:00:02
: > leases
client dhclient -1 -v -sf /bin/true -lf "$D/leases" -pf "$D/pid" eth0 2> dhclient.log || { cat dhclient.log; exit 1; }
grep -o 'bound to .* -- ' dhclient.log
kill $(cat pid)
# what was given back is another's, and then there is no more
client ip link set eth0 address 52:54:00:00:00:03
udhcpc
client ip addr flush dev eth0
client ip link set eth0 address 52:54:00:00:00:04
client busybox udhcpc -f -n -q -t 2 -T 1 -i eth0 -s ./hook && exit 1
"#;
    let (said, log) = run(LAB, script);
    let bound: Vec<&str> = said.lines().filter(|line| line.starts_with("bound ")).collect();
    assert_eq!(
        bound,
        [
            "bound 192.0.2.100 255.255.255.0 192.0.2.1 192.0.2.53 lab.example  3600",
            "bound 192.0.2.9 255.255.255.0 192.0.2.1 192.0.2.53 lab.example nine 3600",
            "bound to 192.0.2.101 -- ",
            "bound 192.0.2.100 255.255.255.0 192.0.2.1 192.0.2.53 lab.example  3600",
        ],
        "{said}\n{log}"
    );
    assert!(log.contains("52:54:00:00:00:02: Ack 192.0.2.101"), "{log}");
}

#[test]
fn beside_another_server_only_who_boots_is_told() {
    if !ready(&["ip", "unshare", "busybox", "dnsmasq"]) {
        return;
    }
    let lab: String = LAB
        .replace("mode = \"dhcp\"", "mode = \"proxy\"")
        .lines()
        .take_while(|line| !line.starts_with("[dhcp]"))
        .map(|line| format!("{line}\n"))
        .collect();
    // The other server has an interface of its own to the same network.
    let script = r#"
dnsmasq -k -C /dev/null --port=0 --interface=lab0 --bind-dynamic --no-ping --leasefile-ro --log-facility=- --user=root \
  --dhcp-range=192.0.2.50,192.0.2.60 > dnsmasq.log 2>&1 & other=$!
until_said dnsmasq.log 'DHCP, sockets bound\|DHCP, IP range'
printf '#!/bin/sh\necho "$1 $ip ${boot_file:-} ${siaddr:-}"\n' > hook
chmod +x hook
client busybox udhcpc -f -n -q -i eth0 -s ./hook 2> udhcpc.log || { cat udhcpc.log dnsmasq.log; exit 1; }
client busybox udhcpc -f -n -q -i eth0 -s ./hook -V PXEClient:Arch:00000:UNDI:002001 -x 93:0000 2> udhcpc.log || { cat udhcpc.log; exit 1; }
kill $other
"#;
    let (said, log) = run(&lab, script);
    let bound = said.lines().filter(|line| line.starts_with("bound 192.0.2.5")).count();
    assert_eq!(bound, 2, "{said}\n{log}");
    let told = log.lines().filter(|line| line.contains("loads undionly.kpxe")).count();
    assert!(told >= 1, "{log}");
}

#[test]
fn a_definition_that_cannot_be_is_told_whole() {
    let place = tempfile::tempdir().unwrap();
    let lab = place.path().join("lab.toml");
    let files = place.path().display().to_string();
    let check = |text: &str| {
        std::fs::write(&lab, text.replace("FILES", &files)).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_kiln-netboot"));
        let done = check.arg("check").arg(&lab).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = check(LAB);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("# all other machines\n#!ipxe\nkernel http://192.0.2.1/vmlinuz\nboot\n"));
    let wrong = LAB.replace("192.0.2.101", "192.0.2.255").replace("00:09", "00:0");
    let (code, said) = check(&wrong);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("192.0.2.255 is no machine's") && said.contains("00:0\" is no hardware"),
        "{said}"
    );
    let (code, said) = check("interface = 1");
    assert_eq!(code, Some(1));
    assert!(said.contains("interface"), "{said}");
}
