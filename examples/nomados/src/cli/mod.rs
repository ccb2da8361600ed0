//! The verbs beside building and running.

pub(crate) mod cluster;
pub(crate) mod convert;
