//! A deterministic file tree: what every image packer reads.
//!
//! An image (a cpio archive, a FAT volume, an ext4 file system) is a set of paths, each with an
//! owner, a mode, a time and a content. [`Tree`] is that set as a value: sorted by the bytes of
//! the path, parents always present, no clock, no user id and no directory order of the host in
//! it. Two trees that were filled in a different order are equal, and so are the images made of
//! them.
//!
//! # Example: a tree by hand
//!
//! ```
//! use kiln_tree::{Metadata, Node, Tree};
//!
//! let mut tree = Tree::new();
//! tree.insert("etc/hostname", Node::file(b"kiln\n".to_vec()).because("the machine's name"))?;
//! tree.insert("bin/sh", Node::symlink("busybox"))?;
//! tree.insert("dev/console", Node::char_device(5, 1).with(Metadata::new(0o600)))?;
//!
//! // Parents exist, in an order in which they can be made.
//! let paths: Vec<String> = tree.iter().map(|(path, _)| path.to_string()).collect();
//! assert_eq!(paths, ["bin", "bin/sh", "dev", "dev/console", "etc", "etc/hostname"]);
//! # Ok::<(), kiln_tree::Error>(())
//! ```
//!
//! # Example: a directory of the host, owned by root, with one fixed time
//!
//! ```no_run
//! use kiln_tree::{Tree, host};
//!
//! let mut tree = Tree::new();
//! host::import(&mut tree, "rootfs".as_ref(), "", &host::Policy::default())?;
//! # Ok::<(), kiln_tree::Error>(())
//! ```
//!
//! # What it is not
//!
//! Not a virtual file system: nothing is resolved, opened or followed behind the caller's back.
//! [`Tree::resolve`] follows symbolic links only when it is asked to, and never out of the tree.

#![forbid(unsafe_code)]

mod error;
#[cfg(feature = "host")]
pub mod host;
mod node;
mod path;
mod source;
mod tree;

pub use error::Error;
pub use node::{Kind, Metadata, Node};
pub use path::TreePath;
pub use source::Source;
pub use tree::Tree;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
