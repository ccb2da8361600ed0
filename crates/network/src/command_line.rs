//! `ip=` and `BOOTIF=` of the kernel's command line.
//!
//! `ip=` is read as the kernel's Documentation/admin-guide/nfs/nfsroot.rst has it, each field of it:
//!
//! ```text
//! ip=off | none | on | any | dhcp[,CLIENT-ID-TYPE,CLIENT-ID]
//! ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0
//! ```
//!
//! and beyond it what dracut.cmdline(7) has: several `ip=`, `ip=DEVICE:dhcp[:MTU]`, IPv6 addresses in
//! brackets, a prefix length in place of the netmask. BOOTP and RARP are not spoken.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::config::is_host;
use crate::names::is_link_name;
use crate::{Mac, Problem, is_host_name};

/// What the command line says about the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandLine {
    /// Each `ip=`, in order.
    pub arguments: Vec<Argument>,
    /// The hardware address of the link that the machine was booted over (`BOOTIF=`, as PXELINUX
    /// gives it).
    pub boot_link: Option<Mac>,
}

/// One `ip=`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Argument {
    /// The word as it was written.
    pub word: String,
    /// The link; without one, the kernel's choice.
    pub device: Option<String>,
    /// `off` or `none` alone: nothing is configured.
    pub off: bool,
    /// Whether DHCP is used.
    pub dhcp: bool,
    /// Option 61 for it: the type and the bytes after it.
    pub client_id: Option<Vec<u8>>,
    /// The address with its prefix.
    pub address: Option<IpNet>,
    /// The gateway of the default route.
    pub gateway: Option<IpAddr>,
    /// The machine's name, without what follows the first dot.
    pub hostname: Option<String>,
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
    /// A time server.
    pub ntp: Option<IpAddr>,
    /// The MTU in bytes (dracut).
    pub mtu: Option<u32>,
}

impl CommandLine {
    /// Reads a command line. Words that are wrong are left out and told, all of them.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<Problem>) {
        let mut found = Self::default();
        let mut problems = Vec::new();
        for word in text.split_whitespace() {
            let result = match word.split_once('=') {
                // `nfsaddrs` is the older name of the same.
                Some(("ip" | "nfsaddrs", value)) => argument(value)
                    .map(|read| found.arguments.push(Argument { word: word.to_owned(), ..read })),
                Some(("BOOTIF", value)) => boot_link(value).map(|mac| found.boot_link = Some(mac)),
                _ => continue,
            };
            if let Err(what) = result {
                problems.extend(what.into_iter().map(|what| Problem::new(shown(word), what)));
            }
        }
        let mut named: Vec<&str> = Vec::new();
        for device in found.arguments.iter().filter_map(|argument| argument.device.as_deref()) {
            if named.contains(&device) {
                let what = format_args!("two of them for {device}: the first counts");
                problems.push(Problem::new("ip=", what));
            }
            named.push(device);
        }
        (found, problems)
    }
}

fn shown(word: &str) -> String {
    word.chars().take(120).flat_map(char::escape_default).collect()
}

/// `01-52-54-00-12-34-56`: the hardware type of ARP (1 is Ethernet) and the address.
fn boot_link(value: &str) -> Result<Mac, Vec<String>> {
    let mac = value.strip_prefix("01-").or_else(|| value.strip_prefix("01:")).unwrap_or(value);
    match mac.parse::<Mac>() {
        Ok(mac) if mac.is_station() => Ok(mac),
        _ => Err(vec!["expected 01- and a hardware address, joined by hyphens".into()]),
    }
}

/// How an address is got, as `AUTOCONF` says it.
enum Method {
    Off,
    Dhcp(Option<Vec<u8>>),
}

fn method(text: &str) -> Result<Option<Method>, String> {
    let mut parts = text.splitn(3, ',');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        ("", None, None) => Ok(None),
        ("off" | "none" | "static", None, None) => Ok(Some(Method::Off)),
        ("on" | "any", None, None) | ("dhcp", None, None) => Ok(Some(Method::Dhcp(None))),
        ("dhcp", Some(kind), Some(id)) => match kind.parse::<u8>() {
            Ok(kind) if (1..=254).contains(&id.len()) => {
                let mut bytes = vec![kind];
                bytes.extend_from_slice(id.as_bytes());
                Ok(Some(Method::Dhcp(Some(bytes))))
            }
            _ => {
                Err("the client identifier, expected a type of 0 to 255 and 1 to 254 bytes".into())
            }
        },
        ("bootp" | "rarp" | "both", ..) => {
            Err("BOOTP and RARP are not spoken, expected dhcp, none or nothing".into())
        }
        (other, ..) => Err(format!(
            "{:?} is no way to get an address, expected dhcp, on, any, none or off",
            shown(other)
        )),
    }
}

