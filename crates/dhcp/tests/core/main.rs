//! The machine in virtual time: no clock, no socket, every schedule repeatable.

mod bad_replies;
mod client;
#[path = "../hostile/mod.rs"]
mod hostile;
mod properties;
mod world;
