//! Where a machine is told what to be: sources in a fixed order of precedence, all tried at once.
//!
//! [`Selection`] decides which source counts and reads nothing; [`nocloud`], [`config_drive`], [`ec2()`],
//! [`digital_ocean`] and [`file()`] read one, through [`Files`]; the feature `linux` has [`Files`] of a directory, the
//! feature `http` that of a web server.

#[cfg(feature = "linux")]
mod directory;
mod ec2;
mod files;
#[cfg(feature = "http")]
pub mod http;
mod meta_data;
mod read;
mod select;

#[cfg(feature = "linux")]
pub use directory::Directory;
pub use ec2::{digital_ocean, ec2};
pub use files::{Files, ReadError};
pub use meta_data::MetaData;
pub use read::{Provided, config_drive, file, nocloud};
pub use select::{Answer, Candidate, Outcome, Progress, Selection, Step};
