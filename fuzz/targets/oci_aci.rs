//! Images of App Containers.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::oci::aci);
