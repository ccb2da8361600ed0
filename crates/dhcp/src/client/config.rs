//! What the caller decides, with defaults that suit a machine that boots from the network it is on.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::lease::is_host_name;

/// What to do with a gateway that is not on the subnet of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OffLinkGateway {
    /// Leave the route out; the lease is used without it.
    #[default]
    Skip,
    /// Reach the gateway by a host route on the link first, as some hosting companies expect.
    OnLink,
}

/// How far option 121 (RFC 3442) is believed. A hostile server can use it to draw traffic out of a
/// VPN (CVE-2024-3661, "TunnelVision").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClasslessRoutes {
    /// As RFC 3442 says.
    #[default]
    Accept,
    /// Drop routes with a prefix shorter than this, but for the default route.
    NoShorterThan(u8),
    /// Never ask for, never look at option 121; option 3 counts.
    Ignore,
}

/// The settings of a client.
///
/// ```
/// let mut config = kiln_dhcp::Config::default();
/// config.host_name = Some("node-1".into());
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Option 61, type byte included, 2 to 255 bytes. Default: hardware type 1 and the MAC address.
    pub client_id: Option<Vec<u8>>,
    /// Option 12, sent to the server. Default: none.
    pub host_name: Option<String>,
    /// Option 60. Default: none.
    pub vendor_class: Option<Vec<u8>>,
    /// Further options to ask for (option 55), besides those that a [`Lease`](crate::Lease) holds.
    pub request: Vec<u8>,
    /// Ask the server to broadcast its replies (for links that drop unicast to an address not yet
    /// configured). Default: no.
    pub broadcast: bool,
    /// Ignore replies that do not come from port 67. Default: no.
    pub strict_source_port: bool,
    /// Wait before the first retransmission; doubles each time, ± 25 % jitter. Default 1 s, so that
    /// a first packet lost while a switch wakes up does not cost the 4 s of RFC 2131's example.
    pub first_retry: Duration,
    /// The longest wait between retransmissions. Default 64 s (RFC 2131 section 4.1).
    pub longest_retry: Duration,
    /// Leases below this count as this long. Default 30 s: a hostile 1 s lease is no reason to
    /// renew twice a second.
    pub shortest_lease: Duration,
    /// What a reply without a readable option 51 counts as; a stated 0 is always refused.
    /// Default: none, such replies are refused.
    pub fallback_lease: Option<Duration>,
    /// MTUs (option 26, bytes) that are believed; others are ignored. Default 576 to 9216.
    pub mtu: RangeInclusive<u16>,
    /// How far option 121 is believed.
    pub classless_routes: ClasslessRoutes,
    /// What to do with a gateway off the subnet.
    pub off_link_gateway: OffLinkGateway,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_id: None,
            host_name: None,
            vendor_class: None,
            request: Vec::new(),
            broadcast: false,
            strict_source_port: false,
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(64),
            shortest_lease: Duration::from_secs(30),
            fallback_lease: None,
            mtu: 576..=9216,
            classless_routes: ClasslessRoutes::default(),
            off_link_gateway: OffLinkGateway::default(),
        }
    }
}

impl Config {
    /// Finds everything that makes the settings unusable, at once.
    ///
    /// # Errors
    /// [`ConfigError`] with each problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if let Some(id) = &self.client_id
            && !(2..=255).contains(&id.len())
        {
            problems.push(Problem::ClientId(id.len()));
        }
        if let Some(name) = &self.host_name
            && !is_host_name(name)
        {
            problems.push(Problem::HostName(name.clone()));
        }
        if let Some(class) = &self.vendor_class
            && !(1..=255).contains(&class.len())
        {
            problems.push(Problem::VendorClass(class.len()));
        }
        if self.request.len() > 200 || self.request.iter().any(|code| matches!(code, 0 | 255)) {
            problems.push(Problem::Request);
        }
        if self.first_retry < Duration::from_millis(100) || self.longest_retry < self.first_retry {
            problems.push(Problem::Retry);
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }
}

/// One thing wrong with a [`Config`] or with the hardware address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// `client_id` of this length; RFC 2132 section 9.14 wants at least 2, one option holds 255.
    ClientId(usize),
    /// `host_name` is not letters, digits, hyphens and dots.
    HostName(String),
    /// `vendor_class` of this length; 1 to 255 fit.
    VendorClass(usize),
    /// `request` holds 0 or 255, or over 200 codes.
    Request,
    /// `first_retry` below 100 ms or above `longest_retry`.
    Retry,
    /// The hardware address is zero or a group address.
    HardwareAddr,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientId(len) => write!(f, "client_id: {len} bytes, expected 2 to 255"),
            Self::HostName(name) => {
                write!(f, "host_name: {name:?}, expected letters, digits, hyphens and dots")
            }
            Self::VendorClass(len) => write!(f, "vendor_class: {len} bytes, expected 1 to 255"),
            Self::Request => f.write_str("request: expected at most 200 codes of 1 to 254"),
            Self::Retry => f.write_str("first_retry: expected 100 ms up to longest_retry"),
            Self::HardwareAddr => f.write_str("hardware address: expected a station's address"),
        }
    }
}

/// Everything wrong with a [`Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Each problem; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigError {}
