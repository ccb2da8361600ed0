//! NoCloud's and OpenStack's media.
#![no_main]

kiln_fuzz::target!(kiln_fuzz::others::cloudconfig::medium);
