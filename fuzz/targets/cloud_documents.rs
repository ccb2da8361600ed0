//! Cloud-configs as layers.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::cloudconfig::documents);
