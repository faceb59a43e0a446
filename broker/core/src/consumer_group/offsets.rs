//! OffsetCommit and OffsetFetch (G46, G50).
//!
//! Invariants
//! - `I-GRP-3` A commit is answered when it is applied, and a fetch reads what is applied: no
//!   answer is ever taken back.
//!
//! Absent on purpose: whether a topic or partition exists (the caller knows), and offsets that a
//! transaction holds back.

use super::command::{Command, OffsetsCommitted};
use super::join::Stranger;
use super::tables::{OFFSET_BYTES, StoredGroup, StoredOffset, StoredTopic};
use super::turn::Turn;
use super::{
    COMMAND_BYTES_MAX, CommitPartition, CommitTopic, CommittedTopic, FetchedOffset, FetchedTopic,
    GROUPS_PER_PARTITION_MAX, GroupResponse, GroupState, NAME_BYTES_MAX,
    OFFSETS_BYTES_PER_PARTITION_MAX, OFFSETS_PER_GROUP_MAX, OffsetCommit, OffsetCommitError,
    OffsetFetch, OffsetFetchError, OffsetPartitionError,
};
use crate::ticket::Ticket;

impl Turn<'_> {
    pub(super) fn commit_offsets(&mut self, mut request: OffsetCommit, ticket: Ticket) {
        let outcome = self.check_commit(&request);
        // A live member that commits is alive, in whatever state its group is.
        self.hear_committer(&request);
        let metadata_max = self.settings.offset_metadata_bytes_max;
        let results = sort_out(&mut request.topics, metadata_max);
        let outcome = outcome.and_then(|()| self.check_capacity(&request));
        if let Err(error) = outcome {
            return self.answer(ticket, GroupResponse::OffsetCommit(Err(error)));
        }
        let response = GroupResponse::OffsetCommit(Ok(results));
        if request.topics.is_empty() {
            return self.answer(ticket, response);
        }
        let wall_ms = self.now.wall_ms;
        let command = Command::OffsetsCommitted(OffsetsCommitted {
            group_id: request.group_id.clone(),
            generation: request.generation,
            member_id: request.member_id,
            wall_ms,
            expires_wall_ms: request.retention_ms.map(|kept_ms| wall_ms.saturating_add(kept_ms)),
            topics: request.topics,
        });
        self.propose(&request.group_id, None, &command, vec![(ticket, response)]);
    }

    /// Who may commit: a member in its generation, or anybody while there are no members.
    fn check_commit(&self, request: &OffsetCommit) -> Result<(), OffsetCommitError> {
        if request.group_id.len() > NAME_BYTES_MAX {
            return Err(OffsetCommitError::InvalidGroupId);
        }
        let found = request.generation;
        let live = self.live.groups.get(&request.group_id);
        let is_known = live.is_some() || self.tables.groups.contains_key(&request.group_id);
        if !is_known {
            let groups = self.tables.groups.len();
            let (what, max) = ("groups", GROUPS_PER_PARTITION_MAX);
            return match (found < 0, groups >= max) {
                (true, false) => Ok(()),
                (true, true) => {
                    Err(OffsetCommitError::InvalidCommitOffsetSize { what, found: groups, max })
                }
                (false, _) => Err(OffsetCommitError::GroupIdNotFound { found }),
            };
        }
        let state = live.map_or(GroupState::Empty, |group| group.state);
        if found < 0 && state == GroupState::Empty {
            return Ok(());
        }
        let Some(group) = live else { return Err(OffsetCommitError::UnknownMemberId) };
        match group.check_member(&request.member_id, request.group_instance_id.as_ref()) {
            Ok(()) => {}
            Err(Stranger::Unknown) => return Err(OffsetCommitError::UnknownMemberId),
            Err(Stranger::Fenced) => return Err(OffsetCommitError::FencedInstanceId),
        }
        if found != group.generation {
            return Err(OffsetCommitError::IllegalGeneration { found });
        }
        if state == GroupState::CompletingRebalance {
            return Err(OffsetCommitError::RebalanceInProgress);
        }
        Ok(())
    }

    fn hear_committer(&mut self, request: &OffsetCommit) {
        let Some(mut group) = self.live.groups.remove(&request.group_id) else { return };
        let is_member = group
            .check_member(&request.member_id, request.group_instance_id.as_ref())
            .is_ok_and(|()| group.generation == request.generation);
        if is_member {
            self.restart_session(&mut group, &request.member_id);
        }
        self.put_group(group);
    }

    /// Commits of positions that are already stored always fit, however full the partition is.
    fn check_capacity(&self, request: &OffsetCommit) -> Result<(), OffsetCommitError> {
        let refuse =
            |what, found, max| Err(OffsetCommitError::InvalidCommitOffsetSize { what, found, max });
        let command_bytes: usize = request.topics.iter().map(encoded_bytes).sum();
        let room = COMMAND_BYTES_MAX.saturating_sub(4 * NAME_BYTES_MAX);
        if command_bytes > room {
            return refuse("request bytes", command_bytes, room);
        }
        let names = request.topics.iter().map(|topic| topic.name.len());
        let name_bytes = names.max().unwrap_or(0);
        if name_bytes > NAME_BYTES_MAX {
            return refuse("topic name bytes", name_bytes, NAME_BYTES_MAX);
        }
        let group = self.tables.groups.get(&request.group_id);
        let (mut added, mut grown, mut freed) = (0_usize, 0_usize, 0_usize);
        for topic in &request.topics {
            let stored = group.and_then(|group| group.topics.get(&topic.name));
            for partition in &topic.partitions {
                let before = stored.and_then(|topic| topic.partitions.get(&partition.partition));
                added += usize::from(before.is_none());
                grown += OFFSET_BYTES + partition.metadata.len();
                freed += before.map_or(0, |offset| OFFSET_BYTES + offset.metadata.len());
            }
        }
        let (bytes, max) =
            (self.tables.offset_bytes.saturating_add(grown), OFFSETS_BYTES_PER_PARTITION_MAX);
        if grown > freed && bytes.saturating_sub(freed) > max {
            return refuse("offset bytes of the partition", bytes, max);
        }
        let count = group.map_or(0, StoredGroup::offset_count).saturating_add(added);
        if added > 0 && count > OFFSETS_PER_GROUP_MAX {
            return refuse("offsets of the group", count, OFFSETS_PER_GROUP_MAX);
        }
        Ok(())
    }

    pub(super) fn fetch_offsets(&mut self, request: OffsetFetch, ticket: Ticket) {
        let outcome = if request.group_id.len() > NAME_BYTES_MAX {
            Err(OffsetFetchError::InvalidGroupId)
        } else {
            Ok(fetch(self.tables.groups.get(&request.group_id), request.topics))
        };
        self.answer(ticket, GroupResponse::OffsetFetch(outcome));
    }
}

