//! From an assigned partition to a live subscription: its offset, its leader, its credit.
//!
//! ```text
//!   Wanted ── start? ── offset ── leader ── credit ── Subscribe ──> Live
//!      ▲                                                 │ error, end, lost connection
//!      └──────────── later, at what comes next ──────────┘
//! ```
//!
//! Absent on purpose: groups.

use super::renewal;
use super::shared::{Feed, Place, Shared, Stage, Subscription};
use super::slot::Slot;
use super::{OutOfRange, Start};
use crate::cluster::{Repeat, Target, TopicView};
use crate::connection::stream::Stream;
use crate::error::{ConsumeError, RequestError};
use crate::retry::jittered;
use bateau_protocol::native::{FindOffsetsRequest, Position, SubscribeRequest, SubscribeResponse};
use bateau_protocol::wire::ErrorCode;
use fastrand::Rng;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Makes the subscriptions that are wanted now; returns when the next one will be.
pub(super) fn look_after(shared: &Arc<Shared>, now: Instant) -> Option<Instant> {
    let mut due = None;
    let mut state = shared.lock();
    for (place, assigned) in &mut state.assigned {
        let Stage::Wanted { at } = assigned.stage else { continue };
        if at > now {
            due = Some(due.map_or(at, |due: Instant| due.min(at)));
            continue;
        }
        assigned.stage = Stage::Making;
        let epoch = assigned.slot.progress().epoch;
        let work = attach(Arc::clone(shared), place.clone(), Arc::clone(&assigned.slot), epoch);
        shared.cluster.runtime.spawn(work);
    }
    due
}

async fn attach(shared: Arc<Shared>, place: Place, slot: Arc<Slot>, epoch: u64) {
    let is_another = |topic: &Arc<TopicView>| topic.id != slot.topic_id;
    if shared.cluster.view().topic(&slot.topic).is_some_and(is_another)
        && renewal::renew(&shared, &slot, epoch)
    {
        return;
    }
    let start = {
        let state = shared.lock();
        let assigned = state.assigned.get(&place).filter(|one| Arc::ptr_eq(&one.slot, &slot));
        let Some(assigned) = assigned else { return };
        (slot.progress().position.is_none() || assigned.start.is_some())
            .then(|| assigned.start.unwrap_or(shared.options.start))
    };
    if let Some(start) = start {
        match offset_of(&shared, &slot, start).await {
            Ok(offset) => {
                let mut state = shared.lock();
                let mut progress = slot.progress();
                if progress.epoch != epoch {
                    return;
                }
                progress.begin_at(offset);
                if let Some(assigned) = state.assigned.get_mut(&place) {
                    assigned.start = None;
                }
            }
            Err(error) => return failed(&shared, &slot, epoch, &error),
        }
    }
    if let Err(error) = subscribe(&shared, &place, &slot, epoch).await {
        failed(&shared, &slot, epoch, &error);
    }
}

/// Looks an offset up.
pub(super) async fn offset_of(
    shared: &Shared,
    slot: &Slot,
    start: Start,
) -> Result<i64, RequestError> {
    let at = |timestamp| look_up(shared, slot, timestamp);
    const END: i64 = -1;
    const BEGIN: i64 = -2;
    match start {
        Start::Offset(offset) => Ok(offset.max(0)),
        Start::Earliest => at(BEGIN).await,
        Start::Latest => at(END).await,
        Start::AfterStart(count) => {
            Ok(at(BEGIN).await?.saturating_add(count.max(0)).min(at(END).await?))
        }
        Start::BeforeEnd(count) => {
            Ok(at(END).await?.saturating_sub(count.max(0)).max(at(BEGIN).await?))
        }
        Start::Time(time_ms) => match at(time_ms.max(0)).await? {
            // No record is that young.
            offset if offset < 0 => at(END).await,
            offset => Ok(offset),
        },
    }
}

