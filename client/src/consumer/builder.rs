//! Options of a consumer.
//!
//! Absent on purpose: patterns of topic names.

use super::shared::Shared;
use super::slot::Slot;
use super::{CommitPolicy, Consumer, OutOfRange, Start};
use crate::client::Client;
use crate::cluster::{Cluster, TopicView};
use crate::cursor::{Cursor, CursorError};
use crate::error::{AdminError, ConsumeError, RequestError};
use crate::group::Assignor;
use std::sync::Arc;
use std::time::Duration;

/// Options of a consumer. Every method sets one choice.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `start`"]
pub struct ConsumerBuilder {
    pub(crate) client: Client,
    pub(crate) group: Option<String>,
    pub(crate) topics: Vec<String>,
    pub(crate) partitions: Vec<(String, i32, Option<Start>)>,
    pub(crate) cursor: Cursor,
    pub(crate) start: Start,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) commit: CommitPolicy,
    pub(crate) buffer_bytes: usize,
    pub(crate) instance_id: Option<String>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) assignors: Vec<Assignor>,
    pub(crate) unacknowledged_max: usize,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, group: Option<String>) -> Self {
        Self {
            client,
            group,
            topics: Vec::new(),
            partitions: Vec::new(),
            cursor: Cursor::new(),
            start: Start::Earliest,
            out_of_range: OutOfRange::default(),
            commit: CommitPolicy::default(),
            buffer_bytes: 4 * 1024 * 1024,
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            unacknowledged_max: 100_000,
        }
    }

    /// All partitions of these topics; of a group, this member's share of them.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// This partition, from the consumer's start. Not for members of a group: their partitions are
    /// assigned.
    pub fn partition(mut self, topic: impl Into<String>, partition: i32) -> Self {
        self.partitions.push((topic.into(), partition, None));
        self
    }

    /// This partition, from here.
    pub fn partition_from(
        mut self,
        topic: impl Into<String>,
        partition: i32,
        start: Start,
    ) -> Self {
        self.partitions.push((topic.into(), partition, Some(start)));
        self
    }

    /// Where to begin in a partition that has no position of its own: none is stored for the group,
    /// none is in the cursor. Default [`Start::Earliest`].
    pub const fn start_at(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Begins where a cursor says ([`Consumer::cursor`]), in the partitions that it knows.
    ///
    /// # Errors
    /// The bytes are no cursor.
    pub fn from_cursor(mut self, cursor: &[u8]) -> Result<Self, CursorError> {
        self.cursor = Cursor::parse(cursor)?;
        Ok(self)
    }

    /// What to do when the position is not in the log. Default: go on at the log's start.
    pub const fn out_of_range(mut self, policy: OutOfRange) -> Self {
        self.out_of_range = policy;
        self
    }

    /// When positions are stored. Default: what was acknowledged, every second.
    pub const fn commit(mut self, policy: CommitPolicy) -> Self {
        self.commit = policy;
        self
    }

    /// Bytes that the consumer receives ahead of the application. Default 4 MiB; a connection's
    /// limit, 6 MiB, is shared by all consumers on it.
    pub const fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Makes it a static member (KIP-345): it keeps its partitions over a restart, as long as its
    /// session lasts.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.instance_id = Some(id.into());
        self
    }

    /// A member that is not heard of for so long is out. Default 45 s.
    pub const fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// How long a rebalance waits for this member. Default 60 s.
    pub const fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.rebalance_timeout = timeout;
        self
    }

    /// How often the member is heard of. Default 3 s.
    pub const fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// How partitions are shared out, in order of preference. Default range, then
    /// cooperative-sticky, as Java's consumers offer. Only if all are cooperative the member keeps
    /// reading through a rebalance.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Assignor>) -> Self {
        self.assignors = assignors.into_iter().collect();
        self
    }

    /// Deliveries that may wait for their `ack` at the same time. Default 100,000.
    pub const fn unacknowledged_max(mut self, count: usize) -> Self {
        self.unacknowledged_max = count;
        self
    }

    /// Starts it: joins the group, or looks up the offsets to begin at. It returns when the
    /// consumer is at work; a group's first assignment may come later.
    ///
    /// # Errors
    /// [`ConsumeError::Invalid`] for options that do not go together,
    /// [`ConsumeError::NoSuchPartition`], [`ConsumeError::Request`].
    ///
    /// Cancel-safe: dropping the future leaves nothing behind.
    pub async fn start(self) -> Result<Consumer, ConsumeError> {
        self.check()?;
        let shared = Shared::new(self);
        // Dropped before the end, it takes its tasks along.
        let consumer = Consumer::new(Arc::clone(&shared));
        let options = &shared.options;
        if options.group.is_some() {
            for topic in &options.topics {
                shared.cluster.watch_topic(topic);
            }
            super::member::start(&shared);
        } else {
            for (topic, partition, start) in options.named_partitions().await? {
                let from_cursor = options.cursor.next_offset(topic.id, partition);
                let slot = Slot::new(Arc::clone(&topic.name), topic.id, partition);
                let start = match from_cursor {
                    Some(next) => Start::Offset(i64::try_from(next.get()).unwrap_or(i64::MAX)),
                    None => start,
                };
                shared.assign(slot, Some(start));
            }
        }
        shared.cluster.runtime.spawn(super::run(Arc::clone(&shared)));
        Ok(consumer)
    }

    fn check(&self) -> Result<(), ConsumeError> {
        let invalid = |reason: &str| Err(ConsumeError::Invalid { reason: reason.to_owned() });
        if self.topics.is_empty() && self.partitions.is_empty() {
            return invalid("no topic and no partition was named");
        }
        if self.group.is_none() {
            return Ok(());
        }
        if !self.partitions.is_empty() {
            return invalid("a member of a group names topics; its partitions are assigned");
        }
        if self.assignors.is_empty() {
            return invalid("a member of a group needs an assignor");
        }
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval >= self.session_timeout {
            return invalid("the heartbeat interval must be shorter than the session timeout");
        }
        Ok(())
    }

    /// All partitions that are to be read, each with where to begin.
    async fn named_partitions(&self) -> Result<Vec<(Arc<TopicView>, i32, Start)>, ConsumeError> {
        let cluster = self.client.cluster();
        let mut named = Vec::new();
        for name in &self.topics {
            let topic = existing(cluster, name, 0).await?;
            let all = 0..topic.partition_count();
            named.extend(all.map(|partition| (Arc::clone(&topic), partition, self.start)));
        }
        for (name, partition, start) in &self.partitions {
            let topic = existing(cluster, name, *partition).await?;
            if topic.partition(*partition).is_none() {
                let (topic, partition) = (name.clone(), *partition);
                return Err(ConsumeError::NoSuchPartition { topic, partition });
            }
            let start = start.unwrap_or(self.start);
            named.retain(|(known, number, _)| known.id != topic.id || number != partition);
            named.push((topic, *partition, start));
        }
        Ok(named)
    }

    pub(super) fn stores_before_delivery(&self) -> bool {
        self.group.is_some() && self.commit == CommitPolicy::BeforeDelivery
    }

    /// How often acknowledged positions are stored; `None` where deliveries are not tracked.
    pub(super) fn ack_interval(&self) -> Option<Duration> {
        match self.commit {
            CommitPolicy::AfterAck { interval } if self.group.is_some() => Some(interval),
            _ => None,
        }
    }
}

async fn existing(
    cluster: &Cluster,
    name: &str,
    partition: i32,
) -> Result<Arc<TopicView>, ConsumeError> {
    cluster.existing_topic(name).await.map_err(|error| match error {
        AdminError::NotFound { name } => ConsumeError::NoSuchPartition { topic: name, partition },
        AdminError::Request(error) => error.into(),
        AdminError::Refused { error, .. } => RequestError::from(error).into(),
    })
}
