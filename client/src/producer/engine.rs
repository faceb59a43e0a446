//! The producer at work: its lock, its buffer, and the task that looks after what went wrong.
//!
//! ```text
//!   send ─┐                        ┌─ answered (the connection's reader task)
//!         ├──> State: partitions <─┤
//!   flush ┘     pump: next batches └─ keeper: lingering, deadlines, lost leaders, identities
//! ```
//!
//! Sending and acknowledging happen where they come up: in the caller, and in the connection's
//! reader. The keeper sleeps unless something lingers, breaks or is late.
//!
//! Invariants
//! - Batches are handed to the connection under the lock, so that their order is that of `send`.
//! - Handles are told, and batches compressed, without the lock.
//! - Whoever waits for room gets it in the order of waiting.
//!
//! Absent on purpose: a task per record, per batch or per partition.

use super::batch::{Identity, record_bytes_max};
use super::front::{Next, Work};
use super::handle::{BatchAck, SendHandle, Ticket};
use super::partition::{IN_FLIGHT_MAX, Outgoing, Partition, Rules, Settled, partition_of};
use super::tally::Tally;
use super::{Options, keeper};
use crate::cluster::{Cluster, TopicView};
use crate::connection::stream::{AnswerSink, SinkError, Stream};
use crate::error::{RequestError, SendError, Unsent};
use crate::partitioner::{KeylessChooser, partition_for_key};
use crate::record::{Durability, Record};
use crate::retry::jittered;
use bateau_protocol::limits::BATCH_BYTES_MAX;
use bateau_protocol::native::{CloseCode, ProduceRequest, ProduceResponse, frame};
use bytes::Bytes;
use fastrand::Rng;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// The largest record, in bytes with its lengths.
const RECORD_BYTES_MAX: usize = BATCH_BYTES_MAX - 1_024;

#[derive(Debug)]
pub(crate) struct Engine {
    pub cluster: Arc<Cluster>,
    pub topic: Arc<str>,
    pub options: Options,
    state: Mutex<State>,
    /// Room in the buffer, or the topic's partitions, have come.
    room: Notify,
    /// Whoever waits for room waits here first, in order.
    turn: tokio::sync::Mutex<()>,
    /// The keeper has something to do.
    pub alarm: Notify,
    this: Weak<Self>,
}

/// Whether the topic's partitions and the producer's identity are known.
#[derive(Clone, Debug)]
pub(crate) enum Setup {
    Wanted,
    Running,
    Done,
    Failed(SendError),
}

#[derive(Debug)]
pub(crate) struct State {
    pub setup: Setup,
    pub topic: Option<Arc<TopicView>>,
    pub identity: Identity,
    pub partitions: Vec<Partition>,
    /// Partitions with a leader, ascending.
    available: Vec<i32>,
    /// Streams of leaders, by partition.
    pub streams: HashMap<i32, Arc<Stream>>,
    chooser: KeylessChooser,
    random: Rng,
    buffered: usize,
    waiting: usize,
    pub is_closed: bool,
    /// Nobody can send any more.
    is_orphan: bool,
    /// When the keeper wakes up next by itself.
    pub keeper_due: Option<Instant>,
    tally: Tally,
}

impl State {
    /// Whether nothing waits and nothing will come.
    pub fn is_over(&self) -> bool {
        let is_idle = self.waiting == 0 && self.partitions.iter().all(Partition::is_empty);
        is_idle && (self.is_closed || self.is_orphan)
    }
}

impl Engine {
    pub fn start(cluster: Arc<Cluster>, topic: Arc<str>, options: Options) -> Arc<Self> {
        let state = State {
            setup: Setup::Wanted,
            topic: None,
            identity: Identity::NOBODY,
            partitions: Vec::new(),
            available: Vec::new(),
            streams: HashMap::new(),
            chooser: KeylessChooser::new(options.keyless),
            random: Rng::new(),
            buffered: 0,
            waiting: 0,
            is_closed: false,
            is_orphan: false,
            keeper_due: None,
            tally: Tally::default(),
        };
        let engine = Arc::new_cyclic(|this| Self {
            cluster,
            topic,
            options,
            state: Mutex::new(state),
            room: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            alarm: Notify::new(),
            this: Weak::clone(this),
        });
        engine.cluster.runtime.spawn(keeper::run(Arc::clone(&engine)));
        engine
    }

