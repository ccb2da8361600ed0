//! `kurma build` for other programs, such as tests: the steps that make the system.

#[cfg(feature = "build")]
pub mod build;
