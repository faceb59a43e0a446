//! What every door asks: typed requests to one broker, no wire formats.
//!
//! ```text
//!   door ──> Broker ──┬─ produce: validate once, then the shard's inbox   (hop 2)
//!                     ├─ fetch, offsets: views and the log, past the shard
//!                     └─ groups, topics, producer ids: the shard's inbox
//! ```
//!
//! Invariants
//! - A batch's CRC-32C and size are checked here, once, whatever door it came through.
//! - Batches of one caller for one partition enter the inbox in the order of the calls.
//! - Internal topics do not exist for anybody who asks here.
//!
//! Absent on purpose: authorization, which has its place before each `locate` and each ask.

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::gauges::Gauges;
use crate::readers::{ColdReader, Fetch, FetchError, FetchRequest, Fetched, locate};
use crate::router::{Directory, Router};
use crate::shard::Ask;
use bateau_core::consumer_group::{GroupRequest, GroupResponse};
use bateau_core::controller::{
    AutoCreateTopicResult, BrokerSettings, ControllerError, ControllerRequest, ControllerResponse,
    CreateTopicResult, CreateTopics, DeleteTopicResult, NodeRegistration, ProducerIdBlock,
    TopicConfig,
};
use bateau_core::replica::{Produce, ProduceAck, ProduceError};
use bateau_log::Disk;
use bateau_protocol::ids::{Incarnation, NodeId, TopicId};
use bateau_protocol::record::{
    BatchError, TimestampType, ValidationLevel, ValidationLimits, validate,
};
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc, oneshot};

/// How long a topic's creator waits for its partitions to be led, at most.
const LEADERS_WAIT: Duration = Duration::from_secs(5);
/// How long one attempt to register may take, in milliseconds.
const REGISTRATION_TIMEOUT_MS: u64 = 30_000;
/// Between two attempts.
const REGISTRATION_PAUSE: Duration = Duration::from_millis(100);
/// How long a node waits for a block of producer ids, in milliseconds.
const PRODUCER_IDS_TIMEOUT_MS: u64 = 10_000;

/// A topic by name, or by id (KIP-516).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicReference {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// A batch to append.
#[derive(Clone, Debug)]
pub struct ProduceRequest<'a> {
    /// The topic.
    pub topic: &'a TopicReference,
    /// Its partition.
    pub partition: i32,
    /// The record batch, as it came.
    pub records: Bytes,
    /// Whether the producer wants an answer; without one nothing is promised (`acks=0`).
    pub wants_ack: bool,
    /// How long the producer waits.
    pub timeout: Duration,
    /// Whether the request's version knows zstd (KIP-110).
    pub zstd_allowed: bool,
}

/// Why a batch was not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProduceRefused {
    /// No such topic, partition, leader here.
    #[error(transparent)]
    Partition(FetchError),
    /// The bytes are not a batch that may be appended.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Transactions are not served yet.
    #[error("the batch is part of a transaction, which this broker does not serve")]
    Transactional,
    /// The partition's answer.
    #[error(transparent)]
    Replica(#[from] ProduceError),
}

/// An acknowledgement that is on its way.
#[derive(Debug)]
pub struct PendingAck {
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Now(Result<ProduceAck, ProduceRefused>),
    Later(oneshot::Receiver<Result<ProduceAck, ProduceError>>),
    /// `acks=0`: nobody is told.
    Never,
}

impl PendingAck {
    fn refused(refused: impl Into<ProduceRefused>) -> Self {
        Self { answer: Answer::Now(Err(refused.into())) }
    }

    /// The answer; `None` for `acks=0` unless the batch was refused before it was queued.
    pub async fn wait(mut self) -> Option<Result<ProduceAck, ProduceRefused>> {
        poll_fn(|task| self.poll_wait(task)).await
    }

    /// As [`Self::wait`], for a caller that polls. Not to be called again once it is ready.
    pub fn poll_wait(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<ProduceAck, ProduceRefused>>> {
        match &mut self.answer {
            Answer::Now(answer) => Poll::Ready(Some(answer.clone())),
            Answer::Never => Poll::Ready(None),
            Answer::Later(receiver) => Pin::new(receiver).poll(task).map(|answer| {
                Some(match answer {
                    Ok(answer) => answer.map_err(ProduceRefused::from),
                    // The node stops: whether the batch is in the log is not known.
                    Err(_) => Err(ProduceError::NotLeader.into()),
                })
            }),
        }
    }
}

/// What the node is, for doors that describe it.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its id.
    pub node_id: NodeId,
    /// What its broker configs say.
    pub settings: BrokerSettings,
    /// What an acknowledgement of this node promises.
    pub durability: Durability,
}

/// What an acknowledgement promises. There is no level between the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The batch is flushed to the disks of a majority of its partition's replicas.
    Flushed,
    /// The batch is in the memory of this process or in a directory that is never flushed.
    Ephemeral,
}

impl Durability {
    /// The word of banner, ready line, acks and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flushed => "flushed",
            Self::Ephemeral => "ephemeral",
        }
    }
}

