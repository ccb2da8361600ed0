//! NomadOS: a machine whose only job is to run Nomad.
//!
//! What is NomadOS's own stands here: which files, modules and settings it is made of, and how its
//! Nomad is talked to. How an image is made of them is `kiln`'s affair.

pub mod agent;
pub mod artifact;
pub mod build;
pub mod cluster;
pub mod config;
pub mod linux;
pub mod run;
pub mod unit;
