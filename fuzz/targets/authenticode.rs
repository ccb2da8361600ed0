//! Signatures of executables.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::diskimg::authenticode);
