//! Images, layers and layouts: by example, by property, against hostile input and beside the tools of
//! the field.
#![cfg(all(feature = "gzip", feature = "zstd", feature = "host"))]
#![expect(clippy::unwrap_used, reason = "functions shared by tests are tests too")]

#[cfg(feature = "appc")]
mod appc;
mod apply;
mod debian;
mod hostile;
mod images;
mod large;
mod peers;
mod properties;
#[cfg(feature = "registry")]
mod registry;
mod trees;
