//! Readers of the other crates.

pub mod cloudconfig;
pub mod cpio;
pub mod dhcp;
pub mod kconfig;
pub mod oci;
