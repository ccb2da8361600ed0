//! Initramfs archives: ELF dependency closure, cpio, compression
#![forbid(unsafe_code)]

mod compress;
pub mod cpio;
mod decode;
#[cfg(feature = "elf")]
pub mod elf;
mod error;
#[cfg(feature = "manifest")]
pub mod manifest;
mod segment;

pub use compress::{Compression, Encoder};
pub use error::Error;
pub use segment::{Segment, write_image, write_segments};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
