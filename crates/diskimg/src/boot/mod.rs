//! What starts a machine: boot loaders and the files they read, installed without a mount, an
//! installer or root.

pub mod bls;
pub mod esp;
pub mod grub;
pub mod pe;
pub mod secure_boot;
#[cfg(feature = "sign")]
pub mod sign;
pub mod syslinux;
pub mod uki;
