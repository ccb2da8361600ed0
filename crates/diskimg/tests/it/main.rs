//! Images against the tools and crates of the field.

#![expect(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests are tests too")]

mod containers;
mod dumps;
mod erofs;
mod erofs_reader;
mod fat;
mod hostile;
mod properties;
mod rename;
#[cfg(feature = "squashfs")]
mod squashfs;
mod syslinux;
mod tables;
mod tools;
mod verity;
