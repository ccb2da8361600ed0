//! `networkConfig`: the machine's links.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use kiln_cloudconfig::Cursor;
use kiln_network::{Config, Interface, Selector};

fn parsed<T: FromStr>(at: &Cursor<'_>) -> Option<T>
where
    T::Err: std::fmt::Display,
{
    let text = at.text()?;
    text.parse().map_or_else(|error| at.wrong(error), Some)
}

/// Which links: a name or, as in Kurma's own files, an expression that ends in `.+` or `.*`, which is a
/// name with a wildcard here.
fn selector(at: &Cursor<'_>) -> Option<Selector> {
    let text = at.text()?;
    let text = text.strip_prefix('^').unwrap_or(text);
    let text = text.strip_suffix('$').unwrap_or(text);
    let glob = match text.strip_suffix(".+").map(|name| format!("{name}?*")) {
        Some(glob) => glob,
        None => text.strip_suffix(".*").map_or_else(|| text.to_owned(), |name| format!("{name}*")),
    };
    if glob.contains(['(', ')', '[', ']', '|', '+', '\\', '{']) {
        return at
            .expected("a name, or one that ends in .+ or .* (other expressions are not known)");
    }
    glob.parse().map_or_else(|error| at.wrong(error), Some)
}

fn interface(at: &Cursor<'_>) -> Option<Interface> {
    let mut fields = at.fields()?;
    let selector = fields.required("device", selector);
    let mut interface = Interface::matching(selector?);
    interface.dhcp = fields.get("dhcp", Cursor::bool).unwrap_or_default();
    interface.addresses.extend(fields.get("address", parsed::<IpNet>));
    interface.addresses.extend(fields.list("addresses", parsed::<IpNet>));
    interface.mtu = fields.get("mtu", Cursor::integer);
    fields.finish();
    Some(interface)
}

/// Reads the section.
pub(super) fn network(at: &Cursor<'_>) -> Option<Config> {
    let mut fields = at.fields()?;
    let mut config = Config::default();
    config.nameservers = fields.list("dns", parsed::<IpAddr>);
    // the loopback is there anyway
    let is_other = |interface: &Interface| interface.selector.to_string() != "lo";
    config.interfaces = fields.list("interfaces", |at| at.whole(interface));
    config.interfaces.retain(is_other);
    match fields.get("gateway", parsed::<IpAddr>) {
        None => {}
        Some(gateway) => give(&mut config, gateway, at),
    }
    // nothing here fetches anything
    fields.not_supported(&["proxyUrl"]);
    fields.finish();
    for problem in config.check() {
        at.wrong::<()>(problem);
    }
    Some(config)
}

/// Gives the gateway to the link on whose network it is.
fn give(config: &mut Config, gateway: IpAddr, at: &Cursor<'_>) {
    let reaches =
        |interface: &&mut Interface| interface.addresses.iter().any(|net| net.contains(&gateway));
    match (config.interfaces.iter_mut().find(reaches), gateway) {
        (Some(interface), IpAddr::V4(gateway)) => interface.gateway = Some(gateway),
        (Some(interface), IpAddr::V6(gateway)) => interface.gateway6 = Some(gateway),
        (None, _) => {
            at.wrong::<()>(format_args!("gateway {gateway} is on no interface's network"));
        }
    }
}
