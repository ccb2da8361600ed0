//! The Kurma-like system's way in from the network.
//!
//! It takes HTTP over TLS from those who have a certificate of its own authority, and passes what they ask on
//! to the server's socket with who they are and what they may do, as their certificates say it: the common name
//! is who (`kurma-caller`), the organizational unit is the role (`kurma-role`). Somebody becomes known by a code
//! of one use (`POST /enroll`), and unknown by an operator (`DELETE /enroll/clients/NAME`).
#![forbid(unsafe_code)]

mod answer;
mod authority;
mod bounds;
mod codes;
mod connection;
mod door;
mod files;
mod log;
mod options;
mod pass;
mod register;
mod unknown;

pub use authority::is_name;
pub use door::Door;
pub use log::Sink;
pub use options::{Limits, Options};
