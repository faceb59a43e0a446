//! The node's clock: the only place that reads one for the brain.
//!
//! Absent on purpose: sleeping, which is tokio's.

use bateau_core::clock::Now;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds on `CLOCK_BOOTTIME`, which counts suspended time, and on the wall clock.
#[must_use]
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(boot.tv_nsec).unwrap_or(0);
    Now { monotonic_ms: seconds * 1_000 + nanos / 1_000_000, wall_ms: wall_ms() }
}

/// Unix milliseconds; 0 before 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
