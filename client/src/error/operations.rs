//! The errors of sending, consuming, committing and administration.
//!
//! Absent on purpose: the rule of their three questions, which stands in the parent module.

use super::{BrokerError, ErrorKind, RequestError};
use bateau_protocol::wire::ErrorCode;
use thiserror::Error;

/// Why a record was not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// No room in the producer's buffer, and the call does not wait.
    #[error("the producer's buffer is full: {buffered_bytes} of {buffer_bytes} bytes")]
    BufferFull {
        /// Bytes that wait.
        buffered_bytes: usize,
        /// The limit.
        buffer_bytes: usize,
    },
    /// The call does not wait, and the topic's partitions are not known yet.
    #[error("the partitions of `{topic}` are not known yet; await `Producer::ready` once")]
    NotReady {
        /// The topic.
        topic: String,
    },
    /// The record is larger than a batch may be.
    #[error("the record takes {found} bytes, a batch at most {bytes_max}")]
    RecordTooLarge {
        /// Bytes of the record.
        found: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The record names a partition that the topic lacks.
    #[error("`{topic}` has no partition {partition}, its partitions are 0 to {}", partitions - 1)]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// As asked for.
        partition: i32,
        /// How many there are.
        partitions: u32,
    },
    /// The broker refused the batch; it is not in the log.
    #[error("refused, and not written: {0}")]
    Refused(BrokerError),
    /// The record did not get out to a broker before its deadline: it is not written.
    #[error("not sent within {after_ms} ms, and not written: {reason}")]
    NotSent {
        /// The record's deadline.
        after_ms: u64,
        /// What was in the way.
        reason: String,
    },
    /// The record may be in the log, or not. Sending it again may write it twice.
    #[error("written or not, nobody can tell: {reason}")]
    OutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// The typed value could not be turned into bytes.
    #[error("the value cannot be encoded: {reason}")]
    Encode {
        /// What the codec said.
        reason: String,
    },
    /// The producer or its client has been closed.
    #[error("the producer has been closed; the record was not written")]
    Closed,
}

impl SendError {
    /// What kind of trouble it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::BufferFull { .. } | Self::NotReady { .. } => ErrorKind::Full,
            Self::RecordTooLarge { .. } | Self::Encode { .. } => ErrorKind::Invalid,
            Self::NoSuchPartition { .. } => ErrorKind::NotFound,
            Self::Refused(error) => error.kind(),
            Self::NotSent { .. } | Self::OutcomeUnknown { .. } => ErrorKind::TimedOut,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the same call may succeed later without writing anything twice.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::BufferFull { .. } | Self::NotReady { .. } | Self::NotSent { .. } => true,
            Self::Refused(error) => error.is_retryable,
            _ => false,
        }
    }

    /// Whether the record may be in the log.
    #[must_use]
    pub const fn possibly_written(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. })
    }
}

