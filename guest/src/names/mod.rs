//! Addresses of names, for programs without a C library's resolver: of hosts(5), else by DNS of the servers
//! that resolv.conf(5) lists.
//!
//! A name is taken as it is: `search`, `ndots` and other options are not read. Servers are asked by UDP, in order,
//! with more patience each time; an answer that does not fit is not asked for by TCP.

mod message;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use message::{Answer, Kind};

/// How long a server has at first.
const REPLY: Duration = Duration::from_secs(1);
/// What fits without EDNS (RFC 1035 section 4.2.1), and what servers send that do not care.
const LARGEST: usize = 4096;
/// A resolver reads three.
const MOST_SERVERS: usize = 3;

/// The addresses of a name, IPv4's first, by the texts of `/etc/hosts` and `/etc/resolv.conf`.
///
/// # Errors
/// A sentence: there is no such name, or nobody says so within that time.
pub fn addresses(
    name: &str,
    hosts: &str,
    resolv_conf: &str,
    patience: Duration,
) -> Result<Vec<IpAddr>, String> {
    let found = of_hosts(name, hosts);
    if !found.is_empty() {
        return Ok(found);
    }
    let servers: Vec<SocketAddr> =
        servers(resolv_conf).map(|address| SocketAddr::new(address, 53)).collect();
    ask(name, &servers, patience)
}

/// What hosts(5) says of a name.
fn of_hosts(name: &str, hosts: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.extend(address);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

/// The name servers of resolv.conf(5). One that is link-local is left out: which link is not said here.
fn servers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    let lines = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.trim().parse().ok()).take(MOST_SERVERS)
}

/// Asks servers in turn until one knows.
fn ask(name: &str, servers: &[SocketAddr], patience: Duration) -> Result<Vec<IpAddr>, String> {
    if servers.is_empty() {
        return Err(format!("{name}: there is no name server"));
    }
    let began = Instant::now();
    let mut pause = REPLY;
    let mut why = None;
    loop {
        for server in servers {
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                let why = why.unwrap_or_else(|| "no name server answers".to_owned());
                return Err(format!("{name}: {why}"));
            }
            match ask_one(name, *server, pause.min(left)) {
                Ok(Said::Addresses(found)) => return Ok(found),
                Ok(Said::NoName) => return Err(format!("{name}: there is no such name")),
                Ok(Said::Nothing) => {}
                Err(said) => why = Some(format!("{}: {said}", server.ip())),
            }
        }
        // a server that refuses at once is not asked without a pause
        let left = patience.saturating_sub(began.elapsed());
        std::thread::sleep(left.min(Duration::from_millis(100)));
        pause = pause.saturating_mul(2);
    }
}

enum Said {
    Addresses(Vec<IpAddr>),
    /// No such name, or no address of it.
    NoName,
    /// In time.
    Nothing,
}

/// Asks a server for both kinds at once.
fn ask_one(name: &str, server: SocketAddr, patience: Duration) -> Result<Said, String> {
    let began = Instant::now();
    let sentence = |error: std::io::Error| error.to_string();
    let own: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // a port that nobody guesses, to which nobody else's answers come
    let socket = UdpSocket::bind((own, 0)).map_err(sentence)?;
    socket.connect(server).map_err(sentence)?;
    let mut open = Vec::new();
    for kind in Kind::ALL {
        let question = message::question(id()?, name, kind).ok_or("that is no name")?;
        socket.send(&question).map_err(sentence)?;
        open.push((kind, question));
    }
    let mut found: Vec<IpAddr> = Vec::new();
    let mut why = None;
    let mut bytes = [0; LARGEST];
    while !open.is_empty() {
        let left = patience.saturating_sub(began.elapsed());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left)).map_err(sentence)?;
        let count = match socket.recv(&mut bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => return Err(error.to_string()),
        };
        let said = bytes.get(..count).unwrap_or_default();
        open.retain(|(kind, question)| {
            match message::answer(said, question, *kind) {
                None => return true,
                Some(Answer::Addresses(more)) => found.extend(more),
                Some(Answer::NoName) => {}
                Some(Answer::Refused(number)) => why = Some(format!("refused, {number}")),
                Some(Answer::CutOff) => why = Some("more addresses than fit".to_owned()),
            }
            false
        });
    }
    found.sort_by_key(IpAddr::is_ipv6);
    match (found.is_empty(), why) {
        (false, _) => Ok(Said::Addresses(found)),
        (true, Some(why)) => Err(why),
        (true, None) if open.is_empty() => Ok(Said::NoName),
        (true, None) => Ok(Said::Nothing),
    }
}

