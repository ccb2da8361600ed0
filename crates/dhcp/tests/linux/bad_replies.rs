//! The hostile server against the real shell: frames on a veth pair, read back with `ip`.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kiln_dhcp::wire::Message;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use crate::hostile::{self, ALSO_BAD, BAD, ODD, answer, payload_of};
use crate::network::{Network, ready};

/// Namespaces at a time.
const ABREAST: usize = 10;

#[expect(unsafe_code, reason = "AF_PACKET addresses have no safe API")]
fn packet_socket() -> OwnedFd {
    let protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
    // SAFETY: no pointers.
    let fd = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol))
    };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a string with its NUL.
    let index = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) };
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index).unwrap();
    let len = u32::try_from(size_of_val(&address)).unwrap();
    // SAFETY: pointer and length describe `address`.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
    socket
}

/// Answers every message of the client with `case` until told to stop.
struct HostileServer {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl HostileServer {
    fn start(network: &Network, case: &'static str) -> Self {
        let namespace = File::open(format!("/run/netns/{}", network.server())).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&answers));
        let (listening, wait) = mpsc::channel();
        // Only this thread changes its namespace, and it ends there.
        let thread = thread::spawn(move || {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let socket = packet_socket();
            let tick = Some(Duration::from_millis(50));
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, tick).unwrap();
            listening.send(()).unwrap();
            let mut buffer = vec![0; 4096];
            while !told.load(Ordering::Relaxed) {
                let Ok((len, _)) =
                    rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())
                else {
                    continue;
                };
                let request = payload_of(&buffer[..len]).and_then(|p| Message::decode(p).ok());
                let Some(request) = request.filter(|request| !request.reply) else { continue };
                if let Some(reply) = answer(case, &request) {
                    rustix::net::send(&socket, &reply, SendFlags::empty()).unwrap();
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        wait.recv().unwrap();
        Self { stop, answers, thread: Some(thread) }
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn in_batches(cases: &[&'static str], test: fn(&'static str)) {
    let mut failed = Vec::new();
    for batch in cases.chunks(ABREAST) {
        let running: Vec<_> =
            batch.iter().map(|&case| (case, thread::spawn(move || test(case)))).collect();
        for (case, thread) in running {
            if thread.join().is_err() {
                failed.push(case);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn none_of_the_bad_replies_configures_an_address() {
    if !ready(&[]) {
        return;
    }
    let cases: Vec<_> = BAD.into_iter().chain(ALSO_BAD).collect();
    in_batches(&cases, |case| {
        let network = Network::new();
        let server = HostileServer::start(&network, case);
        // Long enough for a second DISCOVER.
        let mut client = network.lease(&["--deadline", "2"]);
        assert_eq!(client.wait(), Some(2), "{case}");
        assert!(server.answers.load(Ordering::Relaxed) >= 2, "{case}: answered");
        assert!(!network.addresses().contains("inet "), "{case}: {}", network.addresses());
        assert_eq!(network.routes(), "", "{case}");
    });
}

#[test]
fn odd_replies_configure_the_right_address_and_nothing_else() {
    if !ready(&[]) {
        return;
    }
    in_batches(&ODD, |case| {
        let network = Network::new();
        let _server = HostileServer::start(&network, case);
        let resolv = network.path("resolv.conf");
        let mut client = network.lease(&[
            "--once",
            "--deadline",
            "15",
            "--resolv-conf",
            resolv.to_str().unwrap(),
        ]);
        client.lease();
        assert_eq!(client.wait(), Some(0), "{case}");
        let addresses = network.addresses();
        assert!(addresses.contains(&format!("inet {}/16", hostile::ADDRESS)), "{case}");
        assert!(network.link().contains("mtu 1500"), "{case}");
        let routes = network.routes();
        let expected = if matches!(case, "gw-offlink" | "gw-0") { 0 } else { 1 };
        assert_eq!(routes.matches("proto dhcp").count(), expected, "{case}: {routes}");
        let text = std::fs::read_to_string(&resolv).unwrap();
        let servers = text.lines().filter(|line| line.starts_with("nameserver 10.77.")).count();
        assert_eq!(servers, if case == "dns-60" { 3 } else { 1 }, "{case}: {text}");
        assert_eq!(text.lines().count(), servers + 1, "{case}: {text}");
    });
}
