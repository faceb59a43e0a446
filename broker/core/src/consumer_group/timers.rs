//! Deadlines of one coordinator, ordered by time.
//!
//! Invariants
//! - A timer is armed at most once; arming it again moves it.
//! - Finding what is due costs the due timers, not the groups.
//!
//! Absent on purpose: a clock. Times are `service_ms` of [`Now`](crate::clock::Now).

use std::collections::{BTreeMap, BTreeSet};

use super::Name;

/// What a deadline is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A member was silent for its session timeout.
    Session(Name, Name),
    /// An id that was handed out was not used.
    Pending(Name, Name),
    /// The time to join a rebalance is over.
    Join(Name),
    /// The time to sync a generation is over.
    Sync(Name),
    /// Offsets or the whole group may have expired.
    Housekeeping(Name),
}

/// The armed timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<(u64, Timer)>,
    armed: BTreeMap<Timer, u64>,
}

impl Timers {
    /// Sets a timer, wherever it stood before.
    pub(super) fn arm(&mut self, timer: Timer, at: u64) {
        if let Some(before) = self.armed.insert(timer.clone(), at) {
            if before == at {
                return;
            }
            self.queue.remove(&(before, timer.clone()));
        }
        self.queue.insert((at, timer));
    }

    /// Sets a timer unless it is set to an earlier time already.
    pub(super) fn arm_by(&mut self, timer: Timer, at: u64) {
        if self.armed.get(&timer).is_none_or(|before| *before > at) {
            self.arm(timer, at);
        }
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.armed.remove(timer) {
            self.queue.remove(&(at, timer.clone()));
        }
    }

    /// Takes one timer that is due.
    pub(super) fn pop_due(&mut self, service_ms: u64) -> Option<Timer> {
        let (at, _) = self.queue.first()?;
        if *at > service_ms {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.armed.remove(&timer);
        Some(timer)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.queue.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    pub(super) fn armed(&self) -> impl Iterator<Item = &Timer> {
        self.armed.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_armed_again_fires_once_at_its_new_time() {
        let mut timers = Timers::default();
        timers.arm(Timer::Join("a".into()), 10);
        timers.arm(Timer::Join("a".into()), 20);
        timers.arm_by(Timer::Join("a".into()), 30);
        assert_eq!(timers.pop_due(19), None);
        assert_eq!(timers.next_deadline(), Some(20));
        assert_eq!(timers.pop_due(20), Some(Timer::Join("a".into())));
        assert_eq!(timers.pop_due(u64::MAX), None);
    }

    #[test]
    fn a_cancelled_timer_is_silent() {
        let mut timers = Timers::default();
        timers.arm(Timer::Sync("a".into()), 10);
        timers.cancel(&Timer::Sync("a".into()));
        assert_eq!(timers.next_deadline(), None);
    }
}
