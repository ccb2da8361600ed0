//! Supervisors at work: ours and the peers, each as process 1 of a namespace of its own, with the
//! same services under it.
//!
//! [`programs`] are what is run, [`contender`] says how each supervisor is told of its services,
//! [`world`] is the namespace, [`measures`] are what is looked at.

pub mod contender;
pub mod measures;
pub mod programs;
pub mod world;
