//! Partition tables, read and changed.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::gpt);
