//! Initramfs archives: ELF dependency closure, cpio, compression
