//! A node's clock: the only place that reads one for the brain, and the only one that a test can
//! move.
//!
//! ```text
//!   CLOCK_BOOTTIME ─────────────────────> monotonic_ms
//!        └────── + advanced ────────────> service_ms
//!   CLOCK_REALTIME + advanced ──────────> wall_ms
//! ```
//!
//! Every node of a process has its own; clones share it. Without an advance it is real time.
//!
//! Invariants: what was advanced never shrinks, so `service_ms` never steps back; it is bounded, so
//! that sums of times do not overflow.
//!
//! Absent on purpose: standing still. Time always flows, or nothing that waits on a socket would
//! ever end.

use bateau_core::clock::Now;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// How far a clock may be ahead of real time, in milliseconds: about a hundred years.
pub const ADVANCED_MS_MAX: u64 = 100 * 365 * 24 * 3_600_000;

/// A handle on a node's clock. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    advanced_ms: AtomicU64,
    moved: Notify,
}

impl Clock {
    /// Real time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The present moment. Cost: two system calls that stay in user space.
    #[must_use]
    pub fn now(&self) -> Now {
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(boot.tv_nsec).unwrap_or(0);
        let monotonic_ms = seconds * 1_000 + nanos / 1_000_000;
        let advanced_ms = self.advanced_ms();
        Now {
            monotonic_ms,
            service_ms: monotonic_ms.saturating_add(advanced_ms),
            wall_ms: real_wall_ms().saturating_add(advanced_ms),
        }
    }

    /// Unix milliseconds, advanced; as if it were 1970 before that.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        real_wall_ms().saturating_add(self.advanced_ms())
    }

    /// How far it is ahead of real time.
    #[must_use]
    pub fn advanced(&self) -> Duration {
        Duration::from_millis(self.advanced_ms())
    }

    /// Waits for `duration` of service time: an advance shortens it.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.after(duration)).await;
    }

    /// The moment, in `service_ms`, that lies so far ahead.
    #[must_use]
    pub fn after(&self, duration: Duration) -> u64 {
        let wait_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.now().service_ms.saturating_add(wait_ms)
    }

    /// Waits for a moment of [`Clock::after`]. An advance brings it nearer.
    pub async fn sleep_until(&self, end_ms: u64) {
        loop {
            // Listens before it looks, so that no advance slips in between.
            let mut moved = std::pin::pin!(self.shared.moved.notified());
            moved.as_mut().enable();
            let left_ms = end_ms.saturating_sub(self.now().service_ms);
            if left_ms == 0 {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(left_ms)) => {}
                () = moved => {}
            }
        }
    }

    /// Moves it so that it is `advanced_ms` ahead of real time, unless it is further already.
    /// Only the shard's loop does that, which fires what becomes due on the way.
    pub(crate) fn advance_to(&self, advanced_ms: u64) {
        self.shared.advanced_ms.fetch_max(advanced_ms.min(ADVANCED_MS_MAX), Ordering::Relaxed);
        self.shared.moved.notify_waiters();
    }

    pub(crate) fn advanced_ms(&self) -> u64 {
        self.shared.advanced_ms.load(Ordering::Relaxed)
    }
}

fn real_wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn an_advance_moves_the_service_and_the_wall_and_leaves_real_time_alone() {
        let (clock, real) = (Clock::new(), Clock::new());
        clock.clone().advance_to(HOUR_MS);
        let (now, other) = (clock.now(), real.now());
        assert!(now.monotonic_ms.abs_diff(other.monotonic_ms) < HOUR_MS / 2);
        assert_eq!(now.service_ms - now.monotonic_ms, HOUR_MS);
        assert!(now.wall_ms - other.wall_ms > HOUR_MS / 2);
        assert_eq!(clock.advanced(), Duration::from_millis(HOUR_MS));
    }

    #[test]
    fn what_was_advanced_never_shrinks_and_has_a_bound() {
        let clock = Clock::new();
        clock.advance_to(HOUR_MS);
        clock.advance_to(1);
        assert_eq!(clock.advanced_ms(), HOUR_MS);
        clock.advance_to(u64::MAX);
        assert_eq!(clock.advanced_ms(), ADVANCED_MS_MAX);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_is_moved_past_its_end() {
        let clock = Clock::new();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_hours(2)).await }
        });
        tokio::task::yield_now().await;
        clock.advance_to(HOUR_MS);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished(), "an hour is left");
        clock.advance_to(2 * HOUR_MS);
        sleeper.await.expect("it wakes");
    }
}
