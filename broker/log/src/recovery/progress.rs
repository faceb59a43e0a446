//! How far a recovery is, for whoever watches it from another thread.
//!
//! It counts segment files, of all logs together: they are what a recovery walks, and have much the
//! same size.
//!
//! Absent on purpose: times. How long the rest takes is for the reader to guess.

use std::sync::atomic::{AtomicU64, Ordering};

/// Segments recovered of those that there are. One number, so both are always of one moment.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    /// The total in the upper half, what is done in the lower one.
    state: AtomicU64,
}

impl RecoveryProgress {
    /// A recovery of so many segments begins; what was counted before is forgotten.
    pub fn begin(&self, segments: u64) {
        let total = segments.min(u64::from(u32::MAX));
        self.state.store(total << 32, Ordering::Relaxed);
    }

    /// So many more segments are recovered.
    pub fn add(&self, segments: u64) {
        let (done, total) = self.segments();
        let added = segments.min(total.saturating_sub(done));
        self.state.fetch_add(added, Ordering::Relaxed);
    }

    /// Segments that are recovered, and how many there are. Both 0 before the recovery has looked.
    #[must_use]
    pub fn segments(&self) -> (u64, u64) {
        let state = self.state.load(Ordering::Relaxed);
        (state & u64::from(u32::MAX), state >> 32)
    }

    /// The share that is recovered, 0 to 100; 100 only when nothing is left. 0 before the recovery
    /// has looked.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let (done, total) = self.segments();
        // Threads that end at the same moment may count one more than there are.
        (done.min(total) * 100).checked_div(total).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_hundred_percent_only_when_nothing_is_left() {
        let progress = RecoveryProgress::default();
        assert_eq!((progress.segments(), progress.percent()), ((0, 0), 0));
        progress.begin(300);
        let mut seen = vec![progress.percent()];
        for step in [1, 2, 296, 1, 7] {
            progress.add(step);
            seen.push(progress.percent());
        }
        assert_eq!(seen, [0, 0, 1, 99, 100, 100]);
        assert_eq!(progress.segments(), (300, 300));
        progress.begin(2);
        assert_eq!(progress.segments(), (0, 2), "the next recovery begins at its start");
    }
}
