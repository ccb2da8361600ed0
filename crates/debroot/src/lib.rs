//! Debian packages into a root tree, without root, without apt's installation, without dpkg.
//!
#![forbid(unsafe_code)]

pub mod archive;
pub mod control;
#[cfg(feature = "unpack")]
pub mod deb;
pub mod dependency;
mod digest;
pub mod download;
mod error;
pub mod fetch;
pub mod index;
pub mod lock;
#[cfg(feature = "archive")]
pub mod openpgp;
pub mod release;
pub mod resolve;
#[cfg(feature = "unpack")]
pub mod root;
pub mod version;

pub use archive::Archive;
pub use error::Error;
pub use index::Index;
pub use lock::{Lock, LockedPackage};
pub use resolve::{Request, resolve};
#[cfg(feature = "unpack")]
pub use root::Root;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most memory that unpacking xz may take, in KiB: what `xz -9` needs, four times.
#[cfg(any(feature = "archive", feature = "unpack"))]
const XZ_MEMORY: u32 = 256 << 10;
