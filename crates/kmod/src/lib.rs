//! Kernel modules as data: which there are, what each serves and needs, and in which order to
//! load them.
//!
//! A Linux kernel keeps its modules in `/lib/modules/RELEASE`. What depmod writes there is the
//! map from names and device aliases to files; modprobe reads it. This crate is both
//! halves as values: [`Index`] is the map, [`Index::resolve`] the question. It loads nothing, runs
//! no program and asks no kernel; an init hands the paths to `finit_module(2)` by itself.
//!
//! # Which modules does this device need?
//!
//! This example shows how to get a load order for a modalias and a name.
//!
//! ```
//! use kiln_kmod::{Index, IndexFiles};
//!
//! let mut files = IndexFiles::new(
//!     "kernel/virtio_net.ko: kernel/virtio.ko kernel/virtio_ring.ko\n\
//!      kernel/virtio.ko: kernel/virtio_ring.ko\n\
//!      kernel/virtio_ring.ko:\n",
//! );
//! files.alias = "alias virtio:d00000001v* virtio_net\n";
//! let index = Index::parse(files)?; // or Index::read_dir("/lib/modules/RELEASE".as_ref())
//!
//! let found = index.resolve(&["virtio:d00000001v00001AF4", "virtio-ring"]);
//! let paths: Vec<&str> = found.load.iter().map(|module| module.path.as_str()).collect();
//! assert_eq!(paths, ["kernel/virtio_ring.ko", "kernel/virtio.ko", "kernel/virtio_net.ko"]);
//! assert_eq!(found.load[0].reason.to_string(), "needed by virtio_net");
//! # Ok::<(), kiln_kmod::Error>(())
//! ```
//!
//! # What goes into an image?
//!
//! This example shows how to choose modules for an image and write its index files.
//!
//! ```
//! # use kiln_kmod::{Index, IndexFiles};
//! # let index = Index::parse(IndexFiles::new("a.ko: b.ko\nb.ko:\nc.ko:\n"))?;
//! let image = index.subset(&["a"]); // index: Index::scan(dir)? of an unpacked kernel package
//! let files: Vec<&str> = image.modules().map(|module| module.path()).collect();
//! assert_eq!(files, ["a.ko", "b.ko"]);
//! for (name, bytes) in image.files() {
//!     // Put them into /lib/modules/RELEASE of the image.
//! #   let _ = (name, bytes);
//! }
//! # Ok::<(), kiln_kmod::Error>(())
//! ```
//!
//! # Features
//!
//! Without features: text indexes, resolving, subsets. `modinfo` adds `Index::from_modules`,
//! `Index::scan` and `Modinfo`, which read the modules themselves; `gzip`, `xz` and `zstd` let
//! `scan` read compressed ones.
#![forbid(unsafe_code)]
// what panics in process 1, which loads modules with this, takes a machine down
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod alias;
mod draft;
mod emit;
mod error;
mod glob;
mod index;
#[cfg(feature = "modinfo")]
mod modinfo;
mod name;
mod read;
mod resolve;
#[cfg(feature = "modinfo")]
mod scan;
mod text;

pub use error::{Error, Problem, Result};
pub use index::{Index, ModuleInfo};
#[cfg(feature = "modinfo")]
pub use modinfo::Modinfo;
pub use resolve::{Module, Reason, Resolution};
pub use text::IndexFiles;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
