//! The servers that people run: lease, renewal, NAK, release.

use std::fs;
use std::net::Ipv4Addr;

use crate::network::{Network, Program, ready, until};

/// A kind of server, told to give 10.`net`.`third`.100 to .200 for two minutes, with T1 of two
/// and T2 of 16 seconds.
struct Server {
    program: &'static str,
    start: fn(&Network, net: u8, third: u8) -> Program,
}

const SERVERS: [Server; 3] = [
    Server { program: "dnsmasq", start: dnsmasq },
    Server { program: "dhcpd", start: dhcpd },
    Server { program: "udhcpd", start: udhcpd },
];

fn dnsmasq(network: &Network, net: u8, third: u8) -> Program {
    let leases = network.write("dnsmasq.leases", "");
    let range = format!("10.{net}.{third}.100,10.{net}.{third}.200,255.255.0.0,2m");
    let mut server = network.spawn(&network.server(), &[
        "dnsmasq",
        "--conf-file=/dev/null",
        "--keep-in-foreground",
        "--log-facility=-",
        "--log-dhcp",
        "--port=0",
        "--no-ping",
        "--user=root",
        "--dhcp-authoritative",
        "--interface=eth0",
        &format!("--dhcp-leasefile={leases}"),
        &format!("--dhcp-range={range}"),
        "--dhcp-option-force=option:T1,2s",
        "--dhcp-option-force=option:T2,16s",
        "--dhcp-option=option:dns-server,10.77.0.53",
        "--dhcp-option=option:domain-name,example.org",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=option:classless-static-route,10.99.0.0/16,10.77.0.7,0.0.0.0/0,10.77.0.1",
    ]);
    server.expect("started");
    server.expect("DHCP, IP range");
    server
}

fn dhcpd(network: &Network, net: u8, third: u8) -> Program {
    let leases = network.write("dhcpd.leases", "");
    let config = network.write(
        "dhcpd.conf",
        &format!(
            "authoritative; ping-check off; default-lease-time 120; max-lease-time 120;
             option dhcp-renewal-time 2; option dhcp-rebinding-time 16;
             option domain-name-servers 10.77.0.53; option domain-name \"example.org\";
             option interface-mtu 1400; option routers 10.{net}.0.1;
             subnet 10.{net}.0.0 netmask 255.255.0.0 {{
               range 10.{net}.{third}.100 10.{net}.{third}.200;
             }}"
        ),
    );
    let pid = network.path("dhcpd.pid");
    let mut server = network.spawn(
        &network.server(),
        &[
            "dhcpd",
            "-4",
            "-d",
            "-cf",
            &config,
            "-lf",
            &leases,
            "-pf",
            pid.to_str().unwrap(),
            "eth0",
        ],
    );
    server.expect("Server starting service");
    server
}

fn udhcpd(network: &Network, net: u8, third: u8) -> Program {
    let leases = network.write("udhcpd.leases", "");
    let config = network.write(
        "udhcpd.conf",
        &format!(
            "start 10.{net}.{third}.100\nend 10.{net}.{third}.200\ninterface eth0\nlease_file {leases}\n\
             pidfile {}\nmin_lease 10\nopt lease 120\nopt subnet 255.255.0.0\nopt router 10.{net}.0.1\n\
             opt dns 10.77.0.53\nopt domain example.org\nopt mtu 1400\nopt 0x3a 00000002\n\
             opt 0x3b 00000010\n",
            network.path("udhcpd.pid").display()
        ),
    );
    let mut server = network.spawn(&network.server(), &["udhcpd", "-f", &config]);
    server.expect("started");
    server
}

fn host(address: Ipv4Addr) -> (u8, u8) {
    let [_, _, third, fourth] = address.octets();
    (third, fourth)
}

