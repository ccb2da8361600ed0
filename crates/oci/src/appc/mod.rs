//! App Containers (appc), specification 0.8.11: images (ACI), pods, and bundles of them for the same
//! runtimes that run images of the OCI.
//!
//! Manifests are read strictly: a key that nobody knows, a name that breaks the rules, a port that is
//! none are all told at once, each with its path in the document.
//!
//! An image ([`Aci`]) is looked at once, all of it, with [`Limits`](crate::Limits), and stays where it is;
//! a [`Rendering`] is one with all that it depends upon, as a tree or in a directory, by the code that
//! applies layers. [`write()`] makes an image of a tree, [`from_image`] and [`to_image`] go from one format
//! to the other. [`Container`] is what a runtime is told of an app of a pod, or of an image alone;
//! [`bundle::make`](crate::bundle::make) makes a bundle of an image of either format.
//!
//! # Example: an image of a tree, and back
//!
//! ```
//! use kiln_oci::appc::{self, Aci, App, ImageManifest, Rendering};
//! use kiln_oci::{Compression, Limits};
//! use kiln_tree::{Node, Tree};
//!
//! let mut tree = Tree::new();
//! tree.insert("bin/hello", Node::executable("#!/bin/sh\necho hello\n"))?;
//! let mut manifest = ImageManifest::new("example.com/hello".parse()?);
//! manifest.app = Some(App::new(vec!["/bin/hello".into()]));
//! let (bytes, id) = appc::write(&manifest, &tree, Compression::Gzip, Vec::new())?;
//!
//! let image = Aci::of_source("hello.aci", bytes.into(), &Limits::default())?;
//! assert_eq!(image.id, id);
//! let rendering = Rendering::new(image, &Limits::default(), &mut |_| Ok(None))?;
//! assert_eq!(rendering.tree(&Default::default(), None)?, tree);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example: an app of a pod, of an image that came as a file
//!
//! ```no_run
//! # #[cfg(feature = "host")]
//! # fn run(pod: &kiln_oci::appc::PodManifest, store: &dyn Fn(&kiln_oci::appc::Dependency)
//! # -> kiln_oci::Result<Option<kiln_oci::appc::Aci>>) -> Result<(), Box<dyn std::error::Error>> {
//! use kiln_oci::appc::{Aci, Container, Executor, Rendering};
//! use kiln_oci::host::Unpack;
//! use kiln_oci::{Limits, layer::Devices};
//! use std::path::Path;
//!
//! let limits = Limits::default();
//! // Read in pieces: no content is held in memory.
//! let image = Aci::open("upload.aci", &limits)?;
//! println!("{} is {}", image.id, image.manifest.name);
//! let rendering = Rendering::new(image, &limits, &mut |wanted| store(wanted))?;
//! let mut unpack = Unpack::default();
//! unpack.layers.devices = Devices::Skip;
//! unpack.owners = true; // as root: users and groups are those of the image
//! let bundle = Path::new("/run/pods/1/web");
//! let root = rendering.unpack(&bundle.join("rootfs"), &unpack)?;
//!
//! let executor = Executor::new("/run/pods/1/volumes");
//! let manifest = &rendering.image().manifest;
//! let mut container = Container::new(pod, &pod.apps[0], manifest, &root, &executor)?;
//! container.options.cgroup = Some("/pods/1/web".into());
//! assert!(container.left.is_empty(), "isolators that are the caller's: {:?}", container.left);
//! let (_, config) = container.spec()?;
//! std::fs::write(bundle.join("config.json"), config)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Example: a manifest
//!
//! ```
//! use kiln_oci::appc::{Isolator, PodManifest};
//!
//! let pod = PodManifest::parse("pod.json", br#"{
//!     "acKind": "PodManifest", "acVersion": "0.8.11",
//!     "apps": [{
//!         "name": "web", "image": {"name": "example.com/web"},
//!         "app": {
//!             "exec": ["/bin/web"], "user": "0", "group": "0",
//!             "isolators": [{"name": "host/privileged", "value": true}]
//!         }
//!     }]
//! }"#)?;
//! let app = pod.apps[0].app.as_ref().expect("an app");
//! // Nobody here knows it, so whoever runs the pod has to accept or refuse it.
//! assert!(matches!(&app.isolators[0], Isolator::Other { name, .. } if name.as_str() == "host/privileged"));
//!
//! let error = PodManifest::parse("pod.json", br#"{
//!     "acKind": "PodManifest", "acVersion": "0.8.11", "apps": [{"name": "Web", "image": {}}], "port": 1
//! }"#).unwrap_err().to_string();
//! assert_eq!(error.lines().count(), 3);
//! assert!(error.contains("pod.json: apps[0].image: it has neither an id nor a name"));
//! # Ok::<(), kiln_oci::Error>(())
//! ```

mod aci;
mod alone;
mod app;
mod container;
mod convert;
mod document;
mod errno;
mod image;
mod isolator;
mod names;
mod place;
mod pod;
mod quantity;
mod rendering;
mod stream;
mod write;

pub use aci::Aci;
pub use app::{App, MountPoint, Port};
pub use container::{Container, Executor, directory, empty_volumes, pod_resources};
pub use convert::{from_image, to_image};
pub use image::{Dependency, ImageManifest};
pub use isolator::{Isolator, Resource, Seccomp};
pub use names::{Identifier, ImageId, Name, VERSION};
pub use pod::{ExposedPort, Mount, PodApp, PodImage, PodManifest, Volume, VolumeKind};
pub use quantity::Quantity;
pub use rendering::Rendering;
pub use stream::Packing;
pub use write::{pack, write};
