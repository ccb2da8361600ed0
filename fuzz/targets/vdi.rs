//! Images of VirtualBox.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::vdi);
