//! PID 1 and services: a supervision machine without I/O, and its Unix shell.
//!
//! The layers, each usable without the next:
//!
//! * the **machine** ([`Supervisor`]): services, their order, readiness, restarts and shutdown as a
//!   function of inputs and time. It starts no process and reads no clock;
//! * the **shell** ([`unix`], feature `unix`): one process with one epoll set that performs what
//!   the machine asks for: children, signals, readiness, logs;
//! * the **control socket** ([`control`], feature `control`): what asks and commands a running
//!   supervisor, its protocol and a client; `svc` (feature `cli`) is the program for people;
//! * **service files** ([`service_file`], feature `toml`): services as strict TOML, every problem
//!   with its line;
//! * **units** ([`systemd`], feature `systemd`): a subset of systemd's unit files as services, what
//!   is not done listed;
//! * **PID 1** ([`pid1`], feature `pid1`): what a machine's first process does besides: mounts,
//!   console, kernel modules, the power button, leaving rootfs, power off, and staying alive.
//!
//! # Example: run some services until they end
//! ```
//! # #[cfg(feature = "unix")] {
//! use kiln_supervisor::unix::{self, Options};
//! use kiln_supervisor::{Outcome, Restart, ServiceSpec};
//!
//! let prepare = ServiceSpec::one_shot("prepare", ["/bin/sh", "-c", "exit 0"]);
//! let mut work = ServiceSpec::daemon("work", ["/bin/sh", "-c", "exit 0"]);
//! work.requires = vec!["prepare".into()];
//! work.restart = Restart::Never;
//!
//! let mut options = Options::default();
//! options.exit_when_ended = true;
//! let outcome = unix::run(vec![prepare, work], options, &mut |event| println!("{event}"))?;
//! assert_eq!(outcome, Outcome::Exit);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example: drive the machine yourself
//! A test, a simulator or another kind of shell does what this loop does: hand in what happened,
//! then drain until [`Output::Timeout`].
//! ```
//! use std::time::Duration;
//! use kiln_supervisor::{Action, Input, Output, Pid, ServiceSpec, Supervisor};
//!
//! let specs = vec![ServiceSpec::daemon("web", ["/bin/web"])];
//! let mut machine = Supervisor::new(specs, Duration::ZERO)?;
//! let Output::Action(Action::Spawn { token, .. }) = machine.poll() else { unreachable!() };
//! machine.handle(Input::Spawned { token, pid: Pid(7) }, Duration::from_millis(1));
//! while let Output::Event(event) = machine.poll() {
//!     println!("{event}"); // "web: started as 7", "web: up after …"
//! }
//! # Ok::<(), kiln_supervisor::Problems>(())
//! ```
//!
//! # Example: find everything that is wrong with a configuration
//! ```
//! use kiln_supervisor::{Graph, ServiceSpec};
//! let mut a = ServiceSpec::daemon("a", ["/a"]);
//! a.requires = vec!["b".into(), "c".into()];
//! let mut b = ServiceSpec::daemon("b", ["/b"]);
//! b.after = vec!["a".into()];
//! let problems = Graph::new(&[a, b]).unwrap_err().to_string();
//! assert_eq!(
//!     problems,
//!     "service a: requires \"c\", which does not exist\ndependency cycle: a -> b -> a"
//! );
//! ```
//!
//! [`Sound`] is what of it can start all the same.
//!
//! # Example: a guest's whole `/init`
//! See [`pid1`].
//!
//! # What order means
//! A service starts when all it `requires` are up (a one-shot: done), and all it `wants` and is
//! `after` have had their chance: come up, or failed once. It is stopped before all of these. A
//! required service that restarts does not disturb those that run; one that fails for good fails
//! those that still wait for it; one that is stopped by request has them stopped first.
//!
//! # What always ends
//! A shutdown has one deadline for everything. Services stop in order, each with its own timeout
//! and then `SIGKILL`; shortly before the deadline all that is left is killed regardless of order;
//! at the deadline the machine is finished and names what the kernel does not let go.
#![cfg_attr(not(feature = "unix"), forbid(unsafe_code))]
// what panics in process 1 takes a machine down
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod backoff;
#[cfg(feature = "oci")]
pub mod container;
#[cfg(feature = "control")]
pub mod control;
mod difference;
#[cfg(feature = "serde")]
mod duration;
mod graph;
mod machine;
#[cfg(feature = "pid1")]
pub mod pid1;
mod reload;
#[cfg(feature = "toml")]
pub mod service_file;
mod snapshot;
mod spec;
mod state;
#[cfg(feature = "systemd")]
pub mod systemd;
#[cfg(feature = "unix")]
pub mod unix;
mod vocabulary;

pub use backoff::{Backoff, BackoffPolicy};
pub use difference::Difference;
pub use graph::{
    Dangling, Graph, MAX_SERVICES, Omission, Problem, Problems, Reason, ServiceId, Sound,
};
pub use machine::{Status, Supervisor};
pub use reload::Reload;
pub use snapshot::{Snapshot, SnapshotError};
pub use spec::{
    Account, Address, Bytes, Capability, Cgroup, Condition, Isolation, Kill, Kind, Limits, Log,
    LogFile, Namespace, Part, Probe, Rare, Readiness, Resource, ResourceLimit, Restart,
    ServiceSpec, Signal, Socket, Timer,
};
#[cfg(feature = "oci")]
pub use spec::{Container, RuntimeName};
#[cfg(feature = "seccomp")]
pub use spec::{Seccomp, SystemCall, Violation};
pub use state::{State, StopReason};
pub use vocabulary::{
    Action, Errno, Event, ExitStatus, Failure, Ignored, Input, Name, Outcome, Output, Pid,
    SpawnError, SpawnStep, Time, Token,
};

#[cfg(all(doctest, feature = "pid1"))]
#[doc = include_str!("../README.md")]
struct ReadmeDocTests;
