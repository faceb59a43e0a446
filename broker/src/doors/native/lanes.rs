//! What is answered in order within a lane, and in any order across lanes.
//!
//! ```text
//!   lane (topic, partition)   first · second · third     only the first one is asked
//!   lane (topic, partition)   first · second
//! ```
//!
//! A partition that stands still holds up no other one of its stream.
//!
//! Absent on purpose: what an entry is.

use std::collections::VecDeque;

/// Lanes that are kept for the next entries although they are empty.
const EMPTY_LANES_MAX: usize = 16;

/// Entries that wait, by lane.
#[derive(Debug)]
pub struct Lanes<K, T> {
    lanes: Vec<Lane<K, T>>,
}

#[derive(Debug)]
struct Lane<K, T> {
    key: K,
    entries: VecDeque<T>,
}

impl<K, T> Default for Lanes<K, T> {
    fn default() -> Self {
        Self { lanes: Vec::new() }
    }
}

impl<K: PartialEq, T> Lanes<K, T> {
    /// Adds an entry behind those of its lane. Cost: of the lanes in use.
    pub fn push(&mut self, key: K, entry: T) {
        match self.lanes.iter_mut().find(|lane| lane.key == key) {
            Some(lane) => lane.entries.push_back(entry),
            None => self.lanes.push(Lane { key, entries: VecDeque::from([entry]) }),
        }
    }

    /// Asks the first entry of each lane, again and again as long as it has an outcome, and hands
    /// it over with that outcome.
    pub fn drain<R>(
        &mut self,
        mut outcome: impl FnMut(&mut T) -> Option<R>,
        mut hand_over: impl FnMut(T, R),
    ) {
        let mut empty = 0;
        for lane in &mut self.lanes {
            while let Some(first) = lane.entries.front_mut() {
                let Some(found) = outcome(first) else { break };
                if let Some(first) = lane.entries.pop_front() {
                    hand_over(first, found);
                }
            }
            empty += usize::from(lane.entries.is_empty());
        }
        if empty > EMPTY_LANES_MAX {
            self.lanes.retain(|lane| !lane.entries.is_empty());
        }
    }

    /// Whether nothing waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.entries.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_keeps_its_order_and_does_not_hold_up_the_others() {
        let mut lanes = Lanes::default();
        for (key, entry) in [("a", 1), ("b", 2), ("a", 3), ("b", 4), ("c", 5)] {
            lanes.push(key, entry);
        }
        let mut out = Vec::new();
        // Everything is there except for the first entry of lane a.
        lanes.drain(|entry| (*entry != 1).then_some(()), |entry, ()| out.push(entry));
        assert_eq!(out, [2, 4, 5]);
        lanes.drain(|_| Some(()), |entry, ()| out.push(entry));
        assert_eq!(out, [2, 4, 5, 1, 3]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn lanes_that_are_done_with_are_forgotten() {
        let mut lanes = Lanes::default();
        for key in 0..1_000 {
            lanes.push(key, ());
            lanes.drain(|()| Some(()), |(), ()| {});
        }
        assert!(lanes.lanes.len() <= EMPTY_LANES_MAX + 1);
    }
}
