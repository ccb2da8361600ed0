//! Contenders that take turns.

use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Result;

/// One of those compared. A run of it gives a sample: seconds, or whatever else the bench makes
/// seconds of.
pub struct Contender<'run, T = f64> {
    who: String,
    run: Box<dyn FnMut() -> Result<T> + 'run>,
}

impl<T> std::fmt::Debug for Contender<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contender").field("who", &self.who).finish_non_exhaustive()
    }
}

impl<'run, T> Contender<'run, T> {
    /// A contender that measures itself.
    pub fn new(who: impl Into<String>, run: impl FnMut() -> Result<T> + 'run) -> Self {
        Self { who: who.into(), run: Box::new(run) }
    }

    /// Its name in the table.
    #[must_use]
    pub fn who(&self) -> &str {
        &self.who
    }
}

impl<'run> Contender<'run> {
    /// A contender whose sample is the wall time of the whole run.
    pub fn timed(who: impl Into<String>, mut run: impl FnMut() -> Result<()> + 'run) -> Self {
        Self::new(who, move || seconds(&mut run))
    }
}

/// The wall time of `run`, in seconds.
///
/// # Errors
/// That of `run`.
pub fn seconds(run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64())
}

/// What a run took, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// From start to end.
    pub wall: f64,
    /// User and system time of all threads, and of the processes that were started and waited for.
    pub cpu: f64,
}

/// The wall and CPU time of `run`.
///
/// # Errors
/// That of `run`.
pub fn spent(run: impl FnOnce() -> Result<()>) -> Result<Spent> {
    let cpu = cpu_seconds()?;
    let wall = seconds(run)?;
    Ok(Spent { wall, cpu: cpu_seconds()? - cpu })
}

fn cpu_seconds() -> Result<f64> {
    let seconds = |usage: Usage| {
        let in_all: TimeVal = usage.user_time() + usage.system_time();
        in_all.num_microseconds() as f64 / 1e6
    };
    let (own, children) = (UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN);
    Ok(seconds(getrusage(own)?) + seconds(getrusage(children)?))
}

/// Runs each contender once in each of `rounds` rounds. The samples of each, in the order of the
/// contenders.
///
/// # Errors
/// The first error of a run, with the contender's name.
pub fn take_turns<T>(rounds: u32, contenders: &mut [Contender<'_, T>]) -> Result<Vec<Vec<T>>> {
    let mut samples: Vec<Vec<T>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            let sample =
                (contender.run)().map_err(|error| format!("{}: {error}", contender.who))?;
            samples.push(sample);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn runs_are_interleaved_and_errors_named() {
        let order = RefCell::new(String::new());
        let mut two = ["a", "b"].map(|who| {
            let order = &order;
            Contender::timed(who, move || {
                order.borrow_mut().push_str(who);
                Ok(())
            })
        });
        let samples = take_turns(3, &mut two).unwrap();
        assert_eq!(samples.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(*order.borrow(), "ababab");
        let mut bad = [Contender::timed("bad", || Err("no".into()))];
        assert_eq!(take_turns(1, &mut bad).unwrap_err().to_string(), "bad: no");
    }
}
