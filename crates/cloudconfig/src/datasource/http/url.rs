//! Addresses: `http://ADDRESS[:PORT]/PATH`.

use std::net::{IpAddr, SocketAddr};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) address: SocketAddr,
    /// What goes into the `Host` field.
    pub(super) host: String,
    pub(super) path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("http://") else {
            return Err("expected http://ADDRESS/PATH; nothing else is spoken".into());
        };
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let path = path.split('#').next().unwrap_or_default();
        if path.len() > 2048 || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a path with blanks or other letters than ASCII's".into());
        }
        let address = host.parse::<SocketAddr>().ok().or_else(|| {
            let inner = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
            let ip: Option<IpAddr> = match inner {
                Some(v6) => v6.parse().ok().filter(IpAddr::is_ipv6),
                None => host.parse().ok().filter(IpAddr::is_ipv4),
            };
            ip.map(|ip| SocketAddr::new(ip, 80))
        });
        let Some(address) = address else {
            return Err(
                "names are not looked up, expected an address such as http://192.0.2.1/".into()
            );
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { address, host: host.to_owned(), path: format!("{slash}{path}") })
    }

    /// RFC 3986 section 5.2, of which servers use these: an address, or a path from the root.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            let whole = format!("http://{}{location}", self.host);
            return Self::parse(&whole);
        }
        Self::parse(location)
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, path) in [
            ("http://192.0.2.1", "192.0.2.1:80", "/"),
            ("http://192.0.2.1:8080/a?b#c", "192.0.2.1:8080", "/a?b"),
            ("http://[2001:db8::1]/x", "[2001:db8::1]:80", "/x"),
            ("http://[::1]:81?x", "[::1]:81", "/?x"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.address.to_string().as_str(), url.path.as_str()), (host, path));
        }
        for bad in [
            "https://192.0.2.1/",
            "http://example.org/",
            "http:///x",
            "http://::1/",
            "http://1.2.3.4/a b",
            "http://a@1.2.3.4/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