    pub const fn rules(&self) -> Rules {
        let Options { linger, batch_bytes, timeout, compression, idempotent, .. } = self.options;
        Rules { linger, batch_bytes, timeout, compression, idempotent }
    }

    pub fn send(self: &Arc<Self>, record: Record) -> SendHandle {
        match self.place(&record, false) {
            Ok(ticket) => SendHandle::placed(ticket),
            Err(SendError::BufferFull { .. } | SendError::NotReady { .. }) => {
                let waiting = Waiting::new(Arc::clone(self));
                SendHandle::waiting(Box::pin(waiting.place(record)))
            }
            Err(error) => {
                self.lock().tally.note(1, &error);
                SendHandle::failed(error)
            }
        }
    }

    pub fn try_send(&self, record: Record) -> Result<Ticket, SendError> {
        self.place(&record, false)
    }

    /// Puts a record into its batch, and sends what may be sent.
    ///
    /// - `has_turn`: it is first among those who wait.
    fn place(&self, record: &Record, has_turn: bool) -> Result<Ticket, SendError> {
        let cost = record_bytes_max(record);
        if cost > RECORD_BYTES_MAX {
            return Err(SendError::RecordTooLarge { found: cost, bytes_max: RECORD_BYTES_MAX });
        }
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        self.check_setup(state, has_turn)?;
        let buffer_bytes = self.options.buffer_bytes;
        let is_full = state.buffered > 0 && state.buffered.saturating_add(cost) > buffer_bytes;
        if is_full || (state.waiting > 0 && !has_turn) {
            return Err(SendError::BufferFull { buffered_bytes: state.buffered, buffer_bytes });
        }
        let number = self.choose(state, record, cost)?;
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        let count = state.topic.as_ref().map_or(0, |topic| topic.partitions.len());
        let Some(partition) = state.partitions.get_mut(place).filter(|_| place < count) else {
            return Err(self.no_such_partition(number, count));
        };
        let ticket = partition.push(record, timestamp_ms, now);
        state.buffered += cost;
        let work = self.pump(state, place, now);
        self.call_keeper(state, place);
        drop(guard);
        self.compress(work);
        Ok(ticket)
    }

    /// Starts learning what must be known before the first record, once.
    fn check_setup(&self, state: &mut State, has_turn: bool) -> Result<(), SendError> {
        if state.is_closed || self.cluster.is_down() {
            return Err(SendError::Closed);
        }
        match &state.setup {
            Setup::Done => return Ok(()),
            Setup::Running => {}
            // Those who waited are told; whoever comes then has it tried again.
            Setup::Failed(error) if has_turn => return Err(error.clone()),
            Setup::Wanted | Setup::Failed(_) => {
                state.setup = Setup::Running;
                if let Some(this) = self.this.upgrade() {
                    self.cluster.runtime.spawn(keeper::set_up(this));
                }
            }
        }
        Err(SendError::NotReady { topic: self.topic.to_string() })
    }

    fn choose(&self, state: &mut State, record: &Record, cost: usize) -> Result<i32, SendError> {
        if let Some(partition) = record.partition {
            return Ok(partition);
        }
        // A topic that was made anew may have fewer partitions than before.
        let count = state.topic.as_ref().map_or(0, |topic| topic.partition_count());
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        let Some(count) = count else {
            return Err(SendError::NotReady { topic: self.topic.to_string() });
        };
        if let Some(key) = &record.key {
            return Ok(partition_for_key(key, count));
        }
        let chosen = state.chooser.choose(cost, &state.available, &mut state.random);
        // Without any leader the first partition waits for one.
        Ok(chosen.unwrap_or(0))
    }

