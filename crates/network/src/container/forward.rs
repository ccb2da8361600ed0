//! Ports of the host that lead to containers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::ParseError;
use crate::config::is_host;

/// What is spoken at a port.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads to a container's. As text: `[ADDRESS:]PORT:PORT[/udp]`, with an IPv6
/// address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Forward {
    /// What is spoken there.
    pub transport: Transport,
    /// The host's address; none: each, of both families.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub port: u16,
}

impl Forward {
    /// A port of each of the host's addresses.
    #[must_use]
    pub const fn new(transport: Transport, host_port: u16, port: u16) -> Self {
        Self { transport, address: None, host_port, port }
    }

    /// Whether a packet can be for both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let same = match (self.address, other.address) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same && (self.transport, self.host_port) == (other.transport, other.host_port)
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(v4)) => write!(out, "{v4}:")?,
            Some(IpAddr::V6(v6)) => write!(out, "[{v6}]:")?,
            None => {}
        }
        write!(out, "{}:{}/{}", self.host_port, self.port, self.transport)
    }
}

impl FromStr for Forward {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let wrong = || {
            let shown: String = text.chars().take(80).collect();
            ParseError(format!("{shown:?}, expected [ADDRESS:]PORT:PORT[/tcp] or /udp"))
        };
        let (rest, transport) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Transport::Tcp),
            Some((rest, "udp")) => (rest, Transport::Udp),
            Some(_) => return Err(wrong()),
            None => (text, Transport::Tcp),
        };
        let (rest, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host_port) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((address, host_port)) => {
                let inner = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
                let address: IpAddr = match inner {
                    Some(inner) => IpAddr::V6(inner.parse().map_err(|_| wrong())?),
                    None => IpAddr::V4(address.parse().map_err(|_| wrong())?),
                };
                (Some(address), host_port)
            }
        };
        if address.is_some_and(|address| !address.is_loopback() && !is_host(address)) {
            return Err(wrong());
        }
        let number = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(wrong);
        Ok(Self { transport, address, host_port: number(host_port)?, port: number(port)? })
    }
}

crate::text::as_text!(Forward);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        for (text, shown) in [
            ("8080:80", "8080:80/tcp"),
            ("53:5353/udp", "53:5353/udp"),
            ("127.0.0.1:8080:80/tcp", "127.0.0.1:8080:80/tcp"),
            ("[2001:db8::1]:1:2", "[2001:db8::1]:1:2/tcp"),
        ] {
            assert_eq!(text.parse::<Forward>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "80",
            "0:80",
            "80:0",
            "1:2/sctp",
            "2001:db8::1:1:2",
            "0.0.0.0:1:2",
            "a:1:2",
            "70000:1",
        ] {
            assert!(bad.parse::<Forward>().is_err(), "{bad}");
        }
        let all: Forward = "1:2".parse().unwrap();
        assert!(all.meets(&"192.0.2.1:1:3".parse().unwrap()));
        assert!(!all.meets(&"1:2/udp".parse().unwrap()));
    }
}
