//! The server with real pods: crun, overlayfs, a bridge, in a network namespace that each test makes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod enter;
mod harness;
mod life;
mod load;
mod refusals;
mod upgrade;
