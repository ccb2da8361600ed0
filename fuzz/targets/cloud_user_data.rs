//! User-data of cloud-init's kinds.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::cloudconfig::user_data);
