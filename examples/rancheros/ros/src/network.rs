//! `rancher.network`: the original's keys, as a configuration of links.

use std::fmt::Display;
use std::str::FromStr;

use kiln_cloudconfig::Cursor;
use kiln_network::{Config, Interface, IpNet};

/// Reads the section.
pub(crate) fn network(at: &Cursor<'_>) -> Option<Config> {
    let mut fields = at.fields()?;
    let mut config = Config::default();
    if let Some(at) = fields.field("dns") {
        let mut fields = at.fields()?;
        config.nameservers = fields.list("nameservers", parsed);
        config.search = fields.texts("search");
        fields.finish();
    }
    if let Some(at) = fields.field("interfaces") {
        let found = at.entries()?.into_iter();
        config.interfaces = found.filter_map(|(name, at)| at.whole(|at| link(name, at))).collect();
        // `lo` and a pattern for all others stand in the same map: what names one goes first
        config.interfaces.sort_by_key(|link| link.selector.to_string().contains(['*', '?']));
    }
    fields.not_supported(&[
        "dhcp_timeout",
        "http_proxy",
        "https_proxy",
        "modem_networks",
        "no_proxy",
        "post_cmds",
        "pre_cmds",
        "wifi_networks",
    ]);
    fields.finish();
    for problem in config.check() {
        at.wrong::<()>(problem);
    }
    Some(config)
}

fn link(name: &str, at: &Cursor<'_>) -> Option<Interface> {
    let mut fields = at.fields()?;
    let matched = fields.get("match", |at| at.text().map(str::to_owned));
    let selector = matched.as_deref().unwrap_or(name);
    let selector = selector.strip_prefix("mac:").unwrap_or(selector);
    let mut link = match selector.parse() {
        Ok(selector) => Interface::matching(selector),
        Err(error) => return at.wrong(error),
    };
    link.dhcp = fields.get("dhcp", Cursor::bool).unwrap_or_default();
    link.addresses.extend(fields.get("address", parsed::<IpNet>));
    link.addresses.extend(fields.list("addresses", parsed::<IpNet>));
    link.gateway = fields.get("gateway", parsed);
    link.gateway6 = fields.get("gateway_ipv6", parsed);
    link.mtu = fields.get("mtu", Cursor::integer);
    fields.not_supported(&[
        "bond",
        "bond_opts",
        "bridge",
        "dhcp_args",
        "ipv4ll",
        "post_up",
        "pre_up",
        "vlans",
        "wifi_network",
    ]);
    fields.finish();
    Some(link)
}

fn parsed<T: FromStr<Err: Display>>(at: &Cursor<'_>) -> Option<T> {
    match at.word()?.parse() {
        Ok(value) => Some(value),
        Err(error) => at.wrong(error),
    }
}
