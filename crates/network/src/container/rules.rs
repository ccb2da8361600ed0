//! What the firewall does for a network of containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::nft::{Chain, Hook, Match, Rule, Table, Verdict};
use super::{BridgeNetwork, Forward, Lease};

/// 127.0.0.0/8.
fn loopback() -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))
}

fn rule(matches: Vec<Match>, verdict: Verdict) -> Rule {
    Rule { matches, verdict }
}

impl BridgeNetwork {
    /// The name of its table.
    pub(crate) fn table_name(&self) -> String {
        format!("kiln-{}", self.name)
    }

    /// Everything that the firewall does for it.
    pub(crate) fn table<'a>(&self, leases: impl Iterator<Item = &'a Lease>) -> Table {
        let mut coming = Vec::new();
        let mut own = Vec::new();
        for lease in leases {
            for forward in &lease.forwards {
                for net in &lease.addresses {
                    redirect(forward, net.addr(), &mut coming, &mut own);
                }
            }
        }
        let chain = |name, hook, rules| Chain { name, hook, rules };
        let mut chains = vec![chain("guard", Hook::Raw, self.guard())];
        chains.push(chain("coming", Hook::NatIn, coming));
        chains.push(chain("own", Hook::NatOut, own));
        chains.push(chain("going", Hook::NatPost, self.sources()));
        chains.push(chain("passing", Hook::Forward, self.passing()));
        Table { name: self.table_name(), chains }
    }

    /// Because the host's loopback is reached over the bridge (`route_localnet`), so that its own
    /// ports lead to containers, containers must be kept from it.
    fn guard(&self) -> Vec<Rule> {
        let matches =
            vec![Match::Iif(self.bridge.clone()), Match::To { net: loopback(), is: true }];
        vec![rule(matches, Verdict::Drop)]
    }

    fn oif(&self, is: bool) -> Match {
        Match::Oif { name: self.bridge.clone(), is }
    }

    fn sources(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for gateway in &self.gateways {
            let net = gateway.trunc();
            if self.masquerade {
                let matches = vec![Match::From(net), self.oif(false)];
                rules.push(rule(matches, Verdict::Masquerade));
            }
            // A container that asks another one by the host's port would get the answer past the host.
            let matches = vec![Match::From(net), self.oif(true), Match::Redirected];
            rules.push(rule(matches, Verdict::Masquerade));
            if net.addr().is_ipv4() {
                let matches = vec![Match::From(loopback()), self.oif(true)];
                rules.push(rule(matches, Verdict::Masquerade));
            }
        }
        rules
    }

    fn passing(&self) -> Vec<Rule> {
        if self.open {
            return Vec::new();
        }
        let inner = vec![Match::Iif(self.bridge.clone()), self.oif(true)];
        vec![
            rule(inner, Verdict::Accept),
            rule(vec![self.oif(true), Match::Established], Verdict::Accept),
            rule(vec![self.oif(true), Match::Redirected], Verdict::Accept),
            rule(vec![self.oif(true)], Verdict::Drop),
        ]
    }
}

/// The rules of a port for one address of a container: for what comes, and for what the host sends.
fn redirect(forward: &Forward, to: IpAddr, coming: &mut Vec<Rule>, own: &mut Vec<Rule>) {
    let port = Match::Port(forward.transport, forward.host_port);
    let verdict = Verdict::Redirect(to, forward.port);
    match forward.address {
        Some(address) if address.is_ipv4() != to.is_ipv4() => {}
        Some(address) => {
            let matches = vec![Match::To { net: address.into(), is: true }, port];
            // To the loopback nothing comes from outside.
            if !address.is_loopback() {
                coming.push(rule(matches.clone(), verdict));
            }
            own.push(rule(matches, verdict));
        }
        None => {
            // Every packet to a local address, of the family that the new destination has.
            coming.push(rule(vec![family(to), Match::ToLocal, port.clone()], verdict));
            // From ::1 nothing can be sent over a link.
            let not = match to {
                IpAddr::V4(_) => family(to),
                IpAddr::V6(_) => {
                    Match::To { net: IpAddr::from(Ipv6Addr::LOCALHOST).into(), is: false }
                }
            };
            own.push(rule(vec![not, Match::ToLocal, port], verdict));
        }
    }
}

fn family(address: IpAddr) -> Match {
    Match::Family { v6: address.is_ipv6() }
}
