//! Layers that are compressed.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::oci::compressed);
