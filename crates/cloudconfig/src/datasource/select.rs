//! Which source counts: a machine without a clock. Callers try all sources, tell it what came of each
//! and when, and ask what to do next.

use std::time::Duration;

/// A source that may have something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// Its name, by which it is allowed or not.
    pub name: String,
    /// How long it is waited for, from the beginning.
    pub patience: Duration,
}

impl Candidate {
    /// A source and how long it is waited for.
    #[must_use]
    pub fn new(name: impl Into<String>, patience: Duration) -> Self {
        Self { name: name.into(), patience }
    }
}

/// What a source said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It has something.
    Found(T),
    /// It is not there, or has nothing.
    Absent,
    /// It is there and cannot be read, and why. What is below it counts.
    Failed(String),
}

/// How far a source has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// It is not in the list of those that count, so nobody asks it.
    NotAllowed,
    /// It has not said anything.
    Waiting,
    /// It has something.
    Found,
    /// It has nothing.
    Absent,
    /// It cannot be read, and why.
    Failed(String),
    /// It said nothing in time.
    TimedOut,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Wait for an answer, until then.
    WaitUntil(Duration),
    /// It is decided: see [`Selection::finish`].
    Decided,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<T> {
    /// The source that counts, by its position, and what it has.
    pub winner: Option<(usize, T)>,
    /// What became of each source, in order of precedence. Those below a winner may be waiting still:
    /// whatever they say does not count.
    pub sources: Vec<(String, Progress)>,
}

/// Sources, the first of which counts before all others if it has something.
///
/// An answer counts if it is told before its source's deadline. So what comes out follows from which
/// sources answer in time and not from the order in which they do, and it comes out by the last
/// deadline.
///
/// ```
/// use std::time::Duration;
/// use kiln_cloudconfig::datasource::{Answer, Candidate, Selection, Step};
///
/// let seconds = Duration::from_secs;
/// let sources = vec![
///     Candidate::new("config-drive", seconds(2)),
///     Candidate::new("nocloud", seconds(2)),
///     Candidate::new("http", seconds(30)),
/// ];
/// let mut selection = Selection::new(sources, Some(&["config-drive", "http"]), seconds(100));
/// assert_eq!(selection.to_ask().collect::<Vec<_>>(), [0, 2]);
///
/// selection.answer(2, Answer::Found("from http"), seconds(101));
/// assert_eq!(selection.step(seconds(101)), Step::WaitUntil(seconds(102)));
/// selection.answer(0, Answer::Absent, seconds(101));
/// assert_eq!(selection.step(seconds(101)), Step::Decided);
/// assert_eq!(selection.finish().winner, Some((2, "from http")));
/// ```
#[derive(Debug, Clone)]
pub struct Selection<T> {
    sources: Vec<Source<T>>,
}

#[derive(Debug, Clone)]
struct Source<T> {
    name: String,
    deadline: Duration,
    progress: Progress,
    content: Option<T>,
}

impl<T> Selection<T> {
    /// Begins at a time of the caller's clock with sources in order of precedence. Where a list of
    /// names is given, only these are asked: whoever can plug in a medium that counts is root.
    #[must_use]
    pub fn new(candidates: Vec<Candidate>, allowed: Option<&[&str]>, now: Duration) -> Self {
        let source = |candidate: Candidate| {
            let counts = allowed.is_none_or(|names| names.contains(&candidate.name.as_str()));
            Source {
                deadline: now.saturating_add(candidate.patience),
                progress: if counts { Progress::Waiting } else { Progress::NotAllowed },
                name: candidate.name,
                content: None,
            }
        };
        Self { sources: candidates.into_iter().map(source).collect() }
    }

    /// The positions of those that are to be asked, all at once.
    pub fn to_ask(&self) -> impl Iterator<Item = usize> {
        let asked = |it: &(usize, &Source<T>)| it.1.progress == Progress::Waiting;
        self.sources.iter().enumerate().filter(asked).map(|(at, _)| at)
    }

    /// When a source that was asked stops to count.
    #[must_use]
    pub fn deadline(&self, source: usize) -> Option<Duration> {
        self.sources.get(source).map(|source| source.deadline)
    }

    /// A source has answered. The first answer counts, if it is in time.
    pub fn answer(&mut self, source: usize, answer: Answer<T>, now: Duration) {
        let Some(source) = self.sources.get_mut(source) else { return };
        if source.progress != Progress::Waiting || now >= source.deadline {
            return;
        }
        source.progress = match answer {
            Answer::Found(content) => {
                source.content = Some(content);
                Progress::Found
            }
            Answer::Absent => Progress::Absent,
            Answer::Failed(why) => Progress::Failed(why),
        };
    }

    /// What to do at a time.
    pub fn step(&mut self, now: Duration) -> Step {
        for source in &mut self.sources {
            if source.progress == Progress::Waiting && now >= source.deadline {
                source.progress = Progress::TimedOut;
            }
        }
        // Only those above one that has something can still win over it.
        let above = self.sources.iter().take_while(|source| source.progress != Progress::Found);
        let waiting = above.filter(|source| source.progress == Progress::Waiting);
        match waiting.map(|source| source.deadline).min() {
            Some(deadline) => Step::WaitUntil(deadline),
            None => Step::Decided,
        }
    }

    /// What came out.
    #[must_use]
    pub fn finish(self) -> Outcome<T> {
        let mut winner = None;
        let mut sources = Vec::new();
        for (at, source) in self.sources.into_iter().enumerate() {
            if winner.is_none()
                && let Some(content) = source.content
            {
                winner = Some((at, content));
            }
            sources.push((source.name, source.progress));
        }
        Outcome { winner, sources }
    }
}
