//! `nomados cluster`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nomados::cluster::{self, Network, OPERATOR, Options};

/// What the cluster is like, and where it goes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A directory for its keys and disks; what it has of a cluster is kept, what it lacks is made
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many servers: 1, 3, 5 or 7
    #[arg(long, default_value_t = 1)]
    servers: u8,
    /// How many clients
    #[arg(long, default_value_t = 1)]
    clients: u8,
    /// Where nodes find the servers: addresses or names
    #[arg(long, value_name = "HOST", required_unless_present = "network")]
    join: Vec<String>,
    /// Give nodes static addresses in this network of 256, for example 10.77.0.0
    #[arg(long, value_name = "ADDRESS")]
    network: Option<Ipv4Addr>,
    /// The interface of a node that is on it
    #[arg(long, value_name = "NAME", default_value = "eth0", requires = "network")]
    interface: String,
    /// Its region
    #[arg(long, default_value = "global")]
    region: String,
    /// Its datacenter
    #[arg(long, default_value = "dc1")]
    datacenter: String,
    /// For how many days the nodes' certificates are good
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Nomad's configuration that the nodes' are made of, in place of the image's default
    #[arg(long, value_name = "init.json")]
    config: Option<PathBuf>,
}

impl Arguments {
    /// Makes it, and says how it is used.
    pub(crate) fn run(&self) -> Result<()> {
        let mut options = Options::new()?;
        options.servers = self.servers;
        options.clients = self.clients;
        options.join.clone_from(&self.join);
        let interface = &self.interface;
        options.network = self.network.map(|base| Network { base, interface: interface.clone() });
        options.region.clone_from(&self.region);
        options.datacenter.clone_from(&self.datacenter);
        options.days = self.days;
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("read {}", path.display()))?;
            options.base = serde_json::from_str(&text)
                .with_context(|| format!("{}: it must be JSON", path.display()))?;
        }
        let made = cluster::make(&self.out, &options)?;
        let out = self.out.display();
        println!(
            "{} in {out}: authority, gossip key and operator's certificate",
            if made.joined { "as they were" } else { "made" }
        );
        for node in &made.nodes {
            let address = match node.address {
                None => String::new(),
                Some(address) => {
                    format!("  (kernel: ip={address}:::24::{interface}:none)")
                }
            };
            println!("{out}/{}.raw{address}", node.name);
        }
        println!(
            "Attach to each node its disk and to no other: it holds the node's key. The API:\n  \
             export NOMAD_ADDR=https://SERVER:4646 NOMAD_TLS_SERVER_NAME=server.{region}.nomad\n  \
             nomad node status -ca-cert={out}/ca.pem -client-cert={out}/{OPERATOR}.pem \
             -client-key={out}/{OPERATOR}-key.pem\n\
             {out}/ca-key.pem can certify any node: keep it away from them.",
            region = self.region,
        );
        Ok(())
    }
}
