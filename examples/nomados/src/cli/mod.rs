//! The verbs beside building and running.

pub(crate) mod artifact;
pub(crate) mod cluster;
pub(crate) mod convert;
