//! When to send again, and randomness from a seed.

use core::time::Duration;

/// SplitMix64: small, seedable, good enough to spread packets and to number transactions.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) const fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A duration from `0..=most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(f64::from(self.next_u32()) / f64::from(u32::MAX))
    }
}

/// The wait after transmission number `attempt` (from 1): `first` doubled each time up to
/// `longest`, ± 25 %.
pub(crate) fn backoff(
    random: &mut Random,
    first: Duration,
    longest: Duration,
    attempt: u32,
) -> Duration {
    let doubled = first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(longest);
    (doubled - doubled / 4) + random.up_to(doubled / 2)
}

/// When to ask again while renewing or rebinding: half of what is left until `until` (T2 or
/// expiry), but no sooner than `floor` (RFC 2131 section 4.4.5 says 60 s; short leases get a quarter
/// of the phase, so that one lost packet does not lose the lease).
pub(crate) fn halfway(now: Duration, until: Duration, phase: Duration) -> Duration {
    let left = until.saturating_sub(now);
    let floor = (phase / 4).clamp(Duration::from_secs(1), Duration::from_secs(60));
    (now + (left / 2).max(floor)).min(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn backoff_doubles_within_a_quarter_and_stops_at_the_longest() {
        let mut random = Random::new(7);
        for (attempt, nominal) in [(1, 1), (2, 2), (3, 4), (7, 64), (8, 64), (4_000_000_000, 64)] {
            for _ in 0..100 {
                let wait = backoff(&mut random, S(1), S(64), attempt);
                assert!(wait >= S(nominal) * 3 / 4 && wait <= S(nominal) * 5 / 4, "{wait:?}");
            }
        }
    }

    #[test]
    fn jitter_spreads() {
        let mut random = Random::new(1);
        let waits: std::collections::BTreeSet<_> =
            (0..50).map(|_| backoff(&mut random, S(4), S(64), 1).as_millis()).collect();
        assert!(waits.len() > 40, "{}", waits.len());
    }

    #[test]
    fn rfc2131_renewal_waits_half_the_rest_and_at_least_a_minute() {
        assert_eq!(halfway(S(1800), S(3150), S(1350)), S(1800 + 675));
        assert_eq!(halfway(S(3100), S(3150), S(1350)), S(3150));
        assert_eq!(halfway(S(3000), S(3150), S(1350)), S(3075));
        assert_eq!(halfway(S(6), S(10), S(4)), S(8));
    }
}
