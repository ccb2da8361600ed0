//! How a service says that it is ready.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a service says that it is ready for those that require it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Readiness {
    /// Running is being ready.
    #[default]
    None,
    /// It writes a newline to this descriptor (at least 3), as s6 defined it:
    /// <https://skarnet.org/software/s6/notifywhenup.html>. The number is also put into
    /// the variable `NOTIFY_FD`.
    NotifyFd(u32),
    /// It sends `READY=1` to the datagram socket named by `NOTIFY_SOCKET`, as sd_notify(3) does.
    /// Only the service's main process is believed; of a container its first process, and where there
    /// are control groups every process in it.
    SdNotify,
    /// Something takes a connection at this address: tried again until it does, at first after some
    /// milliseconds, at last every second.
    Connect(Address),
    /// A command exits with 0.
    Probe(Probe),
}

impl Readiness {
    /// Whether the supervisor asks, rather than being told.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Probe(_))
    }

    /// How long after the start of an attempt (from 0) the next one may begin, and how long an
    /// attempt may take; for what is asked.
    pub(crate) fn pace(&self, attempt: u32) -> (Duration, Duration) {
        match self {
            Self::Probe(probe) => (probe.every, probe.timeout),
            _ => {
                let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
                let every = Duration::from_millis(10).saturating_mul(factor);
                (every.min(Duration::from_secs(1)), Duration::from_secs(1))
            }
        }
    }
}

/// A command that finds out whether a service is ready. It runs as the supervisor's user, in the
/// service's environment and directory, and its output goes to the service's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Probe {
    /// Program and arguments.
    pub command: Vec<String>,
    /// From the start of an attempt to that of the next one (default 1 s).
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub every: Duration,
    /// How long an attempt may take before it is killed (default 5 s).
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub timeout: Duration,
}

impl Default for Probe {
    fn default() -> Self {
        Self { command: Vec::new(), every: Duration::from_secs(1), timeout: Duration::from_secs(5) }
    }
}

impl Probe {
    /// A command with the default pace.
    #[must_use]
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// Where one listens or connects: `tcp:ADDRESS:PORT`, `udp:ADDRESS:PORT`, or `unix:PATH`, the path
/// beginning with `@` for the abstract namespace (unix(7)). Addresses are numbers, not names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Address {
    /// Streams of TCP.
    Tcp(SocketAddr),
    /// Datagrams of UDP.
    Udp(SocketAddr),
    /// Streams of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "bad address {text:?}, expected tcp:IP:PORT, udp:IP:PORT, unix:/PATH or unix:@NAME"
            )
        };
        match text.split_once(':').ok_or_else(bad)? {
            ("tcp", rest) => rest.parse().map(Self::Tcp).map_err(|_| bad()),
            ("udp", rest) => rest.parse().map(Self::Udp).map_err(|_| bad()),
            ("unix", path) if path.len() > 1 && path.starts_with(['/', '@']) => {
                // sun_path of unix(7) has 108 bytes, one for the end.
                if path.len() > 107 || path.contains('\0') {
                    Err(bad())
                } else {
                    Ok(Self::Unix(path.into()))
                }
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(feature = "serde")]
super::text::shown_and_parsed!(Address);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_they_show() {
        for good in ["tcp:127.0.0.1:80", "udp:[::1]:53", "unix:/run/a.sock", "unix:@name"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        let long = format!("unix:/{}", "a".repeat(107));
        for bad in ["", "tcp:localhost:80", "tcp:1.2.3.4", "unix:", "unix:/", "unix:a", "80", &long]
        {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn connections_are_tried_less_and_less_often() {
        let connect = Readiness::Connect("unix:/a".parse().unwrap());
        let paces: Vec<_> = [0, 1, 5, 9, 40].map(|n| connect.pace(n).0.as_millis()).into();
        assert_eq!(paces, [10, 20, 320, 1000, 1000]);
    }
}
