//! Addresses: `http://HOST[:PORT]/PATH`, and the same with `https`.

use std::net::IpAddr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Over TLS.
    pub(super) secure: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    /// What goes into the `Host` field.
    pub(super) authority: String,
    pub(super) path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    /// As it is written, in lower case.
    Name(String),
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner.parse().ok().filter(IpAddr::is_ipv6).map(Self::Address);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return address.is_ipv4().then_some(Self::Address(address));
        }
        // RFC 1123 section 2.1; what ends with digits would be an address to somebody else
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_name = text.len() <= 253
            && text.split('.').all(is_label)
            && !last.bytes().all(|byte| byte.is_ascii_digit());
        is_name.then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let plain = text.strip_prefix("http://").map(|rest| (false, rest));
        let secure = || text.strip_prefix("https://").map(|rest| (true, rest));
        let Some((secure, rest)) = plain.or_else(secure) else {
            return Err("expected http://HOST/PATH or https://HOST/PATH".into());
        };
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let path = path.split('#').next().unwrap_or_default();
        if path.len() > 2048 || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a path with blanks or other letters than ASCII's".into());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok()),
            _ => (authority, Some(if secure { 443 } else { 80 })),
        };
        let (Some(host), Some(port)) = (Host::parse(host), port) else {
            return Err("no name, address or port, expected such as http://192.0.2.1:80/".into());
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let (authority, path) = (authority.to_owned(), format!("{slash}{path}"));
        Ok(Self { secure, host, port, authority, path })
    }

    /// RFC 3986 section 5.2, of which servers use these: an address, or a path from the root. Nobody is
    /// led from TLS to where there is none.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            let whole = format!("{}{}{location}", self.scheme(), self.authority);
            return Self::parse(&whole);
        }
        let other = Self::parse(location)?;
        match self.secure && !other.secure {
            true => Err("that is no TLS any more".into()),
            false => Ok(other),
        }
    }

    /// Whether who answers there is who answers here.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https://" } else { "http://" }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.scheme(), self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port, path) in [
            ("http://192.0.2.1", "192.0.2.1", 80, "/"),
            ("http://192.0.2.1:8080/a?b#c", "192.0.2.1", 8080, "/a?b"),
            ("http://[2001:db8::1]/x", "2001:db8::1", 80, "/x"),
            ("http://[::1]:81?x", "::1", 81, "/?x"),
            ("https://192.0.2.1/", "192.0.2.1", 443, "/"),
            ("http://Example.org/a", "example.org", 80, "/a"),
            ("https://a-1.example.org:8443", "a-1.example.org", 8443, "/"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((&*url.host.to_string(), url.port, &*url.path), (host, port, path));
        }
        for bad in [
            "ftp://192.0.2.1/",
            "http:///x",
            "http://::1/",
            "http://[192.0.2.1]/",
            "http://1.2.3.4/a b",
            "http://a@1.2.3.4/",
            "http://1.2.3.4:/",
            "http://1.2.3.4:65536/",
            "http://1.2.3/",
            "http://-a.test/",
            "http://a..test/",
            "http://a_b.test/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_is_redirected_stays_with_tls() {
        let from = Url::parse("https://a.test:8443/x").unwrap();
        assert_eq!(from.join("/y").unwrap().to_string(), "https://a.test:8443/y");
        assert_eq!(from.join("https://b.test/").unwrap().to_string(), "https://b.test/");
        assert!(from.join("http://a.test:8443/y").is_err());
        assert!(from.is_same_server(&from.join("/y").unwrap()));
        assert!(!from.is_same_server(&from.join("https://a.test/y").unwrap()));
    }
}
