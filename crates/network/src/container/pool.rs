//! A pool of addresses: which one is whose. A value; who keeps it is not its concern.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The addresses of a network, each at most one owner's. An address that was given back is the last
/// to be given again, so that whoever still speaks with its old owner does not reach another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    gateway: IpNet,
    owners: BTreeMap<IpAddr, String>,
    last: Option<IpAddr>,
}

impl Pool {
    /// All addresses of the gateway's network but the gateway's own, the network's and the
    /// broadcast address.
    #[must_use]
    pub const fn new(gateway: IpNet) -> Self {
        Self { gateway, owners: BTreeMap::new(), last: None }
    }

    /// With what is taken, and the address that was given last. Addresses that are none of this pool
    /// are left out.
    #[must_use]
    pub fn with(
        gateway: IpNet,
        taken: impl IntoIterator<Item = (IpAddr, String)>,
        last: Option<IpAddr>,
    ) -> Self {
        let owners = taken.into_iter().filter(|(address, _)| gateway.contains(address)).collect();
        Self { gateway, owners, last: last.filter(|last| gateway.contains(last)) }
    }

    /// The gateway's address and the length of the prefix.
    #[must_use]
    pub const fn gateway(&self) -> IpNet {
        self.gateway
    }

    /// The address that was given last.
    #[must_use]
    pub const fn last(&self) -> Option<IpAddr> {
        self.last
    }

    /// Who has which address.
    pub fn owners(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.owners.iter().map(|(address, owner)| (*address, owner.as_str()))
    }

    /// An address for an owner: the one that it has, else a free one; none where all are taken.
    pub fn take(&mut self, owner: &str) -> Option<IpAddr> {
        if let Some((address, _)) = self.owners().find(|(_, other)| *other == owner) {
            return Some(address);
        }
        let (first, end) = self.bounds()?;
        let mut next = match self.last.map(number) {
            Some(last) if (first..end).contains(&last) => last.saturating_add(1),
            _ => first,
        };
        // Among one more address than are taken, with the gateway, one is free, if one is.
        let tries = self.owners.len().saturating_add(2);
        for _ in 0..tries {
            let address = self.address(next);
            if address != self.gateway.addr() && !self.owners.contains_key(&address) {
                self.owners.insert(address, owner.to_owned());
                self.last = Some(address);
                return Some(address);
            }
            next = if next < end { next.saturating_add(1) } else { first };
        }
        None
    }

    /// Gives back what an owner has.
    pub fn give_back(&mut self, owner: &str) -> Option<IpAddr> {
        let (address, _) = self.owners().find(|(_, other)| *other == owner)?;
        self.owners.remove(&address);
        Some(address)
    }

    /// The first and the last address that a host may have.
    fn bounds(&self) -> Option<(u128, u128)> {
        let (first, last) = (number(self.gateway.network()), number(self.gateway.broadcast()));
        let (first, last) = match (self.gateway, last.saturating_sub(first)) {
            // Two hosts alone (RFC 3021, RFC 6164), or one.
            (_, 0 | 1) => (first, last),
            // The first one is the network's, in IPv6 that of any router (RFC 4291 section 2.6.1).
            (IpNet::V4(_), _) => (first.checked_add(1)?, last.checked_sub(1)?),
            (IpNet::V6(_), _) => (first.checked_add(1)?, last),
        };
        (first <= last).then_some((first, last))
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.gateway {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(0)).into(),
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_given_once_and_the_last_given_back_last_again() {
        let mut pool = Pool::new("192.0.2.1/29".parse().unwrap());
        let taken: Vec<String> =
            (0..5).map(|n| pool.take(&format!("c{n}")).unwrap().to_string()).collect();
        assert_eq!(taken, ["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"]);
        assert_eq!(pool.take("late"), None);
        assert_eq!(pool.take("c3").unwrap().to_string(), "192.0.2.5", "what it has");
        assert_eq!(pool.give_back("c1").unwrap().to_string(), "192.0.2.3");
        assert_eq!(pool.give_back("c1"), None);
        assert_eq!(pool.give_back("c4").unwrap().to_string(), "192.0.2.6");
        assert_eq!(pool.take("late").unwrap().to_string(), "192.0.2.3");
        assert_eq!(pool.take("later").unwrap().to_string(), "192.0.2.6");
    }

    #[test]
    fn borders() {
        for (gateway, expected) in [
            ("192.0.2.0/31", Some("192.0.2.1")),
            ("192.0.2.1/32", None),
            ("192.0.2.2/30", Some("192.0.2.1")),
            ("2001:db8::1/64", Some("2001:db8::2")),
            ("2001:db8::/127", Some("2001:db8::1")),
            ("255.255.255.254/30", Some("255.255.255.253")),
            ("::/0", Some("::1")),
        ] {
            let taken = Pool::new(gateway.parse().unwrap()).take("a");
            assert_eq!(taken.map(|one| one.to_string()).as_deref(), expected, "{gateway}");
        }
    }
}
