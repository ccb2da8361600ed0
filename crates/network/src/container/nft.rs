//! A table of nf_tables: as a value, as the text that `nft -f` reads, and as netlink messages
//! (linux/netfilter/nf_tables.h), by which the kernel replaces it in one step.

use std::fmt;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::forward::Transport;
use crate::linux::socket::Socket;
use crate::linux::wire::{F_CREATE, Message};

/// A table of the family `inet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) chains: Vec<Chain>,
}

/// A chain that the kernel asks at a hook. What no rule decides is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) rules: Vec<Rule>,
}

/// Where a chain is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Before anything else is done with a packet.
    Raw,
    /// What came in, before it is routed: new destinations.
    NatIn,
    /// The same for what this machine sends.
    NatOut,
    /// What goes out: new sources.
    NatPost,
    /// What is passed on.
    Forward,
}

impl Hook {
    /// Type, hook, its number (linux/netfilter.h), priority, its name.
    const fn numbers(self) -> (&'static str, &'static str, u32, i32, &'static str) {
        match self {
            Self::Raw => ("filter", "prerouting", 0, -300, "raw"),
            Self::NatIn => ("nat", "prerouting", 0, -100, "dstnat"),
            // nft has no name for -100 here.
            Self::NatOut => ("nat", "output", 3, -100, "-100"),
            Self::NatPost => ("nat", "postrouting", 4, 100, "srcnat"),
            Self::Forward => ("filter", "forward", 2, 0, "filter"),
        }
    }
}

/// Conditions, all of which have to hold, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) matches: Vec<Match>,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// It is of this family.
    Family { v6: bool },
    /// It came over this link.
    Iif(String),
    /// It goes over this link, or over another one.
    Oif { name: String, is: bool },
    /// It is from this network.
    From(IpNet),
    /// It is to this network, or to another one.
    To { net: IpNet, is: bool },
    /// It is to an address of this machine.
    ToLocal,
    /// It is to a port.
    Port(Transport, u16),
    /// It belongs to a connection that was seen before.
    Established,
    /// It belongs to a connection whose destination was changed.
    Redirected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    /// The source becomes the address of the link that it goes over.
    Masquerade,
    /// The destination becomes this.
    Redirect(IpAddr, u16),
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "table inet {} {{", self.name)?;
        for (at, chain) in self.chains.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            let (kind, hook, _, _, priority) = chain.hook.numbers();
            writeln!(out, "\tchain {} {{", chain.name)?;
            writeln!(out, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;")?;
            for rule in &chain.rules {
                writeln!(out, "\t\t{rule}")?;
            }
            writeln!(out, "\t}}")?;
        }
        writeln!(out, "}}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            write!(out, "{one} ")?;
        }
        match self.verdict {
            Verdict::Accept => out.write_str("accept"),
            Verdict::Drop => out.write_str("drop"),
            Verdict::Masquerade => out.write_str("masquerade"),
            Verdict::Redirect(IpAddr::V4(ip), port) => write!(out, "dnat ip to {ip}:{port}"),
            Verdict::Redirect(IpAddr::V6(ip), port) => write!(out, "dnat ip6 to [{ip}]:{port}"),
        }
    }
}

/// A network as nft shows it: a host without its length.
fn shown(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn word(net: IpNet) -> &'static str {
    if net.addr().is_ipv4() { "ip" } else { "ip6" }
}

impl fmt::Display for Match {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unless = |is: bool| if is { "" } else { "!= " };
        match self {
            Self::Family { v6 } => write!(out, "meta nfproto ipv{}", if *v6 { 6 } else { 4 }),
            Self::Iif(name) => write!(out, "iifname \"{name}\""),
            Self::Oif { name, is } => write!(out, "oifname {}\"{name}\"", unless(*is)),
            Self::From(net) => write!(out, "{} saddr {}", word(*net), shown(*net)),
            Self::To { net, is } => {
                write!(out, "{} daddr {}{}", word(*net), unless(*is), shown(*net))
            }
            Self::ToLocal => out.write_str("fib daddr type local"),
            Self::Port(transport, port) => write!(out, "{transport} dport {port}"),
            Self::Established => out.write_str("ct state established,related"),
            Self::Redirected => out.write_str("ct status dnat"),
        }
    }
}

