//! Producing, fetching, subscribing and looking offsets up.
//!
//! One partition per frame: what a client sends together it writes together, and every answer
//! finds its request by correlation.

use crate::ids::TopicId;
use crate::wire::notation::structure;
use crate::wire::{Chain, ErrorCode, Text};

structure! {
    /// Appends one record batch. On a data stream; batches of one partition that are in flight
    /// belong on one stream, where they are appended, and acknowledged, in order.
    ProduceRequest {
        topic_id: TopicId,
        partition: i32,
        /// How long the client waits for the majority, in milliseconds.
        timeout_ms: i32,
        /// A record batch v2, as Kafka's clients make it.
        records: Chain,
    }
}

structure! {
    /// The batch is committed, and flushed by a majority of the partition's replicas.
    ProduceResponse {
        base_offset: i64,
        log_start: i64,
        /// Whether the batch was in the log already: it had been sent before.
        is_duplicate: bool,
        /// `flushed`, or `ephemeral` on a node that flushes nothing.
        durability: Text,
        /// Replicas that held the batch, flushed, when this was said.
        replicas: i32,
    }
}

structure! {
    /// Reads once. On a bulk stream.
    FetchRequest {
        topic_id: TopicId,
        partition: i32,
        offset: i64,
        /// Soft limit: the first batch comes even when it is larger (KIP-74).
        bytes_max: i32,
        /// Bytes to wait for, as far as `wait_ms` allows.
        bytes_min: i32,
        wait_ms: i32,
        /// The epoch that the client knows, or −1 (KIP-320).
        leader_epoch: i32 = -1,
    }
}

structure! {
    /// Record batches. The first one may begin before the offset that was asked for.
    FetchResponse {
        /// First offset that is not committed.
        high_watermark: i64,
        log_start: i64,
        leader_epoch: i32 = -1,
        /// Whole batches, one behind the other.
        records: Chain,
    }
}

structure! {
    /// Opens a subscription: batches are pushed as they commit, within the credit. On a bulk
    /// stream. The frame's correlation names the subscription on this stream from here on.
    SubscribeRequest {
        topic_id: TopicId,
        partition: i32,
        offset: i64,
        /// Payload bytes that the broker may push, counted from the subscription's start.
        credit_bytes: u64,
        /// The epoch that the client knows, or −1 (KIP-320).
        leader_epoch: i32 = -1,
    }
}

structure! {
    /// The subscription is open.
    SubscribeResponse {
        high_watermark: i64,
        log_start: i64,
        leader_epoch: i32 = -1,
    }
}

structure! {
    /// Raises a subscription's credit. Its correlation is the subscription's; it has no answer.
    Credit {
        /// Payload bytes since the subscription's start. A smaller number than before changes
        /// nothing.
        credit_bytes: u64,
    }
}

structure! {
    /// Ends a subscription. Its correlation is the subscription's; the answer is the push
    /// `SubscriptionEnded`, behind which nothing of the subscription comes.
    Unsubscribe {}
}

structure! {
    /// Pushed: committed batches of a subscription, in order and without a gap. The bytes of
    /// `records` count against the credit; a batch larger than the credit comes alone.
    Records {
        high_watermark: i64,
        log_start: i64,
        records: Chain,
    }
}

structure! {
    /// Pushed: the subscription is over. Code NONE where the client asked for that.
    SubscriptionEnded {
        code: ErrorCode,
        message: Text,
        log_start: i64 = -1,
        high_watermark: i64 = -1,
    }
}

structure! {
    /// Looks offsets up.
    FindOffsetsRequest {
        positions: Vec<Position>,
    }
}

structure! {
    /// What is asked of one partition.
    Position {
        topic_id: TopicId,
        partition: i32,
        /// −1 the high watermark, −2 the log start, −3 the record with the largest timestamp;
        /// else the first record at or after this time, in Unix milliseconds.
        timestamp: i64,
    }
}

structure! {
    /// Answers in the order of the request.
    FindOffsetsResponse {
        offsets: Vec<FoundOffset>,
    }
}

structure! {
    /// One partition's answer.
    FoundOffset {
        error_code: ErrorCode,
        /// −1 where no record is that young.
        offset: i64 = -1,
        /// Of the record, where one was looked for.
        timestamp: i64 = -1,
        leader_epoch: i32 = -1,
    }
}
