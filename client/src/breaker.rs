//! A circuit breaker for one broker: calls to a broker that does not answer fail at once.
//!
//! ```text
//!            failures_max in a row               open time over
//!   Closed ───────────────────────> Open ──────────────────────> HalfOpen: one probe
//!     ^                               ^                              │        │
//!     │                               └───── the probe fails ────────┘        │
//!     └───────────────────────────────────── the probe succeeds ──────────────┘
//! ```
//!
//! Invariants
//! - While it is open no call passes; when the time is over exactly one does, until its outcome is
//!   known or `probe_time_max` is over.
//! - Outcomes of calls that began before the last change of state change nothing.
//! - Time and chance come from outside.
//!
//! Absent on purpose: what a failure is. Callers report only that a broker cannot be reached or
//! does not answer in time; an error that it answers is proof of its health.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::retry::jittered;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BreakerLimits {
    /// Failures in a row, with no success between, that open it. At least 1.
    pub failures_max: u32,
    /// The longest first time that it stays open; doubles with every probe that fails.
    pub open_time_first: Duration,
    /// The longest time of all.
    pub open_time_max: Duration,
    /// After this a probe without an outcome is taken for lost, and the next call may probe.
    pub probe_time_max: Duration,
}

impl Default for BreakerLimits {
    /// Five failures; 250 ms, doubling to 10 s; a probe has 5 s.
    fn default() -> Self {
        Self {
            failures_max: 5,
            open_time_first: Duration::from_millis(250),
            open_time_max: Duration::from_secs(10),
            probe_time_max: Duration::from_secs(5),
        }
    }
}

/// The call was refused without being tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the broker did not answer {failures} times in a row; it is tried again in {retry_in:?}")]
pub struct BreakerOpen {
    /// Failures in a row.
    pub failures: u32,
    /// Until a call may probe; zero while another call does.
    pub retry_in: Duration,
}

/// The right to make one call, to be given back with its outcome.
///
/// One that is dropped counts as nothing, and as a lost probe if it was one.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "report the outcome with Breaker::report"]
pub struct Permit {
    generation: u64,
}

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The broker answered, be it with an error.
    Answered,
    /// It could not be reached, or not in time.
    Unreachable,
}

/// What a breaker does with the next call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerState {
    /// It passes.
    Closed,
    /// It is refused.
    Open,
    /// One call is out to see, the others are refused.
    HalfOpen,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probe_until: Instant },
}

/// The breaker of one broker.
#[derive(Clone, Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    state: State,
    /// Failures in a row.
    failures: u32,
    /// Times in a row that it opened.
    openings: u32,
    /// Counts changes of state, so that late outcomes are known for what they are.
    generation: u64,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub const fn new(limits: BreakerLimits) -> Self {
        Self { limits, state: State::Closed, failures: 0, openings: 0, generation: 0 }
    }

    /// What the next call meets. An open time that is over shows as half open.
    #[must_use]
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Asks to make a call.
    ///
    /// Errors: [`BreakerOpen`].
    pub fn try_call(&mut self, now: Instant) -> Result<Permit, BreakerOpen> {
        match self.state {
            State::Closed => {}
            State::Open { until } if now < until => {
                return Err(self.refusal(until.saturating_duration_since(now)));
            }
            State::HalfOpen { probe_until } if now < probe_until => {
                return Err(self.refusal(Duration::ZERO));
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                let probe_until = after(now, self.limits.probe_time_max);
                self.change(State::HalfOpen { probe_until });
            }
        }
        Ok(Permit { generation: self.generation })
    }

    /// Takes the outcome of a call.
    pub fn report(&mut self, permit: Permit, outcome: Outcome, now: Instant, random: &mut Rng) {
        if permit.generation != self.generation {
            return;
        }
        match (outcome, self.state) {
            (Outcome::Answered, State::Closed) => self.failures = 0,
            (Outcome::Answered, State::Open { .. } | State::HalfOpen { .. }) => {
                self.failures = 0;
                self.openings = 0;
                self.change(State::Closed);
            }
            (Outcome::Unreachable, state) => {
                self.failures = self.failures.saturating_add(1);
                let probing = !matches!(state, State::Closed);
                if probing || self.failures >= self.limits.failures_max {
                    self.open(now, random);
                }
            }
        }
    }

    fn open(&mut self, now: Instant, random: &mut Rng) {
        let limits = &self.limits;
        let time = jittered(limits.open_time_first, self.openings, limits.open_time_max, random);
        self.openings = self.openings.saturating_add(1);
        self.change(State::Open { until: after(now, time) });
    }

    const fn change(&mut self, state: State) {
        self.state = state;
        self.generation = self.generation.wrapping_add(1);
    }

    const fn refusal(&self, retry_in: Duration) -> BreakerOpen {
        BreakerOpen { failures: self.failures, retry_in }
    }
}

