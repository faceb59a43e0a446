//! Time as the brain sees it: handed in with every step, never read.
//!
//! ```text
//!   monotonic_ms   elections, ticks, retries, request deadlines     real time, always
//!   service_ms     sessions and rebalances of consumer groups       real time + what a test added
//!   wall_ms        record timestamps, retention, expiry             likewise; may jump
//! ```
//!
//! A test that advances its broker moves what an application can see, and nothing that keeps the
//! cluster together or that a waiting client counts by itself.
//!
//! Absent on purpose: a clock. Correctness never rests on `wall_ms`; it serves record timestamps
//! and retention alone.

/// The moment of one step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Milliseconds on a clock that never steps and counts suspended time. For timers of the
    /// cluster itself and for what a client waits for.
    pub monotonic_ms: u64,
    /// Milliseconds on a clock that never steps back: `monotonic_ms` and what was advanced. For
    /// timers of the service that an application sees.
    pub service_ms: u64,
    /// Milliseconds since the Unix epoch, advanced like `service_ms`. May jump.
    pub wall_ms: u64,
}

/// A moment at which something is due, in milliseconds on one of the timelines of [`Now`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// On `monotonic_ms`.
    Monotonic(u64),
    /// On `service_ms`.
    Service(u64),
}

impl Deadline {
    /// Milliseconds of real time until then; 0 when it is due.
    #[must_use]
    pub const fn wait_ms(self, now: Now) -> u64 {
        match self {
            Self::Monotonic(at) => at.saturating_sub(now.monotonic_ms),
            Self::Service(at) => at.saturating_sub(now.service_ms),
        }
    }

    /// Whether it has come.
    #[must_use]
    pub const fn is_due(self, now: Now) -> bool {
        self.wait_ms(now) == 0
    }
}
