//! What happens, for a log.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kiln_dhcp_wire::MessageType;

use crate::{Client, tftp};

/// A file that went to somebody, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transferred {
    /// To whom.
    pub peer: SocketAddr,
    /// What, as it was asked for.
    pub file: String,
    /// How many bytes have arrived.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// How it has ended.
    pub ended: tftp::Ended,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A machine was told where it boots from.
    Told {
        /// Which.
        client: Client,
        /// What it loads next.
        file: String,
    },
    /// An answer of DHCP was given.
    Answered {
        /// To whom.
        mac: kiln_dhcp_wire::HardwareAddr,
        /// What kind of answer.
        kind: MessageType,
        /// The address that it is about.
        address: Ipv4Addr,
    },
    /// A machine wants to boot for whose kind there is no program, or no address is left for.
    Unserved(Client),
    /// A file went by TFTP.
    Transferred(Transferred),
    /// A file was not given.
    Refused {
        /// To whom.
        peer: IpAddr,
        /// What, as it was asked for.
        file: String,
        /// Why not.
        why: String,
    },
    /// A file or a script was asked for over HTTP.
    Requested {
        /// By whom.
        peer: IpAddr,
        /// The method and the path.
        what: String,
        /// The status of the answer.
        status: u16,
    },
    /// Something could not be done.
    Problem(String),
}

/// A text from elsewhere, on one line.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told { client, file } => write!(f, "{client} loads {}", shown(file)),
            Self::Answered { mac, kind, address } => write!(f, "{mac}: {kind:?} {address}"),
            Self::Unserved(client) => write!(f, "{client}: there is nothing for it"),
            Self::Transferred(it) => {
                let seconds = it.took.as_secs_f64();
                let name = shown(&it.file);
                let (peer, bytes) = (it.peer.ip(), it.bytes);
                match &it.ended {
                    tftp::Ended::Whole => {
                        write!(f, "{peer} has {name}: {bytes} bytes in {seconds:.1} s")
                    }
                    tftp::Ended::Refused { code, message } => {
                        write!(
                            f,
                            "{peer} ends {name} after {bytes} bytes: {code} {}",
                            shown(message)
                        )
                    }
                    other => write!(f, "{peer}: {name} ends after {bytes} bytes: {other:?}"),
                }
            }
            Self::Refused { peer, file, why } => {
                write!(f, "{peer} does not get {}: {why}", shown(file))
            }
            Self::Requested { peer, what, status } => write!(f, "{peer} {}: {status}", shown(what)),
            Self::Problem(what) => f.write_str(what),
        }
    }
}
