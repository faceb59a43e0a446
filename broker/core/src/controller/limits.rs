//! What keeps the metadata of a cluster from growing without bound.
//!
//! Each limit is checked where the leader decides, never where a command is applied: a limit may
//! change with the version, the outcome of a committed command may not.
//!
//! Absent on purpose: wire limits, which are in `bateau_protocol::limits`.

/// Topics of one cluster, the internal one included.
pub const TOPICS_MAX: usize = 20_000;

/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;

/// Partitions that one request may create, over all of its topics (Kafka's own bound).
pub const PARTITIONS_PER_REQUEST_MAX: u32 = 10_000;

/// Partition replicas that one node may hold, internal ones included.
pub const REPLICAS_PER_NODE_MAX: u32 = 20_000;

/// Replicas of one partition, so voters of one Raft group.
pub const REPLICATION_FACTOR_MAX: u16 = 9;

/// Bytes of names and values of the config overrides that one topic may carry.
pub const TOPIC_CONFIG_BYTES_MAX: usize = 4_096;

/// Nodes of one cluster.
pub const NODES_MAX: usize = 1_000;

/// Nodes that vote on the metadata; the others follow without a vote.
pub const QUORUM_VOTERS_MAX: usize = 5;

/// Assignments that the controller has open at once by its own will.
pub const REASSIGNMENTS_OPEN_MAX: usize = 64;

/// Listeners of one node.
pub const LISTENERS_PER_NODE_MAX: usize = 16;

/// Bytes of a host, rack or listener name.
pub const NODE_TEXT_BYTES_MAX: usize = 255;

/// Deleted incarnations that some node has not yet confirmed to be gone.
pub const TOMBSTONES_MAX: usize = 100_000;

/// Requests that may wait for their commands.
pub const PENDING_REQUESTS_MAX: usize = 1_024;

/// Bytes of the commands that one request may propose.
pub const PROPOSAL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Producer ids of one block.
pub const PRODUCER_ID_BLOCK: u32 = 1_000;

/// Longest time that a request waits for its commands, in milliseconds. Clients that ask for
/// more, or for no bound, get this one.
pub const REQUEST_TIMEOUT_MS_MAX: u64 = 60_000;

/// Replica ids of the controller start here; below are those of the metadata partition, which
/// are node ids.
pub const FIRST_REPLICA_ID: u64 = 1 << 32;
