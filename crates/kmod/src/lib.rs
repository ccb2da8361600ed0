//! Kernel modules as data: indexes, aliases, dependencies, load order.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

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
