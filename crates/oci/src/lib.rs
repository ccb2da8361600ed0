//! OCI images as values.
#![forbid(unsafe_code)]

pub mod archive;
mod digest;
pub mod docker;
mod error;
#[cfg(feature = "host")]
pub mod host;
pub mod image;
mod json;
pub mod layer;
pub mod layout;
mod limits;
mod platform;
mod store;
mod tar;
mod time;

pub use error::Error;
pub use image::{Image, Settings};
pub use layer::{Compression, Difference, Layer};
pub use layout::Layout;
pub use limits::Limits;
/// The specification's types.
pub use oci_spec;
pub use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageManifest, Platform};
pub use platform::platform;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