const INET: u8 = 1;
const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;
/// NFNL_SUBSYS_NFTABLES, in the type of messages and in the borders of a batch.
const SUBSYSTEM: u16 = 10;
const F_APPEND: u16 = 0x800;

const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;

fn message(kind: u16, flags: u16) -> Message {
    // struct nfgenmsg: family, version, resource (2).
    Message::new(SUBSYSTEM << 8 | kind, flags, &[INET, 0, 0, 0])
}

/// NFNL_MSG_BATCH_BEGIN and _END, which are for no family.
fn border(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0, &[0, 0, high, low])
}

/// The kernel answers to the last alone: answers to each of some hundreds of rules have no room in the socket.
fn batch(mut inner: Vec<Message>) -> Vec<Message> {
    let mut all = vec![border(0x10)];
    let last = inner.pop().map(Message::acknowledged);
    all.extend(inner);
    all.extend(last);
    all.push(border(0x11));
    all
}

/// Begins with nothing of this name, whatever was there.
fn cleared(name: &str) -> Vec<Message> {
    // One that is not there cannot be removed, so it is made first.
    vec![message(NEWTABLE, F_CREATE).text(1, name), message(DELTABLE, 0).text(1, name)]
}

impl Table {
    fn messages(&self) -> Vec<Message> {
        let mut all = cleared(&self.name);
        all.push(message(NEWTABLE, F_CREATE).text(1, &self.name));
        for chain in &self.chains {
            let (kind, _, hook, priority, _) = chain.hook.numbers();
            let message = message(NEWCHAIN, F_CREATE).text(1, &self.name).text(3, chain.name);
            let message =
                message.nest(4, |data| data.be32(1, hook).be32(2, priority.cast_unsigned()));
            // NF_ACCEPT.
            all.push(message.be32(5, 1).text(7, kind));
        }
        for chain in &self.chains {
            for rule in &chain.rules {
                let message = message(NEWRULE, F_CREATE | F_APPEND).text(1, &self.name);
                all.push(message.text(2, chain.name).nest(4, |list| rule.expressions(list)));
            }
        }
        all
    }
}

/// An expression of a rule, by name.
fn expression(list: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    list.nest(1, |element| element.text(1, name).nest(2, data))
}

fn compare(list: Message, is: bool, value: &[u8]) -> Message {
    expression(list, "cmp", |data| {
        data.be32(1, REGISTER_1).be32(2, u32::from(!is)).nest(3, |data| data.bytes(1, value))
    })
}

fn mask(list: Message, mask: &[u8]) -> Message {
    let len = u32::try_from(mask.len()).unwrap_or(0);
    let zeroes = vec![0; mask.len()];
    expression(list, "bitwise", |data| {
        data.be32(1, REGISTER_1)
            .be32(2, REGISTER_1)
            .be32(3, len)
            .nest(4, |data| data.bytes(1, mask))
            .nest(5, |data| data.bytes(1, &zeroes))
    })
}

fn meta(list: Message, key: u32) -> Message {
    expression(list, "meta", |data| data.be32(1, REGISTER_1).be32(2, key))
}

/// `base`: 1 the network's header, 2 that of the transport.
fn payload(list: Message, base: u32, offset: u32, len: u32) -> Message {
    expression(list, "payload", |data| {
        data.be32(1, REGISTER_1).be32(2, base).be32(3, offset).be32(4, len)
    })
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

const fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 2 } else { 10 }
}

/// A name in the sixteen bytes that the kernel compares.
fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn address(list: Message, net: IpNet, is_source: bool, is: bool) -> Message {
    // NFT_META_NFPROTO.
    let list = compare(meta(list, 15), true, &[family(net.addr())]);
    let (offset, len) = match (net.addr().is_ipv4(), is_source) {
        (true, true) => (12, 4),
        (true, false) => (16, 4),
        (false, true) => (8, 16),
        (false, false) => (24, 16),
    };
    let list = payload(list, 1, offset, len);
    let list = if net.prefix_len() < net.max_prefix_len() {
        mask(list, &bytes(net.netmask()))
    } else {
        list
    };
    compare(list, is, &bytes(net.network()))
}

