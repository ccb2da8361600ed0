//! The readers of kiln-initramfs. Also a module of that crate's tests.

use kiln_initramfs::cpio::{self, Limits};

/// Archives in a row, compressed or not.
pub fn archive(input: &[u8]) {
    let mut limits = Limits::default();
    limits.entries = 1000;
    limits.unpacked = 1 << 20;
    limits.in_memory = 1 << 20;
    let _ = cpio::unpack(input, limits.clone());
    let _ = cpio::dump(input, limits, std::io::sink());
}
