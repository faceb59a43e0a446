//! Commands: all that the log of an internal partition holds.
//!
//! ```text
//!   type  1 generation started     2 assignments stored    3 static member replaced
//!         4 group removed          5 offsets committed     6 offsets expired
//!         7 topic deleted
//! ```
//!
//! The list around them is [`command_frame`](crate::command_frame), their fields are those of
//! [`codec`](crate::codec).
//!
//! Absent on purpose: heartbeats, and members that have not yet seen a generation.

use bateau_protocol::ids::{LogIndex, TopicId};
use bytes::Bytes;

use super::member::{MEMBER_BYTES_MIN, Member};
use super::{Assignment, CommitPartition, CommitTopic, Name};
use crate::codec::{DecodeError, Reader, Writer};
use crate::command_frame::{self, CommandError};

/// A change of one internal partition's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// All members of a generation; none when the group became empty.
    GenerationStarted(GenerationStarted),
    /// What the leader of a generation decided.
    AssignmentsStored(AssignmentsStored),
    /// A static member came back under a new id.
    StaticMemberReplaced(StaticMemberReplaced),
    /// A group without members is gone.
    GroupRemoved(GroupRemoved),
    /// Positions.
    OffsetsCommitted(OffsetsCommitted),
    /// Positions that nothing has used for too long.
    OffsetsExpired(OffsetsExpired),
    /// Positions in a topic that is gone.
    TopicDeleted(TopicDeleted),
}

/// Starts a generation, or ends a group's membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct GenerationStarted {
    pub(super) group_id: Name,
    /// Revision of the group for which this was made (I-GRP-5).
    pub(super) revision: u64,
    pub(super) generation: i32,
    pub(super) protocol_type: Name,
    pub(super) protocol: Name,
    /// Empty without members.
    pub(super) leader: Name,
    pub(super) wall_ms: u64,
    pub(super) members: Vec<Member>,
}

/// The assignments of the running generation; members left out get nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct AssignmentsStored {
    pub(super) group_id: Name,
    pub(super) revision: u64,
    pub(super) generation: i32,
    pub(super) assignments: Vec<Assignment>,
}

/// A static member's new id and properties; its assignment stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StaticMemberReplaced {
    pub(super) group_id: Name,
    pub(super) revision: u64,
    pub(super) old_member_id: Name,
    pub(super) member: Member,
}

/// Ends a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct GroupRemoved {
    pub(super) group_id: Name,
    pub(super) revision: u64,
    /// Removes its offsets too; otherwise a group with offsets stays.
    pub(super) with_offsets: bool,
}

/// Positions of a member, or of nobody where the generation is negative or the id is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OffsetsCommitted {
    pub(super) group_id: Name,
    pub(super) generation: i32,
    pub(super) member_id: Name,
    pub(super) wall_ms: u64,
    /// Asked for by the client (OffsetCommit v2 to v4).
    pub(super) expires_wall_ms: Option<u64>,
    pub(super) topics: Vec<CommitTopic>,
}

/// Drops positions, each only if it is still the one committed at the given index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OffsetsExpired {
    pub(super) group_id: Name,
    pub(super) revision: u64,
    pub(super) offsets: Vec<(Name, i32, LogIndex)>,
}

/// Drops a topic's positions in all groups of the partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TopicDeleted {
    pub(super) topic: Name,
    pub(super) topic_id: TopicId,
}

impl Command {
    /// This command as a payload of its own.
    pub(super) fn to_payload(&self) -> Bytes {
        let mut writer = Writer::default();
        command_frame::encode(&mut writer, self.kind(), |writer| self.encode_body(writer));
        writer.into_bytes()
    }

    fn kind(&self) -> u16 {
        match self {
            Self::GenerationStarted(_) => 1,
            Self::AssignmentsStored(_) => 2,
            Self::StaticMemberReplaced(_) => 3,
            Self::GroupRemoved(_) => 4,
            Self::OffsetsCommitted(_) => 5,
            Self::OffsetsExpired(_) => 6,
            Self::TopicDeleted(_) => 7,
        }
    }

    fn encode_body(&self, writer: &mut Writer) {
        match self {
            Self::GenerationStarted(command) => encode_generation(command, writer),
            Self::AssignmentsStored(command) => encode_assignments(command, writer),
            Self::StaticMemberReplaced(command) => {
                writer.text(&command.group_id);
                writer.u64(command.revision);
                writer.text(&command.old_member_id);
                command.member.encode(writer);
            }
            Self::GroupRemoved(command) => {
                writer.text(&command.group_id);
                writer.u64(command.revision);
                writer.flag(command.with_offsets);
            }
            Self::OffsetsCommitted(command) => encode_commit(command, writer),
            Self::OffsetsExpired(command) => {
                writer.text(&command.group_id);
                writer.u64(command.revision);
                writer.list(command.offsets.iter(), |writer, (topic, partition, index)| {
                    writer.text(topic);
                    writer.i32(*partition);
                    writer.u64(index.get());
                });
            }
            Self::TopicDeleted(command) => {
                writer.text(&command.topic);
                writer.raw(&command.topic_id.0);
            }
        }
    }

