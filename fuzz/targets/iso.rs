//! ISO 9660 with what extends it.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::iso);
