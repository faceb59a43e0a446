//! Time as the brain sees it: handed in with every step, never read.
//!
//! Absent on purpose: a clock. Correctness never rests on `wall_ms`; it serves record timestamps
//! and retention alone.

/// The moment of one step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    /// Milliseconds on a clock that never steps and counts suspended time. For timers.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch. May jump.
    pub wall_ms: u64,
}
