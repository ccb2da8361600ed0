//! The readers of kiln-diskimg, each as a function of bytes. Also a module of that crate's tests,
//! which replay the corpus.

mod boot;
mod container;
mod file_systems;
mod repair;
mod tables;

use kiln_diskimg::Limits;

#[cfg(feature = "sign")]
pub use boot::{authenticode, certificate};
pub use boot::{bls, pe, secure_boot, syslinux};
pub use container::{qcow2, raw_zst, vdi, vhd, vhdx, vmdk};
pub use file_systems::{erofs, ext4, fat, iso, verity};
pub use tables::{gpt, inspect};

/// A reader of bytes that may be hostile.
pub type Reader = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const READERS: &[(&str, Reader)] = &[
    #[cfg(feature = "sign")]
    ("authenticode", authenticode),
    ("bls", bls),
    #[cfg(feature = "sign")]
    ("certificate", certificate),
    ("erofs", erofs),
    ("ext4", ext4),
    ("fat", fat),
    ("gpt", gpt),
    ("inspect", inspect),
    ("iso", iso),
    ("pe", pe),
    ("qcow2", qcow2),
    ("raw_zst", raw_zst),
    ("secure_boot", secure_boot),
    ("syslinux", syslinux),
    ("vdi", vdi),
    ("verity", verity),
    ("vhd", vhd),
    ("vhdx", vhdx),
    ("vmdk", vmdk),
];

/// Bounds that keep a single input cheap.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.partitions = 128;
    limits.tables = 1 << 20;
    limits.files = 200;
    limits.file_len = 64 << 10;
    limits.depth = 8;
    limits
}
