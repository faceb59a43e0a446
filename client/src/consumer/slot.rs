//! How far one assigned partition has come: received, delivered, acknowledged, stored.
//!
//! ```text
//!   stored ≤ acknowledged ≤ delivered (position) ≤ received
//!              ▲ all before it are acknowledged, whatever the order of the acks
//! ```
//!
//! Invariants
//! - A position that is stored has nothing before it that was delivered and not acknowledged.
//! - What was received before a seek or a rebalance is not delivered after it: it is of an older
//!   epoch.
//! - A delivery counts in the round that it was made in: after the position went elsewhere, only
//!   those before it do.
//!
//! Absent on purpose: records.

use bateau_protocol::ids::TopicId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A partition that is, or was, assigned. Shared with its deliveries.
#[derive(Debug)]
pub(crate) struct Slot {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub partition: i32,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Rises when what was received is not to be delivered any more.
    pub epoch: u64,
    /// Rises when the position goes elsewhere: what was delivered before may be delivered again.
    pub round: u64,
    /// The next offset to deliver; `None` while it is looked up.
    pub position: Option<i64>,
    /// The next offset to be received.
    pub received: i64,
    pub is_revoked: bool,
    /// The position that the group has stored, as far as we know; `None` for none.
    pub stored: Option<i64>,
    acks: Acks,
}

/// Deliveries that wait for their `ack`.
#[derive(Debug, Default)]
struct Acks {
    /// In the order of offsets.
    delivered: VecDeque<Delivered>,
    /// Behind the last one of those that are acknowledged without a gap.
    acknowledged: Option<i64>,
}

#[derive(Debug)]
struct Delivered {
    offset: i64,
    /// Of the delivery that counts: there may be older ones of the same record.
    round: u64,
    is_acknowledged: bool,
}

impl Slot {
    pub fn new(topic: Arc<str>, topic_id: TopicId, partition: i32) -> Arc<Self> {
        Arc::new(Self { topic, topic_id, partition, progress: Mutex::default() })
    }

    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Begins, or goes on, at this offset.
    pub fn begin_at(&mut self, offset: i64) {
        self.position = Some(offset);
        self.received = offset;
    }

    /// Nothing that was received is delivered any more. Deliveries may still be acknowledged.
    pub fn suspend(&mut self) {
        self.epoch += 1;
        if let Some(position) = self.position {
            self.received = position;
        }
    }

    /// Goes on elsewhere: what is in the application's hands does not count any more.
    pub fn jump(&mut self, offset: i64) {
        self.suspend();
        self.round += 1;
        self.begin_at(offset);
        self.acks = Acks::default();
    }

    /// Goes back to a record that was delivered in this round, to deliver it and all behind it
    /// again. `false` where that happens anyway.
    ///
    /// - `is_tracked`: whether its `ack` is expected.
    pub fn go_back(&mut self, offset: i64, round: u64, is_tracked: bool) -> bool {
        let delivered = &mut self.acks.delivered;
        if is_tracked {
            let place = delivered.binary_search_by_key(&offset, |one| one.offset);
            let is_there =
                |place: &usize| delivered.get(*place).is_some_and(|one| one.round == round);
            let Some(place) = place.ok().filter(is_there) else { return false };
            delivered.truncate(place);
            self.round += 1;
        } else if self.position.is_none_or(|next| next <= offset) || self.round != round {
            return false;
        }
        self.suspend();
        self.begin_at(offset);
        true
    }

    /// A record is delivered.
    ///
    /// - `is_tracked`: whether an `ack` is expected.
    pub fn deliver(&mut self, offset: i64, is_tracked: bool) {
        self.position = Some(offset.saturating_add(1));
        if is_tracked {
            let (round, is_acknowledged) = (self.round, false);
            self.acks.delivered.push_back(Delivered { offset, round, is_acknowledged });
        }
    }

