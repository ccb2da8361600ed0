//! The installer of SYSLINUX.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::syslinux);
