//! Images of Virtual PC and Azure.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::vhd);