    /// All commands of a payload, in order.
    ///
    /// # Errors
    /// [`CommandError`]: nothing of the payload may be applied.
    pub(super) fn decode_all(payload: &[u8]) -> Result<Vec<Self>, CommandError> {
        command_frame::decode_all(payload, Self::decode_body)
    }

    fn decode_body(kind: u16, reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            1 => Self::GenerationStarted(decode_generation(reader)?),
            2 => Self::AssignmentsStored(decode_assignments(reader)?),
            3 => Self::StaticMemberReplaced(StaticMemberReplaced {
                group_id: reader.text("group id")?,
                revision: reader.u64("revision")?,
                old_member_id: reader.text("old member id")?,
                member: Member::decode(reader)?,
            }),
            4 => Self::GroupRemoved(GroupRemoved {
                group_id: reader.text("group id")?,
                revision: reader.u64("revision")?,
                with_offsets: reader.flag("with offsets")?,
            }),
            5 => Self::OffsetsCommitted(decode_commit(reader)?),
            6 => Self::OffsetsExpired(OffsetsExpired {
                group_id: reader.text("group id")?,
                revision: reader.u64("revision")?,
                offsets: reader.list("offsets", 16, |reader| {
                    let topic = reader.text("topic name")?;
                    let partition = reader.i32("partition")?;
                    Ok((topic, partition, LogIndex::new(reader.u64("index")?)))
                })?,
            }),
            7 => Self::TopicDeleted(TopicDeleted {
                topic: reader.text("topic name")?,
                topic_id: TopicId(reader.array("topic id")?),
            }),
            _ => return Ok(None),
        }))
    }
}

fn encode_generation(command: &GenerationStarted, writer: &mut Writer) {
    writer.text(&command.group_id);
    writer.u64(command.revision);
    writer.i32(command.generation);
    writer.text(&command.protocol_type);
    writer.text(&command.protocol);
    writer.text(&command.leader);
    writer.u64(command.wall_ms);
    writer.list(command.members.iter(), |writer, member| member.encode(writer));
}

fn decode_generation(reader: &mut Reader<'_>) -> Result<GenerationStarted, DecodeError> {
    Ok(GenerationStarted {
        group_id: reader.text("group id")?,
        revision: reader.u64("revision")?,
        generation: reader.i32("generation")?,
        protocol_type: reader.text("protocol type")?,
        protocol: reader.text("protocol")?,
        leader: reader.text("leader")?,
        wall_ms: reader.u64("wall time")?,
        members: reader.list("members", MEMBER_BYTES_MIN, Member::decode)?,
    })
}

fn encode_assignments(command: &AssignmentsStored, writer: &mut Writer) {
    writer.text(&command.group_id);
    writer.u64(command.revision);
    writer.i32(command.generation);
    writer.list(command.assignments.iter(), |writer, assigned| {
        writer.text(&assigned.member_id);
        writer.bytes(&assigned.assignment);
    });
}

fn decode_assignments(reader: &mut Reader<'_>) -> Result<AssignmentsStored, DecodeError> {
    Ok(AssignmentsStored {
        group_id: reader.text("group id")?,
        revision: reader.u64("revision")?,
        generation: reader.i32("generation")?,
        assignments: reader.list("assignments", 8, |reader| {
            Ok(Assignment {
                member_id: reader.text("member id")?,
                assignment: reader.owned_bytes("assignment")?,
            })
        })?,
    })
}

fn encode_commit(command: &OffsetsCommitted, writer: &mut Writer) {
    writer.text(&command.group_id);
    writer.i32(command.generation);
    writer.text(&command.member_id);
    writer.u64(command.wall_ms);
    writer.optional(command.expires_wall_ms, Writer::u64);
    writer.list(command.topics.iter(), |writer, topic| {
        writer.text(&topic.name);
        writer.raw(&topic.topic_id.0);
        writer.list(topic.partitions.iter(), |writer, partition| {
            writer.i32(partition.partition);
            writer.i64(partition.offset);
            writer.i32(partition.leader_epoch);
            writer.text(&partition.metadata);
        });
    });
}

fn decode_commit(reader: &mut Reader<'_>) -> Result<OffsetsCommitted, DecodeError> {
    Ok(OffsetsCommitted {
        group_id: reader.text("group id")?,
        generation: reader.i32("generation")?,
        member_id: reader.text("member id")?,
        wall_ms: reader.u64("wall time")?,
        expires_wall_ms: reader.optional("expiry", Reader::u64)?,
        topics: reader.list("topics", 24, |reader| {
            Ok(CommitTopic {
                name: reader.text("topic name")?,
                topic_id: TopicId(reader.array("topic id")?),
                partitions: reader.list("partitions", 20, decode_position)?,
            })
        })?,
    })
}

fn decode_position(reader: &mut Reader<'_>) -> Result<CommitPartition, DecodeError> {
    Ok(CommitPartition {
        partition: reader.i32("partition")?,
        offset: reader.i64("offset")?,
        leader_epoch: reader.i32("leader epoch")?,
        metadata: reader.text("offset metadata")?,
    })
}