/// What an answer has to have.
fn id() -> Result<u16, String> {
    let mut bytes = [0; 2];
    let flags = rustix::rand::GetRandomFlags::empty();
    let count = rustix::rand::getrandom(&mut bytes, flags).map_err(|error| error.to_string())?;
    if count == 2 { Ok(u16::from_ne_bytes(bytes)) } else { Err("no random number".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_go_before_servers() {
        let hosts =
            "::1 localhost\n127.0.0.1 localhost # one\n192.0.2.1 a.test A # b.test\nx c.test\n";
        let of = |name: &str| addresses(name, hosts, "", Duration::from_secs(1));
        let expected: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        assert_eq!(of("LocalHost"), Ok(expected.into()));
        assert_eq!(of("a"), Ok(vec!["192.0.2.1".parse().unwrap()]));
        for name in ["b.test", "c.test", "one"] {
            assert_eq!(of(name), Err(format!("{name}: there is no name server")));
        }
        let text = "search nameserver 192.0.2.9\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nnameserver fe80::1%eth0\n";
        let found: Vec<String> = servers(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.1", "2001:db8::1"]);
    }

    /// A name server that knows `a.test` (both kinds) and `b.test` (another name, IPv4), leaves the first so
    /// many questions without an answer, and refuses `c.test`.
    fn server(deaf: usize) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 512];
            for count in 0.. {
                let (length, from) = socket.recv_from(&mut bytes).unwrap();
                if count < deaf {
                    continue;
                }
                let asked = &bytes[..length];
                let is_v6 = asked[length - 3] == 28;
                let (flags, data): (u16, &[u8]) = match (&asked[12..14], is_v6) {
                    (b"\x01a", false) => (0x8180, &[192, 0, 2, 1]),
                    (b"\x01a", true) => {
                        (0x8180, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
                    }
                    (b"\x01b", false) => (0x8180, &[192, 0, 2, 2]),
                    (b"\x01b", true) => (0x8180, &[]),
                    (b"\x01c", _) => (0x8185, &[]),
                    _ => (0x8183, &[]),
                };
                let mut said = asked.to_vec();
                said[2..4].copy_from_slice(&flags.to_be_bytes());
                if !data.is_empty() {
                    said[7] = 1;
                    said.extend_from_slice(&[
                        0xc0,
                        12,
                        0,
                        if is_v6 { 28 } else { 1 },
                        0,
                        1,
                        0,
                        0,
                        0,
                        9,
                        0,
                    ]);
                    said.push(u8::try_from(data.len()).unwrap());
                    said.extend_from_slice(data);
                }
                // somebody else's answer comes first, and counts for nothing
                let mut other = said.clone();
                other[0] ^= 1;
                socket.send_to(&other, from).unwrap();
                socket.send_to(&said, from).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_server_is_asked_again_and_the_next_one_if_it_refuses() {
        let long = Duration::from_secs(60);
        let texts = |found: Result<Vec<IpAddr>, String>| {
            found.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let all = ["192.0.2.1".to_owned(), "2001:db8::1".to_owned()].to_vec();
        assert_eq!(texts(ask("a.test", &[server(2)], long)), Ok(all));
        assert_eq!(texts(ask("b.test", &[server(0)], long)), Ok(vec!["192.0.2.2".into()]));
        assert_eq!(ask("d.test", &[server(0)], long), Err("d.test: there is no such name".into()));
        let short = Duration::from_millis(300);
        let refused = ask("c.test", &[server(0)], short);
        assert_eq!(refused, Err("c.test: 127.0.0.1: refused, 5".into()));
        // a port that was free a moment ago
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let found = ask("b.test", &[nobody, server(0)], long);
        assert_eq!(texts(found), Ok(vec!["192.0.2.2".into()]));
        assert!(ask("b.test", &[nobody], short).unwrap_err().starts_with("b.test: 127.0.0.1: "));
        assert_eq!(ask("a b.", &[], short), Err("a b.: there is no name server".into()));
    }
}