/// The broker behind the doors. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeInfo,
    router: Arc<Router>,
    shard: mpsc::Sender<Ask>,
    cold: ColdReader,
    producer_ids: Mutex<ProducerIds>,
    gauges: Gauges,
    clock: Clock,
    entropy: Entropy,
}

/// Ids of this node's block that are not given yet.
#[derive(Debug, Default)]
struct ProducerIds {
    next: u64,
    left: u32,
}

impl Broker {
    /// A broker over a running shard.
    #[must_use]
    pub fn new(
        node: NodeInfo,
        router: Arc<Router>,
        shard: mpsc::Sender<Ask>,
        cold: ColdReader,
        clock: Clock,
        entropy: Entropy,
        disk: Arc<dyn Disk>,
    ) -> Self {
        let (producer_ids, gauges) = (Mutex::default(), Gauges::new(disk));
        let inner = Inner { node, router, shard, cold, producer_ids, gauges, clock, entropy };
        Self { inner: Arc::new(inner) }
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> &NodeInfo {
        &self.inner.node
    }

    pub(crate) fn gauges(&self) -> &Gauges {
        &self.inner.gauges
    }

    pub(crate) fn router(&self) -> &Router {
        &self.inner.router
    }

    pub(crate) fn cold(&self) -> &ColdReader {
        &self.inner.cold
    }

    /// This node's time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Where ids come from that a door makes for its clients.
    #[must_use]
    pub fn entropy(&self) -> &Entropy {
        &self.inner.entropy
    }

    /// Moves this node's clock ahead of real time: sessions, rebalances, retention and expiry.
    /// Elections, transports and request deadlines stay where they are. Timers fire in the order
    /// in which they are due; when this returns, what they led to is done and flushed, and
    /// retention has been looked at. At most [`ADVANCED_MS_MAX`](crate::clock::ADVANCED_MS_MAX) in
    /// all. `None` when the node stops.
    ///
    /// Cost: a few flushes per timer that becomes due.
    pub async fn advance(&self, by: Duration) -> Option<()> {
        self.ask(|reply| Ask::Advance(by, reply)).await
    }

    /// Gives every leadership away that another node could have, before this one stops. Where there
    /// is no other, at once. `None` when the node stops.
    pub(crate) async fn leave(&self) -> Option<()> {
        self.ask(Ask::Leave).await
    }

    /// Asks whoever leads a partition to hand that to the replica on `node`. It may come to
    /// nothing: whoever asks looks, and asks again.
    pub(crate) async fn transfer(&self, partition: Incarnation, node: NodeId) {
        // A node that stops leads nothing for long.
        let _ = self.inner.shard.send(Ask::Transfer(partition, node)).await;
    }

    /// Queues an ask. `None` when the node stops, or did before it answered.
    pub(crate) async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.inner.shard.send(ask(sender)).await.ok()?;
        receiver.await.ok()
    }

