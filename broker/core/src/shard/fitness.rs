//! Whether this node is fit to lead: one that is there and slow holds up everybody, for all of its
//! partitions, and its followers see nothing wrong with it.
//!
//! ```text
//!   a write ──> flushed ──(slow for a third of 10 s)──> says so ──(5 s)──┐
//!   the disk is full, the node stops ────────────────────────────────────┴──> gives way
//!                                    room again, or quick for 30 s ──────────> leads again
//! ```
//!
//! Invariants
//! - One write at a time is timed, from the decision until the answer: that costs the same under
//!   any load, and shows a slow disk as well as a processor that others have.
//! - Where all are slow, as on one disk, nobody gives way: each has said so before anybody acts.
//! - Who is unfit leads on where nobody else can; it acknowledges as before, and votes.
//!
//! Absent on purpose: whether others are fit. Each says so of itself, with its signs of life.

use super::{Effect, Effects, Shard};
use crate::clock::Now;
use bateau_protocol::ids::{Incarnation, NodeId};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// Milliseconds that are looked back on.
const WINDOW_MS: u64 = 10_000;
/// Milliseconds between two looks.
const LOOK_MS: u64 = 1_000;
/// Writes that are remembered; of more, the newest.
const WRITES_MAX: usize = 1_024;
/// Milliseconds from which on a write is slow.
const SLOW_MS_MIN: u64 = 50;
/// Milliseconds of the window that slow writes may take.
const SLOW_IN_WINDOW_MS_MAX: u64 = WINDOW_MS / 3;
/// Milliseconds that half of the writes may take where there are few, of so many at least.
const MEDIAN_MS_MAX: u64 = 100;
const MEDIAN_OF_MIN: usize = 5;
/// Milliseconds behind which a write that is not flushed counts as it is.
const STUCK_MS: u64 = 5_000;
/// Milliseconds between saying that this node is slow and acting on it: what slows all of them is
/// seen by all of them within that time.
const HEARD_MS: u64 = 5_000;
/// Milliseconds that a node must not have been slow until it leads again.
const CALM_MS: u64 = 30_000;

/// Why a node gives way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// Its process ends.
    Stopping,
    /// Its disk has no room for records.
    DiskFull,
    /// Its writes take long to be flushed: its disk is slow, or its processor is short.
    Slow {
        /// Half of the last seconds' writes took so long, in milliseconds.
        median_ms: u64,
        /// The slow ones took so much of the last ten seconds, in milliseconds.
        slow_ms: u64,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => write!(f, "it stops"),
            Self::DiskFull => write!(f, "its disk has no room for records"),
            Self::Slow { median_ms, slow_ms } => write!(
                f,
                "writes take {median_ms} ms to be flushed in the middle, and {slow_ms} of the last \
                 {WINDOW_MS} ms went on those of {SLOW_MS_MIN} ms and more"
            ),
        }
    }
}

/// How this node does.
#[derive(Debug, Default)]
pub(super) struct Fitness {
    writes: Writes,
    /// The write that is being timed, and since when.
    timed: Option<(Incarnation, u64, u64)>,
    next_look_ms: u64,
    /// When it was last found unfit, on the monotonic clock in milliseconds.
    unfit_ms: u64,
    gives_way: Option<Unfit>,
    /// Whether leaderships go elsewhere.
    hands_over: bool,
    /// Since when it gives way.
    since_ms: u64,
    /// Other nodes that say that they give way.
    giving_way: BTreeSet<NodeId>,
}

impl Fitness {
    /// Whether leaderships go elsewhere.
    pub fn hands_over(&self) -> bool {
        self.hands_over
    }

    /// Whether another node gives its leaderships away, as it says.
    pub fn is_giving_way(&self, node: NodeId) -> bool {
        self.giving_way.contains(&node)
    }

    pub fn hear_giving_way(&mut self, nodes: BTreeSet<NodeId>) {
        self.giving_way = nodes;
    }

