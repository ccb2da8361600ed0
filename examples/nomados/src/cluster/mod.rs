//! A cluster's secrets, made once, and a small disk for each node that tells it at boot who it is:
//! Nomad's TLS ("Enable TLS Encryption for Nomad" in its documentation) with an authority of the
//! cluster's own, the key of the gossip protocol, roles and addresses.
//!
//! What is made depends on the options, the keys, the time and the random bytes that are given, and
//! on nothing else but ECDSA's own randomness.

mod authority;
mod files;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use kiln_diskimg::ByteLen;
use kiln_diskimg::fat::{self, Kind, Volume, VolumeSize};
use kiln_tree::{Node as TreeNode, Tree};
use rcgen::KeyPair;
use serde_json::{Value, json};

pub use authority::Authority;
pub use files::{Made, OPERATOR, make};

/// The label of a node's disk, by which NomadOS finds it.
pub const LABEL: &str = "NOMAD-CONF";
/// Where NomadOS keeps the disk's files, in memory.
pub const DIRECTORY: &str = "/run/nomad-config";
/// 1980-01-01, from which FAT counts.
const FAT_EPOCH: u32 = 315_532_800;
/// Room on a node's disk beyond what is on it.
const HEADROOM: ByteLen = ByteLen::kib(64);

/// What a cluster is like.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Its region, which is part of its certificates' names.
    pub region: String,
    /// Its datacenter.
    pub datacenter: String,
    /// How many servers: 1, 3 or 5.
    pub servers: u8,
    /// How many clients.
    pub clients: u8,
    /// Where nodes find the servers (addresses or names). Not needed with a network.
    pub join: Vec<String>,
    /// Static addresses for all nodes; they get them elsewhere without.
    pub network: Option<Network>,
    /// For how many days nodes' certificates are good.
    pub days: u32,
    /// Nomad's configuration that each node's is made of.
    pub base: Value,
}

impl Options {
    /// One server and one client of region `global`, datacenter `dc1`, for a year.
    ///
    /// # Errors
    /// None: our own configuration is JSON.
    pub fn new() -> Result<Self> {
        Ok(Self {
            region: "global".into(),
            datacenter: "dc1".into(),
            servers: 1,
            clients: 1,
            join: Vec::new(),
            network: None,
            days: 365,
            base: serde_json::from_str(include_str!("../../etc/init.json"))?,
        })
    }
}

/// A network whose addresses are given out by number: servers from .11, clients from .101.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its first address (`10.77.0.0`).
    pub base: Ipv4Addr,
    /// The guest's interface on it (`eth1`).
    pub interface: String,
}

impl Network {
    fn address(&self, role: Role, number: u8) -> Ipv4Addr {
        let first: u32 = if role == Role::Server { 10 } else { 100 };
        Ipv4Addr::from(u32::from(self.base).wrapping_add(first + u32::from(number)))
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Decides.
    Server,
    /// Runs jobs.
    Client,
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if *self == Self::Server { "server" } else { "client" })
    }
}

/// When it is made, and with what luck.
pub struct Moment<'a> {
    /// Seconds since 1970.
    pub now: u64,
    /// Fills bytes that nobody can guess.
    pub random: &'a mut dyn FnMut(&mut [u8]) -> Result<()>,
    /// Makes a key.
    pub key: &'a mut dyn FnMut() -> Result<KeyPair>,
}

impl fmt::Debug for Moment<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Moment").field("now", &self.now).finish_non_exhaustive()
    }
}

/// A node, and what its disk holds.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// `server-1`.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its address, where it is a static one.
    pub address: Option<Ipv4Addr>,
    /// The files of its disk, secrets among them.
    pub files: BTreeMap<&'static str, String>,
}

impl fmt::Debug for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.keys().collect();
        out.debug_struct("Node").field("name", &self.name).field("files", &files).finish()
    }
}

impl Node {
    /// The disk: a FAT volume with nothing around it.
    ///
    /// # Errors
    /// Those of planning a volume.
    pub fn disk(&self) -> Result<Volume> {
        let mut tree = Tree::new();
        for (name, text) in &self.files {
            tree.insert(name, TreeNode::file(text.as_str()))?;
        }
        let mut options = fat::Options::default();
        options.label = Some(LABEL.into());
        options.kind = Some(Kind::Fat12);
        options.size = VolumeSize::FromContent { headroom: HEADROOM };
        options.hidden_sectors = 0;
        options.mtime = Some(FAT_EPOCH);
        Volume::plan(&tree, &options).with_context(|| format!("the disk of {}", self.name))
    }
}

/// The names of all nodes, in order, with roles and numbers.
fn names(options: &Options) -> Vec<(String, Role, u8)> {
    let of = |role: Role, count: u8| (1..=count).map(move |n| (format!("{role}-{n}"), role, n));
    of(Role::Server, options.servers).chain(of(Role::Client, options.clients)).collect()
}