    /// The present metadata and partitions.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        self.inner.router.directory()
    }

    /// Queues a batch. Two calls one after the other are appended in that order.
    ///
    /// Cost: one CRC pass and one walk over the records; waits only while the inbox is full.
    pub async fn produce(&self, request: ProduceRequest<'_>) -> PendingAck {
        let directory = self.directory();
        let view = match locate(&directory, request.topic, request.partition, -1) {
            Ok(view) => view,
            Err(error) => return PendingAck::refused(ProduceRefused::Partition(error)),
        };
        if view.is_unavailable() {
            return PendingAck::refused(ProduceError::Storage);
        }
        let now = self.inner.clock.now();
        let limits = validation_limits(&view.config(), request.zstd_allowed);
        let checked = validate(&request.records, &limits, ValidationLevel::Walk, now.wall_ms);
        let valid = match checked {
            Ok(valid) if valid.is_transactional() => {
                return PendingAck::refused(ProduceRefused::Transactional);
            }
            Ok(valid) => valid,
            Err(error) => return PendingAck::refused(error),
        };
        let timeout_ms = u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX);
        let produce = Produce {
            batch: valid.bytes,
            record_count: valid.record_count,
            producer: valid.producer,
            ticket: None,
            deadline_ms: now.monotonic_ms.saturating_add(timeout_ms),
        };
        let (reply, answer) = if request.wants_ack {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Answer::Later(receiver))
        } else {
            (None, Answer::Never)
        };
        let incarnation = view.incarnation();
        match self.inner.shard.send(Ask::Produce { incarnation, produce, reply }).await {
            Ok(()) => PendingAck { answer },
            Err(_) => PendingAck::refused(ProduceError::NotLeader),
        }
    }

    /// Serves a fetch; see [`Fetch::serve`].
    pub async fn fetch(&self, request: &FetchRequest) -> Vec<Result<Fetched, FetchError>> {
        Fetch::new(request, &self.inner.cold).serve(|| self.directory()).await
    }

    /// Asks a group's coordinator. `None` when the node stops.
    pub async fn group(&self, request: GroupRequest) -> Option<GroupResponse> {
        self.ask(|reply| Ask::Group(request, reply)).await
    }

    /// Creates topics, and waits until the new partitions are led.
    pub async fn create_topics(
        &self,
        request: CreateTopics,
    ) -> Result<Vec<CreateTopicResult>, ControllerError> {
        let response = self.control(ControllerRequest::CreateTopics(request)).await?;
        let ControllerResponse::TopicsCreated(results) = response else {
            return Err(ControllerError::NotController);
        };
        let created = results.iter().filter_map(|result| result.result.as_ref().ok());
        self.until_led(created.map(|topic| topic.id).collect()).await;
        Ok(results)
    }

    /// Creates those of the topics that do not exist, and waits until their partitions are led.
    pub async fn auto_create_topics(
        &self,
        names: Vec<String>,
        timeout_ms: u64,
    ) -> Result<Vec<AutoCreateTopicResult>, ControllerError> {
        let request = ControllerRequest::AutoCreateTopics { names, timeout_ms };
        let ControllerResponse::TopicsAutoCreated(results) = self.control(request).await? else {
            return Err(ControllerError::NotController);
        };
        let ids = results.iter().filter_map(|result| result.result.as_ref().ok());
        self.until_led(ids.copied().collect()).await;
        Ok(results)
    }

    /// Deletes topics.
    pub async fn delete_topics(
        &self,
        topics: Vec<bateau_core::controller::TopicReference>,
        timeout_ms: u64,
    ) -> Result<Vec<DeleteTopicResult>, ControllerError> {
        let request = ControllerRequest::DeleteTopics { topics, timeout_ms };
        match self.control(request).await? {
            ControllerResponse::TopicsDeleted(results) => Ok(results),
            _ => Err(ControllerError::NotController),
        }
    }

    /// A producer id that nobody ever had.
    ///
    /// Errors: [`ControllerError`]. Cost: every thousandth call asks the controller.
    pub async fn producer_id(&self) -> Result<u64, ControllerError> {
        let mut ids = self.inner.producer_ids.lock().await;
        if ids.left == 0 {
            let block = self.producer_id_block().await?;
            *ids = ProducerIds { next: block.first, left: block.count };
        }
        let id = ids.next;
        ids.next += 1;
        ids.left -= 1;
        Ok(id)
    }

    async fn producer_id_block(&self) -> Result<ProducerIdBlock, ControllerError> {
        let (node, timeout_ms) = (self.inner.node.node_id, PRODUCER_IDS_TIMEOUT_MS);
        let request = ControllerRequest::AllocateProducerIds { node, timeout_ms };
        match self.control(request).await? {
            ControllerResponse::ProducerIdsAllocated(Ok(block)) => Ok(block),
            _ => Err(ControllerError::NotController),
        }
    }

    /// Makes this node known to its cluster.
    ///
    /// Errors: why the cluster refuses it.
    pub async fn register(&self, registration: NodeRegistration) -> Result<(), String> {
        let timeout_ms = REGISTRATION_TIMEOUT_MS;
        loop {
            let registration = registration.clone();
            let request = ControllerRequest::RegisterNode { registration, timeout_ms };
            match self.control(request).await {
                Ok(ControllerResponse::NodeRegistered(Ok(()))) => return Ok(()),
                Ok(ControllerResponse::NodeRegistered(Err(error))) => return Err(error.to_string()),
                // Nobody leads at the moment. Whoever waits for this node has a limit of its own.
                Ok(_) | Err(_) => tokio::time::sleep(REGISTRATION_PAUSE).await,
            }
        }
    }

    /// Asks the controller.
    pub(crate) async fn control(
        &self,
        request: ControllerRequest,
    ) -> Result<ControllerResponse, ControllerError> {
        let answer = self.ask(|reply| Ask::Controller(request, reply)).await;
        answer.unwrap_or(Err(ControllerError::NotController))
    }

    /// A new topic is usable when its creator is told of it, not a moment later.
    pub(crate) async fn until_led(&self, topics: Vec<TopicId>) {
        let is_led = |directory: &Directory| {
            topics.iter().filter(|id| **id != TopicId::ZERO).all(|id| {
                directory.topic_by_id(*id).is_none_or(|topic| {
                    let mut logs = topic.partitions.iter().map(|part| part.incarnation);
                    logs.all(|log| directory.is_settled(log))
                })
            })
        };
        // A partition that is not led in time is for its clients to ask for again.
        let _ = tokio::time::timeout(LEADERS_WAIT, self.inner.router.until(is_led)).await;
    }
}

fn validation_limits(config: &TopicConfig, zstd_allowed: bool) -> ValidationLimits {
    let milliseconds = |value| i64::try_from(value).unwrap_or(i64::MAX);
    ValidationLimits {
        batch_bytes_max: config.message_bytes_max as usize,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: milliseconds(config.timestamp_before_max_ms),
        timestamp_after_max_ms: milliseconds(config.timestamp_after_max_ms),
        zstd_allowed,
        keys_required: false,
    }
}
