//! How an image is run.

use kiln_diskimg::ByteLen;

use super::Placed;

/// How an image is run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// Memory. Default: 1 GiB.
    pub memory: Option<Placed<ByteLen>>,
    /// Ports of the guest that the host reaches, each with the host's.
    pub forwards: Vec<Placed<Forward>>,
}

/// A port of the host's loopback interface that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// UDP in place of TCP.
    pub udp: bool,
    /// The port on 127.0.0.1; 0 lets the system choose a free one.
    pub host: u16,
    /// The guest's port.
    pub guest: u16,
}

impl std::str::FromStr for Forward {
    type Err = String;

    /// `8080:80`, `80`, `udp:5353:53`.
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || {
            format!("{text:?} is no forwarded port; expected HOST:GUEST, GUEST or udp:HOST:GUEST")
        };
        let (udp, ports) = match text.split_once(':') {
            Some(("udp", rest)) => (true, rest),
            Some(("tcp", rest)) => (false, rest),
            _ => (false, text),
        };
        let (host, guest) = ports.split_once(':').unwrap_or((ports, ports));
        let host = host.parse().map_err(|_| error())?;
        let guest = guest.parse().ok().filter(|guest| *guest != 0).ok_or_else(error)?;
        Ok(Self { udp, host, guest })
    }
}