/// Splits at colons that are not inside brackets.
fn fields(value: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    value
        .split(|c: char| {
            match c {
                '[' => depth = depth.saturating_add(1),
                ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ':' && depth == 0
        })
        .collect()
}

fn argument(value: &str) -> Result<Argument, Vec<String>> {
    let fields = fields(value);
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    if fields.len() == 1 && address(value).ok().flatten().is_none() {
        return match method(value) {
            Ok(Some(Method::Off)) => Ok(Argument { off: true, ..Argument::default() }),
            Ok(Some(Method::Dhcp(client_id))) => {
                Ok(Argument { dhcp: true, client_id, ..Argument::default() })
            }
            // Nothing at all means that everything is left to autoconfiguration.
            Ok(None) => Ok(Argument { dhcp: true, ..Argument::default() }),
            Err(what) => Err(vec![what]),
        };
    }
    let first_is_address = field(0).is_empty() || address(field(0)).is_ok();
    if fields.len() <= 4 && !first_is_address {
        return dracut(&fields);
    }
    let mut problems = Vec::new();
    if fields.len() > 10 {
        problems.push(format!("{} fields, expected at most 10", fields.len()));
    }
    let mut read = |name: &str, at: usize| match address(field(at)) {
        Ok(found) => found,
        Err(what) => {
            problems.push(format!("{name}: {what}"));
            None
        }
    };
    let client = read("the client's address", 0);
    let _server = read("the server's address", 1);
    let gateway = read("the gateway", 2);
    // dracut has the MTU where the kernel has the first name server.
    let mtu = field(7).parse::<u32>().ok();
    let dns = [
        if mtu.is_some() { None } else { read("the first name server", 7) },
        read("the second name server", 8),
    ];
    let ntp = read("the time server", 9);
    let mut found = Argument {
        gateway,
        nameservers: dns.into_iter().flatten().collect(),
        ntp,
        mtu,
        ..Argument::default()
    };
    if let Some(client) = client {
        match prefix(client, field(3)) {
            Ok(net) if is_host(client) => found.address = Some(net),
            Ok(_) => problems.push(format!("the client's address: {client} is no host's address")),
            Err(what) => problems.push(what),
        }
    }
    // What follows the first dot is the NIS domain, which nobody here asks for.
    let hostname = field(4).split('.').next().unwrap_or_default();
    if !hostname.is_empty() {
        if is_host_name(hostname) && hostname.len() <= 64 {
            found.hostname = Some(hostname.to_owned());
        } else {
            problems.push(format!(
                "the host name: {:?}, expected letters, digits and hyphens",
                shown(hostname)
            ));
        }
    }
    if !field(5).is_empty() {
        if is_link_name(field(5)) {
            found.device = Some(field(5).to_owned());
        } else {
            problems.push(format!("the device: {:?} is no name of a link", shown(field(5))));
        }
    }
    match method(field(6)) {
        // As in the kernel, an address that is given needs no autoconfiguration.
        Ok(_) if client.is_some() => {}
        Ok(Some(Method::Off)) => {
            if found.device.is_some() {
                problems.push("neither an address nor a way to get one".into());
            }
            found.off = true;
        }
        Ok(Some(Method::Dhcp(client_id))) => (found.dhcp, found.client_id) = (true, client_id),
        Ok(None) => found.dhcp = true,
        Err(what) => problems.push(what),
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// `DEVICE:METHOD[:MTU[:]]`, as dracut has it.
fn dracut(fields: &[&str]) -> Result<Argument, Vec<String>> {
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let mut problems = Vec::new();
    let mut found =
        Argument { dhcp: true, device: Some(field(0).to_owned()), ..Argument::default() };
    if !is_link_name(field(0)) {
        problems
            .push(format!("{:?} is neither an address nor the name of a link", shown(field(0))));
    }
    match method(field(1)) {
        Ok(Some(Method::Dhcp(client_id))) => found.client_id = client_id,
        Ok(_) => problems.push("expected dhcp after the device".into()),
        Err(what) => problems.push(what),
    }
    if !field(2).is_empty() {
        match field(2).parse::<u32>() {
            Ok(mtu) if (576..=65_535).contains(&mtu) => found.mtu = Some(mtu),
            _ => problems.push(format!("the MTU: {:?}, expected 576 to 65535", shown(field(2)))),
        }
    }
    if !field(3).is_empty() {
        problems.push("a hardware address cannot be set".into());
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// An address; none where there is nothing or 0.0.0.0, which the kernel ignores.
fn address(text: &str) -> Result<Option<IpAddr>, String> {
    let wrong = || format!("{:?} is no address", shown(text));
    let found = match text.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']').ok_or_else(wrong)?;
            IpAddr::V6(inner.parse().map_err(|_| wrong())?)
        }
        None if text.is_empty() => return Ok(None),
        None => IpAddr::V4(text.parse().map_err(|_| wrong())?),
    };
    Ok(Some(found).filter(|address| !address.is_unspecified()))
}

/// The netmask or prefix length; without one, by the class of the address, as in the kernel.
fn prefix(client: IpAddr, mask: &str) -> Result<IpNet, String> {
    let wrong = || format!("the netmask: {:?} is neither a mask nor a prefix length", shown(mask));
    let len = match (client, mask) {
        (IpAddr::V4(v4), "" | "0.0.0.0") => match v4.octets() {
            [0..=127, ..] => 8,
            [128..=191, ..] => 16,
            _ => 24,
        },
        (IpAddr::V6(_), "") => 64,
        (_, digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| wrong())?
        }
        (IpAddr::V4(_), mask) => {
            let mask: Ipv4Addr = mask.parse().map_err(|_| wrong())?;
            ipnet::ipv4_mask_to_prefix(mask).map_err(|_| wrong())?
        }
        (IpAddr::V6(_), _) => return Err(wrong()),
    };
    IpNet::new(client, len).map_err(|_| wrong())
}