    fn no_such_partition(&self, partition: i32, count: usize) -> SendError {
        let partitions = u32::try_from(count).unwrap_or(u32::MAX);
        SendError::NoSuchPartition { topic: self.topic.to_string(), partition, partitions }
    }

    /// Hands over what may leave, in order. What it returns is to be given to [`Engine::compress`]
    /// when the lock is free.
    #[must_use]
    pub fn pump(&self, state: &mut State, place: usize, now: Instant) -> Option<Work> {
        loop {
            match state.partitions.get_mut(place)?.next(now)? {
                Next::Send(outgoing) => {
                    if !self.hand_over(state, outgoing, now) {
                        return None;
                    }
                }
                Next::Compress(work) => return Some(work),
            }
        }
    }

    /// Compresses a batch without the lock, hands it over, and goes on with its partition.
    pub fn compress(&self, work: Option<Work>) {
        let mut next = work;
        let mut done = 0;
        while let Some(work) = next {
            let place = work.place();
            let batch = work.run();
            let now = Instant::now();
            let mut guard = self.lock();
            let state = &mut *guard;
            let Some(partition) = state.partitions.get_mut(place) else { return };
            partition.compressed(batch);
            done += 1;
            if done > IN_FLIGHT_MAX {
                // The caller has something else to do, too.
                return self.alarm.notify_one();
            }
            next = self.pump(state, place, now);
            self.call_keeper(state, place);
        }
    }

    /// Hands a batch to its leader's connection; `false` where there is none.
    fn hand_over(&self, state: &mut State, outgoing: Outgoing, now: Instant) -> bool {
        let Outgoing { partition, token, bytes, deadline } = outgoing;
        let place = partition_of(token);
        let Some(topic) = &state.topic else { return false };
        let topic_id = topic.id;
        let left = deadline.saturating_duration_since(now).as_millis();
        let timeout_ms = i32::try_from(left).unwrap_or(i32::MAX).max(1);
        let size = bytes.len();
        let request = ProduceRequest { topic_id, partition, timeout_ms, records: bytes.into() };
        let sink: Option<Arc<dyn AnswerSink>> = self.this.upgrade().map(|this| this as _);
        let stream = self.stream(state, partition);
        let handed = match (stream, sink) {
            (Some(stream), Some(sink)) => stream.produce(request, size, sink, token).is_ok(),
            _ => false,
        };
        if !handed {
            state.streams.remove(&partition);
            if let Some(broken) = state.partitions.get_mut(place) {
                // The first time it is looked for at once.
                let delay = if broken.failures() == 0 {
                    Duration::ZERO
                } else {
                    self.delay(broken.failures(), &mut state.random)
                };
                broken.not_handed_over(token, now + delay);
            }
            self.alarm.notify_one();
        }
        handed
    }

    fn stream(&self, state: &mut State, partition: i32) -> Option<Arc<Stream>> {
        if let Some(stream) = state.streams.get(&partition).filter(|stream| stream.is_usable()) {
            return Some(Arc::clone(stream));
        }
        let topic = state.topic.as_ref()?;
        let leader = topic.partition(partition)?.leader_id;
        let connection = self.cluster.current(leader)?;
        let stream = Arc::clone(connection.data(topic.hash, partition));
        state.streams.insert(partition, Arc::clone(&stream));
        Some(stream)
    }

    /// Wakes the keeper if it would sleep too long.
    fn call_keeper(&self, state: &State, place: usize) {
        let lingers = !self.options.linger.is_zero();
        if state.keeper_due.is_some() && !lingers {
            return;
        }
        let due = state.partitions.get(place).and_then(Partition::due);
        if due.is_some_and(|due| state.keeper_due.is_none_or(|keeper| due < keeper)) {
            self.alarm.notify_one();
        }
    }

