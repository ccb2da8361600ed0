//! Images of Hyper-V.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::vhdx);
