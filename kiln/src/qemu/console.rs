//! What a guest says on its serial console, line by line, with the time of each.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is kept of a guest that does not stop talking.
const MOST_LINES: usize = 20_000;
/// A line longer than this is cut into several.
const LONGEST_LINE: usize = 4096;

/// One line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// When its first byte came.
    pub at: Instant,
    /// The text, without its end; control characters are taken out.
    pub text: String,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    /// How many lines were dropped from the front.
    dropped: usize,
    /// A line that has no end yet: a prompt, for example.
    partial: Vec<u8>,
    partial_since: Option<Instant>,
    closed: bool,
}

/// The console of a machine. Clones show the same console.
#[derive(Debug, Clone, Default)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Console {
    /// Reads a stream to its end in a thread of its own.
    pub(super) fn follow(&self, mut stream: impl Read + Send + 'static) {
        let console = self.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                console.add(buffer.get(..count).unwrap_or_default());
            }
            console.state().closed = true;
            console.shared.1.notify_all();
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked while it held the lock left whole lines behind all the same.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: &[u8]) {
        let now = Instant::now();
        let mut state = self.state();
        for byte in bytes {
            if *byte == b'\n' || state.partial.len() >= LONGEST_LINE {
                state.end_line(now);
            }
            if *byte != b'\n' {
                state.partial_since.get_or_insert(now);
                state.partial.push(*byte);
            }
        }
        drop(state);
        self.shared.1.notify_all();
    }

    /// All lines that are kept, the unfinished one last.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let state = self.state();
        let mut lines = state.lines.clone();
        lines.extend(state.unfinished());
        lines
    }

    /// The last lines as one text.
    #[must_use]
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        let last = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default();
        last.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// The first line at or after line `from` (counted from the start) that contains `text`, with
    /// its number; waits at most `limit`. `None` when it has not come by then or never will,
    /// because the console was closed.
    #[must_use]
    pub fn find(&self, text: &str, from: usize, limit: Duration) -> Option<(usize, Line)> {
        let deadline = Instant::now() + limit;
        let mut next = from;
        let mut state = self.state();
        loop {
            let first = next.saturating_sub(state.dropped);
            let found = state
                .lines
                .iter()
                .enumerate()
                .skip(first)
                .find(|(_, line)| line.text.contains(text));
            if let Some((index, line)) = found {
                return Some((index + state.dropped, line.clone()));
            }
            next = state.dropped + state.lines.len();
            if let Some(line) = state.unfinished().filter(|line| line.text.contains(text)) {
                return Some((next, line));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return None;
            }
            state =
                self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many lines there have been.
    #[must_use]
    pub fn len(&self) -> usize {
        let state = self.state();
        state.dropped + state.lines.len()
    }

    /// Whether nothing has been said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    fn end_line(&mut self, now: Instant) {
        let bytes = std::mem::take(&mut self.partial);
        let at = self.partial_since.take().unwrap_or(now);
        self.lines.push(Line { at, text: clean(&bytes) });
        if self.lines.len() > MOST_LINES {
            let drop = MOST_LINES / 10;
            self.lines.drain(..drop);
            self.dropped += drop;
        }
    }

    fn unfinished(&self) -> Option<Line> {
        self.partial_since.map(|at| Line { at, text: clean(&self.partial) })
    }
}

/// Text without escape sequences and control characters, so that a guest cannot draw on the
/// terminal of whoever reads an error message.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                for inside in characters.by_ref() {
                    if ('\u{40}'..='\u{7e}').contains(&inside) {
                        break;
                    }
                }
            } else {
                characters.next();
            }
        } else if character == '\t' || !character.is_control() {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_whole_or_not_and_later_ones_by_number() {
        let console = Console::default();
        console.add(b"one\r\n\x1b[31mtwo\x1b[0m\nlogin: ");
        let now = Duration::ZERO;
        assert_eq!(console.find("two", 0, now).unwrap().0, 1);
        assert!(console.find("two", 2, now).is_none());
        assert_eq!(console.find("login:", 0, now).unwrap().1.text, "login: ");
        assert_eq!(console.tail(2), "two\nlogin: ");
    }

    #[test]
    fn a_guest_that_does_not_stop_talking_is_bounded() {
        let console = Console::default();
        for _ in 0..MOST_LINES + 10 {
            console.add(b"x\n");
        }
        console.add(&vec![b'y'; LONGEST_LINE * 3]);
        assert!(console.lines().len() <= MOST_LINES + 4);
        assert!(console.lines().iter().all(|line| line.text.len() <= LONGEST_LINE));
        assert_eq!(console.len(), MOST_LINES + 12);
    }
}
