//! The producer's one task: it looks after batches that linger, are late, or lost their leader.
//!
//! Absent on purpose: the ordinary way of a batch, which needs no task.

use super::batch::Identity;
use super::engine::{Engine, Setup, State, partition_number};
use super::partition::Partition;
use crate::cluster::{Repeat, Target};
use crate::error::{RequestError, SendError};
use bateau_protocol::native::ProducerIdRequest;
use fastrand::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The shortest sleep: what is due within it is done together.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Runs until the producer is closed and empty, or its client is gone.
pub(super) async fn run(engine: Arc<Engine>) {
    let mut views = engine.cluster.views();
    loop {
        let due = {
            let mut state = engine.lock();
            if state.is_over() {
                return;
            }
            state.keeper_due = state.partitions.iter().filter_map(Partition::due).min();
            state.keeper_due
        };
        let sleep = async {
            match due {
                Some(due) => {
                    let earliest = Instant::now() + SLEEP_MIN;
                    tokio::time::sleep_until(due.max(earliest).into()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = engine.cluster.down() => return engine.abandon(),
            () = engine.alarm.notified() => {}
            () = sleep => {}
            changed = views.changed() => {
                if changed.is_err() {
                    return engine.abandon();
                }
                let topic = views.borrow_and_update().topic(&engine.topic).cloned();
                let mut state = engine.lock();
                if let (Some(topic), Setup::Done) = (topic, &state.setup) {
                    engine.learn(&mut state, &topic);
                }
            }
        }
        look_after(&engine);
    }
}

/// Does everything that is due.
fn look_after(engine: &Arc<Engine>) {
    let now = Instant::now();
    let (mut done, mut works) = (Vec::new(), Vec::new());
    let (mut broken, mut nameless) = (Vec::new(), Vec::new());
    let mut guard = engine.lock();
    let state = &mut *guard;
    for place in 0..state.partitions.len() {
        if let Some(partition) = state.partitions.get_mut(place) {
            partition.expire(now, &mut done);
            if partition.take_broken(now) {
                broken.push(place);
            }
            if partition.take_nameless(now) {
                nameless.push(place);
            }
        }
        works.extend(engine.pump(state, place, now));
    }
    engine.settle(guard, done);
    let runtime = &engine.cluster.runtime;
    if !broken.is_empty() {
        runtime.spawn(revive(Arc::clone(engine), broken));
    }
    if !nameless.is_empty() {
        runtime.spawn(rename(Arc::clone(engine), nameless));
    }
    works.into_iter().for_each(|work| engine.compress(Some(work)));
}

/// Finds leaders of partitions that lost theirs, and sends again what was not acknowledged.
async fn revive(engine: Arc<Engine>, places: Vec<usize>) {
    let has_failed_before = {
        let state = engine.lock();
        let failures = |place: &usize| state.partitions.get(*place).map_or(0, Partition::failures);
        places.iter().any(|place| failures(place) > 1)
    };
    // The first time the connection may simply have to be made.
    if has_failed_before {
        engine.cluster.refresh(&engine.topic).await;
        let topic = engine.cluster.view().topic(&engine.topic).cloned();
        if let Some(topic) = topic {
            engine.learn(&mut engine.lock(), &topic);
        }
    }
    for place in places {
        let connected = connect(&engine, place).await;
        let now = Instant::now();
        let mut guard = engine.lock();
        let state = &mut *guard;
        let Some(partition) = state.partitions.get_mut(place) else { continue };
        let work = match connected {
            Ok(()) => {
                // Nothing is in flight there, and somebody else may lead by now.
                state.streams.remove(&partition_number(place));
                partition.revive();
                engine.pump(state, place, now)
            }
            Err(error) => {
                let delay = engine.delay(partition.failures() + 1, &mut Rng::new());
                partition.not_revived(error.to_string(), now + delay);
                None
            }
        };
        drop(guard);
        engine.compress(work);
    }
    engine.alarm.notify_one();
}

/// Makes a connection to a partition's leader.
async fn connect(engine: &Engine, place: usize) -> Result<(), RequestError> {
    let leader = {
        let state = engine.lock();
        let number = i32::try_from(place).unwrap_or(-1);
        state.topic.as_ref().and_then(|topic| topic.partition(number)).map(|one| one.leader_id)
    };
    engine.cluster.node(leader.unwrap_or(-1)).await.map(drop)
}

/// Asks for a new identity for partitions whose old one the broker does not take.
async fn rename(engine: Arc<Engine>, places: Vec<usize>) {
    let identity = identity(&engine).await;
    let now = Instant::now();
    let mut done = Vec::new();
    let mut guard = engine.lock();
    for place in places {
        let Some(partition) = guard.partitions.get_mut(place) else { continue };
        match &identity {
            Ok(identity) => partition.rename(*identity, now, &mut done),
            Err(error) => {
                let delay = engine.delay(partition.failures() + 1, &mut Rng::new());
                partition.not_revived(error.to_string(), now + delay);
            }
        }
    }
    engine.settle(guard, done);
    engine.alarm.notify_one();
}

async fn identity(engine: &Engine) -> Result<Identity, RequestError> {
    if !engine.options.idempotent {
        return Ok(Identity::NOBODY);
    }
    let (time, request) = (engine.options.timeout, ProducerIdRequest {});
    let answer = engine.cluster.call_within(time, Target::Any, Repeat::Freely, &request).await?;
    Ok(Identity { id: answer.producer_id, epoch: answer.producer_epoch })
}

/// Learns what must be known before the first record.
pub(super) async fn set_up(engine: Arc<Engine>) {
    let (auto_create, time) = (engine.options.auto_create, engine.options.timeout);
    let learnt = async {
        let topic = engine.cluster.topic(&engine.topic, auto_create, time).await?;
        Ok::<_, RequestError>((topic, identity(&engine).await?))
    };
    let learnt = learnt.await;
    {
        let mut guard = engine.lock();
        let state: &mut State = &mut guard;
        match learnt {
            Ok((topic, identity)) => {
                state.identity = identity;
                state.setup = Setup::Done;
                engine.learn(state, &topic);
            }
            Err(error) => state.setup = Setup::Failed(not_set_up(error, time)),
        }
    }
    engine.announce();
}

fn not_set_up(error: RequestError, time: Duration) -> SendError {
    match error {
        RequestError::Closed => SendError::Closed,
        RequestError::Broker(error) if !error.is_retryable => SendError::Refused(*error),
        error => {
            let after_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            SendError::NotSent { after_ms, reason: error.to_string() }
        }
    }
}
