//! Initramfs images from a file tree.
//!
//! An initramfs is one or more cpio archives, each compressed or not, that a Linux kernel unpacks
//! into its first root file system. This crate makes them from a [`kiln_tree::Tree`], reads them
//! back as a kernel would, and finds what programs need to run in one.
//!
//! # Example: an image of a tree
//!
//! This example shows how to write an image and to list what is in it.
//!
//! ```
//! use kiln_initramfs::cpio::{Limits, dump};
//! use kiln_initramfs::{Compression, write_image};
//! use kiln_tree::{Node, Tree};
//!
//! let mut tree = Tree::new();
//! tree.insert("init", Node::executable("#!/bin/sh\n"))?;
//! tree.insert("dev/console", Node::char_device(5, 1))?;
//! let image = write_image(&tree, &Compression::None, Vec::new())?;
//!
//! let mut text = Vec::new();
//! dump(&*image, Limits::default(), &mut text)?;
//! assert_eq!(
//!     String::from_utf8(text)?,
//!     "1 drwxr-xr-x 2 0:0 0 mtime=0 dev\n\
//!      2 crw------- 1 0:0 5,1 mtime=0 dev/console\n\
//!      3 -rwxr-xr-x 1 0:0 10 mtime=0 init\n\
//!      \x23 trailer\n"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example: what a kernel would lose
//!
//! This example shows that mistakes are found before anything is written, all of them.
//!
//! ```
//! use kiln_initramfs::{Compression, write_image};
//! use kiln_tree::{Node, Tree};
//!
//! let mut tree = Tree::new();
//! tree.insert("TRAILER!!!", Node::file("everything after this is lost"))?;
//! tree.insert("nowhere", Node::symlink(""))?;
//! let error = write_image(&tree, &Compression::None, Vec::new()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "the tree cannot be an initramfs:\n  \
//!      TRAILER!!!: a file of this name ends the archive for every reader\n  \
//!      nowhere: the symbolic link has no target"
//! );
//! # Ok::<(), kiln_tree::Error>(())
//! ```
//!
//! # Example: microcode before a compressed archive
//!
//! ```
//! use kiln_initramfs::cpio::Options;
//! use kiln_initramfs::{Compression, Segment, write_segments};
//! use kiln_tree::{Node, Tree};
//!
//! let (mut early, mut base) = (Tree::new(), Tree::new());
//! early.insert("kernel/x86/microcode/AuthenticAMD.bin", Node::file("microcode"))?;
//! base.insert("init", Node::executable("#!/bin/sh\n"))?;
//! let segments = [Segment::early(&early), Segment::new(&base, Compression::None)];
//! let image = write_segments(&segments, &Options::default(), Vec::new())?;
//! assert_eq!(image.len() % 512, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What programs need is found by `elf::Resolver` (feature `elf`); what is in an image, with
//! digests and reasons, is told by `manifest::files` (feature `manifest`).

#![forbid(unsafe_code)]

mod compress;
pub mod cpio;
mod decode;
#[cfg(feature = "elf")]
pub mod elf;
mod error;
#[cfg(feature = "manifest")]
pub mod manifest;
mod segment;

pub use compress::{Compression, Encoder};
pub use error::Error;
pub use segment::{Segment, write_image, write_segments};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
