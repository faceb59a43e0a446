//! Being a member: its id and generation, and the positions that are stored in its name.
//!
//! Invariants
//! - A position is stored for a partition only while it is this member's.
//! - Whoever waits for a position to be stored goes on by itself when the group has settled again.
//!
//! Absent on purpose: joining.

use super::shared::{Item, Shared};
use super::slot::Slot;
use crate::cluster::{Repeat, Target};
use crate::error::{CommitError, RequestError};
use bateau_protocol::native::{CommitRequest, CommittedPosition};
use bateau_protocol::wire::ErrorCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How long `close` waits for the group to be left.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Membership {
    state: Mutex<State>,
    /// Changes with every assignment, and when the membership is lost.
    pub settled: watch::Sender<u64>,
    /// The member's task has something to do.
    pub alarm: Notify,
    pub left: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub member_id: String,
    pub generation: i32,
    /// Whether it has an assignment of this generation.
    pub is_member: bool,
}

impl Default for Membership {
    fn default() -> Self {
        let (member_id, generation) = (String::new(), -1);
        let state = State { member_id, generation, is_member: false };
        Self {
            state: Mutex::new(state),
            settled: watch::Sender::new(0),
            alarm: Notify::new(),
            left: watch::Sender::new(false),
        }
    }
}

impl Membership {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self) -> State {
        self.lock().clone()
    }

    /// Tells those who wait that things have changed.
    pub fn announce(&self) {
        self.settled.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// A code that says that the membership is not what it was.
pub(super) const fn is_about_membership(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::FENCED_INSTANCE_ID
    )
}

/// Stores positions, over a rebalance too, within the client's timeout.
pub(super) async fn store(
    shared: &Shared,
    positions: Vec<(Arc<Slot>, i64)>,
) -> Result<(), CommitError> {
    if shared.options.group.is_none() {
        return Err(CommitError::NoGroup);
    }
    let deadline = Instant::now() + shared.cluster.options.timeout;
    let mut settled = shared.membership.settled.subscribe();
    loop {
        settled.borrow_and_update();
        let outcome = store_once(shared, &positions).await;
        match &outcome {
            Err(CommitError::Request(error)) if error.code().is_some_and(is_about_membership) => {}
            _ => return outcome,
        }
        if shared.lock().is_over {
            return Err(CommitError::Closed);
        }
        // Wait until the group has settled, and see whether the partitions are still ours.
        match tokio::time::timeout_at(deadline.into(), settled.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return outcome,
        }
    }
}

/// Stores positions as the member that we are now.
pub(super) async fn store_once(
    shared: &Shared,
    positions: &[(Arc<Slot>, i64)],
) -> Result<(), CommitError> {
    let Some(group) = &shared.options.group else { return Err(CommitError::NoGroup) };
    if positions.is_empty() {
        return Ok(());
    }
    for (slot, _) in positions {
        if slot.progress().is_revoked {
            let (topic, partition) = (slot.topic.to_string(), slot.partition);
            return Err(CommitError::Revoked { topic, partition });
        }
    }
    let member = shared.membership.get();
    if member.generation < 0 {
        let message = format!("no member of group `{group}` at the moment");
        return Err(RequestError::of_code(ErrorCode::REBALANCE_IN_PROGRESS, message).into());
    }
    let position = |(slot, offset): &(Arc<Slot>, i64)| CommittedPosition {
        topic_id: slot.topic_id,
        partition: slot.partition,
        offset: *offset,
        leader_epoch: -1,
        metadata: "".into(),
    };
    let request = CommitRequest {
        group_id: group.clone().into(),
        generation: member.generation,
        member_id: member.member_id.into(),
        group_instance_id: shared.options.instance_id.clone().map(Into::into),
        positions: positions.iter().map(position).collect(),
    };
    let target = Target::Coordinator(group.clone());
    let answer = shared.cluster.call(target, Repeat::Freely, request).await;
    let answer = answer.inspect_err(|error| noticed(shared, error.code()))?;
    if answer.error_codes.len() != positions.len() {
        let found = answer.error_codes.len();
        return Err(crate::admin::miscounted("Commit", positions.len(), found).into());
    }
    let mut outcome = Ok(());
    for ((slot, offset), code) in positions.iter().zip(answer.error_codes) {
        if code.is_none() {
            slot.progress().stored = Some(*offset);
        } else {
            noticed(shared, Some(code));
            let name = format!("{group}: {}[{}]", slot.topic, slot.partition);
            outcome = Err(RequestError::of_code(code, name).into());
        }
    }
    outcome
}

/// The coordinator says that we are not who we were: the member's task looks into it.
fn noticed(shared: &Shared, code: Option<ErrorCode>) {
    if code.is_some_and(is_about_membership) {
        shared.membership.alarm.notify_one();
    }
}

/// Stores what has been acknowledged and is not stored.
pub(super) async fn store_acknowledged(shared: &Shared) -> Result<(), CommitError> {
    let positions = acknowledged(shared);
    if positions.is_empty() {
        return Ok(());
    }
    store(shared, positions).await
}

/// What has been acknowledged and is not stored.
pub(super) fn acknowledged(shared: &Shared) -> Vec<(Arc<Slot>, i64)> {
    if shared.options.ack_interval().is_none() {
        return Vec::new();
    }
    let state = shared.lock();
    let position = |slot: &Arc<Slot>| {
        let next = slot.progress().to_store()?;
        Some((Arc::clone(slot), next))
    };
    state.assigned.values().filter_map(|assigned| position(&assigned.slot)).collect()
}

/// Stores the positions behind what has come, and only then lets it be delivered.
pub(super) async fn store_staged(shared: &Shared) {
    let staged = std::mem::take(&mut shared.lock().staged);
    let mut positions: Vec<(Arc<Slot>, i64)> = Vec::new();
    for item in &staged {
        let Item::Batch { slot, batch, .. } = item else { continue };
        let next = batch.header().next_offset();
        match positions.iter_mut().find(|(known, _)| Arc::ptr_eq(known, slot)) {
            Some((_, position)) => *position = next.max(*position),
            None => positions.push((Arc::clone(slot), next)),
        }
    }
    if positions.is_empty() {
        return;
    }
    let stored = store(shared, positions).await;
    let mut state = shared.lock();
    match stored {
        Ok(()) => {
            state.queue.extend(staged);
            state.wake();
        }
        // They belong to others now, who deliver them.
        Err(
            CommitError::Revoked { .. }
            | CommitError::Outdated { .. }
            | CommitError::AtMostOnce
            | CommitError::Closed
            | CommitError::NoGroup,
        ) => {}
        Err(CommitError::Request(error)) => {
            for item in staged.into_iter().rev() {
                state.staged.push_front(item);
            }
            drop(state);
            shared.fail(error.into());
            shared.alarm.notify_one();
        }
    }
}

/// Leaves the group, so that others take over at once.
pub(super) async fn leave(shared: &Shared) {
    if shared.options.group.is_none() {
        return;
    }
    shared.closing.send_replace(true);
    let mut left = shared.membership.left.subscribe();
    // A coordinator that is gone ends the session by itself.
    let _ = tokio::time::timeout(LEAVE_TIME_MAX, left.wait_for(|left| *left)).await;
}