async fn look_up(shared: &Shared, slot: &Slot, timestamp: i64) -> Result<i64, RequestError> {
    let (topic_id, partition) = (slot.topic_id, slot.partition);
    let position = Position { topic_id, partition, timestamp };
    let request = FindOffsetsRequest { positions: vec![position] };
    let target = Target::Leader { topic: topic_id, partition };
    let answer = shared.cluster.call(target, Repeat::Freely, request).await?;
    let Some(found) = answer.offsets.first() else {
        return Err(crate::admin::miscounted("FindOffsets", 1, 0));
    };
    match found.error_code {
        ErrorCode::NONE => Ok(found.offset),
        code => Err(RequestError::of_code(code, format!("{}[{partition}]", slot.topic))),
    }
}

async fn subscribe(
    shared: &Arc<Shared>,
    place: &Place,
    slot: &Arc<Slot>,
    epoch: u64,
) -> Result<(), RequestError> {
    let leader = leader(shared, slot).await?;
    let connection = shared.cluster.node(leader).await?;
    let (offset, partitions) = {
        let state = shared.lock();
        let progress = slot.progress();
        if progress.epoch != epoch {
            return Ok(());
        }
        (progress.received, state.assigned.len().max(1))
    };
    let wanted = shared.options.buffer_bytes / partitions;
    let window = connection.take_window(wanted as u64);
    let feed = Arc::new(Feed {
        shared: Arc::downgrade(shared),
        slot: Arc::clone(slot),
        epoch,
        connection: Arc::clone(&connection),
        window,
        subscription: Mutex::new(Weak::new()),
        is_returned: false.into(),
    });
    let request = SubscribeRequest {
        topic_id: slot.topic_id,
        partition: slot.partition,
        offset,
        credit_bytes: window,
        // The epoch of what was read is not kept, so a log that was cut is noticed by its offsets.
        leader_epoch: -1,
    };
    let stream = Arc::clone(connection.bulk());
    let (subscription, answer) = match send(&feed, &stream, &request) {
        Ok(sent) => sent,
        Err(error) => {
            feed.return_credit();
            return Err(error);
        }
    };
    match tokio::time::timeout(shared.cluster.options.timeout, answer).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            feed.return_credit();
            return Err(error);
        }
        Err(_) => {
            let after_ms = shared.cluster.timeout_ms().unsigned_abs().into();
            return Err(RequestError::TimedOut { request: "Subscribe", after_ms, last: None });
        }
    }
    let mut state = shared.lock();
    if slot.progress().epoch == epoch
        && let Some(assigned) = state.assigned.get_mut(place)
        && Arc::ptr_eq(&assigned.slot, slot)
        && matches!(assigned.stage, Stage::Making)
    {
        assigned.stage = Stage::Live(subscription);
        assigned.failures = 0;
    }
    Ok(())
}

/// Sends the request. Records may come in the same turn as the answer, so the feed learns where
/// they belong before it can be asked.
fn send(
    feed: &Arc<Feed>,
    stream: &Arc<Stream>,
    request: &SubscribeRequest,
) -> Result<
    (Arc<Subscription>, impl Future<Output = Result<SubscribeResponse, RequestError>> + use<>),
    RequestError,
> {
    let mut room = feed.subscription.lock().unwrap_or_else(PoisonError::into_inner);
    let (correlation, answer) = stream.subscribe(request, Arc::clone(feed) as _)?;
    let subscription = Arc::new(Subscription::new(Arc::clone(stream), correlation, feed.window));
    *room = Arc::downgrade(&subscription);
    Ok((subscription, answer))
}

/// The leader's node; asked for anew where there is none.
async fn leader(shared: &Shared, slot: &Slot) -> Result<i32, RequestError> {
    let cluster = &shared.cluster;
    for is_fresh in [false, true] {
        if is_fresh {
            cluster.refresh(&slot.topic).await;
        }
        let view = cluster.view();
        let topic = view.topic_by_id(slot.topic_id);
        let leader = topic.and_then(|topic| topic.partition(slot.partition));
        if let Some(leader) = leader.filter(|leader| leader.leader_id >= 0) {
            return Ok(leader.leader_id);
        }
    }
    let is_known = cluster.view().topic_by_id(slot.topic_id).is_some();
    let (code, what) = match is_known {
        true => (ErrorCode::LEADER_NOT_AVAILABLE, "has no leader"),
        false => (ErrorCode::UNKNOWN_TOPIC_ID, "is not there"),
    };
    Err(RequestError::of_code(code, format!("{}[{}] {what}", slot.topic, slot.partition)))
}

