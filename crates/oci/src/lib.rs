//! OCI images as values: read, written, built from a tree, unpacked, pulled and pushed.
//!
//! An [`Image`] is a manifest, a configuration and [`Layer`]s. The documents are in memory; a layer
//! is a descriptor and a [`kiln_tree::Source`], so its bytes stay where they are, in a layout, in the
//! middle of an archive or in memory, until somebody reads them, and are checked while they are read.
//! Where images come from and where they go are separate: a [`Layout`] (a directory or an archive of
//! one), a [`docker`] archive, a registry (feature `registry`), or [`Image::build`].
//!
//! # Example: an image of a tree
//!
//! ```
//! # #[cfg(feature = "gzip")] {
//! use kiln_oci::{Compression, Image, Layer, Settings, archive};
//! use kiln_tree::{Node, Tree};
//!
//! let mut tree = Tree::new();
//! tree.insert("bin/hello", Node::executable("#!/bin/sh\necho hello\n"))?;
//! let layer = Layer::pack(&tree, Compression::Gzip)?;
//! let mut settings = Settings::default();
//! settings.entrypoint = vec!["/bin/hello".into()];
//! settings.created = Some(1_700_000_000); // SOURCE_DATE_EPOCH, say
//! let image = Image::build(vec![layer], &settings)?;
//! let tar = archive::write(Vec::new(), &[(Some("hello:1"), &image)])?;
//! # assert_eq!(tar, archive::write(Vec::new(), &[(Some("hello:1"), &image)])?);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example: a layer that makes one tree of another
//!
//! ```
//! use kiln_oci::{Compression, Difference, Layer};
//! use kiln_tree::{Node, Tree};
//!
//! let mut lower = Tree::new();
//! lower.insert("etc/motd", Node::file("hello\n"))?;
//! let mut upper = Tree::new();
//! upper.insert("etc/issue", Node::file("welcome\n"))?;
//!
//! let difference = Difference::between(&lower, &upper)?;
//! let paths: Vec<String> = difference.tree().iter().map(|(path, _)| path.to_string()).collect();
//! assert_eq!(paths, ["etc", "etc/.wh.motd", "etc/issue"]);
//! let layer = Layer::pack_difference(&difference, Compression::None)?;
//! assert_eq!(Layer::apply(lower, &[layer], &Default::default(), None)?, upper);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example: an image unpacked into a directory
//!
//! ```no_run
//! # #[cfg(feature = "host")] {
//! use kiln_oci::host::{self, Unpack};
//! use kiln_oci::{Limits, docker};
//!
//! let archive = docker::Archive::open("images.tar", Limits::default())?;
//! let image = archive.image(Some("app:1"))?;
//! // Says what everything is in the image, whatever of that the directory could be given.
//! let tree = host::unpack(&image, "rootfs".as_ref(), &Unpack::default())?;
//! # }
//! # Ok::<(), kiln_oci::Error>(())
//! ```
//!
//! # Example: what a runtime is told
//!
//! ```no_run
//! # #[cfg(feature = "bundle")]
//! # fn bundle(image: &kiln_oci::Image, tree: &kiln_tree::Tree) -> kiln_oci::Result<()> {
//! use kiln_oci::bundle::{self, Network, Options, Users};
//!
//! let mut options = Options::default();
//! options.network = Network::Host;
//! let (_, config) = bundle::spec(&image.config, &Users::of_tree(tree)?, &options)?;
//! # Ok(())
//! # }
//! // … which goes into `config.json` beside `rootfs`.
//! ```
//!
//! # Example: an image out of a registry
//!
//! ```no_run
//! # #[cfg(feature = "registry")] {
//! use kiln_oci::registry::{Client, Options, reference};
//! use kiln_oci::{Layout, Limits, platform};
//!
//! let mut layout = Layout::create("layout", Limits::default())?;
//! let client = Client::new(Options::default())?;
//! let from = reference("127.0.0.1:5000/team/app:1")?;
//! let image = client.pull(&from, &platform("linux/amd64")?, &mut layout, Some("app:1"))?;
//! # }
//! # Ok::<(), kiln_oci::Error>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "appc")]
pub mod appc;
pub mod archive;
#[cfg(feature = "bundle")]
pub mod bundle;
mod digest;
pub mod docker;
mod error;
#[cfg(feature = "host")]
pub mod host;
pub mod image;
mod json;
pub mod layer;
pub mod layout;
mod limits;
mod platform;
#[cfg(feature = "registry")]
pub mod registry;
mod store;
mod tar;
mod time;

pub use error::Error;
pub use image::{Image, Settings};
pub use layer::{Compression, Difference, Layer};
pub use layout::Layout;
pub use limits::Limits;
/// The specification's types.
pub use oci_spec;
pub use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageManifest, Platform};
pub use platform::platform;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(all(doctest, feature = "gzip"))]
#[doc = include_str!("../README.md")]
struct Readme;