/// Takes out what is refused by itself, and says what becomes of each partition.
fn sort_out(topics: &mut Vec<CommitTopic>, metadata_max: usize) -> Vec<CommittedTopic> {
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics.iter_mut() {
        let outcomes = topic.partitions.iter().map(|partition| {
            let (found, max) = (partition.metadata.len(), metadata_max);
            let is_fine = found <= max;
            let error = OffsetPartitionError::OffsetMetadataTooLarge { found, max };
            (partition.partition, if is_fine { Ok(()) } else { Err(error) })
        });
        results.push(CommittedTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: outcomes.collect(),
        });
        topic.partitions.retain(|partition| partition.metadata.len() <= metadata_max);
    }
    topics.retain(|topic| !topic.partitions.is_empty());
    results
}

/// Bytes of a topic's commits in a command.
fn encoded_bytes(topic: &CommitTopic) -> usize {
    let partition_bytes = |partition: &CommitPartition| 20 + partition.metadata.len();
    24 + topic.name.len() + topic.partitions.iter().map(partition_bytes).sum::<usize>()
}

fn fetch(
    group: Option<&StoredGroup>,
    topics: Option<Vec<(super::Name, Vec<i32>)>>,
) -> Vec<FetchedTopic> {
    let stored = |name: &str| group.and_then(|group| group.topics.get(name));
    let Some(topics) = topics else {
        let all = group.into_iter().flat_map(|group| &group.topics);
        return all.map(|(name, topic)| fetch_all(name.clone(), topic)).collect();
    };
    let fetched = topics.into_iter().map(|(name, partitions)| {
        let topic = stored(&name);
        let position = |partition: i32| {
            let offset = topic.and_then(|topic| topic.partitions.get(&partition));
            (partition, offset.map(fetched_offset))
        };
        FetchedTopic {
            topic_id: topic.map(|topic| topic.topic_id).unwrap_or_default(),
            partitions: partitions.into_iter().map(position).collect(),
            name,
        }
    });
    fetched.collect()
}

fn fetch_all(name: super::Name, topic: &StoredTopic) -> FetchedTopic {
    let partitions = topic.partitions.iter();
    FetchedTopic {
        name,
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|(partition, offset)| (*partition, Some(fetched_offset(offset))))
            .collect(),
    }
}

fn fetched_offset(offset: &StoredOffset) -> FetchedOffset {
    FetchedOffset {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
    }
}
