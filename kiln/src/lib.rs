//! Composition: what every image builder on top of the crates shares.
//!
//! The crates in `crates/` know formats, protocols and rules, and nothing of each other. This one
//! knows how they are put together: where a kernel and packages come from ([`debian`]), how
//! programs get built ([`go`], [`guest`]) and kernels ([`linux`]), how a file tree becomes an initramfs and a bootable
//! disk ([`image`]), what is said about the result ([`manifest`], and made of that [`sbom`],
//! [`diff`] and [`picture`]), what is in an image that is at hand ([`inspect`]), how it is run
//! ([`qemu`]), how many images and programs are made of each other ([`pipeline`]), and what a release has
//! beside its files ([`sign`]).

pub mod archive;
pub mod boot;
pub mod build;
pub mod cache;
pub mod command;
pub mod debian;
pub mod definition;
pub mod diff;
pub mod digest;
pub mod disk;
mod error;
pub mod go;
pub mod guest;
pub mod image;
pub mod inspect;
pub mod kernel;
pub mod linux;
pub mod machine;
pub mod manifest;
pub mod picture;
pub mod pipeline;
mod progress;
pub mod qemu;
mod quantity;
pub mod sbom;
pub mod sign;

pub use cache::Cache;
pub use error::{Error, Result};
pub use progress::{Progress, Step};
