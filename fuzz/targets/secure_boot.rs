//! Variables of a firmware.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::secure_boot);
