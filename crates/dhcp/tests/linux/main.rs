//! The shell on real interfaces: network namespaces, veth pairs, real servers and a hostile one.
//!
//! Needs root; without it each test says so and passes (but fails where `CI` is set).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]
#![cfg(all(feature = "linux", feature = "serde", target_os = "linux"))]

mod bad_replies;
#[path = "../hostile/mod.rs"]
mod hostile;
mod network;
mod servers;