    /// The delay before the next attempt after so many failures.
    pub fn delay(&self, failures: u32, random: &mut Rng) -> Duration {
        let limits = self.cluster.options.retry;
        jittered(limits.first_delay, failures.saturating_sub(1), limits.delay_max, random)
    }

    /// Tells the handles, gives room back, and notes what failed.
    pub fn settle(&self, mut guard: MutexGuard<'_, State>, done: Vec<Settled>) {
        if done.is_empty() {
            return;
        }
        for settled in &done {
            guard.buffered = guard.buffered.saturating_sub(settled.cost);
            if let Err(error) = &settled.result {
                guard.tally.note(settled.records, error);
            }
        }
        let has_waiting = guard.waiting > 0;
        drop(guard);
        if has_waiting {
            self.room.notify_waiters();
        }
        for settled in done {
            settled.outcome.settle(settled.result);
        }
    }

    /// What the keeper has learnt is there for those who wait.
    pub fn announce(&self) {
        self.room.notify_waiters();
    }

    /// Takes in partitions and leaders.
    pub fn learn(&self, state: &mut State, topic: &Arc<TopicView>) {
        let (rules, identity) = (self.rules(), state.identity);
        let count = topic.partition_count();
        let known = i32::try_from(state.partitions.len()).unwrap_or(i32::MAX);
        // A topic does not lose partitions; one that was made anew with fewer keeps what waits.
        for number in known..count {
            state.partitions.push(Partition::new(number, rules, identity));
        }
        let has_leader = |number: &i32| {
            topic.partition(*number).is_some_and(|partition| partition.leader_id >= 0)
        };
        state.available = (0..count).filter(has_leader).collect();
        let old = state.topic.replace(Arc::clone(topic));
        if old.as_ref().is_some_and(|old| old.id != topic.id) {
            let now = Instant::now();
            state.partitions.iter_mut().for_each(|one| one.topic_was_replaced(now));
            self.alarm.notify_one();
        }
        let moved = |number: &i32| {
            let leader = |topic: &Arc<TopicView>| {
                topic.partition(*number).map(|partition| (topic.id, partition.leader_id))
            };
            old.as_ref().and_then(leader) != leader(topic)
        };
        let partitions = &state.partitions;
        // A partition stays on its stream while it has requests in flight there.
        state.streams.retain(|number, _| {
            let place = usize::try_from(*number).unwrap_or(usize::MAX);
            !moved(number) || partitions.get(place).is_some_and(|one| !one.is_empty())
        });
    }

    pub async fn ready(self: &Arc<Self>) -> Result<(), SendError> {
        let waiting = Waiting::new(Arc::clone(self));
        waiting.until(|engine| engine.check_setup(&mut engine.lock(), true)).await
    }

    pub async fn flush(&self) -> Result<(), Unsent> {
        let (mut outcomes, mut works) = (Vec::new(), Vec::new());
        {
            let now = Instant::now();
            let mut guard = self.lock();
            for place in 0..guard.partitions.len() {
                if let Some(partition) = guard.partitions.get_mut(place) {
                    partition.flush(&mut outcomes);
                }
                works.extend(self.pump(&mut guard, place, now));
            }
        }
        works.into_iter().for_each(|work| self.compress(Some(work)));
        self.alarm.notify_one();
        for outcome in outcomes {
            // Failures are counted where they are settled.
            drop(Ticket::new(outcome, 0).settled().await);
        }
        self.lock().tally.take()
    }

    pub async fn close(&self) -> Result<(), Unsent> {
        self.lock().is_closed = true;
        self.room.notify_waiters();
        let outcome = self.flush().await;
        self.alarm.notify_one();
        outcome
    }

    /// The last handle that can send has been dropped; what waits is still sent.
    pub fn orphan(&self) {
        self.lock().is_orphan = true;
        self.alarm.notify_one();
    }

    /// The client is gone, and with it every way to a broker.
    pub fn abandon(&self) {
        let mut done = Vec::new();
        let mut guard = self.lock();
        guard.is_closed = true;
        for partition in &mut guard.partitions {
            partition.abandon(&mut done);
        }
        self.settle(guard, done);
        self.room.notify_waiters();
    }

