//! Which partitions moved from whom to whom while a general assignment is balanced.
//!
//! If a partition of a topic is to move from A to B and another of the same topic has moved from B
//! to A before, then that one goes back instead: two moves become none.
//!
//! Invariant: which of several goes back is decided by the order of Java's hash sets.
//! Absent on purpose: cycles of more than two members.

use std::collections::BTreeMap;

use super::super::java::{self, Buckets};
use super::Slot;

/// From and to.
type Pair = (usize, usize);

/// The partitions of one topic that moved between the same two members, as a Java `HashSet`.
#[derive(Debug)]
struct Moved {
    numbers: Vec<i32>,
    buckets: Buckets,
}

#[derive(Debug)]
pub(super) struct Movements {
    /// By topic: the hash of its name.
    topic_hashes: Vec<i32>,
    pairs: BTreeMap<Slot, Pair>,
    moved: BTreeMap<(usize, Pair), Moved>,
}

impl Movements {
    pub(super) fn new<'a>(topics: impl Iterator<Item = &'a str>) -> Self {
        let topic_hashes = topics.map(java::hash_of_string).collect();
        Self { topic_hashes, pairs: BTreeMap::new(), moved: BTreeMap::new() }
    }

    /// The partition to move instead of `slot`, which is to go from `old` to `new`.
    pub(super) fn instead_of(&self, slot: Slot, old: usize, new: usize) -> Slot {
        let first = self.pairs.get(&slot).map_or(old, |(first, _)| *first);
        let back = self.moved.get(&(slot.topic, (new, first)));
        let number = back.and_then(|moved| {
            let oldest = *moved.buckets.order().first()?;
            moved.numbers.get(oldest).copied()
        });
        number.map_or(slot, |number| Slot { number, ..slot })
    }

    /// Notes a move. One back to where the partition came from is forgotten instead.
    pub(super) fn note(&mut self, slot: Slot, old: usize, new: usize) {
        match self.forget(slot) {
            Some((first, _)) if first == new => {}
            Some((first, _)) => self.add(slot, (first, new)),
            None => self.add(slot, (old, new)),
        }
    }

    fn add(&mut self, slot: Slot, pair: Pair) {
        let topic_hash = self.topic_hashes.get(slot.topic).copied().unwrap_or(0);
        self.pairs.insert(slot, pair);
        let moved = self
            .moved
            .entry((slot.topic, pair))
            .or_insert_with(|| Moved { numbers: Vec::new(), buckets: Buckets::new() });
        moved.numbers.push(slot.number);
        moved.buckets.insert(java::hash_of_partition(topic_hash, slot.number));
    }

    fn forget(&mut self, slot: Slot) -> Option<Pair> {
        let pair = self.pairs.remove(&slot)?;
        let key = (slot.topic, pair);
        if let Some(moved) = self.moved.get_mut(&key) {
            if let Some(index) = moved.numbers.iter().position(|number| *number == slot.number) {
                moved.numbers.remove(index);
                moved.buckets.remove(index);
            }
            if moved.numbers.is_empty() {
                self.moved.remove(&key);
            }
        }
        Some(pair)
    }
}
