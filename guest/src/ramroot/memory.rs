//! How much memory there is, and how much of it was in use.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(100);

/// Bytes that can be had without swapping (`MemAvailable` of proc(5)).
pub(super) fn available() -> Result<u64, String> {
    let text =
        fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    field(&text, "MemAvailable").ok_or_else(|| "/proc/meminfo: no MemAvailable".into())
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Looks how much is in use, again and again, and keeps the most.
pub(super) struct Meter {
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Meter {
    pub(super) fn start() -> Self {
        let (most, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (mine, end) = (Arc::clone(&most), Arc::clone(&over));
        let look = move || {
            while !end.load(Ordering::Relaxed) {
                sample(&mine);
                std::thread::sleep(EVERY);
            }
        };
        // without the thread it is known at the end alone
        let _ = std::thread::Builder::new().name("memory".into()).spawn(look);
        Self { most, over }
    }

    /// The most that was in use, in bytes.
    pub(super) fn stop(&self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        sample(&self.most);
        self.most.load(Ordering::Relaxed)
    }
}

fn sample(most: &AtomicU64) {
    let Ok(text) = fs::read_to_string("/proc/meminfo") else { return };
    if let (Some(total), Some(free)) = (field(&text, "MemTotal"), field(&text, "MemAvailable")) {
        most.fetch_max(total.saturating_sub(free), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_meminfo() {
        let text = "MemTotal:        2030692 kB\nMemFree:  1 kB\nMemAvailable:    1799432 kB\n";
        assert_eq!(field(text, "MemAvailable"), Some(1_799_432 << 10));
        assert_eq!(field(text, "Mem"), None);
        assert!(available().unwrap() > 1 << 20);
        let meter = Meter::start();
        assert!(meter.stop() > 1 << 20);
    }
}
