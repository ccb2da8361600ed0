//! Images of VMware.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::vmdk);
