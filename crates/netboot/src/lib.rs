//! What machines need to boot over a network, without I/O: answers of DHCP and proxyDHCP, files by TFTP, scripts
//! for iPXE.
//!
//! Firmware asks for an address and a program (PXE), loads it by TFTP or HTTP, and starts it: iPXE. That asks once
//! more, and takes a script over HTTP, which names kernel, initrds and arguments.
//!
//! # Example: tell a machine beside an existing DHCP server where it boots from
//!
//! ```
//! use kiln_dhcp_wire::{HardwareAddr, Message, MessageType, code};
//! use kiln_netboot::{Boot, proxy};
//!
//! let boot = Boot::new([192, 0, 2, 1].into(), 80);
//! let mac = HardwareAddr([2, 0, 0, 0, 0, 1]);
//! let mut asked = Message::new(false, MessageType::Discover, 7, mac);
//! asked.options.set(code::VENDOR_CLASS, *b"PXEClient:Arch:00007:UNDI:003016");
//! let from = "0.0.0.0:68".parse()?;
//!
//! let (client, reply) = proxy::answer(&boot, &asked, from, false).expect("it wants to boot");
//! assert_eq!(client.to_string(), "02:00:00:00:00:01 (PXE, UEFI x86-64)");
//! assert_eq!(reply.message.file, b"ipxe.efi");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod boot;
mod client;
#[cfg(feature = "cli")]
pub mod definition;
mod leases;
pub mod proxy;
mod script;
#[cfg(feature = "serve")]
pub mod serve;
mod server;
pub mod tftp;

pub use boot::{Boot, script};
pub use client::{Architecture, Client, Stage};
pub use leases::{Lease, Leases, State};
pub use proxy::Reply;
pub use script::{NoScript, Script};
pub use server::{Network, NetworkError, Server};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
