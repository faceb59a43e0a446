//! A topic that was deleted under its reader, and perhaps made anew.
//!
//! ```text
//!   UNKNOWN_TOPIC_ID ── same topic ────────────────> later again
//!                    ── not there ── OutOfRange ───> later again, or TopicDeleted
//!                    ── another id, same name ─────> a slot of the new topic, at its start or end
//! ```
//!
//! Invariant: a position of the old topic is never used in the new one. Records of both may have
//! the same offsets and nothing else in common.
//!
//! Absent on purpose: noticing it. The broker ends the subscription.

use super::shared::{Assigned, Shared, Stage};
use super::slot::Slot;
use super::{OutOfRange, Start, attach};
use crate::error::ConsumeError;
use std::sync::Arc;
use std::time::Instant;

/// Looks whether a topic that the broker does not know any more has been deleted, by what is known
/// of it now. Returns whether that has been dealt with.
///
/// - `epoch`: of the subscription that ended; a later one is none of its business.
pub(super) fn renew(shared: &Arc<Shared>, slot: &Arc<Slot>, epoch: u64) -> bool {
    let view = shared.cluster.view();
    let named = view.topic(&slot.topic);
    if named.is_some_and(|topic| topic.id == slot.topic_id) {
        return false;
    }
    let policy = shared.options.out_of_range;
    let (topic, partition) = (slot.topic.to_string(), slot.partition);
    let start = match (policy, named) {
        (OutOfRange::Error, _) => {
            let offset = slot.progress().position.unwrap_or(-1);
            let error = ConsumeError::TopicDeleted { topic, partition, offset };
            attach::give_up(shared, slot, epoch, error);
            return true;
        }
        (_, None) => return false,
        (OutOfRange::Earliest, Some(_)) => Start::Earliest,
        (OutOfRange::Latest, Some(_)) => Start::Latest,
    };
    let Some(named) = named else { return false };
    if named.partition(partition).is_none() {
        attach::give_up(shared, slot, epoch, ConsumeError::NoSuchPartition { topic, partition });
        return true;
    }
    tracing::info!(%topic, partition, ?start, "the topic was deleted and made anew");
    let new = Slot::new(Arc::clone(&slot.topic), named.id, partition);
    let place = (Arc::clone(&slot.topic), partition);
    let mut state = shared.lock();
    let is_current = |assigned: &Assigned| Arc::ptr_eq(&assigned.slot, slot);
    if slot.progress().epoch != epoch || !state.assigned.get(&place).is_some_and(is_current) {
        return true;
    }
    // Deliveries of the old topic do not count any more.
    slot.progress().jump(0);
    let stage = Stage::Wanted { at: Instant::now() };
    let assigned = Assigned { slot: new, start: Some(start), stage, failures: 0 };
    let old = state.assigned.insert(place, assigned);
    state.forget(slot);
    drop(state);
    // Not under the lock: the end of a subscription sends.
    drop(old);
    shared.acknowledged.notify_waiters();
    shared.alarm.notify_one();
    true
}
