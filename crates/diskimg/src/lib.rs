//! Bootable disk images without root: partitions, file systems, image formats