/// Why a consumer cannot go on, or a record cannot be delivered.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The position is not in the log, and the consumer was told to say so.
    #[error(
        "{topic}[{partition}]: offset {offset} is not in the log, which has {log_start} to \
         {high_watermark}"
    )]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where the consumer wanted to read.
        offset: i64,
        /// Where the log starts.
        log_start: i64,
        /// The first offset that is not committed.
        high_watermark: i64,
    },
    /// A batch whose bytes are damaged. The consumer has moved behind it.
    #[error("{topic}[{partition}]: the batch at offset {offset} cannot be read: {reason}")]
    Corrupt {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The batch's first offset.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
    /// The topic or partition does not exist.
    #[error("`{topic}` has no partition {partition}")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The topic was deleted, and the consumer was told to say so ([`crate::OutOfRange::Error`]).
    /// What has its name now, if anything, is another topic.
    #[error("`{topic}` was deleted; partition {partition} was read up to offset {offset}")]
    TopicDeleted {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset that would have been read.
        offset: i64,
    },
    /// More deliveries than the limit were neither acknowledged nor dropped.
    #[error("{found} deliveries wait for their `ack`, the limit is {limit}")]
    TooManyUnacknowledged {
        /// Deliveries in the application's hands.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Another member has this one's static id.
    #[error("another member has taken the place of `{instance_id}` in group `{group}`")]
    Fenced {
        /// The group.
        group: String,
        /// The static id.
        instance_id: String,
    },
    /// The group cannot be joined: other members use another protocol, for one.
    #[error("group `{group}`: {reason}")]
    Group {
        /// The group.
        group: String,
        /// What is wrong.
        reason: String,
    },
    /// What was asked of the consumer cannot be.
    #[error("{reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// A typed value could not be made of the record.
    #[error("{topic}[{partition}]@{offset}: the value cannot be decoded: {reason}")]
    Decode {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// What the codec said.
        reason: String,
    },
    /// A request failed, for good or for longer than its deadline.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The consumer or its client has been closed.
    #[error("the consumer has been closed")]
    Closed,
}

impl ConsumeError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::OffsetOutOfRange { .. } => ErrorKind::OutOfRange,
            Self::Corrupt { .. } | Self::Decode { .. } => ErrorKind::Corrupt,
            Self::NoSuchPartition { .. } | Self::TopicDeleted { .. } => ErrorKind::NotFound,
            Self::TooManyUnacknowledged { .. } => ErrorKind::Full,
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Group { .. } => ErrorKind::Refused,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Request(error) => error.kind(),
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the consumer goes on by itself, so that reading on makes sense.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::Decode { .. } | Self::TooManyUnacknowledged { .. } => true,
            Self::Request(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// Never: consuming writes nothing.
    #[must_use]
    pub const fn possibly_written(&self) -> bool {
        false
    }
}

/// Why a position was not stored.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The consumer has no group, so there is nowhere to store it.
    #[error("the consumer has no group: keep its cursor instead")]
    NoGroup,
    /// The partition belongs to another member by now: it reads the record again.
    #[error("{topic}[{partition}] belongs to another member by now; it will see the record again")]
    Revoked {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The consumer has left the place where the record was: by a seek, a `nack`, or because the
    /// topic was deleted. The delivery does not count any more.
    #[error(
        "{topic}[{partition}]@{offset}: the consumer has gone elsewhere since, and delivers the \
         record again when it comes by"
    )]
    Outdated {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
    },
    /// The consumer delivers at most once, so nothing can be delivered again.
    #[error("this consumer delivers every record at most once: nothing is delivered again")]
    AtMostOnce,
    /// The broker did not store it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The consumer has been closed.
    #[error("the consumer has been closed")]
    Closed,
}

impl CommitError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoGroup | Self::AtMostOnce => ErrorKind::Invalid,
            Self::Revoked { .. } | Self::Outdated { .. } => ErrorKind::Fenced,
            Self::Request(error) => error.kind(),
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
    }

    /// Whether the position may have been stored.
    #[must_use]
    pub fn possibly_written(&self) -> bool {
        matches!(self, Self::Request(error) if error.possibly_written())
    }
}

/// Why an administrative call failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The broker refused it, for this thing.
    #[error("{name}: {error}")]
    Refused {
        /// The topic or group.
        name: String,
        /// What the broker said.
        error: BrokerError,
    },
    /// It does not exist.
    #[error("{name} does not exist")]
    NotFound {
        /// The topic, partition or group.
        name: String,
    },
    /// The request failed as a whole.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl AdminError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { error, .. } => error.kind(),
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Request(error) => error.kind(),
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { error, .. } => error.is_retryable,
            Self::NotFound { .. } => false,
            Self::Request(error) => error.is_retryable(),
        }
    }

    /// Whether what was asked for may have been done.
    #[must_use]
    pub fn possibly_written(&self) -> bool {
        match self {
            Self::Refused { error, .. } => error.possibly_written,
            Self::NotFound { .. } => false,
            Self::Request(error) => error.possibly_written(),
        }
    }

    /// The broker's code, where a broker answered.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { error, .. } => Some(error.code),
            Self::NotFound { .. } => None,
            Self::Request(error) => error.code(),
        }
    }
}

/// What was not acknowledged when a producer was flushed or closed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "{not_written} records were not written and {outcome_unknown} may be or not; the first error: \
     {first}"
)]
#[non_exhaustive]
pub struct Unsent {
    /// Records that are not in the log.
    pub not_written: u64,
    /// Records that may be in the log.
    pub outcome_unknown: u64,
    /// The first of their errors.
    pub first: SendError,
}

impl Unsent {
    /// What kind of trouble the first one is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.first.kind()
    }

    /// Never: the records are gone from the buffer.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }

    /// Whether any of the records may be in the log.
    #[must_use]
    pub const fn possibly_written(&self) -> bool {
        self.outcome_unknown > 0
    }
}
