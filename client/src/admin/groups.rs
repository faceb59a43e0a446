//! Groups: listed, described, moved, deleted.
//!
//! Absent on purpose: removing a member by force; it leaves, or its session ends.

use super::{Admin, miscounted};
use crate::cluster::{Repeat, Target};
use crate::error::{AdminError, BrokerError, RequestError};
use crate::group::{Assignment, Subscription};
use bateau_protocol::native::{
    self, CommitRequest, CommitResponse, CommittedPosition, CommittedRequest, DeleteGroupsRequest,
    DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest,
};
use bateau_protocol::wire::ErrorCode;
use std::collections::BTreeMap;

/// A group in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// `consumer`, or empty for a group that only ever stored positions.
    pub protocol_type: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Stable`.
    pub state: String,
}

/// A group in full.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// As in [`GroupListing::state`].
    pub state: String,
    /// `consumer`, or empty.
    pub protocol_type: String,
    /// The assignor in use.
    pub assignor: String,
    /// Counts its rebalances.
    pub generation: i32,
    /// The member that shares out partitions.
    pub leader: String,
    /// Its members.
    pub members: Vec<GroupMember>,
    /// How far it is behind.
    pub lags: Vec<PartitionLag>,
}

impl GroupDescription {
    /// Records that are committed and not consumed, over all partitions with a position.
    #[must_use]
    pub fn lag(&self) -> i64 {
        self.lags.iter().filter_map(PartitionLag::lag).sum()
    }
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct GroupMember {
    /// Given by the coordinator.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// What it subscribes to and what it has; `None` where its bytes cannot be read.
    pub subscription: Option<SubscriptionOf>,
}

/// What a member subscribes to and what it has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SubscriptionOf {
    /// Topics that it asked for.
    pub topics: Vec<String>,
    /// Partitions that it has.
    pub partitions: Vec<(String, i32)>,
}

/// How far a group is behind in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The stored position; `None` where there is none.
    pub committed: Option<i64>,
    /// The first offset that is not committed; `None` where the partition is gone.
    pub high_watermark: Option<i64>,
    /// The first offset in the log.
    pub log_start: Option<i64>,
}

impl PartitionLag {
    /// Records between the position and the end; `None` without a position.
    #[must_use]
    pub fn lag(&self) -> Option<i64> {
        let (committed, end) = (self.committed?, self.high_watermark?);
        let from = committed.max(self.log_start.unwrap_or(0));
        Some(end.saturating_sub(from).max(0))
    }
}

/// A stored position of a group, or one to be stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupPosition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to consume.
    pub offset: i64,
    /// What the committing member noted.
    pub metadata: String,
}

impl GroupPosition {
    /// A position without a note.
    #[must_use]
    pub fn new(topic: impl Into<String>, partition: i32, offset: i64) -> Self {
        Self { topic: topic.into(), partition, offset, metadata: String::new() }
    }
}

impl Admin {
    /// All groups, by id.
    ///
    /// # Errors
    /// [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, AdminError> {
        let cluster = self.client.cluster();
        let mut groups = Vec::new();
        for node in cluster.node_ids() {
            let target = Target::Node(node);
            let answer = cluster.call(target, Repeat::Freely, ListGroupsRequest {}).await?;
            groups.extend(answer.groups.into_iter().map(|group| GroupListing {
                group: group.group_id.to_string(),
                protocol_type: group.protocol_type.to_string(),
                state: group.state.to_string(),
            }));
        }
        groups.sort_unstable_by(|one, other| one.group.cmp(&other.group));
        groups.dedup_by(|one, other| one.group == other.group);
        Ok(groups)
    }

    /// A group with its members and positions.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, AdminError> {
        let request = DescribeGroupsRequest { group_ids: vec![group.to_owned().into()] };
        let target = Target::Coordinator(group.to_owned());
        let code = |answer: &DescribeGroupsResponse| Some(answer.groups.first()?.error_code);
        let cluster = self.client.cluster();
        let answer = cluster.call_about(target, Repeat::Freely, &request, code).await?;
        let Some(found) = answer.groups.into_iter().next() else {
            return Err(miscounted("DescribeGroups", 1, 0).into());
        };
        group_code(group, found.error_code)?;
        // Kafka says of a group that does not exist that it is dead, and names no error.
        if found.state == "Dead" {
            return Err(AdminError::NotFound { name: group.to_owned() });
        }
        Ok(description(found))
    }

    /// How far a group is behind, by topic and partition.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn lag(&self, group: &str) -> Result<Vec<PartitionLag>, AdminError> {
        Ok(self.describe_group(group).await?.lags)
    }

    /// The stored positions of a group, by topic and partition.
    ///
    /// # Errors
    /// [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn committed(&self, group: &str) -> Result<Vec<GroupPosition>, AdminError> {
        let request = CommittedRequest { group_id: group.to_owned().into(), partitions: None };
        let target = Target::Coordinator(group.to_owned());
        let answer = self.client.cluster().call(target, Repeat::Freely, request).await?;
        let stored = answer.positions.into_iter().filter(|one| one.offset >= 0);
        let mut positions: Vec<_> = stored
            .map(|one| GroupPosition {
                topic: one.topic.to_string(),
                partition: one.partition,
                offset: one.offset,
                metadata: one.metadata.to_string(),
            })
            .collect();
        let place = |one: &GroupPosition| (one.topic.clone(), one.partition);
        positions.sort_unstable_by_key(place);
        Ok(positions)
    }

    /// Stores positions of a group without members.
    ///
    /// # Errors
    /// [`AdminError::Refused`] with UNKNOWN_MEMBER_ID or ILLEGAL_GENERATION while the group has
    /// members; [`AdminError::NotFound`] for a topic.
    ///
    /// Not cancel-safe: dropped after it was sent, positions may be stored all the same.
    pub async fn seek_group(
        &self,
        group: &str,
        positions: impl IntoIterator<Item = GroupPosition>,
    ) -> Result<(), AdminError> {
        let cluster = self.client.cluster();
        let mut ids = BTreeMap::new();
        let mut wire = Vec::new();
        let mut names = Vec::new();
        for position in positions {
            let GroupPosition { topic, partition, offset, metadata } = position;
            if !ids.contains_key(&topic) {
                ids.insert(topic.clone(), cluster.existing_topic(&topic).await?.id);
            }
            let topic_id = ids.get(&topic).copied().unwrap_or_default();
            names.push(format!("{group}: {topic}[{partition}]"));
            let metadata = metadata.into();
            let leader_epoch = -1;
            wire.push(CommittedPosition { topic_id, partition, offset, leader_epoch, metadata });
        }
        let request = CommitRequest {
            group_id: group.to_owned().into(),
            generation: -1,
            positions: wire,
            ..CommitRequest::default()
        };
        let target = Target::Coordinator(group.to_owned());
        let code = |answer: &CommitResponse| answer.error_codes.first().copied();
        let answer = cluster.call_about(target, Repeat::Freely, &request, code).await?;
        if answer.error_codes.len() != names.len() {
            return Err(miscounted("Commit", names.len(), answer.error_codes.len()).into());
        }
        let outcomes = names.into_iter().zip(answer.error_codes);
        outcomes.into_iter().try_for_each(|(name, code)| super::check(name, code, ""))
    }

    /// Removes a group without members, with its positions.
    ///
    /// # Errors
    /// [`AdminError::NotFound`]; [`AdminError::Refused`] with NON_EMPTY_GROUP.
    ///
    /// Not cancel-safe: dropped after it was sent, it may be done all the same.
    pub async fn delete_group(&self, group: &str) -> Result<(), AdminError> {
        let request = DeleteGroupsRequest { group_ids: vec![group.to_owned().into()] };
        let target = Target::Coordinator(group.to_owned());
        let code = |answer: &DeleteGroupsResponse| answer.error_codes.first().copied();
        let cluster = self.client.cluster();
        let answer = cluster.call_about(target, Repeat::UnlessDone, &request, code).await?;
        match answer.error_codes.first() {
            Some(code) => group_code(group, *code),
            None => Err(miscounted("DeleteGroups", 1, 0).into()),
        }
    }
}

fn group_code(group: &str, code: ErrorCode) -> Result<(), AdminError> {
    let name = group.to_owned();
    match code {
        ErrorCode::NONE => Ok(()),
        ErrorCode::GROUP_ID_NOT_FOUND => Err(AdminError::NotFound { name }),
        code if code.is_retriable() => Err(RequestError::of_code(code, name).into()),
        code => Err(AdminError::Refused { name, error: BrokerError::of_code(code, "") }),
    }
}

fn description(found: native::GroupDescription) -> GroupDescription {
    let known = |number: i64| (number >= 0).then_some(number);
    let members = found.members.into_iter().map(|member| GroupMember {
        subscription: subscription_of(&member.metadata, &member.assignment),
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
    });
    let lags = found.lags.into_iter().map(|lag| PartitionLag {
        topic: lag.topic.to_string(),
        partition: lag.partition,
        committed: known(lag.committed),
        high_watermark: known(lag.high_watermark),
        log_start: known(lag.log_start),
    });
    GroupDescription {
        group: found.group_id.to_string(),
        state: found.state.to_string(),
        protocol_type: found.protocol_type.to_string(),
        assignor: found.protocol_name.to_string(),
        generation: found.generation,
        leader: found.leader.to_string(),
        members: members.collect(),
        lags: lags.collect(),
    }
}

fn subscription_of(metadata: &bytes::Bytes, assignment: &bytes::Bytes) -> Option<SubscriptionOf> {
    let topics = Subscription::decode(metadata).ok()?.topics;
    let assigned = match assignment.is_empty() {
        true => BTreeMap::new(),
        false => Assignment::decode(assignment).ok()?.partitions,
    };
    let of_topic = |(topic, numbers): (String, Vec<i32>)| {
        numbers.into_iter().map(move |number| (topic.clone(), number))
    };
    let partitions = assigned.into_iter().flat_map(of_topic).collect();
    Some(SubscriptionOf { topics, partitions })
}
