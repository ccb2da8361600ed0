//! Layers, one above the other.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::oci::layers);
