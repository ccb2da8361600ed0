//! The language of Kconfig.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::kconfig::language);
