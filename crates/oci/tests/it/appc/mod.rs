//! App Containers.

mod actool;
#[path = "actool/program.rs"]
mod actool_program;
mod archives;
mod containers;
mod conversions;
mod manifests;
mod renderings;
mod runtime;
