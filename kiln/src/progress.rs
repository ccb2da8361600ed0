//! What a person sees while something takes longer than a second.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps on the terminal's standard error: a spinner while one runs, a line with its time when it
/// is done. Without a terminal: one line when a step begins, so that a log shows where it is.
#[derive(Debug, Clone)]
pub struct Progress {
    mode: Mode,
    /// Steps that run beside each other are drawn below each other.
    bars: MultiProgress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Terminal,
    Log,
    Quiet,
}

impl Progress {
    /// Progress on standard error, drawn if that is a terminal.
    #[must_use]
    pub fn on_stderr() -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let (mode, target) = match terminal {
            true => (Mode::Terminal, ProgressDrawTarget::stderr()),
            false => (Mode::Log, ProgressDrawTarget::hidden()),
        };
        Self { mode, bars: MultiProgress::with_draw_target(target) }
    }

    /// No progress at all.
    #[must_use]
    pub fn quiet() -> Self {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        Self { mode: Mode::Quiet, bars }
    }

    /// Begins a step. It ends when the returned value is done or dropped.
    pub fn step(&self, what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = match self.mode {
            Mode::Terminal => {
                let bar = self.bars.add(ProgressBar::no_length());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                    bar.set_style(style);
                }
                bar.set_message(what.clone());
                bar.enable_steady_tick(Duration::from_millis(100));
                Some(bar)
            }
            Mode::Log => {
                eprintln!("- {what}");
                None
            }
            Mode::Quiet => None,
        };
        Step { what, bar, bars: self.bars.clone(), since: Instant::now() }
    }
}

/// A step under way.
#[derive(Debug)]
#[must_use]
pub struct Step {
    what: String,
    bar: Option<ProgressBar>,
    bars: MultiProgress,
    since: Instant,
}

impl Step {
    /// Says more about what is being done.
    pub fn update(&self, detail: impl AsRef<str>) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {}", self.what, detail.as_ref()));
        }
    }

    /// Ends the step and says how long it took, if that was long enough to notice.
    pub fn done(self) -> Duration {
        let took = self.since.elapsed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            if took >= Duration::from_millis(300) {
                self.bars.suspend(|| eprintln!("✓ {} ({:.1} s)", self.what, took.as_secs_f64()));
            }
        }
        took
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
