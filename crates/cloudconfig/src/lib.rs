//! Cloud-config for those who make images: what a machine is told at its boot, as checked values.
//!
//! Bytes go through six steps, each of which can be used alone and none of which touches the machine:
//!
//! 1. [`datasource`]: where user-data is from. All sources at once, taken by precedence.
//! 2. [`user_data`]: what it is. A cloud-config, a script, compressed, several in a message.
//! 3. [`document`]: YAML as a tree whose nodes know their file and line.
//! 4. [`layer`]: several documents and the kernel's command line as one, with where each value is from.
//! 5. [`schema`]: the tree as types. Strict; everything that is wrong is told at once.
//! 6. [`plan`]: what is to be done, in order. The feature `linux` does what files can do (`apply`).
//!
//! What is wrong with an input is no error but [`Findings`]: what is valid counts, because a machine
//! that does not boot for a typing error cannot be mended. [`Findings::strict`] is for who checks
//! beforehand.
//!
//! # Example: from user-data to what is to be done
//!
//! ```
//! use kiln_cloudconfig::{Limits, decode, document, layer, plan, schema::User, user_data};
//!
//! let limits = Limits::default();
//! let blob = b"#cloud-config\nhostname: node-7\nrun_cmd: [reboot]\nservices: {sshd: true}\n";
//! let (parts, mut findings) = user_data::read("user-data", blob, &limits);
//! let (user, more) = document::read(&parts[0].name, &parts[0].bytes, &limits);
//! findings.append(more);
//!
//! let (built_in, _) = document::read("/usr/share/os.yml", b"services: {ntp: true}\n", &limits);
//! let (line, _) = layer::CommandLine::default().read("quiet cc.hostname=node-8", &limits);
//! let merged = layer::merge([built_in, user, line], &layer::Rules::default());
//!
//! let (config, more) = decode(&merged.root, &limits);
//! findings.append(more);
//! assert_eq!(
//!     findings.to_string(),
//!     "user-data:3: unknown key \"run_cmd\", did you mean \"runcmd\"?"
//! );
//! let plan = plan::plan(&config, &plan::Options::with_user(User::named("admin")));
//! assert_eq!(plan.to_string(), "hostname node-8\nuser admin\nenable ntp\nenable sshd\n");
//! ```
//!
//! # Example: a section of an image's own
//!
//! See [`decode_with`]: a [`Cursor`] knows its path and notes what is wrong, so that a section is read
//! by naming its keys.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod accounts;
#[cfg(feature = "linux")]
pub mod apply;
mod cursor;
pub mod datasource;
pub mod document;
mod emit;
pub mod layer;
mod limits;
mod node;
mod place;
pub mod plan;
pub mod schema;
mod unpack;
pub mod user_data;

pub use cursor::{Cursor, Fields, Notes};
pub use limits::Limits;
pub use node::{Entry, Map, Meaning, Node, Scalar, Value};
pub use place::{Finding, Findings, Kind, Place};
pub use schema::{CloudConfig, Sections, decode, decode_with};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
