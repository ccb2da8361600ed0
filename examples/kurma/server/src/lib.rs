//! The server of the Kurma-like system: pods of apps, images, and the interface to both.
//!
//! A pod is a process of its own, its *stager*, which runs the apps as a supervisor runs services, so pods
//! outlive the server: it finds them again. What the server is asked it is asked by HTTP
//! (`kurma_client` says what).
#![forbid(unsafe_code)]

mod api;
mod begin;
mod caller;
pub mod configuration;
mod files;
mod images;
mod pods;
mod run;
mod tail;

use std::ffi::OsString;
use std::process::ExitCode;

pub use api::{Bound, Listener, Options as ApiOptions, bind, serve};
pub use begin::Begin;
pub use caller::{Caller, Role};
pub use images::Images;
pub use pods::{Options as PodOptions, Pods};
pub use run::Server;

/// The version of appc's specification that manifests are written by.
pub const APPC: &str = kiln_oci::appc::VERSION;

/// Runs what the server calls itself for, if it is that. `words` are the arguments without the program.
pub fn part(words: &[OsString]) -> Option<ExitCode> {
    let (first, rest) = words.split_first()?;
    match first.to_str()? {
        "stager" => Some(pods::stager::main(rest.iter().cloned())),
        "app" => Some(pods::stager::app(rest.iter().cloned())),
        _ => None,
    }
}
