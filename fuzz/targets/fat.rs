//! FAT12, FAT16 and FAT32.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::fat);
