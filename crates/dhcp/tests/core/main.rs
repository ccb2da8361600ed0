//! The machine in virtual time: no clock, no socket, every schedule repeatable.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod bad_replies;
mod client;
#[path = "../hostile/mod.rs"]
mod hostile;
mod properties;
mod world;