    /// A delivery was dealt with; `false` where it does not count any more.
    pub fn acknowledge(&mut self, offset: i64, round: u64) -> bool {
        let Acks { delivered, acknowledged } = &mut self.acks;
        let place = delivered.binary_search_by_key(&offset, |one| one.offset);
        let Some(one) = place.ok().and_then(|place| delivered.get_mut(place)) else { return false };
        if one.round != round {
            return false;
        }
        one.is_acknowledged = true;
        while let Some(one) = delivered.pop_front_if(|one| one.is_acknowledged) {
            *acknowledged = Some(one.offset.saturating_add(1));
        }
        true
    }

    /// Deliveries that are not acknowledged, or behind such a one.
    pub fn unacknowledged(&self) -> usize {
        self.acks.delivered.len()
    }

    /// What is to be stored, if it is not stored yet.
    pub fn to_store(&self) -> Option<i64> {
        self.acks.acknowledged.filter(|offset| self.stored != Some(*offset))
    }

    /// Forgets who has what: another member may have had the partition.
    pub fn revoke(&mut self) {
        self.suspend();
        self.is_revoked = true;
        self.acks = Acks::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_to_store_waits_for_the_slowest_delivery() {
        let mut progress = Progress::default();
        progress.begin_at(10);
        for offset in [10, 11, 15] {
            progress.deliver(offset, true);
        }
        assert_eq!(progress.position, Some(16));
        assert!(progress.acknowledge(15, 0));
        assert!(progress.acknowledge(11, 0));
        assert_eq!(progress.to_store(), None);
        assert!(progress.acknowledge(10, 0));
        assert_eq!(progress.to_store(), Some(16));
        progress.stored = Some(16);
        assert_eq!((progress.to_store(), progress.unacknowledged()), (None, 0));
    }

    #[test]
    fn an_ack_of_before_a_jump_does_not_count() {
        let mut progress = Progress::default();
        progress.begin_at(10);
        progress.deliver(10, true);
        progress.jump(50);
        assert!(!progress.acknowledge(10, 0));
        assert_eq!((progress.position, progress.received), (Some(50), 50));
        assert_eq!(progress.to_store(), None);
    }

    #[test]
    fn what_was_received_and_not_delivered_is_received_again_after_a_suspension() {
        let mut progress = Progress::default();
        progress.begin_at(10);
        progress.received = 40;
        progress.deliver(10, true);
        let epoch = progress.epoch;
        progress.suspend();
        assert_ne!(progress.epoch, epoch);
        assert_eq!(progress.received, 11);
        assert!(progress.acknowledge(10, 0), "it is still in the application's hands");
        assert_eq!(progress.to_store(), Some(11));
    }

    #[test]
    fn going_back_delivers_again_and_older_deliveries_do_not_count() {
        let mut progress = Progress::default();
        progress.begin_at(10);
        for offset in [10, 11, 12, 13] {
            progress.deliver(offset, true);
        }
        assert!(progress.acknowledge(12, 0));
        assert!(progress.go_back(11, 0, true));
        assert!(!progress.go_back(13, 0, true), "it comes again anyway");
        assert_eq!((progress.position, progress.received), (Some(11), 11));
        assert!(progress.acknowledge(10, 0), "it was before");
        assert_eq!(progress.to_store(), Some(11));
        progress.deliver(11, true);
        progress.deliver(12, true);
        assert!(!progress.acknowledge(11, 0), "the delivery of before");
        assert!(progress.acknowledge(12, 1) && progress.acknowledge(11, 1));
        assert_eq!(progress.to_store(), Some(13));
    }

    #[test]
    fn going_back_never_skips_a_record_where_nothing_is_tracked() {
        let mut progress = Progress::default();
        progress.begin_at(0);
        for offset in 0..8 {
            progress.deliver(offset, false);
        }
        assert!(progress.go_back(5, 0, false));
        assert!(!progress.go_back(6, 0, false));
        assert_eq!(progress.position, Some(5));
        assert!(progress.go_back(3, 0, false), "an earlier one, later");
        progress.jump(50);
        assert!(!progress.go_back(2, 0, false), "a seek has the last word");
    }
}