    pub fn note_persisted(&mut self, incarnation: Incarnation, ready: u64, now: Now) {
        if let Some((timed, number, since_ms)) = self.timed
            && timed == incarnation
            && number <= ready
        {
            self.timed = None;
            self.writes.note(now.monotonic_ms, now.monotonic_ms.saturating_sub(since_ms));
        }
    }

    /// Times the first write of these effects, where none is timed.
    fn time_one(&mut self, effects: &Effects, now: Now) {
        if self.timed.is_none() {
            self.timed = effects.iter().find_map(|effect| match effect {
                Effect::Persist { incarnation, ready, .. } => {
                    Some((*incarnation, *ready, now.monotonic_ms))
                }
                _ => None,
            });
        }
    }

    /// What this node says, where it has said `had` and `unfit` speaks against leading now.
    fn says(had: Option<Unfit>, unfit: Option<Unfit>, is_calm: bool) -> Option<Unfit> {
        match (had, unfit) {
            (_, Some(Unfit::Stopping | Unfit::DiskFull)) | (None, _) => unfit,
            // There is room only well above the limit: what is freed stays so for a while.
            (Some(Unfit::DiskFull), _) => unfit,
            (Some(_), None) if is_calm => None,
            (Some(_), _) => had,
        }
    }

    /// What speaks against leading, just now.
    fn judge(&mut self, now_ms: u64) -> Option<Unfit> {
        if let Some((.., since_ms)) = self.timed
            && let waits_ms = now_ms.saturating_sub(since_ms)
            && waits_ms >= STUCK_MS
        {
            // It may have been dropped with its replica: then the next one is timed.
            self.timed = None;
            self.writes.note(now_ms, waits_ms);
        }
        self.writes.judge(now_ms)
    }
}

/// When writes of the last seconds were flushed, and how long each took, in milliseconds.
#[derive(Debug, Default)]
struct Writes(VecDeque<(u64, u64)>);

impl Writes {
    fn note(&mut self, at_ms: u64, took_ms: u64) {
        if self.0.len() == WRITES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((at_ms, took_ms));
    }

    fn judge(&mut self, now_ms: u64) -> Option<Unfit> {
        while self.0.front().is_some_and(|(at_ms, _)| at_ms + WINDOW_MS < now_ms) {
            self.0.pop_front();
        }
        let mut took: Vec<u64> = self.0.iter().map(|(_, took_ms)| *took_ms).collect();
        took.sort_unstable();
        let median_ms = took.get(took.len() / 2).copied()?;
        let slow_ms = took.iter().filter(|took_ms| **took_ms >= SLOW_MS_MIN).sum();
        let is_slow = slow_ms > SLOW_IN_WINDOW_MS_MAX
            || (took.len() >= MEDIAN_OF_MIN && median_ms > MEDIAN_MS_MAX);
        is_slow.then_some(Unfit::Slow { median_ms, slow_ms })
    }
}