fn whole_life(server: &Server) {
    if !ready(&[server.program]) {
        return;
    }
    let network = Network::new();
    let resolv = network.write("resolv.conf", "nameserver 192.0.2.1\n");
    let mut running = (server.start)(&network, 77, 1);
    let mut client = network.lease(&["--resolv-conf", &resolv]);

    let lease = client.lease();
    assert!((100..=200).contains(&host(lease.address).1) && host(lease.address).0 == 1);
    assert_eq!((lease.prefix_len, lease.mtu), (16, Some(1400)));
    assert_eq!(lease.valid_for.map(|valid| valid.as_secs()), Some(120));
    let addresses = network.addresses();
    assert!(addresses.contains(&format!("inet {}/16", lease.address)), "{addresses}");
    assert!(addresses.contains("mtu 1400"), "{addresses}");
    assert!(addresses.contains("valid_lft 1") && !addresses.contains("forever"), "{addresses}");
    let routes = network.routes();
    assert!(routes.contains("default via 10.77.0.1 dev eth0 proto dhcp"), "{routes}");
    assert_eq!(routes.contains("10.99.0.0/16 via 10.77.0.7"), server.program == "dnsmasq");
    let text = fs::read_to_string(&resolv).unwrap();
    assert!(text.ends_with("search example.org\nnameserver 10.77.0.53\n"), "{text}");

    // A real renewal, by unicast, answered.
    client.expect("sent renew");
    let renewed = client.lease();
    assert_eq!(renewed.address, lease.address);
    assert!(renewed.acquired_at > lease.acquired_at);

    // A server that knows nothing of the lease refuses it; the client takes the address away and
    // gets another. dnsmasq says so at the next renewal. The others keep silent then, and until the
    // lease ends: they refuse when the link comes back, dhcpd only if the network is another one.
    drop(running);
    let net = if server.program == "dhcpd" { 78 } else { 77 };
    if net == 78 {
        network.server_ip(&["addr", "flush", "dev", "eth0"]);
        network.server_ip(&["addr", "add", "10.78.0.1/16", "dev", "eth0"]);
    }
    running = (server.start)(&network, net, 2);
    if server.program != "dnsmasq" {
        network.client_ip(&["link", "set", "eth0", "down"]);
        client.expect("link down");
        network.client_ip(&["link", "set", "eth0", "up"]);
    }
    client.expect("lost the address: refused");
    let moved = client.lease();
    assert_eq!(host(moved.address).0, 2);
    let addresses = network.addresses();
    assert!(!addresses.contains(&lease.address.to_string()), "{addresses}");
    assert!(addresses.contains(&moved.address.to_string()), "{addresses}");

    client.terminate();
    client.expect("lost the address: released");
    assert_eq!(client.wait(), Some(0));
    // busybox's server says nothing about it at its ordinary level.
    if server.program != "udhcpd" {
        running.expect("DHCPRELEASE");
    }
    assert!(!network.addresses().contains("inet "), "{}", network.addresses());
    assert!(network.link().contains("mtu 1500"), "{}", network.link());
    assert_eq!(network.routes(), "");
    assert_eq!(fs::read_to_string(&resolv).unwrap(), "nameserver 192.0.2.1\n");
}

#[test]
fn dnsmasq_serves_a_whole_life() {
    whole_life(&SERVERS[0]);
}

#[test]
fn isc_dhcpd_serves_a_whole_life() {
    whole_life(&SERVERS[1]);
}

#[test]
fn busybox_udhcpd_serves_a_whole_life() {
    whole_life(&SERVERS[2]);
}

#[test]
fn once_leaves_an_address_that_the_kernel_ends() {
    if !ready(&["dnsmasq"]) {
        return;
    }
    let network = Network::new();
    let _server = dnsmasq(&network, 77, 1);
    let mut client = network.lease(&["--once", "--deadline", "15"]);
    let lease = client.lease();
    assert_eq!(client.wait(), Some(0));
    let addresses = network.addresses();
    assert!(addresses.contains(&format!("inet {}/16", lease.address)), "{addresses}");
    assert!(addresses.contains("dynamic"), "{addresses}");
}

#[test]
fn no_apply_changes_nothing_and_still_renews() {
    if !ready(&["dnsmasq"]) {
        return;
    }
    let network = Network::new();
    let _server = dnsmasq(&network, 77, 1);
    let mut client = network.lease(&["--no-apply"]);
    let lease = client.lease();
    assert!(!network.addresses().contains("inet "), "{}", network.addresses());
    // Somebody else configures it: without, the server's answers have nowhere to go.
    network.client_ip(&["addr", "add", &format!("{}/16", lease.address), "dev", "eth0"]);
    client.expect("sent renew");
    assert_eq!(client.lease().address, lease.address);
    client.terminate();
    assert_eq!(client.wait(), Some(0));
}

#[test]
fn nobody_there_is_told_and_ends_at_the_deadline() {
    if !ready(&[]) {
        return;
    }
    let network = Network::new();
    let mut client = network.lease(&["--deadline", "2.5"]);
    client.expect("no DHCP server: still trying");
    client.expect("no lease in time");
    assert_eq!(client.wait(), Some(2));
}

#[test]
fn a_link_that_comes_up_late_is_waited_for() {
    if !ready(&["dnsmasq"]) {
        return;
    }
    let network = Network::new();
    let _server = dnsmasq(&network, 77, 1);
    network.server_ip(&["link", "set", "eth0", "down"]);
    let mut client = network.lease(&[]);
    until("the client has set its end up", || network.link().contains("NO-CARRIER"));
    assert!(!client.seen.iter().any(|line| line.contains("sent")), "{:?}", client.seen);
    network.server_ip(&["link", "set", "eth0", "up"]);
    client.expect("link up");
    let lease = client.lease();
    assert_eq!(lease.prefix_len, 16);
}

#[test]
fn an_interface_that_goes_away_is_an_error() {
    if !ready(&[]) {
        return;
    }
    let network = Network::new();
    let mut client = network.lease(&[]);
    client.expect("sent discover");
    network.client_ip(&["link", "del", "eth0"]);
    client.expect("interface eth0: removed while in use");
    assert_eq!(client.wait(), Some(1));
    let mut client = network.lease(&[]);
    client.expect("interface eth0: not found");
}
