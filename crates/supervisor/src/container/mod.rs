//! What runs a service that is a container: the runtime's command lines, and what a bundle must have.
//!
//! Nothing here does I/O beyond reading and copying a bundle's `config.json`; [`crate::unix::container`] runs the
//! command lines. [`Container`](crate::Container) is how a service says that it is one.

mod bundle;
mod runtime;
mod socket;

pub use bundle::{Bundle, LONGEST};
pub use runtime::{Crun, Request, Runc, Runtime, State, Target, runtime};
pub use socket::with_socket;

use std::path::PathBuf;

/// Why a container was not run, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the bundle, or the directory that it names.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no JSON.
    #[error("{}:{}: {source}", path.display(), source.line())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and at which column.
        source: serde_json::Error,
    },
    /// A value that does not do.
    #[error("{}: {key}: {what}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The names that lead to the value, with dots between.
        key: &'static str,
        /// Why.
        what: String,
    },
    /// There is no such program.
    #[error("no OCI runtime {program:?}: looked in {looked_in}")]
    NoRuntime {
        /// Its name or path.
        program: String,
        /// Where.
        looked_in: String,
    },
    /// The runtime did not do what it was asked for. What it said itself went to standard error.
    #[error("{command}: {what}")]
    Runtime {
        /// Its name and the verb.
        command: String,
        /// How it ended.
        what: String,
    },
    /// What an earlier run has left cannot be deleted.
    #[error("container {id} is still there, from before, and cannot be deleted: {what}")]
    StillThere {
        /// What it is known by.
        id: String,
        /// How that failed.
        what: String,
    },
    /// A system call that everything rests on.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}
