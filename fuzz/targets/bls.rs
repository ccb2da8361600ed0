//! Menu entries of the Boot Loader Specification.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::diskimg::bls);
