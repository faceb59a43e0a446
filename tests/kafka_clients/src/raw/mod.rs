//! A Kafka client that writes any byte it likes.
//!
//! ```text
//!   requests::APIS, requests::valid(api, version) --> Request { header + body, array counts }
//!   batch::Batch ------------------------------------^
//!   Connection: frames out, Outcome in (an answer, a closed connection, silence)
//!   calls, groups: the few answers whose content matters, decoded
//! ```
//!
//! Written from the protocol's published message descriptions, independent of
//! `bateau-protocol`, so that a misunderstanding there cannot confirm itself here.
//!
//! # Absent on purpose
//!
//! Retries, metadata, compression: the real clients bring them.

pub mod batch;
pub mod bytes;
pub mod calls;
pub mod connection;
pub mod groups;
pub mod requests;

/// Error codes by their names in Kafka's protocol.
pub mod code {
    /// No error.
    pub const NONE: i16 = 0;
    /// A fetch asked for an offset that the log does not have.
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    /// A batch's checksum is wrong.
    pub const CORRUPT_MESSAGE: i16 = 2;
    /// Nobody knows this topic or partition.
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    /// The topic is being created.
    pub const LEADER_NOT_AVAILABLE: i16 = 5;
    /// The partition is led elsewhere, or not yet.
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    /// A batch is larger than `max.message.bytes`.
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    /// The coordinator reads its state.
    pub const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    /// There is no coordinator yet.
    pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    /// The coordinator is elsewhere, or not yet here.
    pub const NOT_COORDINATOR: i16 = 16;
    /// The topic's name is not legal.
    pub const INVALID_TOPIC_EXCEPTION: i16 = 17;
    /// Acks other than -1, 0 and 1.
    pub const INVALID_REQUIRED_ACKS: i16 = 21;
    /// The generation is not the group's current one.
    pub const ILLEGAL_GENERATION: i16 = 22;
    /// The group does not know this member.
    pub const UNKNOWN_MEMBER_ID: i16 = 25;
    /// The session timeout is outside the allowed range.
    pub const INVALID_SESSION_TIMEOUT: i16 = 26;
    /// The group changes its members.
    pub const REBALANCE_IN_PROGRESS: i16 = 27;
    /// The version is not supported.
    pub const UNSUPPORTED_VERSION: i16 = 35;
    /// An idempotent producer left a gap.
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    /// The producer's epoch is older than the newest one seen.
    pub const INVALID_PRODUCER_EPOCH: i16 = 47;
    /// The disk is full, or the range damaged.
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    /// A new member must join again with the id it was given.
    pub const MEMBER_ID_REQUIRED: i16 = 79;
    /// A batch is not well formed.
    pub const INVALID_RECORD: i16 = 87;
}
