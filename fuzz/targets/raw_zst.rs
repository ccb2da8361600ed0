//! Compressed raw images.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::raw_zst);
