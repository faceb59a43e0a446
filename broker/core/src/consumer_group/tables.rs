//! The tables: what the commands of one internal partition have built.
//!
//! Invariants
//! - The tables are a pure function of the commands: no clock, no settings, no randomness.
//! - `I-GRP-1` The generation of an existing group only rises, by one.
//! - `I-GRP-2` A generation takes assignments once.
//! - `I-GRP-3` Positions change by the three commands that name them, and no other.
//! - `I-GRP-5` A command about a group's membership counts only for the revision it was made for.
//!
//! Absent on purpose: limits (checked before a proposal), timers, tickets.

use std::collections::BTreeMap;

use bateau_protocol::ids::{LogIndex, TopicId};

use super::Name;
use super::command::{
    AssignmentsStored, Command, GenerationStarted, GroupRemoved, OffsetsCommitted, OffsetsExpired,
    StaticMemberReplaced, TopicDeleted,
};
use super::member::Member;

/// Bytes of a stored position beside its metadata, as limits count it.
pub(super) const OFFSET_BYTES: usize = 64;

/// A stored position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredOffset {
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Name,
    /// Where it was committed: tells this commit from every other.
    pub(super) index: LogIndex,
    pub(super) committed_wall_ms: u64,
    pub(super) expires_wall_ms: Option<u64>,
}

impl StoredOffset {
    fn bytes(&self) -> usize {
        OFFSET_BYTES + self.metadata.len()
    }
}

/// Positions of one topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct StoredTopic {
    pub(super) topic_id: TopicId,
    pub(super) partitions: BTreeMap<i32, StoredOffset>,
}

/// A group as it survives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct StoredGroup {
    /// Counts the changes of membership.
    pub(super) revision: u64,
    pub(super) generation: i32,
    /// The generation has its assignments.
    pub(super) assigned: bool,
    /// Empty for a group that only ever stored offsets.
    pub(super) protocol_type: Name,
    pub(super) protocol: Name,
    pub(super) leader: Name,
    /// When membership last began or ended, or the first offset came.
    pub(super) since_wall_ms: u64,
    pub(super) members: BTreeMap<Name, Member>,
    pub(super) topics: BTreeMap<Name, StoredTopic>,
}

impl StoredGroup {
    pub(super) fn offset_count(&self) -> usize {
        self.topics.values().map(|topic| topic.partitions.len()).sum()
    }

    /// When a position expires, given that the group has no members: at the client's own time,
    /// else one retention after the last use. A group that never had members is used by commits.
    pub(super) fn expires_wall_ms(&self, offset: &StoredOffset, retention_ms: u64) -> u64 {
        let used = if self.protocol_type.is_empty() {
            offset.committed_wall_ms
        } else {
            // Kafka counts from the moment the group became empty even for positions committed
            // after it, by an operator who resets them; those live longer here.
            self.since_wall_ms.max(offset.committed_wall_ms)
        };
        offset.expires_wall_ms.unwrap_or_else(|| used.saturating_add(retention_ms))
    }
}

/// Whether a command counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Applied,
    Refused(Refusal),
}

/// Why a committed command changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Made for another revision of the group.
    Revision,
    /// A commit of a member that the group does not have, or of nobody while it has members.
    UnknownMember,
    /// A commit of another generation.
    IllegalGeneration,
    /// A removal of a group that has offsets.
    NotEmpty,
}

/// All groups of one internal partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tables {
    pub(super) groups: BTreeMap<Name, StoredGroup>,
    /// Bytes of all positions, as limits count them.
    pub(super) offset_bytes: usize,
}

impl Tables {
    pub(super) fn apply(&mut self, index: LogIndex, command: Command) -> Outcome {
        match command {
            Command::GenerationStarted(command) => self.start_generation(command),
            Command::AssignmentsStored(command) => self.store_assignments(command),
            Command::StaticMemberReplaced(command) => self.replace_member(command),
            Command::GroupRemoved(command) => self.remove_group(&command),
            Command::OffsetsCommitted(command) => self.commit_offsets(index, command),
            Command::OffsetsExpired(command) => self.expire_offsets(&command),
            Command::TopicDeleted(command) => self.delete_topic(&command),
        }
    }

    fn start_generation(&mut self, command: GenerationStarted) -> Outcome {
        let known = self.groups.get(&command.group_id);
        let (revision, generation) = known.map_or((0, 0), |g| (g.revision, g.generation));
        if revision != command.revision || command.generation <= generation {
            return Outcome::Refused(Refusal::Revision);
        }
        let group = self.groups.entry(command.group_id).or_default();
        group.revision = revision.saturating_add(1);
        group.generation = command.generation;
        group.assigned = false;
        group.protocol_type = command.protocol_type;
        group.protocol = command.protocol;
        group.leader = command.leader;
        group.since_wall_ms = command.wall_ms;
        group.members = command.members.into_iter().map(|m| (m.id.clone(), m)).collect();
        assert!(group.generation > generation, "I-GRP-1: a generation fell");
        Outcome::Applied
    }

    fn store_assignments(&mut self, command: AssignmentsStored) -> Outcome {
        let Some(group) = self.revised(&command.group_id, command.revision) else {
            return Outcome::Refused(Refusal::Revision);
        };
        // I-GRP-2: once per generation. A generation begins without assignments, so whom the
        // leader left out has none.
        if group.generation != command.generation || group.assigned {
            return Outcome::Refused(Refusal::Revision);
        }
        let is_bare = group.members.values().all(|member| member.assignment.is_empty());
        assert!(is_bare, "I-GRP-2: an assignment of another generation");
        for assigned in command.assignments {
            if let Some(member) = group.members.get_mut(&assigned.member_id) {
                member.assignment = assigned.assignment;
            }
        }
        group.assigned = true;
        group.revision = group.revision.saturating_add(1);
        Outcome::Applied
    }

