//! What a registry asks of who is not let in.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::oci::challenge);
