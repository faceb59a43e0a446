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
