//! Linux kernel configurations: read without losing a byte, merged from fragments with a record of
//! who set what, compared, and checked against what an image needs.
//!
//! A [`DotConfig`] is a `.config` file or a fragment of one. [`merge`] puts fragments onto a base
//! exactly as the kernel's `merge_config.sh -m` does. [`Requirements`] say which options an image
//! needs and why; their [`check`](Requirements::check) gives a [`Report`] of everything that is
//! missing. [`diff()`] compares two configurations.
//!
//! The core takes bytes and gives values; only [`DotConfig::read`], [`DotConfig::save`] and
//! `Requirements::read` touch files.
//!
//! # Example: an option's value, and where it is set
//!
//! This example shows how to read a configuration. Whatever stands in it, it is kept.
//!
//! ```
//! use kiln_kconfig::{DotConfig, Value};
//!
//! let text = b"# my kernel\nCONFIG_VIRTIO=m\n# CONFIG_E1000 is not set\nCONFIG_VIRTIO=y\noops\n";
//! let config = DotConfig::parse(text, "my.config");
//! assert_eq!(config.get("VIRTIO"), Some(Value::YES)); // the last line counts
//! assert_eq!(config.get("CONFIG_E1000"), Some(Value::NO));
//! assert_eq!(config.get("E1000E"), None);
//! assert_eq!(config.as_bytes(), text);
//!
//! let problems: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
//! assert_eq!(problems, [
//!     "my.config:4: CONFIG_VIRTIO is set anew, after m at my.config:2; the last line counts",
//!     "my.config:5: expected 'CONFIG_X=value' or '# CONFIG_X is not set': 'oops'",
//! ]);
//! ```
//!
//! # Example: fragments onto a base
//!
//! This example shows how to merge, and how to learn who set an option.
//!
//! ```
//! use kiln_kconfig::{DotConfig, merge};
//!
//! let base = DotConfig::parse(b"CONFIG_NET=y\nCONFIG_VIRTIO=m\n", "base");
//! let guest = DotConfig::parse(b"CONFIG_VIRTIO=y\nCONFIG_NET=y\n", "guest.config");
//! let merged = merge(&base, &[guest]);
//!
//! // Byte for byte what `merge_config.sh -m` writes, its empty line included.
//! assert_eq!(merged.config.as_bytes(), b"\nCONFIG_VIRTIO=y\nCONFIG_NET=y\n");
//! assert_eq!(merged.overrides[0].to_string(), "CONFIG_VIRTIO: y (guest.config:1) after m (base:2)");
//! assert_eq!(merged.redundant[0].option, "NET");
//! assert_eq!(merged.provenance["VIRTIO"].set_by.site.to_string(), "guest.config:1");
//! ```
//!
//! # Example: what an image needs of its kernel
//!
//! This example shows how to check a configuration: everything that is missing is found at once,
//! with its reason and remedy.
//!
//! ```
//! use kiln_kconfig::{DotConfig, Need, Requirement, Requirements};
//!
//! let needs = Requirements::new(
//!     vec![
//!         Requirement::new("DEVTMPFS", Need::built_in(), "the devices in /dev"),
//!         Requirement::new("E1000", Need::present(), "VirtualBox's network card")
//!             .remedy("take Debian's linux-image-amd64, not the cloud kernel"),
//!         Requirement::new("OVERLAY_FS", Need::present(), "container images"),
//!     ],
//!     "my needs",
//! );
//! let text = b"CONFIG_DEVTMPFS=y\n# CONFIG_E1000 is not set\nCONFIG_OVERLAY_FS=m\n";
//! let report = needs.check(&DotConfig::parse(text, "config"));
//! assert!(!report.is_satisfied());
//! assert_eq!(report.modules()[0].option, "OVERLAY_FS");
//! assert_eq!(report.into_result().unwrap_err().to_string(), "\
//! config: 3 requirements of my needs, 1 missing
//! error: CONFIG_E1000 is not as needed
//!   needed: y or m
//!   is:     not set (config:2)
//!   reason: VirtualBox's network card
//!   remedy: take Debian's linux-image-amd64, not the cloud kernel
//! modules that the image must carry:
//!   CONFIG_OVERLAY_FS=m: container images");
//! ```
//!
//! # Example: what changed between two kernels
//!
//! This example shows how to compare; the text is that of the kernel's `scripts/diffconfig`.
//!
//! ```
//! use kiln_kconfig::{DotConfig, diff};
//!
//! let old = DotConfig::parse(b"CONFIG_A=y\nCONFIG_B=m\n", "old");
//! let new = DotConfig::parse(b"CONFIG_B=y\nCONFIG_C=64\n", "new");
//! assert_eq!(diff(&old, &new).to_string(), "-A y\n B m -> y\n+C 64\n");
//! ```
//!
//! # Features
//!
//! - `requirements-toml`: requirement sets written as TOML, `Requirements::parse`.
//! - `serde`: reports, diffs and provenance as data (`serde::Serialize`).

#![forbid(unsafe_code)]

mod diff;
mod dotconfig;
mod dropped;
mod error;
mod fragment;
mod lang;
mod requirement;
mod value;

pub use diff::{Change, Diff, diff};
pub use dotconfig::{DotConfig, Limits, Setting};
pub use dropped::{Cause, Dropped, dropped};
pub use error::{Error, Problem, Result, Site};
pub use fragment::{Assignment, LostLine, MergeOptions, Merged, Override, Provenance, merge};
pub use lang::{Declarations, Kind};
pub use requirement::{
    Finding, ModuleWanted, Need, OptionState, Report, Requirement, Requirements, Severity, State,
    Want, check,
};
pub use value::{Tristate, Value};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