/// A subscription could not be made, or has ended: later again, elsewhere, or never.
pub(super) fn failed(shared: &Arc<Shared>, slot: &Arc<Slot>, epoch: u64, error: &RequestError) {
    tracing::debug!(topic = %slot.topic, partition = slot.partition, %error, "no subscription");
    let code = error.code();
    match code {
        Some(ErrorCode::OFFSET_OUT_OF_RANGE) => return out_of_range(shared, slot, epoch, error),
        Some(ErrorCode::TOO_MANY_SUBSCRIPTIONS) => {}
        _ if !error.is_retryable() => {
            return give_up(shared, slot, epoch, error.clone().into());
        }
        _ => {}
    }
    let failures = {
        let mut state = shared.lock();
        let place = (Arc::clone(&slot.topic), slot.partition);
        let Some(assigned) = state.assigned.get_mut(&place) else { return };
        if slot.progress().epoch != epoch {
            return;
        }
        assigned.failures = assigned.failures.saturating_add(1);
        assigned.failures
    };
    let limits = shared.cluster.options.retry;
    let delay = match code {
        // A connection is made anew at once.
        None if failures == 1 => Duration::ZERO,
        _ => jittered(limits.first_delay, failures - 1, limits.delay_max, &mut Rng::new()),
    };
    if let Some(error_code) = code {
        let (shared, slot) = (Arc::clone(shared), Arc::clone(slot));
        let runtime = shared.cluster.runtime.clone();
        runtime.spawn(async move {
            shared.cluster.refresh(&slot.topic).await;
            let is_missing = matches!(
                error_code,
                ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            );
            if !is_missing || !renewal::renew(&shared, &slot, epoch) {
                shared.subscription_over(&slot, epoch, Instant::now() + delay);
            }
        });
        return;
    }
    shared.subscription_over(slot, epoch, Instant::now() + delay);
}

fn out_of_range(shared: &Arc<Shared>, slot: &Arc<Slot>, epoch: u64, error: &RequestError) {
    let start = match shared.options.out_of_range {
        OutOfRange::Earliest => Start::Earliest,
        OutOfRange::Latest => Start::Latest,
        OutOfRange::Error => {
            let RequestError::Broker(answer) = error else { return };
            let (offset, partition) = (slot.progress().received, slot.partition);
            let error = ConsumeError::OffsetOutOfRange {
                topic: slot.topic.to_string(),
                partition,
                offset,
                log_start: answer.log_start.unwrap_or(-1),
                high_watermark: answer.high_watermark.unwrap_or(-1),
            };
            return give_up(shared, slot, epoch, error);
        }
    };
    tracing::info!(topic = %slot.topic, partition = slot.partition, ?start, "out of range");
    let mut state = shared.lock();
    let place = (Arc::clone(&slot.topic), slot.partition);
    if slot.progress().epoch == epoch
        && let Some(assigned) = state.assigned.get_mut(&place)
    {
        assigned.start = Some(start);
        assigned.stage = Stage::Wanted { at: Instant::now() };
        drop(state);
        shared.alarm.notify_one();
    }
}

/// The partition is not read any more; the application is told why.
pub(super) fn give_up(shared: &Arc<Shared>, slot: &Arc<Slot>, epoch: u64, error: ConsumeError) {
    {
        let mut state = shared.lock();
        if slot.progress().epoch != epoch {
            return;
        }
        let place = (Arc::clone(&slot.topic), slot.partition);
        if let Some(assigned) = state.assigned.get_mut(&place) {
            assigned.stage = Stage::Over;
        }
    }
    shared.fail(error);
}