impl Rule {
    fn expressions(&self, list: Message) -> Message {
        let list = self.matches.iter().fold(list, |list, one| one.expressions(list));
        let verdict = |list, code: u32| {
            expression(list, "immediate", |data| {
                data.be32(1, 0).nest(2, |data| data.nest(2, |verdict| verdict.be32(1, code)))
            })
        };
        let immediate = |list, register, value: &[u8]| {
            expression(list, "immediate", |data| {
                data.be32(1, register).nest(2, |data| data.bytes(1, value))
            })
        };
        match self.verdict {
            Verdict::Drop => verdict(list, 0),
            Verdict::Accept => verdict(list, 1),
            Verdict::Masquerade => expression(list, "masq", |data| data),
            Verdict::Redirect(to, port) => {
                let list = immediate(list, REGISTER_1, &bytes(to));
                let list = immediate(list, REGISTER_2, &port.to_be_bytes());
                // NFT_NAT_DNAT.
                expression(list, "nat", |data| {
                    data.be32(1, 1)
                        .be32(2, family(to).into())
                        .be32(3, REGISTER_1)
                        .be32(5, REGISTER_2)
                })
            }
        }
    }
}

impl Match {
    fn expressions(&self, list: Message) -> Message {
        match self {
            // NFT_META_NFPROTO.
            Self::Family { v6 } => compare(meta(list, 15), true, &[if *v6 { 10 } else { 2 }]),
            Self::Iif(name) => compare(meta(list, 6), true, &name_bytes(name)),
            Self::Oif { name, is } => compare(meta(list, 7), *is, &name_bytes(name)),
            Self::From(net) => address(list, *net, true, true),
            Self::To { net, is } => address(list, *net, false, *is),
            Self::ToLocal => {
                // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR is RTN_LOCAL.
                let list =
                    expression(list, "fib", |data| data.be32(1, REGISTER_1).be32(2, 3).be32(3, 2));
                compare(list, true, &2_u32.to_ne_bytes())
            }
            Self::Port(transport, port) => {
                // NFT_META_L4PROTO.
                let list = compare(meta(list, 16), true, &[transport.number()]);
                compare(payload(list, 2, 2, 2), true, &port.to_be_bytes())
            }
            // NFT_CT_STATE with the bits of established and related.
            Self::Established => connection(list, 0, 6),
            // NFT_CT_STATUS with IPS_DST_NAT.
            Self::Redirected => connection(list, 2, 0x20),
        }
    }
}

/// Whether any of some bits of a connection is set.
fn connection(list: Message, key: u32, bits: u32) -> Message {
    let list = expression(list, "ct", |data| data.be32(1, REGISTER_1).be32(2, key));
    compare(mask(list, &bits.to_ne_bytes()), false, &[0; 4])
}

/// What talks to nf_tables in the namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Nftables(Socket);

impl Nftables {
    pub(crate) fn open() -> io::Result<Self> {
        Socket::open(Some(rustix::net::netlink::NETFILTER)).map(Self)
    }

    /// Puts a table in the place of the one of its name, all of it or nothing.
    pub(crate) fn replace(&mut self, table: &Table) -> io::Result<()> {
        self.0.batch(batch(table.messages())).map_err(|(_, error)| error)
    }

    /// Removes a table, if there is one.
    pub(crate) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.batch(batch(cleared(name))).map_err(|(_, error)| error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// linux/netfilter/nf_tables.h: `meta iifname` loads, `cmp` compares, an immediate verdict.
    #[test]
    fn golden_expressions() {
        let rule = Rule { matches: vec![Match::Iif("b".into())], verdict: Verdict::Drop };
        let built = Message::new(0, 0, &[]).nest(4, |list| rule.expressions(list)).finish(0);
        let text = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let expected = [
            // NFTA_RULE_EXPRESSIONS, in it NFTA_LIST_ELEM with NFTA_EXPR_NAME and NFTA_EXPR_DATA
            "90000480",
            "24000180 090001006d65746100000000",
            // to register 1, NFT_META_IIFNAME
            "14000280 0800010000000001 0800020000000006",
            "38000180 08000100636d7000",
            // register 1, NFT_CMP_EQ, sixteen bytes
            "2c000280 0800010000000001 0800020000000000",
            "18000380 14000100 62000000000000000000000000000000",
            "30000180 0e000100696d6d656469617465000000",
            // the verdict's register, NF_DROP
            "1c000280 0800010000000000 10000280 0c000280 0800010000000000",
        ];
        assert_eq!(text(&built[16..]), expected.concat().replace(' ', ""));
    }
}