    pub fn buffered_bytes(&self) -> usize {
        self.lock().buffered
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnswerSink for Engine {
    fn answered(&self, token: u64, outcome: Result<Bytes, SinkError>, version: i16) {
        let answer = outcome.and_then(|body| {
            frame::decode::<ProduceResponse>(body, version).map_err(|error| SinkError {
                error: RequestError::Protocol { reason: error.to_string() },
                was_sent: true,
            })
        });
        let (now, place) = (Instant::now(), partition_of(token));
        let mut done = Vec::new();
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(partition) = state.partitions.get_mut(place) else { return };
        match answer {
            Ok(answer) => {
                let ack = BatchAck {
                    partition: i32::try_from(place).unwrap_or(-1),
                    base_offset: answer.base_offset,
                    durability: Durability::from_text(&answer.durability),
                    replicas: answer.replicas.unsigned_abs(),
                    duplicate: answer.is_duplicate,
                };
                done.extend(partition.acknowledged(token, ack));
                if partition.needs_care() {
                    self.alarm.notify_one();
                }
            }
            Err(error) => {
                let failures = partition.failures();
                let retry_at = now + self.delay(failures + 1, &mut state.random);
                if let RequestError::Protocol { .. } = error.error
                    && let Some(stream) = state.streams.remove(&partition_number(place))
                {
                    // What cannot be read cannot be trusted with the rest.
                    stream.fail(error.error.clone(), CloseCode::PROTOCOL);
                }
                let SinkError { error: reason, .. } = &error;
                tracing::debug!(topic = %self.topic, place, %reason, "not acknowledged");
                partition.failed(token, &error, now, retry_at, &mut done);
                self.alarm.notify_one();
            }
        }
        let work = self.pump(state, place, now);
        self.settle(guard, done);
        self.compress(work);
    }
}

pub fn partition_number(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(-1)
}

/// A record that waits for room. Counted, so that later ones do not overtake it.
struct Waiting {
    engine: Arc<Engine>,
    is_placed: bool,
    is_record: bool,
}

impl Waiting {
    fn new(engine: Arc<Engine>) -> Self {
        engine.lock().waiting += 1;
        Self { engine, is_placed: false, is_record: false }
    }

    async fn place(mut self, record: Record) -> Result<Ticket, SendError> {
        self.is_record = true;
        let engine = Arc::clone(&self.engine);
        let placed = self.until(|engine| engine.place(&record, true)).await;
        if let Err(error) = &placed {
            engine.lock().tally.note(1, error);
        }
        placed
    }

    /// Tries until there is neither a full buffer nor an unknown topic in the way.
    async fn until<T>(
        mut self,
        attempt: impl Fn(&Engine) -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        let engine = Arc::clone(&self.engine);
        let deadline = Instant::now() + engine.options.timeout;
        let work = async {
            let _turn = engine.turn.lock().await;
            loop {
                let room = engine.room.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                match attempt(&engine) {
                    Err(SendError::BufferFull { .. } | SendError::NotReady { .. }) => room.await,
                    outcome => return outcome,
                }
            }
        };
        let outcome = tokio::time::timeout_at(deadline.into(), work).await;
        self.is_placed = true;
        outcome.unwrap_or_else(|_| {
            let after_ms = u64::try_from(engine.options.timeout.as_millis()).unwrap_or(u64::MAX);
            let reason = match &engine.lock().setup {
                Setup::Done => "no room in the producer's buffer".to_owned(),
                _ => "the topic's partitions could not be learnt".to_owned(),
            };
            Err(SendError::NotSent { after_ms, reason })
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.engine.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if !self.is_placed && self.is_record {
            let reason = "the handle was dropped before there was room".to_owned();
            state.tally.note(1, &SendError::NotSent { after_ms: 0, reason });
        }
        drop(state);
        self.engine.alarm.notify_one();
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
