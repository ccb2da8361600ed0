//! What is refused, and what is done here: lines of JSON, few at once.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

/// Lines at once about what is refused, and how long until there may be one more.
const BURST: u32 = 50;
const EVERY: Duration = Duration::from_millis(200);
/// Characters of what somebody else has written.
const SHOWN: usize = 200;

/// Where lines go.
pub type Sink = Arc<dyn Fn(&str) + Send + Sync>;

/// So many at once, and one more after each while.
#[derive(Debug)]
struct Rate {
    left: u32,
    filled: Instant,
    dropped: u64,
}

impl Rate {
    /// Whether there may be one more; then how many there were none for before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.filled);
        let more = u32::try_from(passed.as_millis() / EVERY.as_millis()).unwrap_or(BURST);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.filled = now;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.dropped = self.dropped.saturating_add(1);
            return None;
        };
        self.left = left;
        Some(std::mem::take(&mut self.dropped))
    }
}

pub(crate) struct Log {
    sink: Sink,
    rate: Mutex<Rate>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("rate", &self.rate).finish_non_exhaustive()
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl Log {
    pub(crate) fn new(sink: Sink) -> Self {
        let rate = Rate { left: BURST, filled: Instant::now(), dropped: 0 };
        Self { sink, rate: Mutex::new(rate) }
    }

    fn write(&self, mut line: Value) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("time".to_owned(), now.as_secs().into());
            fields.retain(|_, value| !value.is_null());
        }
        (self.sink)(&line.to_string());
    }

    /// Somebody was refused.
    pub(crate) fn refused(&self, from: SocketAddr, caller: Option<&str>, why: &str) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dropped) = rate.take(Instant::now()) else { return };
        drop(rate);
        let dropped = (dropped > 0).then_some(dropped);
        let caller = caller.map(short);
        self.write(json!({
            "peer": from.to_string(), "caller": caller, "refused": short(why), "unlogged": dropped,
        }));
    }

    /// Somebody has done something about who is known.
    pub(crate) fn did(&self, from: SocketAddr, caller: Option<&str>, what: &str, whom: &str) {
        let caller = caller.map(short);
        self.write(json!({
            "peer": from.to_string(), "caller": caller, "did": what, "to": short(whom),
        }));
    }

    /// Something has happened of itself.
    pub(crate) fn says(&self, what: &str) {
        self.write(json!({ "says": what }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_lines_become_few() {
        let begun = Instant::now();
        let mut rate = Rate { left: BURST, filled: begun, dropped: 0 };
        let written = (0..1000).filter(|_| rate.take(begun).is_some()).count();
        assert_eq!(written, BURST as usize);
        // the next says how many there were
        assert_eq!(rate.take(begun + EVERY), Some(950));
        assert_eq!(rate.take(begun + EVERY), None);
        assert_eq!(rate.take(begun + EVERY * 1000), Some(1));
        assert_eq!(rate.left, BURST - 1);
    }
}
