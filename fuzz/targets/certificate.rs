//! Certificates and keys.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::diskimg::certificate);
