//! How a running service is told to read its own configuration again.

use crate::spec::Signal;

/// How a running service is told to read its own configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Reload {
    /// By a signal to its main process, which has to know it: a service without a handler for
    /// `SIGHUP` dies of it.
    Signal(Signal),
    /// By a program that talks to it, with its environment, user and log, and its main process's
    /// number in `MAINPID`.
    Command(Vec<String>),
}
