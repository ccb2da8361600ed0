//! Images against the tools and crates of the field.

#![expect(clippy::unwrap_used, clippy::panic, reason = "functions shared by tests are tests too")]

mod bad_input;
mod bundles;
mod containers;
mod corpora;
mod dumps;
mod erofs;
mod erofs_reader;
mod ext4;
mod fat;
mod grow;
mod hostile;
mod iso;
mod menus;
mod oracles;
mod ovf;
mod properties;
mod qcow2;
mod rename;
#[cfg(feature = "squashfs")]
mod same_bytes;
mod secure_boot;
#[cfg(feature = "sign")]
mod sign;
mod slots;
#[cfg(feature = "squashfs")]
mod squashfs;
#[cfg(feature = "squashfs")]
mod squashfs_lookup;
mod syslinux;
mod tables;
mod tools;
mod uki;
mod verity;
