//! The cluster, its topics, and ids for producers.

use crate::ids::TopicId;
use crate::wire::notation::structure;
use crate::wire::{ErrorCode, Text};
use bytes::Bytes;

structure! {
    /// Asks for nodes and topics.
    MetadataRequest {
        /// Null asks for all topics.
        topics: Option<Vec<TopicName>>,
        /// Whether topics that do not exist are made, where the broker is configured so.
        auto_create: bool,
    }
}

structure! {
    /// A topic, by name or by id.
    TopicName {
        /// Empty where it is meant by id.
        name: Text,
        /// Zero where it is meant by name.
        id: TopicId,
    }
}

structure! {
    /// Nodes and topics.
    MetadataResponse {
        cluster_id: Text,
        /// −1 while it is unknown.
        controller_id: i32 = -1,
        nodes: Vec<ClusterNode>,
        topics: Vec<TopicMetadata>,
    }
}

structure! {
    /// A node of the cluster and where its native door is.
    ClusterNode {
        node_id: i32,
        host: Text,
        port: i32,
        rack: Option<Text>,
        /// SHA-256 of the public key that its native door shows (its pin), 32 bytes; empty where
        /// an authority vouches for the key.
        key_sha256: Bytes [tag 0],
    }
}

structure! {
    /// A topic as far as clients need it.
    TopicMetadata {
        error_code: ErrorCode,
        name: Text,
        id: TopicId,
        partitions: Vec<PartitionMetadata>,
    }
}

structure! {
    /// A partition, by its place in the list of partitions.
    PartitionMetadata {
        error_code: ErrorCode,
        partition: i32,
        /// −1 while there is none.
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
        replicas: Vec<i32>,
    }
}

structure! {
    /// Asks to be told of changes. The push bears this frame's correlation. A connection has one
    /// watch; another one takes its place.
    WatchRequest {
        /// Null asks for all topics.
        topics: Option<Vec<TopicName>>,
    }
}

structure! {
    /// Asks to be told no more.
    UnwatchRequest {}
}

structure! {
    /// Pushed at once when a watch begins, then whenever anything in it has changed. Changes that
    /// come faster than they can be sent are told as one.
    ClusterChanged {
        cluster: MetadataResponse,
    }
}

structure! {
    /// Asks for a producer id that nobody ever had.
    ProducerIdRequest {}
}

structure! {
    /// An id, for batches that are written once however often they are sent (KIP-98).
    ProducerIdResponse {
        producer_id: i64,
        producer_epoch: i16,
    }
}

structure! {
    /// Asks how the node is.
    StatusRequest {}
}

structure! {
    /// How the node is, for people and scripts.
    StatusResponse {
        cluster_id: Text,
        node_id: i32,
        version: Text,
        uptime_ms: i64,
        nodes: i32,
        topics: i32,
        partitions: i32,
        /// Partitions without a leader.
        leaderless_partitions: i32,
        /// Partitions out of service on this node.
        unavailable_partitions: i32,
        /// Bytes of all logs on this node.
        log_bytes: i64,
        /// Free bytes of the data directory's filesystem; −1 where that is not known.
        disk_free_bytes: i64 = -1,
        /// `ok`, `soft-full`, `full`.
        disk_state: Text,
        /// `flushed` or `ephemeral`.
        durability: Text,
    }
}
