//! The way in from the network, with a real server behind it and real TLS in front.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod access;
mod harness;
mod hostile;
mod judged;
mod passing;
