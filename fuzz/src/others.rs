//! Readers of the other crates.

pub mod cpio;
pub mod dhcp;
pub mod kconfig;
