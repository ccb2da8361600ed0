//! Kurma's steps `init`, `disk` and `virtualbox`, and others who make the same zip.

mod image;
mod mkosi;
mod ours;
mod source;

pub use image::Image;
pub use mkosi::Mkosi;
pub use ours::{Ours, STEPS};
pub use source::Source;
