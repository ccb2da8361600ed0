//! What the resolver and its users read: resolv.conf(5) and hosts(5).

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::is_host_name;

/// Name servers that a resolver reads (resolv.h, `MAXNS`).
pub(crate) const MOST_NAMESERVERS: usize = 3;
/// Domains that a resolver searches (resolv.h, `MAXDNSRCH`).
pub(crate) const MOST_SEARCH: usize = 6;

/// The text of resolv.conf for sources in order of weight: each name server and domain once, at
/// most as many as a resolver reads. Domains that are no names are left out, so that none can start
/// a line of its own.
///
/// ```
/// let dns = ["192.0.2.53".parse()?];
/// let text = kiln_network::resolv_conf([(&dns[..], &["example.org".to_owned()][..])]);
/// assert!(text.ends_with("search example.org\nnameserver 192.0.2.53\n"));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[must_use]
pub fn resolv_conf<'a>(sources: impl IntoIterator<Item = (&'a [IpAddr], &'a [String])>) -> String {
    let mut servers: Vec<IpAddr> = Vec::new();
    let mut search: Vec<&str> = Vec::new();
    for (more_servers, more_search) in sources {
        for server in more_servers {
            if servers.len() < MOST_NAMESERVERS && !servers.contains(server) {
                servers.push(*server);
            }
        }
        for domain in more_search.iter().filter(|domain| is_host_name(domain)) {
            if search.len() < MOST_SEARCH && !search.contains(&domain.as_str()) {
                search.push(domain);
            }
        }
    }
    let mut text = String::from("# written at boot; changes are lost with the next lease\n");
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

/// The text of /etc/hosts with the machine's own name at 127.0.1.1, in place of another one there.
#[must_use]
pub fn hosts(before: &str, name: &str) -> String {
    let mut text = String::new();
    let is_own = |line: &str| line.split_whitespace().next() == Some("127.0.1.1");
    for line in before.lines().filter(|line| !is_own(line)) {
        text.push_str(line);
        text.push('\n');
    }
    match name.split_once('.') {
        Some((short, _)) => {
            let _ = writeln!(text, "127.0.1.1 {name} {short}");
        }
        None => {
            let _ = writeln!(text, "127.0.1.1 {name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_merged_in_order_without_repetition() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (a, b) = ([ip("192.0.2.1"), ip("2001:db8::1")], [ip("192.0.2.1"), ip("192.0.2.2")]);
        let late = [ip("192.0.2.9")];
        let (x, y) = (["example.org".to_owned()], ["a b".to_owned(), "example.net".to_owned()]);
        let text = resolv_conf([(&a[..], &x[..]), (&b[..], &y[..]), (&late[..], &x[..])]);
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            [
                "search example.org example.net",
                "nameserver 192.0.2.1",
                "nameserver 2001:db8::1",
                "nameserver 192.0.2.2"
            ]
        );
    }

    #[test]
    fn the_own_name_replaces_an_older_one() {
        let text = hosts("127.0.0.1 localhost\n127.0.1.1 nomados\n", "node-1.example.org");
        assert_eq!(text, "127.0.0.1 localhost\n127.0.1.1 node-1.example.org node-1\n");
        assert_eq!(hosts("", "a"), "127.0.1.1 a\n");
    }
}
