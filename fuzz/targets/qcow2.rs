//! Images of QEMU.
#![no_main]

kiln_fuzz::target!(image kiln_fuzz::diskimg::qcow2);
