//! What an operator may move, and the limits that nobody moves.
//!
//! Every limit is checked before a command is proposed and never while one is applied: replicas
//! with different settings must build the same state from the same log.
//!
//! Absent on purpose: settings of new-protocol and share groups.

use std::time::Duration;

/// Internal partitions that hold group state: fixed at the cluster's birth, because a group's home
/// is a hash modulo this number ([`partition_of`](super::partition_of)).
pub const GROUP_PARTITIONS: u32 = 16;

/// Bytes of a group id, a client id, a client host, a member id, a group instance id, a protocol
/// type or a protocol name (Kafka's own bound is the 32,767 bytes of its short strings).
pub const NAME_BYTES_MAX: usize = 1_024;

/// Groups of one internal partition, whether they have members or only offsets.
pub const GROUPS_PER_PARTITION_MAX: usize = 10_000;

/// Ids of one group that were handed out with MEMBER_ID_REQUIRED and are not yet used.
pub const PENDING_MEMBERS_PER_GROUP_MAX: usize = 1_000;

/// Protocols that one member offers.
pub const PROTOCOLS_PER_MEMBER_MAX: usize = 64;

/// Subscription metadata of one member in bytes, over all protocols that it offers.
pub const MEMBER_METADATA_BYTES_MAX: usize = 1024 * 1024;

/// Names and subscription metadata of all members of one group in bytes: a generation is written
/// as one command.
pub const GROUP_METADATA_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Assignments of all members of one generation in bytes: they are written as one command.
pub const GROUP_ASSIGNMENT_BYTES_MAX: usize = 12 * 1024 * 1024;

/// One command, header included, in bytes. A frame's payload holds it with room to spare.
pub const COMMAND_BYTES_MAX: usize = 15 * 1024 * 1024;

/// Committed offsets of one group, in partitions.
pub const OFFSETS_PER_GROUP_MAX: usize = 200_000;

/// Committed offsets of one internal partition, in bytes as a snapshot writes them.
pub const OFFSETS_BYTES_PER_PARTITION_MAX: usize = 128 * 1024 * 1024;

/// Requests of one internal partition that wait for a rebalance or for the log.
pub const PARKED_REQUESTS_MAX: usize = 100_000;

/// One state snapshot in bytes; a longer one is refused before it is read.
pub const SNAPSHOT_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// A new member whose JoinGroup waits longer than this is dropped, in milliseconds: it cannot
/// heartbeat yet, and retries of a client that gave up would pile up as members.
pub const NEW_MEMBER_JOIN_WAIT_MS: u64 = 300_000;

/// How long a group without members and without offsets is kept, in milliseconds.
pub const EMPTY_GROUP_LINGER_MS: u64 = 600_000;

/// Settings of one coordinator. Equal on all nodes where possible, but nothing breaks if not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Smallest session timeout a member may ask for, in milliseconds
    /// (`group.min.session.timeout.ms`).
    pub session_timeout_min_ms: u64,
    /// Largest session timeout a member may ask for, in milliseconds
    /// (`group.max.session.timeout.ms`).
    pub session_timeout_max_ms: u64,
    /// How long the first rebalance of an empty group waits for more members, in milliseconds
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: u64,
    /// How long offsets live once nothing uses their group, in milliseconds
    /// (`offsets.retention.minutes`).
    pub offsets_retention_ms: u64,
    /// Members of one group (`group.max.size`).
    pub members_per_group_max: usize,
    /// Metadata string of one committed offset in bytes (`offset.metadata.max.bytes`).
    pub offset_metadata_bytes_max: usize,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 30 * 60 * 1_000,
            initial_rebalance_delay_ms: 0,
            offsets_retention_ms: milliseconds(Duration::from_hours(7 * 24)),
            members_per_group_max: 2_000,
            offset_metadata_bytes_max: bateau_protocol::limits::OFFSET_METADATA_BYTES_MAX,
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
