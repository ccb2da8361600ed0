//! Boot loaders, installed by patching: no mount, no installer, no root.

pub mod syslinux;
