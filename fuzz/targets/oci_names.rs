//! Names of images and platforms.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::oci::names);