    fn replace_member(&mut self, command: StaticMemberReplaced) -> Outcome {
        let Some(group) = self.revised(&command.group_id, command.revision) else {
            return Outcome::Refused(Refusal::Revision);
        };
        let Some(old) = group.members.remove(&command.old_member_id) else {
            return Outcome::Refused(Refusal::Revision);
        };
        if group.leader == old.id {
            group.leader = command.member.id.clone();
        }
        let member = Member { assignment: old.assignment, ..command.member };
        group.members.insert(member.id.clone(), member);
        group.revision = group.revision.saturating_add(1);
        Outcome::Applied
    }

    fn remove_group(&mut self, command: &GroupRemoved) -> Outcome {
        let Some(group) = self.revised(&command.group_id, command.revision) else {
            return Outcome::Refused(Refusal::Revision);
        };
        let has_offsets = !group.topics.is_empty() && !command.with_offsets;
        if has_offsets || !group.members.is_empty() {
            return Outcome::Refused(Refusal::NotEmpty);
        }
        let bytes: usize = group.topics.values().map(StoredTopic::bytes).sum();
        self.offset_bytes = self.offset_bytes.saturating_sub(bytes);
        self.groups.remove(&command.group_id);
        Outcome::Applied
    }

    fn commit_offsets(&mut self, index: LogIndex, command: OffsetsCommitted) -> Outcome {
        let known = self.groups.get(&command.group_id);
        if let Err(refusal) = may_commit(known, command.generation, &command.member_id) {
            return Outcome::Refused(refusal);
        }
        let group = self.groups.entry(command.group_id).or_insert_with(|| StoredGroup {
            since_wall_ms: command.wall_ms,
            ..StoredGroup::default()
        });
        for committed in command.topics {
            let topic = group.topics.entry(committed.name).or_default();
            if topic.topic_id != committed.topic_id && committed.topic_id != TopicId::ZERO {
                // The topic was deleted and made again: the old positions mean nothing in it.
                if topic.topic_id != TopicId::ZERO {
                    self.offset_bytes = self.offset_bytes.saturating_sub(topic.bytes());
                    topic.partitions.clear();
                }
                topic.topic_id = committed.topic_id;
            }
            for partition in committed.partitions {
                let stored = StoredOffset {
                    offset: partition.offset,
                    leader_epoch: partition.leader_epoch,
                    metadata: partition.metadata,
                    index,
                    committed_wall_ms: command.wall_ms,
                    expires_wall_ms: command.expires_wall_ms,
                };
                self.offset_bytes = self.offset_bytes.saturating_add(stored.bytes());
                if let Some(old) = topic.partitions.insert(partition.partition, stored) {
                    assert!(old.index <= index, "I-GRP-3: a position of an older commit");
                    self.offset_bytes = self.offset_bytes.saturating_sub(old.bytes());
                }
            }
        }
        group.topics.retain(|_, topic| !topic.partitions.is_empty());
        Outcome::Applied
    }

    fn expire_offsets(&mut self, command: &OffsetsExpired) -> Outcome {
        let mut freed = 0_usize;
        let Some(group) = self.revised(&command.group_id, command.revision) else {
            return Outcome::Refused(Refusal::Revision);
        };
        for (topic, partition, index) in &command.offsets {
            let Some(stored) = group.topics.get_mut(topic) else { continue };
            if stored.partitions.get(partition).is_some_and(|offset| offset.index == *index) {
                let removed = stored.partitions.remove(partition);
                freed = freed.saturating_add(removed.map_or(0, |offset| offset.bytes()));
            }
        }
        group.topics.retain(|_, topic| !topic.partitions.is_empty());
        self.offset_bytes = self.offset_bytes.saturating_sub(freed);
        Outcome::Applied
    }

    fn delete_topic(&mut self, command: &TopicDeleted) -> Outcome {
        for group in self.groups.values_mut() {
            let Some(topic) = group.topics.get(&command.topic) else { continue };
            let other = topic.topic_id != command.topic_id;
            if other && topic.topic_id != TopicId::ZERO && command.topic_id != TopicId::ZERO {
                continue;
            }
            self.offset_bytes = self.offset_bytes.saturating_sub(topic.bytes());
            group.topics.remove(&command.topic);
        }
        Outcome::Applied
    }

    fn revised(&mut self, group_id: &str, revision: u64) -> Option<&mut StoredGroup> {
        self.groups.get_mut(group_id).filter(|group| group.revision == revision)
    }

    /// Bytes of all positions, counted anew.
    pub(super) fn count_offset_bytes(&self) -> usize {
        self.groups.values().flat_map(|group| group.topics.values()).map(StoredTopic::bytes).sum()
    }
}

impl StoredTopic {
    pub(super) fn bytes(&self) -> usize {
        self.partitions.values().map(StoredOffset::bytes).sum()
    }
}

/// D16: a commit carries member and generation, and they are checked where it takes effect.
fn may_commit(
    group: Option<&StoredGroup>,
    generation: i32,
    member_id: &str,
) -> Result<(), Refusal> {
    let members = group.map(|group| &group.members).filter(|members| !members.is_empty());
    let Some(members) = members else {
        return if generation < 0 { Ok(()) } else { Err(Refusal::UnknownMember) };
    };
    if !members.contains_key(member_id) {
        return Err(Refusal::UnknownMember);
    }
    if group.is_some_and(|group| group.generation != generation) {
        return Err(Refusal::IllegalGeneration);
    }
    Ok(())
}
