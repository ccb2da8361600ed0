//! systemd's unit files as data: syntax, command lines, specifiers, values. What the keys mean is
//! for the caller to know; nothing of systemd is needed.
//!
//! # Example: read what a unit says
//! ```
//! use kiln_unit_file::{Specifiers, Unit, parse_commands};
//!
//! let text = b"[Service]\nExecStart=-/usr/bin/web --name %p \\\n  \"two words\"\n";
//! let unit = Unit::parse("front@blue.service", text)?;
//! let found = &unit.assignments[0];
//! assert_eq!((found.line, found.section.as_str(), found.key.as_str()), (2, "Service", "ExecStart"));
//!
//! let (_, instance) = unit.instance();
//! let specifiers = Specifiers { name: &unit.name, instance };
//! let command = parse_commands(&found.value, &specifiers)?.remove(0);
//! assert!(command.ignore_failure);
//! assert_eq!(command.plain().unwrap(), ["/usr/bin/web", "--name", "front", "two words"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod command;
mod specifier;
mod syntax;
pub mod value;

pub use command::{CommandLine, Word, assignments, is_name, parse_commands, words};
pub use specifier::{Piece, Specifiers};
pub use syntax::{Assignment, Unit};

/// Why a unit file cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is longer than any unit file has to be.
    #[error("{name}: it has more than {limit} bytes, which no unit file needs")]
    TooLong {
        /// The unit.
        name: String,
        /// Bytes that are taken at most.
        limit: usize,
    },
    /// It is not text.
    #[error("{name}:{line}: unit files are UTF-8, and this is not")]
    NotUtf8 {
        /// The unit.
        name: String,
        /// The line, from 1.
        line: usize,
    },
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDocTests;
