//! Archives of an initramfs.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::cpio::archive);
