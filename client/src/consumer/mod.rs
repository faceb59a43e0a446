//! Reading records: of a group's share of its topics, or of partitions that one names.
//!
//! ```text
//!   broker ── Records, within credit ──> queue ── one batch at a time ──> Delivery ── ack
//!               ▲                                                            │
//!               └──────────────────── credit for what was read <────────────┘
//! ```
//!
//! The broker pushes as it commits, as far as it has credit; credit is renewed when the application
//! has read. So an application that does not read is not buffered for, and costs the broker
//! nothing.
//!
//! Invariants
//! - Records of one partition come in the order of their offsets, none twice and none left out,
//!   across reconnects and changes of leader.
//! - What waits in the consumer takes at most `buffer_bytes`, one batch of each partition excepted.
//!
//! Absent on purpose: reading uncommitted records.

mod builder;
mod delivery;

pub use builder::ConsumerBuilder;
pub use delivery::Delivery;

use crate::cursor::Cursor;
use crate::error::{CommitError, ConsumeError};
use crate::group::TopicPartition;
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Where to begin in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Start {
    /// At the first offset in the log.
    Earliest,
    /// Behind the last committed record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// So many offsets behind the log's start.
    AfterStart(i64),
    /// So many offsets before the log's end, or at its start.
    BeforeEnd(i64),
    /// At the first record of this time or later, in Unix milliseconds; at the end where none is
    /// that young.
    Time(i64),
}

/// What to do when the position is not in the log: it was trimmed, or the log is a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OutOfRange {
    /// Go on at the first offset in the log.
    #[default]
    Earliest,
    /// Go on behind the last committed record.
    Latest,
    /// Say so, with [`ConsumeError::OffsetOutOfRange`], and leave the partition.
    Error,
}

/// When a group's positions are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CommitPolicy {
    /// At least once: what was acknowledged ([`Delivery::ack`]), this often. With an interval of
    /// zero every `ack` waits until it is stored.
    AfterAck {
        /// The longest time between an `ack` and its commit.
        interval: Duration,
    },
    /// At most once: stored before the records are delivered.
    BeforeDelivery,
    /// Only by [`Consumer::commit`] and [`Consumer::commit_positions`].
    Manual,
}

impl Default for CommitPolicy {
    /// After `ack`, every second.
    fn default() -> Self {
        Self::AfterAck { interval: Duration::from_secs(1) }
    }
}

/// A stream of records. Made by [`crate::Client::consumer`] or [`crate::Client::reader`].
///
/// It implements [`Stream`] and has [`Consumer::next`] and [`Consumer::try_next`] of its own. A
/// group member that is dropped without [`Consumer::close`] leaves its group without storing
/// anything more, if the client lives on; else it stays a member until its session ends.
#[derive(Debug)]
pub struct Consumer {
    #[expect(dead_code, reason = "filled in with the consumer's engine")]
    private: (),
}

impl Consumer {
    /// The next record; `None` after the end of what there is to read.
    ///
    /// # Errors
    /// [`ConsumeError`]; where it is retryable, reading on goes on behind what failed.
    ///
    /// Cancel-safe: no record is lost.
    pub async fn next(&mut self) -> Option<Result<Delivery, ConsumeError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// As [`Consumer::next`], for `while let Some(delivery) = consumer.try_next().await?`.
    ///
    /// # Errors
    /// [`ConsumeError`].
    ///
    /// Cancel-safe: no record is lost.
    pub async fn try_next(&mut self) -> Result<Option<Delivery>, ConsumeError> {
        self.next().await.transpose()
    }

    /// The partitions that it reads at the moment.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        Vec::new()
    }

    /// The offset of the next record that is delivered from this partition; `None` where it is not
    /// assigned, or not known yet.
    #[must_use]
    pub fn position(&self, _topic: &str, _partition: i32) -> Option<i64> {
        None
    }

    /// Continues elsewhere in a partition that is assigned. What was received of it is forgotten.
    ///
    /// # Errors
    /// [`ConsumeError::NoSuchPartition`] where it is not assigned; [`ConsumeError::Request`] where
    /// the offset had to be looked up.
    ///
    /// Cancel-safe: the position is the old one or the new one.
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: i32,
        _start: Start,
    ) -> Result<(), ConsumeError> {
        Err(ConsumeError::NoSuchPartition { topic: topic.to_owned(), partition })
    }

    /// Where it is in all partitions, behind what was delivered: for
    /// [`ConsumerBuilder::from_cursor`] in another process.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor::new()
    }

    /// Stores the position behind everything that was delivered.
    ///
    /// # Errors
    /// [`CommitError`].
    ///
    /// Not cancel-safe: dropped after it was sent, it may be stored all the same.
    pub async fn commit(&mut self) -> Result<(), CommitError> {
        Err(CommitError::NoGroup)
    }

    /// Stores these positions: the next offset to consume of each partition.
    ///
    /// # Errors
    /// [`CommitError`].
    ///
    /// Not cancel-safe: dropped after it was sent, some may be stored all the same.
    pub async fn commit_positions(
        &mut self,
        _positions: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<(), CommitError> {
        Err(CommitError::NoGroup)
    }

    /// Stops: stores what was acknowledged, and leaves the group, so that others take over at once.
    ///
    /// # Errors
    /// [`CommitError`]: what was acknowledged could not be stored. The consumer is closed all the
    /// same.
    ///
    /// Not cancel-safe: dropped before its end, others take over when the session ends.
    pub async fn close(self) -> Result<(), CommitError> {
        Ok(())
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
