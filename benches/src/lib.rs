//! Ours and the peers side by side: what the programs in `src/bin` have in common.
//!
//! Each program measures one thing and is built of the same four parts: [`arguments`] (`-n`,
//! `--json`), [`machine`] (what is installed, unpacked and built), [`turns`] (contenders run in turns,
//! so that a change of the machine's load meets all of them alike) and [`report`] (medians and
//! ratios, as a table and as JSON).
//!
//! ```
//! use kiln_benches::report::{Report, Unit};
//! use kiln_benches::turns::{Contender, take_turns};
//!
//! let mut contenders = vec![
//!     Contender::timed("ours", || Ok(drop(vec![0; 16]))),
//!     Contender::timed("theirs", || Ok(drop(vec![0; 4096]))),
//! ];
//! let mut report = Report::new();
//! let samples = take_turns(3, &mut contenders)?;
//! report.contest("make a vector", Unit::Milliseconds, &contenders, samples);
//! print!("{report}");
//! # Ok::<(), kiln_benches::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod arguments;
pub mod bootstrap;
pub mod fetch;
pub mod later;
pub mod machine;
pub mod noise;
pub mod peak;
pub mod repart;
pub mod report;
pub mod servers;
pub mod steps;
pub mod supervision;
pub mod turns;

use std::process::ExitCode;

/// Why a bench came to no figures. It is read by people only.
pub type Error = Box<dyn std::error::Error>;

/// The outcome of a step of a bench.
pub type Result<T> = std::result::Result<T, Error>;

/// An error and everything that led to it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Runs a bench to its end: measures, prints the table, and writes the JSON where that was asked
/// for. An error is printed with the bench's `name`, and nothing is written.
pub fn run<const N: u32>(
    name: &str,
    arguments: &arguments::Common<N>,
    measure: impl FnOnce() -> Result<report::Report>,
) -> ExitCode {
    let outcome = measure().and_then(|report| {
        print!("{report}");
        arguments.json.as_deref().map_or(Ok(()), |path| report.write(path))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}
