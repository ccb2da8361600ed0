//! Debian packages into a root tree: resolved, locked, downloaded, unpacked, by an ordinary user.
//!
//! Each step is a function from values to values, and each can be used alone:
//!
//! 1. [`archive`] reads what archives have, if somebody trusted has signed it: an [`Index`].
//! 2. [`resolve()`] finds all the packages that some names need.
//! 3. A [`Lock`] says which bytes these are. From here on no archive is asked any more.
//! 4. [`download`] puts the files into a cache and checks them on every use.
//! 5. `Root::unpack` makes a directory of them, and a [`kiln_tree::Tree`] with what an image needs
//!    to know besides: owners, modes, links. (feature `unpack`)
//!
//! # Example: what a package needs
//!
//! ```
//! use kiln_debroot::{Index, Request, resolve};
//!
//! let mut index = Index::new("amd64");
//! # let rest = |name: &str| {
//! #     format!("Architecture: amd64\nFilename: pool/{name}.deb\nSize: 9\nSHA256: {:064}\n", 0)
//! # };
//! let packages = format!(
//!     "Package: web\nVersion: 1.0\nDepends: libc6 (>= 2.34) | musl, mta\n{}\n\
//!      Package: libc6\nVersion: 2.36-9\n{}\n\
//!      Package: postbox\nVersion: 3\nProvides: mta\n{}\n",
//!     rest("web"), rest("libc6"), rest("postbox"),
//! );
//! index.add("http://archive.example/debian", &packages, "Packages")?;
//!
//! let chosen = resolve(&index, &Request::new(["web"]))?;
//! let names: Vec<&str> = chosen.iter().map(|chosen| chosen.package.name()).collect();
//! assert_eq!(names, ["libc6", "postbox", "web"]);
//! assert_eq!(chosen[0].needed_by, Some("web"));
//!
//! let problem = resolve(&index, &Request::new(["wbe"])).unwrap_err();
//! assert_eq!(
//!     problem.to_string(),
//!     "wbe: no archive has a package of this name; did you mean web?"
//! );
//! # Ok::<(), kiln_debroot::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod archive;
pub mod control;
#[cfg(feature = "unpack")]
pub mod deb;
pub mod dependency;
mod digest;
pub mod download;
mod error;
pub mod fetch;
pub mod index;
pub mod lock;
#[cfg(feature = "archive")]
pub mod openpgp;
pub mod release;
pub mod resolve;
#[cfg(feature = "unpack")]
pub mod root;
pub mod version;
#[cfg(any(feature = "archive", feature = "unpack"))]
mod xz;

pub use archive::Archive;
pub use error::Error;
pub use index::Index;
pub use lock::{Lock, LockedPackage};
pub use resolve::{Request, resolve};
#[cfg(feature = "unpack")]
pub use root::Root;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(all(doctest, feature = "apt", feature = "archive", feature = "lock", feature = "unpack"))]
#[doc = include_str!("../README.md")]
struct Readme;
