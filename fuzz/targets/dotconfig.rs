//! Configurations of Linux.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::kconfig::dotconfig);
