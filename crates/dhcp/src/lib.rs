//! A DHCPv4 client without I/O (RFC 2131), and, with the feature `linux`, the shell that runs it on
//! an interface.
//!
//! The core takes bytes and time, and says what to send, what happened and how long to wait. It
//! reads no clock, opens no socket and draws no randomness: the same inputs give the same packets.
//! What a server (or whoever sends on port 67) says is never an error; it is believed or it is
//! ignored, and [`Client::ignored`] counts why.
//!
//! # Example: drive the client
//!
//! This example shows the loop that every driver has: feed an input, drain the outputs, wait.
//!
//! ```
//! use std::time::Duration;
//! use kiln_dhcp::{Client, Config, Event, HardwareAddr, Input, Output, Transmit};
//!
//! let mac = HardwareAddr([0x02, 0, 0, 0, 0, 1]);
//! let mut client = Client::new(Config::default(), mac, 42, Duration::ZERO)?;
//! client.handle(Input::LinkUp, Duration::ZERO);
//! let wait_until = loop {
//!     match client.poll() {
//!         Output::Transmit(Transmit::Frame(frame)) => assert!(frame.len() > 300), // DISCOVER
//!         Output::Transmit(Transmit::Datagram { .. }) => unreachable!("nothing to renew yet"),
//!         Output::Event(Event::Bound(lease)) => println!("have {}", lease.address),
//!         Output::Event(_) => {}
//!         Output::Timeout(at) => break at,
//!     }
//! };
//! // Nobody answers: at that time, tell the client so, and it asks again.
//! let at = wait_until.expect("a DISCOVER is out");
//! client.handle(Input::Timeout, at);
//! assert!(matches!(client.poll(), Output::Transmit(_)));
//! # Ok::<(), kiln_dhcp::ConfigError>(())
//! ```
//!
//! # Example: look into a message
//!
//! ```
//! use kiln_dhcp::wire::{HardwareAddr, Message, MessageType, code};
//!
//! let mut message = Message::new(true, MessageType::Ack, 7, HardwareAddr([2, 0, 0, 0, 0, 1]));
//! message.options.set(code::ROUTER, [10, 0, 0, 1]);
//! let bytes = message.encode();
//! assert_eq!(Message::decode(&bytes)?.options.addresses(code::ROUTER).count(), 1);
//! # Ok::<(), kiln_dhcp::wire::Malformed>(())
//! ```
//!
//! # Example: configure an interface of this machine (feature `linux`)
//!
#![cfg_attr(feature = "linux", doc = "```no_run")]
#![cfg_attr(not(feature = "linux"), doc = "```ignore")]
//! use kiln_dhcp::linux::{self, RunOptions};
//!
//! let interface = linux::wait_for_interface(|i| i.physical, None)?;
//! let mut options = RunOptions::default();
//! options.resolv_conf = Some("/etc/resolv.conf".into());
//! linux::run(&interface.name, &options, &mut |notice| println!("{notice}"))?;
//! # Ok::<(), linux::Error>(())
//! ```

#![cfg_attr(not(feature = "linux"), forbid(unsafe_code))]

pub mod client;
pub mod lease;
#[cfg(all(feature = "linux", target_os = "linux"))]
pub mod linux;

pub use kiln_dhcp_wire as wire;

pub use client::{
    ClasslessRoutes, Client, Config, ConfigError, Event, Ignored, Input, LostReason,
    OffLinkGateway, Output, Problem, Sent, Transmit,
};
pub use lease::{Lease, Route};
pub use wire::HardwareAddr;
pub use wire::udp::ChecksumState;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
