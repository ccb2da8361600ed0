//! Cloud-config.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod accounts;
#[cfg(feature = "linux")]
pub mod apply;
pub mod cursor;
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
