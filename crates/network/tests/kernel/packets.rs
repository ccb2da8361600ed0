//! Real packets through networks of containers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use kiln_network::container::{BridgeNetwork, Forward, Namespace, Networks};

use crate::{PATIENCE, ip, ready, run};

/// Says to each that connects who it is, as the server sees it.
fn serve(namespace: &Namespace, port: u16) {
    let listener = namespace.run(|| TcpListener::bind(("::", port))).unwrap().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            let _ = stream.write_all(peer.to_string().as_bytes());
        }
    });
}

fn connect(namespace: &Namespace, to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream =
        namespace.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5))).unwrap()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// A host with a way to the outside, where somebody else is.
struct World {
    host: Namespace,
    outside: Namespace,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (host, outside) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        // A file for `ip`, which finds namespaces by name or path.
        let path = std::path::PathBuf::from(format!("/proc/{}/fd/", std::process::id()));
        let fd = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&outside));
        let target = path.join(fd.to_string());
        let directory = tempfile::tempdir().unwrap();
        host.run(|| {
            run(&[
                "ip",
                "link",
                "add",
                "up0",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                target.to_str().unwrap(),
            ]);
            ip("address add 198.51.100.1/24 dev up0");
            ip("address add 2001:db8:ff::1/64 dev up0 nodad");
            ip("link set up0 up");
        })
        .unwrap();
        outside
            .run(|| {
                ip("address add 198.51.100.2/24 dev eth0");
                ip("address add 2001:db8:ff::2/64 dev eth0 nodad");
                ip("link set eth0 up");
                // Who knows the way still does not get in.
                ip("route add 10.220.0.0/16 via 198.51.100.1");
            })
            .unwrap();
        Self { host, outside, directory }
    }

    /// In the host's namespace.
    fn networks<T: Send>(&self, what: impl FnOnce(&Networks) -> T + Send) -> T {
        let networks = Networks::new(self.directory.path().join("networks"));
        self.host.run(|| what(&networks)).unwrap()
    }
}

fn network() -> BridgeNetwork {
    let mut network = BridgeNetwork::new("pods", "pods0");
    network.gateways = vec!["10.220.0.1/16".parse().unwrap(), "fd00:220::1/64".parse().unwrap()];
    network.nameservers = vec!["192.0.2.53".parse().unwrap()];
    network
}

#[test]
fn ports_lead_in_and_packets_go_out() {
    if !ready(&["ip", "nft"]) {
        return;
    }
    let world = World::new();
    let network = network();
    let (a, b) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    let forwards: Vec<Forward> = ["8080:80", "5353:53/udp", "198.51.100.1:8081:80"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let attached = world.networks(|networks| {
        networks.up(&network).unwrap();
        networks.attach(&network, "b", &b, &[]).unwrap();
        networks.attach(&network, "a", &a, &forwards).unwrap()
    });
    assert!(attached.resolv_conf.contains("nameserver 192.0.2.53"));
    let of_a: Vec<String> =
        attached.lease.addresses.iter().map(|net| net.addr().to_string()).collect();
    assert_eq!(of_a, ["10.220.0.3", "fd00:220::3"]);
    serve(&a, 80);
    serve(&world.outside, 9000);

    // From outside, by both families and by the one address.
    assert_eq!(connect(&world.outside, "198.51.100.1:8080").unwrap(), "198.51.100.2");
    assert_eq!(connect(&world.outside, "198.51.100.1:8081").unwrap(), "198.51.100.2");
    assert_eq!(connect(&world.outside, "[2001:db8:ff::1]:8080").unwrap(), "2001:db8:ff::2");
    // From the host, by its loopback and its other addresses.
    assert_eq!(connect(&world.host, "127.0.0.1:8080").unwrap(), "10.220.0.1");
    assert_eq!(connect(&world.host, "198.51.100.1:8080").unwrap(), "198.51.100.1");
    assert_eq!(connect(&world.host, "[2001:db8:ff::1]:8080").unwrap(), "2001:db8:ff::1");
    assert_eq!(connect(&world.host, "10.220.0.3:80").unwrap(), "10.220.0.1");
    // From another container, and from itself: around the corner.
    for from in [&a, &b] {
        assert_eq!(connect(from, "198.51.100.1:8080").unwrap(), "10.220.0.1");
        assert_eq!(connect(from, "10.220.0.1:8080").unwrap(), "10.220.0.1");
        assert_eq!(connect(from, "[2001:db8:ff::1]:8080").unwrap(), "fd00:220::1");
    }
    assert_eq!(connect(&b, "10.220.0.3:80").unwrap(), "10.220.0.2");
    assert_eq!(connect(&b, "[fd00:220::3]:80").unwrap(), "fd00:220::2");
    // Out, by the host's address.
    assert_eq!(connect(&a, "198.51.100.2:9000").unwrap(), "198.51.100.1");
    assert_eq!(connect(&b, "[2001:db8:ff::2]:9000").unwrap(), "2001:db8:ff::1");
    // A port that was given for one address is no other's.
    assert!(connect(&world.host, "127.0.0.1:8081").is_err());
    // And not in by any other way.
    let closed = "10.220.0.3:80".parse().unwrap();
    let soon = Duration::from_millis(700);
    let tried = world.outside.run(|| TcpStream::connect_timeout(&closed, soon)).unwrap();
    assert!(tried.is_err());
    udp(&world, &a);
    the_host_is_kept_from_containers(&world, &a);

    // Without the container its ports are nobody's, at once.
    world.networks(|networks| networks.detach(&network, "a").unwrap());
    let refused = connect(&world.outside, "198.51.100.1:8080").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    world.networks(|networks| {
        assert_eq!(networks.detach(&network, "a").unwrap(), []);
        networks.down(&network).unwrap();
        networks.down(&network).unwrap();
        assert_eq!(run(&["nft", "list", "ruleset"]), "");
        let left = ip("-o link show");
        assert_eq!(left.lines().count(), 2, "{left}");
    });
}

fn udp(world: &World, container: &Namespace) {
    let bind = |namespace: &Namespace, at: &str| {
        let at: SocketAddr = at.parse().unwrap();
        let socket = namespace.run(|| UdpSocket::bind(at)).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    for (server, client, to) in [
        ("0.0.0.0:53", "0.0.0.0:0", "198.51.100.1:5353"),
        ("[::]:53", "[::]:0", "[2001:db8:ff::1]:5353"),
    ] {
        let server = bind(container, server);
        let client = bind(&world.outside, client);
        client.send_to(b"ask", to).unwrap();
        let mut buffer = [0; 16];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"answer", from).unwrap();
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from.to_string().as_str()), (&b"answer"[..], to));
    }
}

/// The bridge routes the loopback's network, for the host's sake. A container that sends there gets
/// nothing.
fn the_host_is_kept_from_containers(world: &World, container: &Namespace) {
    serve(&world.host, 7000);
    assert_eq!(connect(&world.host, "127.0.0.1:7000").unwrap(), "127.0.0.1");
    container
        .run(|| {
            ip("route del local 127.0.0.0/8 dev lo table local");
            ip("route del local 127.0.0.1 dev lo table local");
            ip("route add 127.0.0.0/8 via 10.220.0.1");
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        })
        .unwrap();
    let to: SocketAddr = "127.0.0.1:7000".parse().unwrap();
    let soon = Duration::from_millis(700);
    let tried = container.run(|| TcpStream::connect_timeout(&to, soon)).unwrap();
    assert!(tried.is_err());
}
