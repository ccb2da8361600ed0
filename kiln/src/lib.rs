//! Composition: what every image builder on top of the crates shares.
//!
//! The crates in `crates/` know formats, protocols and rules, and nothing of each other. This one
//! knows how they are put together: where a kernel and packages come from ([`debian`]), how
//! programs get built ([`go`], [`guest`]) and a kernel does ([`linux`]), how a file tree becomes an initramfs and a bootable
//! disk ([`image`]), what is said about the result ([`manifest`]), and how it is run ([`qemu`]).

pub mod cache;
pub mod command;
pub mod debian;
pub mod digest;
mod error;
pub mod go;
pub mod guest;
pub mod image;
pub mod kernel;
pub mod linux;
pub mod manifest;
mod progress;
pub mod qemu;

pub use cache::Cache;
pub use error::{Error, Result};
pub use progress::{Progress, Step};
