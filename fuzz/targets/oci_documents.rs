//! Indexes, manifests and configurations of images.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::oci::documents);
