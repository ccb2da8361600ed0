//! Network links by declaration: what each link should be like, as a function of a configuration,
//! of the kernel's command line and of the links that are there; and how it comes to be so.
//!
//! The core touches no interface. [`Config`] is what an image says, [`CommandLine`] what
//! whoever boots it says (`ip=` and `BOOTIF=`), and [`plan`] joins the two: for each link the first
//! rule that fits it counts, those of the command line first, then those of the configuration, then
//! the default (the first physical link, by DHCP). [`State`] is what a kernel has, [`target`] what it
//! should have by that plan, and [`difference`] the [`Change`]s that lead from one to the other, each of
//! which is shown as the command that would do it.
//!
//! The feature `linux` reads states and carries changes out; `container` adds namespaces, bridges with
//! NAT, leases of addresses and forwarded ports.
//!
//! # Example: what a configuration means for the links of a machine
//!
//! ```
//! use kiln_network::{CommandLine, Config, Interface, Link, plan};
//!
//! let mut office = Interface::matching("eth1".parse()?);
//! office.addresses = vec!["192.0.2.5/24".parse()?];
//! office.gateway = Some("192.0.2.1".parse()?);
//! let mut config = Config::default();
//! config.interfaces = vec![Interface::dhcp("eth0".parse()?), office];
//! assert!(config.check().is_empty());
//!
//! let links = [
//!     Link::physical("eth0", "52:54:00:00:00:01".parse()?),
//!     Link::physical("eth1", "52:54:00:00:00:02".parse()?),
//! ];
//! let plan = plan(&config, &CommandLine::default(), &links);
//! assert_eq!(plan.links.len(), 2);
//! assert!(plan.links[0].dhcp.is_some());
//! assert_eq!(plan.links[1].gateways, ["192.0.2.1".parse::<std::net::IpAddr>()?]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example: the command line decides
//!
//! ```
//! use kiln_network::{CommandLine, Config, Link, plan};
//!
//! let text = "quiet ip=192.0.2.5::192.0.2.1:255.255.255.0:node-1:eth0:none:192.0.2.53";
//! let (command_line, problems) = CommandLine::parse(text);
//! assert!(problems.is_empty());
//! let links = [Link::physical("eth0", "52:54:00:00:00:01".parse()?)];
//! let plan = plan(&Config::default(), &command_line, &links);
//! assert_eq!(plan.links[0].addresses[0].to_string(), "192.0.2.5/24");
//! assert_eq!(plan.hostname.as_deref(), Some("node-1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example: what would be changed
//!
//! ```
//! use kiln_network::{Bridge, CommandLine, Config, LinkState, State, difference, links, plan, target};
//!
//! let mut config = Config::default();
//! config.bridges = vec![Bridge::new("br0", vec!["eth1".parse()?])];
//! let mut state = State::default();
//! state.links = vec![LinkState::new(2, "eth1")];
//! let plan = plan(&config, &CommandLine::default(), &links(&config, &state));
//! let desired = target(&config, &plan, &Default::default(), &state);
//! for change in difference(&state, &desired) {
//!     println!("{change}"); // ip link add name br0 …
//!     state.apply(&change)?;
//! }
//! assert!(difference(&state, &desired).is_empty());
//! assert_eq!(state.link("eth1").unwrap().master.as_deref(), Some("br0"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod change;
mod command_line;
mod config;
mod desired;
mod difference;
mod key;
mod mac;
mod members;
mod names;
mod plan;
mod resolver;
pub mod state;
#[cfg(feature = "serde")]
mod text;

#[cfg(feature = "container")]
pub mod container;
#[cfg(feature = "linux")]
pub mod linux;

pub use change::Change;
pub use command_line::{Argument, CommandLine};
pub use config::{
    Bond, BondMode, Bridge, Config, Destination, Interface, LacpRate, Peer, PolicyRule, Problem,
    RouteKind, Selector, StaticRoute, TransmitHash, Veth, Vlan, VlanProtocol, Wireguard,
};
#[cfg(feature = "toml")]
pub use config::{Mistake, ReadError, from_toml, to_toml};
pub use desired::{Desired, DesiredLink, Keys, links, target};
pub use difference::difference;
pub use ipnet::IpNet;
pub use key::{Key, Secret};
pub use mac::Mac;
pub use names::is_host_name;
pub use plan::{Dhcp, Link, LinkPlan, Plan, plan};
pub use resolver::{hosts, resolv_conf};
pub use state::{LinkState, State};

/// Text that is not what it should be: says what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(pub(crate) String);

impl std::fmt::Display for ParseError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for ParseError {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
