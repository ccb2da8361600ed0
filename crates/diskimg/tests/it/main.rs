//! Images against the tools and crates of the field.

#![expect(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests are tests too")]

mod containers;
mod dumps;
mod fat;
mod hostile;
mod menus;
mod properties;
mod rename;
mod secure_boot;
#[cfg(feature = "sign")]
mod sign;
mod syslinux;
mod tables;
mod tools;
mod uki;
