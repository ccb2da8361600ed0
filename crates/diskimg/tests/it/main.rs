//! Images against the tools and crates of the field.

#![expect(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests are tests too")]

mod bundles;
mod containers;
mod dumps;
mod fat;
mod hostile;
mod properties;
mod rename;
mod syslinux;
mod tables;
mod tools;
