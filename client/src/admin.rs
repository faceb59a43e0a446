//! Administration: topics, groups, offsets, nodes, how the node is.
//!
//! Every call is one request under the client's deadline, sent again where the broker says that
//! it may be. What creates or deletes is not sent again once it may have been done.
//!
//! Absent on purpose: users and quotas.

mod groups;
mod nodes;
mod topics;

pub use groups::{
    GroupDescription, GroupListing, GroupMember, GroupPosition, PartitionLag, SubscriptionOf,
};
pub use nodes::{
    MetadataRole, MovingPartition, NodeInfo, NodeListener, NodePermit, NodeStanding, PartitionMove,
};
pub use topics::{
    AlterTopic, ConfigEntry, NewTopic, PartitionInfo, TopicDescription, TopicInfo, TopicListing,
};

use crate::client::Client;
use crate::cluster::{Repeat, Target};
use crate::error::{AdminError, BrokerError, RequestError};
use crate::record::Durability;
use bateau_protocol::native::{
    FindOffsetsRequest, FoundOffset, Position, StatusRequest, StatusResponse,
};
use bateau_protocol::wire::ErrorCode;
use std::collections::BTreeMap;

/// Administration of the cluster that a client is connected to. Made by [`Client::admin`].
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum OffsetAt {
    /// The first one in the log.
    Start,
    /// The one that the next committed record gets.
    End,
    /// Of the first record at or after this time, in Unix milliseconds.
    Time(i64),
    /// Of the record with the largest timestamp.
    LargestTimestamp,
}

impl OffsetAt {
    pub(crate) const fn on_the_wire(self) -> i64 {
        match self {
            Self::End => -1,
            Self::Start => -2,
            Self::LargestTimestamp => -3,
            // Negative times have other meanings; nothing is that old.
            Self::Time(time_ms) if time_ms < 0 => 0,
            Self::Time(time_ms) => time_ms,
        }
    }
}

/// An offset that was looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OffsetFound {
    /// The partition.
    pub partition: i32,
    /// `None` where no record is that young.
    pub offset: Option<i64>,
    /// Of the record, in Unix milliseconds, where one was looked for.
    pub timestamp_ms: Option<i64>,
}

/// How a node is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The cluster.
    pub cluster_id: String,
    /// The node that answered.
    pub node_id: i32,
    /// Its release.
    pub version: String,
    /// Milliseconds since its start.
    pub uptime_ms: i64,
    /// Nodes of the cluster.
    pub nodes: i32,
    /// Topics of the cluster.
    pub topics: i32,
    /// Their partitions.
    pub partitions: i32,
    /// Partitions without a leader.
    pub leaderless_partitions: i32,
    /// Partitions out of service on this node.
    pub unavailable_partitions: i32,
    /// Bytes of all logs on this node.
    pub log_bytes: i64,
    /// Free bytes of its data directory, where that is known.
    pub disk_free_bytes: Option<i64>,
    /// `ok`, `soft-full` or `full`.
    pub disk_state: String,
    /// What its acknowledgements promise.
    pub durability: Durability,
}

impl From<StatusResponse> for NodeStatus {
    fn from(status: StatusResponse) -> Self {
        Self {
            cluster_id: status.cluster_id.to_string(),
            node_id: status.node_id,
            version: status.version.to_string(),
            uptime_ms: status.uptime_ms,
            nodes: status.nodes,
            topics: status.topics,
            partitions: status.partitions,
            leaderless_partitions: status.leaderless_partitions,
            unavailable_partitions: status.unavailable_partitions,
            log_bytes: status.log_bytes,
            disk_free_bytes: (status.disk_free_bytes >= 0).then_some(status.disk_free_bytes),
            disk_state: status.disk_state.to_string(),
            durability: Durability::from_text(&status.durability),
        }
    }
}

impl Admin {
    pub(crate) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// How the node is that the client is connected to.
    ///
    /// # Errors
    /// [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn status(&self) -> Result<NodeStatus, AdminError> {
        let cluster = self.client.cluster();
        let status = cluster.call(Target::Any, Repeat::Freely, StatusRequest {}).await?;
        Ok(status.into())
    }

    /// Looks up one offset in each of the topic's partitions, in their order.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], or the first partition's error.
    ///
    /// Cancel-safe.
    pub async fn offsets(&self, topic: &str, at: OffsetAt) -> Result<Vec<OffsetFound>, AdminError> {
        let view = self.client.cluster().existing_topic(topic).await?;
        let partitions: Vec<i32> = (0..view.partition_count()).collect();
        self.offsets_of(topic, partitions.into_iter().map(|partition| (partition, at))).await
    }

    /// Looks up one offset in each of these partitions, in the order given.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], or the first partition's error.
    ///
    /// Cancel-safe.
    pub async fn offsets_of(
        &self,
        topic: &str,
        partitions: impl IntoIterator<Item = (i32, OffsetAt)>,
    ) -> Result<Vec<OffsetFound>, AdminError> {
        let cluster = self.client.cluster();
        let view = cluster.existing_topic(topic).await?;
        let mut by_leader: BTreeMap<i32, Vec<(usize, i32, OffsetAt)>> = BTreeMap::new();
        let mut count = 0;
        for (place, (partition, at)) in partitions.into_iter().enumerate() {
            let Some(leader) = view.partition(partition) else {
                return Err(AdminError::NotFound { name: format!("{topic}[{partition}]") });
            };
            by_leader.entry(leader.leader_id).or_default().push((place, partition, at));
            count += 1;
        }
        let mut found = vec![None; count];
        for asked in by_leader.into_values() {
            let target = Target::Leader { topic: view.id, partition: asked[0].1 };
            let position = |(_, partition, at): &(usize, i32, OffsetAt)| Position {
                topic_id: view.id,
                partition: *partition,
                timestamp: at.on_the_wire(),
            };
            let request = FindOffsetsRequest { positions: asked.iter().map(position).collect() };
            let answer = cluster.call(target, Repeat::Freely, request).await?;
            if answer.offsets.len() != asked.len() {
                return Err(miscounted("FindOffsets", asked.len(), answer.offsets.len()).into());
            }
            for ((place, partition, _), answer) in asked.into_iter().zip(answer.offsets) {
                let one = offset_found(topic, partition, &answer)?;
                if let Some(room) = found.get_mut(place) {
                    *room = Some(one);
                }
            }
        }
        Ok(found.into_iter().flatten().collect())
    }
}

fn offset_found(
    topic: &str,
    partition: i32,
    found: &FoundOffset,
) -> Result<OffsetFound, AdminError> {
    check(format!("{topic}[{partition}]"), found.error_code, "")?;
    let known = |number: i64| (number >= 0).then_some(number);
    let (offset, timestamp_ms) = (known(found.offset), known(found.timestamp));
    Ok(OffsetFound { partition, offset, timestamp_ms })
}

/// A list that should answer another, element for element, and does not.
pub(crate) fn miscounted(what: &str, expected: usize, found: usize) -> RequestError {
    let reason = format!("{what} answered {found} elements, {expected} were asked for");
    RequestError::Protocol { reason }
}

/// The error of one thing among several.
fn check(name: String, code: ErrorCode, message: &str) -> Result<(), AdminError> {
    if code.is_none() {
        return Ok(());
    }
    Err(AdminError::Refused { name, error: BrokerError::of_code(code, message) })
}
