//! PID 1 and services: a supervision machine without I/O, and its Unix shell
#![cfg_attr(not(feature = "unix"), forbid(unsafe_code))]

mod backoff;
#[cfg(feature = "serde")]
mod duration;
mod graph;
mod machine;
#[cfg(feature = "pid1")]
pub mod pid1;
mod snapshot;
mod spec;
mod state;
#[cfg(feature = "unix")]
pub mod unix;
mod vocabulary;

pub use backoff::{Backoff, BackoffPolicy};
pub use graph::{Graph, MAX_SERVICES, Problem, Problems, ServiceId};
pub use machine::{Status, Supervisor};
pub use snapshot::{Snapshot, SnapshotError};
pub use spec::{Kill, Kind, Log, LogFile, Readiness, Restart, ServiceSpec, Signal};
pub use state::{State, StopReason};
pub use vocabulary::{
    Action, Errno, Event, ExitStatus, Failure, Ignored, Input, Name, Outcome, Output, Pid,
    SpawnError, SpawnStep, Time, Token,
};