impl Shard {
    /// Looks whether this node should lead, and says so when it changes.
    pub(super) fn weigh(&mut self, now: Now, effects: &mut Effects) {
        self.fitness.time_one(effects, now);
        let at_once = if self.leaving.has_begun() {
            Some(Unfit::Stopping)
        } else {
            self.is_disk_full.then_some(Unfit::DiskFull)
        };
        let now_ms = now.monotonic_ms;
        let is_new = at_once.is_some() && self.fitness.gives_way.is_none();
        if now_ms < self.fitness.next_look_ms && !is_new {
            return;
        }
        self.fitness.next_look_ms = now_ms + LOOK_MS;
        let unfit = at_once.or_else(|| self.fitness.judge(now_ms));
        if unfit.is_some() {
            self.fitness.unfit_ms = now_ms;
        }
        let is_calm = now_ms >= self.fitness.unfit_ms + CALM_MS;
        let had = self.fitness.gives_way;
        self.fitness.gives_way = Fitness::says(had, unfit, is_calm);
        if had.is_none() {
            self.fitness.since_ms = now_ms;
        }
        let was_heard = now_ms >= self.fitness.since_ms + HEARD_MS;
        self.fitness.hands_over = match self.fitness.gives_way {
            None => false,
            Some(Unfit::Slow { .. }) => was_heard,
            Some(Unfit::Stopping | Unfit::DiskFull) => true,
        };
        if self.fitness.gives_way != had {
            effects.push(Effect::GivesWay(self.fitness.gives_way));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(monotonic_ms: u64) -> Now {
        Now { monotonic_ms, ..Now::default() }
    }

    fn written(writes: &mut Writes, (from_ms, until_ms): (u64, u64), every_ms: u64, took_ms: u64) {
        for at_ms in (from_ms..until_ms).step_by(every_ms as usize) {
            writes.note(at_ms, took_ms);
        }
    }

    #[test]
    fn a_disk_whose_every_flush_is_slow_says_so_under_load_and_nearly_idle() {
        let mut writes = Writes::default();
        written(&mut writes, (0, 10_000), 5, 2);
        assert_eq!(writes.judge(10_000), None);
        written(&mut writes, (10_000, 13_000), 300, 300);
        assert_eq!(writes.judge(13_000), None, "three seconds are a hiccup");
        written(&mut writes, (13_000, 14_000), 300, 300);
        let slow = writes.judge(14_000);
        assert_eq!(slow, Some(Unfit::Slow { median_ms: 2, slow_ms: 14 * 300 }));
        assert_eq!(writes.judge(60_000), None, "nothing is known any more");
        written(&mut writes, (60_000, 70_000), 2_000, 200);
        let slow = writes.judge(70_000);
        assert_eq!(slow, Some(Unfit::Slow { median_ms: 200, slow_ms: 1_000 }));
    }

    #[test]
    fn a_processor_that_is_held_back_shows_in_every_fifth_write() {
        let mut writes = Writes::default();
        for round in 0..50 {
            written(&mut writes, (200 * round, 200 * round + 100), 20, 3);
            writes.note(200 * round + 199, 85);
        }
        let slow = writes.judge(10_000);
        assert_eq!(slow, Some(Unfit::Slow { median_ms: 3, slow_ms: 50 * 85 }));
    }

    #[test]
    fn one_slow_write_among_many_or_alone_is_nothing() {
        let mut writes = Writes::default();
        writes.note(1_000, 3_000);
        assert_eq!(writes.judge(1_000), None);
        written(&mut writes, (1_000, 9_000), 10, 4);
        assert_eq!(writes.judge(9_000), None);
    }

    #[test]
    fn a_node_with_room_again_leads_at_once_and_one_that_was_slow_when_it_is_calm() {
        let slow = |slow_ms| Some(Unfit::Slow { median_ms: 2, slow_ms });
        let full = Some(Unfit::DiskFull);
        assert_eq!(Fitness::says(None, full, false), full);
        assert_eq!(Fitness::says(full, None, false), None, "there is room again");
        assert_eq!(Fitness::says(full, slow(9_000), false), slow(9_000), "and it is slow");
        assert_eq!(Fitness::says(slow(9_000), None, false), slow(9_000), "quick, but not for long");
        assert_eq!(Fitness::says(slow(9_000), slow(5_000), true), slow(9_000), "said once");
        assert_eq!(Fitness::says(slow(9_000), full, true), full);
        assert_eq!(Fitness::says(slow(9_000), None, true), None);
    }

    #[test]
    fn a_write_that_is_not_flushed_says_it_without_others() {
        let mut fitness = Fitness::default();
        let log = Incarnation::new(7);
        fitness.timed = Some((log, 3, 1_000));
        assert_eq!(fitness.judge(5_000), None);
        let stuck = Some(Unfit::Slow { median_ms: 5_000, slow_ms: 5_000 });
        assert_eq!(fitness.judge(6_000), stuck);
        fitness.timed = Some((log, 4, 7_000));
        fitness.note_persisted(log, 3, at(7_010));
        assert!(fitness.timed.is_some(), "an earlier one");
        fitness.note_persisted(log, 4, at(7_020));
        assert!(fitness.timed.is_none());
    }
}
