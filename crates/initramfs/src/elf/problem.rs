//! Why a closure is incomplete.

use std::fmt;

/// Something that a program needs and that is not there, or not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A program that was asked for.
    NoSuchFile {
        /// Its path.
        path: String,
        /// What the system said, or what is there instead.
        reason: String,
    },
    /// A library that is nowhere.
    Missing {
        /// The name that is needed.
        library: String,
        /// Who needs it.
        needed_by: String,
        /// For which program.
        program: String,
        /// Where it was searched, in this order.
        searched: Vec<String>,
        /// What was found and passed over, with the reason.
        passed_over: Vec<String>,
    },
    /// The interpreter of a program or of a script.
    InterpreterMissing {
        /// The interpreter's path.
        interpreter: String,
        /// The program.
        program: String,
    },
    /// A file that is neither an ELF file nor a script.
    NotElf {
        /// Its path.
        path: String,
    },
    /// An ELF file that no loader takes.
    Damaged {
        /// Its path.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchFile { path, reason } => write!(out, "{path}: {reason}"),
            Self::Missing { library, needed_by, program, searched, passed_over } => {
                write!(out, "{library}: needed by {needed_by}")?;
                if program != needed_by {
                    write!(out, " (for {program})")?;
                }
                write!(out, ", not found; searched {}", searched.join(", "))?;
                if !passed_over.is_empty() {
                    write!(out, "; passed over {}", passed_over.join(", "))?;
                }
                Ok(())
            }
            Self::InterpreterMissing { interpreter, program } => {
                write!(out, "{interpreter}: the interpreter of {program}, not found")
            }
            Self::NotElf { path } => {
                write!(out, "{path}: neither an ELF file nor a script with an interpreter")
            }
            Self::Damaged { path, reason } => write!(out, "{path}: {reason}"),
        }
    }
}
