//! Images against the tools and crates of the field.

mod containers;
mod dumps;
mod fat;
mod hostile;
mod properties;
mod syslinux;
mod tables;
mod tools;