/// A limit of centuries means for ever, and is no reason to fail.
fn after(now: Instant, time: Duration) -> Instant {
    const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3_600);
    now.checked_add(time).unwrap_or_else(|| now + FOR_EVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BreakerLimits = BreakerLimits {
        failures_max: 3,
        open_time_first: Duration::from_secs(1),
        open_time_max: Duration::from_secs(4),
        probe_time_max: Duration::from_secs(5),
    };

    struct Story {
        breaker: Breaker,
        now: Instant,
        random: Rng,
    }

    impl Story {
        fn new() -> Self {
            let random = Rng::with_seed(3);
            Self { breaker: Breaker::new(LIMITS), now: Instant::now(), random }
        }

        fn call(&mut self, outcome: Outcome) -> Result<(), BreakerOpen> {
            let permit = self.breaker.try_call(self.now)?;
            self.breaker.report(permit, outcome, self.now, &mut self.random);
            Ok(())
        }

        fn opened() -> Self {
            let mut story = Self::new();
            for _ in 0..3 {
                story.call(Outcome::Unreachable).unwrap();
            }
            story
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_starts_the_count_again() {
        let mut story = Story::new();
        for outcome in [Outcome::Unreachable, Outcome::Unreachable, Outcome::Answered] {
            story.call(outcome).unwrap();
        }
        for _ in 0..3 {
            assert_eq!(story.breaker.state(story.now), BreakerState::Closed);
            story.call(Outcome::Unreachable).unwrap();
        }
        assert_eq!(story.breaker.state(story.now), BreakerState::Open);
        let refused = story.call(Outcome::Answered).unwrap_err();
        assert_eq!(refused.failures, 3);
        assert!(refused.retry_in >= Duration::from_millis(500));
        assert!(refused.retry_in <= Duration::from_secs(1));
    }

    #[test]
    fn one_probe_passes_when_the_time_is_over_and_its_answer_closes_it() {
        let mut story = Story::opened();
        story.wait(Duration::from_secs(1));
        let probe = story.breaker.try_call(story.now).unwrap();
        let refused = story.breaker.try_call(story.now).unwrap_err();
        assert_eq!(refused.retry_in, Duration::ZERO);
        story.breaker.report(probe, Outcome::Answered, story.now, &mut story.random);
        assert_eq!(story.breaker.state(story.now), BreakerState::Closed);
        // The count starts at zero again.
        story.call(Outcome::Unreachable).unwrap();
        assert_eq!(story.breaker.state(story.now), BreakerState::Closed);
    }

    #[test]
    fn probes_that_fail_double_the_time_up_to_its_maximum() {
        let mut story = Story::opened();
        for whole_s in [1, 2, 4, 4] {
            let whole = Duration::from_secs(whole_s);
            let refused = story.breaker.try_call(story.now).unwrap_err();
            assert!(refused.retry_in >= whole / 2 && refused.retry_in <= whole, "{refused}");
            story.wait(refused.retry_in);
            story.call(Outcome::Unreachable).unwrap();
        }
    }

    #[test]
    fn a_lost_probe_does_not_keep_it_half_open_for_ever() {
        let mut story = Story::opened();
        story.wait(Duration::from_secs(1));
        let lost = story.breaker.try_call(story.now).unwrap();
        story.wait(LIMITS.probe_time_max);
        story.call(Outcome::Answered).unwrap();
        assert_eq!(story.breaker.state(story.now), BreakerState::Closed);
        // Its outcome comes late and belongs to another time.
        story.breaker.report(lost, Outcome::Unreachable, story.now, &mut story.random);
        assert_eq!(story.breaker.state(story.now), BreakerState::Closed);
    }

    #[test]
    fn calls_that_fail_after_it_opened_do_not_open_it_further() {
        let mut story = Story::new();
        let calls: Vec<_> = (0..256).map(|_| story.breaker.try_call(story.now).unwrap()).collect();
        for call in calls {
            story.breaker.report(call, Outcome::Unreachable, story.now, &mut story.random);
        }
        let refused = story.breaker.try_call(story.now).unwrap_err();
        assert_eq!(refused.failures, 3);
        assert!(refused.retry_in <= LIMITS.open_time_first);
    }
}
