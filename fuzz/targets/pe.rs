//! Executables of UEFI.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::pe);
