//! Every wire limit, in one place, with its unit.
//!
//! Limits that an operator may move have their default here and a key under `[limits]`.
//!
//! Absent on purpose: limits of the body's queues and caches, which are no wire limits.

/// Largest Kafka frame, in bytes behind its length field (Kafka's own default is 100 MiB).
pub const KAFKA_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Requests of one Kafka connection that may be in flight before it is not read further.
pub const KAFKA_REQUESTS_INFLIGHT_MAX: usize = 16;

/// Largest native frame, in bytes behind its length field: a batch and room for its request.
pub const NATIVE_FRAME_BYTES_MAX: usize = BATCH_BYTES_MAX + 64 * 1024;

/// Largest `Hello`, in bytes behind its length field: what is read before a client is known.
pub const NATIVE_HELLO_BYTES_MAX: usize = 64 * 1024;

/// Requests of one native connection that may be in flight before it is not read further.
pub const NATIVE_REQUESTS_INFLIGHT_MAX: usize = 256;

/// Data streams of one native connection.
pub const NATIVE_DATA_STREAMS_MAX: usize = 8;

/// Bulk streams of one native connection.
pub const NATIVE_BULK_STREAMS_MAX: usize = 6;

/// Subscriptions of one native connection.
pub const NATIVE_SUBSCRIPTIONS_MAX: usize = 1_024;

/// Payload bytes that fetches and subscriptions of one native connection may have outstanding:
/// three quarters of the client's receive window, because QUIC renews a window only after an
/// eighth of it has been read, and acknowledgements share it.
pub const NATIVE_CREDIT_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Reply bytes that may wait on one native connection before it is not read further.
pub const NATIVE_REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Request bytes in flight on one connection.
pub const CONNECTION_BYTES_INFLIGHT_MAX: usize = 32 * 1024 * 1024;

/// Bytes of one Fetch reply, its first batch excepted.
pub const FETCH_REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Array elements in one request, over all of its arrays.
pub const REQUEST_ELEMENTS_MAX: usize = 200_000;

/// Tagged fields in one request.
pub const REQUEST_TAGS_MAX: usize = 10_000;

/// Elements that a decoder reserves room for before it has seen them.
pub const RESERVED_ELEMENTS_MAX: usize = 1_024;

/// Nesting of structures in one message.
pub const NESTING_DEPTH_MAX: usize = 8;

/// Characters of a topic name, of Kafka's set `[a-zA-Z0-9._-]`.
pub const TOPIC_NAME_CHARS_MAX: usize = 249;

/// Hard limit of one record batch in bytes; a topic's `max.message.bytes` is at most this.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Kafka's default of `max.message.bytes`.
pub const BATCH_BYTES_DEFAULT: usize = 1_048_588;

/// Payload of one frame: a batch of [`BATCH_BYTES_MAX`] or the commands of one entry.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Metadata string of one committed offset, in bytes (Kafka's `offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;

/// A peer's `Hello` and its answer, in bytes behind the length field: what is read before a peer
/// is known. All of its voters fit, however long their addresses are.
pub const PEER_HELLO_BYTES_MAX: usize = 24 * 1024;

/// Frame of Raft messages between two nodes, in bytes behind its length field: the largest entry
/// and room for what else the turn has to say. A longer turn takes several frames.
pub const PEER_RAFT_BATCH_BYTES_MAX: usize = FRAME_PAYLOAD_BYTES_MAX + 1024 * 1024;

/// Piece of a snapshot's derived state.
pub const PEER_SNAPSHOT_CHUNK_BYTES_MAX: usize = 1024 * 1024;

/// Frame of such a piece, in bytes behind its length field.
pub const PEER_SNAPSHOT_CHUNK_FRAME_BYTES_MAX: usize = PEER_SNAPSHOT_CHUNK_BYTES_MAX + 4 * 1024;

/// Derived state of one snapshot.
pub const PEER_SNAPSHOT_STATE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Encoded membership of a partition.
pub const PEER_MEMBERSHIP_BYTES_MAX: usize = 4 * 1024;

/// A node's sign of life, in bytes behind its length field.
pub const PEER_LIVENESS_BYTES_MAX: usize = 128 * 1024;

/// Stopped replicas in one sign of life.
pub const PEER_STOPPED_REPLICAS_MAX: usize = 10_000;

/// Limit of a frame that says what its sender leads, in bytes behind the length field.
pub const PEER_LEADERSHIPS_BYTES_MAX: usize = 128 * 1024;

/// Leaderships in one of them.
pub const PEER_LEADERSHIPS_MAX: usize = 4_096;

/// Request between nodes, in bytes behind its length field.
pub const PEER_REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Controller's request or answer inside such a frame.
pub const PEER_CONTROLLER_BYTES_MAX: usize = PEER_REQUEST_BYTES_MAX - 4 * 1024;

/// Answer between nodes, in bytes behind its length field: one entry of any size fits.
pub const PEER_ANSWER_BYTES_MAX: usize = PEER_RAFT_BATCH_BYTES_MAX;

/// Frame of a kind that this build does not know, in bytes behind its length field. It is skipped.
pub const PEER_UNKNOWN_BYTES_MAX: usize = 1024 * 1024;

/// Configured voters in a `Hello`.
pub const PEER_VOTERS_MAX: usize = 64;

/// Address of a peer: a host of 255 bytes, a colon and a port.
pub const PEER_ADDRESS_BYTES_MAX: usize = 261;

/// Raft messages in one frame.
pub const PEER_RAFT_MESSAGES_MAX: usize = 65_536;

/// Log entries in one frame, over all of its messages.
pub const PEER_ENTRIES_MAX: usize = 65_536;

/// Context of a heartbeat.
pub const PEER_CONTEXT_BYTES_MAX: usize = 64;

/// Text for an operator in a refusal or a failed answer.
pub const PEER_TEXT_BYTES_MAX: usize = 1_024;