/// Everything that is wrong with options, at once.
fn check(options: &Options) -> Result<()> {
    let mut problems = Vec::new();
    let label = |text: &str| {
        !text.is_empty()
            && text.len() <= 63
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    for (what, text) in [("region", &options.region), ("datacenter", &options.datacenter)] {
        if !label(text) {
            problems.push(format!("the {what} {text:?} is no name: letters, digits, - and _"));
        }
    }
    if options.servers == 0 || options.servers > 7 {
        problems.push(format!("{} servers: a cluster has 1, 3, 5 or 7", options.servers));
    }
    if options.servers.is_multiple_of(2) && options.servers > 0 {
        problems.push(format!(
            "{} servers: an even number bears no more failures than one less",
            options.servers
        ));
    }
    if options.clients > 150 {
        problems.push(format!("{} clients: at most 150 at once", options.clients));
    }
    if options.join.is_empty() && options.network.is_none() {
        problems.push("nodes cannot find the servers: give --join or --network".into());
    }
    if options.days == 0 || options.days > 36_500 {
        problems.push(format!("{} days: certificates are good for 1 to 36500", options.days));
    }
    if let Some(network) = &options.network
        && network.base.octets()[3] != 0
    {
        problems.push(format!("the network {} does not end in .0", network.base));
    }
    if !options.base.is_object() {
        problems.push("Nomad's configuration is no JSON object".into());
    }
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

/// The nodes whose names are wanted, each with a certificate and key of its own.
///
/// # Errors
/// Everything that is wrong with the options at once; what makes keys and random bytes may fail.
pub fn nodes(
    options: &Options,
    authority: &Authority,
    ca: &str,
    gossip: &str,
    wanted: &dyn Fn(&str) -> bool,
    moment: &mut Moment<'_>,
) -> Result<Vec<Node>> {
    check(options)?;
    let mut nodes = Vec::new();
    for (name, role, number) in names(options) {
        if !wanted(&name) {
            continue;
        }
        let address = options.network.as_ref().map(|network| network.address(role, number));
        let key = (moment.key)()?;
        let subject = authority::Subject {
            name: format!("{role}.{}.nomad", options.region),
            address,
            serves: true,
        };
        let certificate = authority.certify(&subject, &key, options.days, moment)?;
        let config = configuration(options, &name, role, address, gossip);
        let files = BTreeMap::from([
            ("init.json", serde_json::to_string_pretty(&config)? + "\n"),
            ("ca.pem", ca.to_owned()),
            ("node.pem", certificate),
            ("node-key.pem", key.serialize_pem()),
        ]);
        nodes.push(Node { name, role, address, files });
    }
    Ok(nodes)
}

/// Who may use the API: certificate and key.
///
/// # Errors
/// As [`nodes`].
pub fn operator(
    options: &Options,
    authority: &Authority,
    moment: &mut Moment<'_>,
) -> Result<(String, String)> {
    let key = (moment.key)()?;
    let name = format!("cli.{}.nomad", options.region);
    let subject = authority::Subject { name, address: None, serves: false };
    let certificate = authority.certify(&subject, &key, options.days, moment)?;
    Ok((certificate, key.serialize_pem()))
}

/// A node's configuration: the base with role, cluster and TLS.
fn configuration(
    options: &Options,
    name: &str,
    role: Role,
    address: Option<Ipv4Addr>,
    gossip: &str,
) -> Value {
    let mut config = options.base.clone();
    config["region"] = json!(options.region);
    config["datacenter"] = json!(options.datacenter);
    config["name"] = json!(name);
    let mut servers = options.join.clone();
    if let Some(network) = &options.network {
        let address = |number| network.address(Role::Server, number).to_string();
        servers.extend((1..=options.servers).map(address));
    }
    // Nobody joins itself.
    let own = address.map(|address| address.to_string());
    servers.retain(|server| Some(server) != own.as_ref());
    let join = json!({ "retry_join": servers, "retry_interval": "3s" });
    if !config["server"].is_object() {
        config["server"] = json!({});
    }
    if !config["client"].is_object() {
        config["client"] = json!({});
    }
    config["server"]["enabled"] = json!(role == Role::Server);
    config["client"]["enabled"] = json!(role == Role::Client);
    match role {
        Role::Server => {
            config["server"]["bootstrap_expect"] = json!(options.servers);
            config["server"]["encrypt"] = json!(gossip);
            if !servers.is_empty() {
                config["server"]["server_join"] = join;
            }
        }
        Role::Client => {
            config["server"] = json!({ "enabled": false });
            config["client"]["server_join"] = join;
            if let Some(network) = &options.network {
                config["client"]["network_interface"] = json!(network.interface);
            }
        }
    }
    if let Some(own) = own {
        config["advertise"] = json!({ "http": own, "rpc": own, "serf": own });
    }
    let file = |name: &str| format!("{DIRECTORY}/{name}");
    config["tls"] = json!({
        "http": true,
        "rpc": true,
        "ca_file": file("ca.pem"),
        "cert_file": file("node.pem"),
        "key_file": file("node-key.pem"),
        "verify_server_hostname": true,
        "verify_https_client": true,
    });
    config
}
