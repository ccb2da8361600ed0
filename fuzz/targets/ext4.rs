//! ext2, ext3 and ext4.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::ext4);
