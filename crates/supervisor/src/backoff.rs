//! How restarts are paced.
//!
//! The delay is counted **from the previous start**, not from the end: a service that lived longer
//! than its delay is restarted at once, and a crash loop is slowed whatever it does between.

use std::collections::VecDeque;
use std::time::Duration;

/// How restarts are paced: exponential delay, an optional limit, and what wipes the slate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct BackoffPolicy {
    /// Least time between the first start and the second (default 200 ms).
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub initial: Duration,
    /// What the delay is multiplied by each time (default 2, at least 1).
    pub factor: u32,
    /// Greatest delay (default 30 s).
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub max: Duration,
    /// Least time between an end and the next start (default none): a pause, however long the run
    /// was.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub pause: Duration,
    /// A run of this length (default 10 s) is healthy: the delay starts again from `initial`.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub healthy: Duration,
    /// More than this many restarts within `burst_window` and the service has failed for good;
    /// 0 (default) never gives up.
    pub burst: u32,
    /// See `burst` (default 60 s).
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub burst_window: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            factor: 2,
            max: Duration::from_secs(30),
            pause: Duration::ZERO,
            healthy: Duration::from_secs(10),
            burst: 0,
            burst_window: Duration::from_secs(60),
        }
    }
}

impl BackoffPolicy {
    /// The delay before the restart that follows `failures` restarts in a row.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        let factor = self.factor.max(1).checked_pow(failures).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

/// What has happened to one service so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    pub(crate) failures: u32,
    recent: VecDeque<Duration>,
}

impl Backoff {
    /// Restarts in a row without a healthy run between.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The time of the next start for a run that began at `started` and ended at `now`, or `None`
    /// when the burst limit is passed.
    pub fn next(
        &mut self,
        policy: &BackoffPolicy,
        started: Duration,
        now: Duration,
    ) -> Option<Duration> {
        if now.saturating_sub(started) >= policy.healthy {
            self.failures = 0;
        }
        if policy.burst > 0 {
            let limit = policy.burst as usize;
            while self
                .recent
                .front()
                .is_some_and(|at| now.saturating_sub(*at) > policy.burst_window)
            {
                self.recent.pop_front();
            }
            if self.recent.len() >= limit {
                return None;
            }
            self.recent.push_back(now);
        }
        let delay = policy.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        Some(started.saturating_add(delay).max(now.saturating_add(policy.pause)))
    }

    /// Forgets the past: the service was started or stopped by request.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn doubles_up_to_the_maximum_without_overflow() {
        let policy = BackoffPolicy::default();
        let delays: Vec<_> = (0..10).map(|n| policy.delay(n).as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(policy.delay(u32::MAX), policy.max);
        let flat = BackoffPolicy { factor: 0, ..policy };
        assert_eq!(flat.delay(7), ms(200));
    }

    #[test]
    fn a_pause_is_kept_however_long_the_run_was() {
        let policy = BackoffPolicy { pause: ms(700), ..BackoffPolicy::default() };
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(&policy, ms(0), ms(5)), Some(ms(705)));
        assert_eq!(backoff.next(&policy, ms(705), ms(90_000)), Some(ms(90_700)));
    }

    #[test]
    fn counts_from_the_start_and_forgets_after_a_healthy_run() {
        let policy = BackoffPolicy::default();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(&policy, ms(0), ms(5)), Some(ms(200)));
        assert_eq!(backoff.next(&policy, ms(200), ms(205)), Some(ms(600)));
        // lived longer than its delay (800 ms): at once
        assert_eq!(backoff.next(&policy, ms(600), ms(1500)), Some(ms(1500)));
        assert_eq!(backoff.failures(), 3);
        assert_eq!(backoff.next(&policy, ms(1500), ms(20_000)), Some(ms(20_000)));
        assert_eq!(backoff.failures(), 1);
    }

    #[test]
    fn gives_up_after_a_burst_and_only_then() {
        let policy = BackoffPolicy { burst: 3, burst_window: ms(1000), ..Default::default() };
        let mut backoff = Backoff::default();
        for n in 0..3 {
            assert!(backoff.next(&policy, ms(n), ms(n)).is_some());
        }
        assert_eq!(backoff.clone().next(&policy, ms(900), ms(900)), None);
        assert!(backoff.next(&policy, ms(1500), ms(1500)).is_some());
    }
}
