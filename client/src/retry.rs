//! How long to wait before the next attempt, under one deadline.
//!
//! ```text
//!   attempt ── fails ── delay(n) ── attempt ── … ── deadline: give up
//!   delay(n): drawn from half to the whole of first × 2^n, at most delay_max
//! ```
//!
//! Invariants
//! - There is one budget, and it is a time: no count of attempts ends a retry.
//! - Half of what is left is never waited away, so the last attempt has time to succeed.
//! - Time and chance come from outside.
//!
//! Absent on purpose: what may be retried. The caller knows if an attempt can have had an effect.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// A further attempt needs at least this much time before the deadline.
pub const ATTEMPT_TIME_MIN: Duration = Duration::from_millis(5);

/// Bounds of the delays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryLimits {
    /// The longest first delay.
    pub first_delay: Duration,
    /// The longest of all.
    pub delay_max: Duration,
}

impl Default for RetryLimits {
    /// 50 ms, doubling up to 1 s: a broker that restarts in a second is found at once, and a
    /// thousand clients do not call it in step.
    fn default() -> Self {
        Self { first_delay: Duration::from_millis(50), delay_max: Duration::from_secs(1) }
    }
}

/// The deadline has come, or is too near for another attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("gave up after {attempts} attempts in {elapsed:?}")]
pub struct DeadlineReached {
    /// Attempts that failed.
    pub attempts: u32,
    /// Time since the start.
    pub elapsed: Duration,
}

/// One operation that is tried until it succeeds or its deadline comes.
#[derive(Clone, Debug)]
pub struct Retry {
    limits: RetryLimits,
    started: Instant,
    deadline: Instant,
    attempts: u32,
}

impl Retry {
    /// Starts the budget.
    #[must_use]
    pub const fn new(limits: RetryLimits, now: Instant, deadline: Instant) -> Self {
        Self { limits, started: now, deadline, attempts: 0 }
    }

    /// When it is all over: the limit of each attempt, too.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Attempts that failed so far.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt has failed: how long to wait before the next.
    ///
    /// - `at_least`: what the broker asked for, or zero. It is cut at the budget like any delay.
    ///
    /// Errors: [`DeadlineReached`], with less than [`ATTEMPT_TIME_MIN`] left.
    pub fn delay_after_failure(
        &mut self,
        now: Instant,
        at_least: Duration,
        random: &mut Rng,
    ) -> Result<Duration, DeadlineReached> {
        let doublings = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        let left = self.deadline.saturating_duration_since(now);
        if left < ATTEMPT_TIME_MIN {
            let elapsed = now.saturating_duration_since(self.started);
            return Err(DeadlineReached { attempts: self.attempts, elapsed });
        }
        let delay = jittered(self.limits.first_delay, doublings, self.limits.delay_max, random);
        Ok(delay.max(at_least).min(left / 2))
    }

    /// Forgets the attempts, not the deadline: for a stream of work in which something succeeded.
    pub const fn reset_delay(&mut self) {
        self.attempts = 0;
    }
}

/// From half to the whole of `first` doubled `doublings` times, at most `delay_max`.
pub(crate) fn jittered(
    first: Duration,
    doublings: u32,
    delay_max: Duration,
    random: &mut Rng,
) -> Duration {
    let factor = 1_u32.checked_shl(doublings.min(31)).unwrap_or(u32::MAX);
    let whole = first.saturating_mul(factor).min(delay_max);
    whole / 2 + (whole / 2).mul_f64(random.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RetryLimits =
        RetryLimits { first_delay: Duration::from_millis(100), delay_max: Duration::from_secs(1) };

    #[test]
    fn delays_double_with_jitter_up_to_their_maximum() {
        let now = Instant::now();
        let mut retry = Retry::new(LIMITS, now, now + Duration::from_secs(3_600));
        let mut random = Rng::with_seed(7);
        for whole_ms in [100, 200, 400, 800, 1_000, 1_000] {
            let delay = retry.delay_after_failure(now, Duration::ZERO, &mut random).unwrap();
            let whole = Duration::from_millis(whole_ms);
            assert!(delay >= whole / 2 && delay <= whole, "{delay:?} of {whole:?}");
        }
        retry.reset_delay();
        let delay = retry.delay_after_failure(now, Duration::ZERO, &mut random).unwrap();
        assert!(delay <= LIMITS.first_delay);
    }

    #[test]
    fn two_clients_that_fail_together_do_not_come_back_together() {
        let now = Instant::now();
        let mut delays: Vec<_> = (0..100)
            .map(|seed| {
                let mut retry = Retry::new(LIMITS, now, now + Duration::from_secs(60));
                retry.delay_after_failure(now, Duration::ZERO, &mut Rng::with_seed(seed)).unwrap()
            })
            .collect();
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 95);
    }

    #[test]
    fn the_deadline_ends_it_and_leaves_time_for_a_last_attempt() {
        let start = Instant::now();
        let deadline = start + Duration::from_millis(700);
        let mut retry = Retry::new(LIMITS, start, deadline);
        let mut random = Rng::with_seed(1);
        let mut now = start;
        let given_up = loop {
            match retry.delay_after_failure(now, Duration::ZERO, &mut random) {
                Ok(delay) => now += delay + Duration::from_millis(1),
                Err(given_up) => break given_up,
            }
            assert!(now < deadline + Duration::from_millis(1));
        };
        assert!(given_up.attempts > 5, "{given_up}");
        assert!(given_up.elapsed > Duration::from_millis(690));
    }

    #[test]
    fn what_the_broker_asks_for_counts_within_the_budget() {
        let now = Instant::now();
        let mut retry = Retry::new(LIMITS, now, now + Duration::from_secs(10));
        let mut random = Rng::with_seed(1);
        let asked = Duration::from_secs(3);
        assert_eq!(retry.delay_after_failure(now, asked, &mut random), Ok(asked));
        let asked = Duration::from_secs(3_600);
        let half = Duration::from_secs(5);
        assert_eq!(retry.delay_after_failure(now, asked, &mut random), Ok(half));
    }

    #[test]
    fn ages_of_failures_overflow_nothing() {
        let now = Instant::now();
        let mut retry = Retry::new(LIMITS, now, now + Duration::from_secs(10_000_000));
        let mut random = Rng::with_seed(1);
        for _ in 0..1_000 {
            let delay = retry.delay_after_failure(now, Duration::ZERO, &mut random).unwrap();
            assert!(delay <= LIMITS.delay_max);
        }
    }
}
