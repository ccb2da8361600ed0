//! Boot menus as files: one for each entry, which a boot loader collects and sorts.
//!
//! After the UAPI Group's Boot Loader Specification (UAPI.1). Entries of type 1 are text files in
//! `loader/entries`, here [`Entry`]; entries of type 2 are [unified kernel images](super::uki) in
//! `EFI/Linux`. Both can have boot counting in their file's name ([`FileName`]): a loader counts down
//! the tries that are left, and an entry without any is tried last.
//!
//! # Example
//! This example shows how to write an entry.
//!
//! ```
//! use kiln_diskimg::boot::bls::Entry;
//!
//! let mut entry = Entry::new("Kiln");
//! entry.linux = Some("/kiln/vmlinuz".to_owned());
//! entry.initrds.push("/kiln/initramfs".to_owned());
//! entry.options = "console=ttyS0".to_owned();
//! assert_eq!(
//!     entry.to_text()?,
//!     "title Kiln\nlinux /kiln/vmlinuz\ninitrd /kiln/initramfs\noptions console=ttyS0\n"
//! );
//! # Ok::<(), kiln_diskimg::Error>(())
//! ```

mod entry;
mod loader;
mod name;
mod version;

pub use entry::Entry;
pub use loader::{Default as DefaultEntry, LoaderConf, Timeout};
pub use name::{FileName, menu_order};
pub use version::compare_versions;
