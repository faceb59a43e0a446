//! Commands: all that the log of an internal partition holds.
//!
//! ```text
//!   payload = command, command, …          command = type u16, version u16, length u32, body
//!   type  1 generation started     2 assignments stored    3 static member replaced
//!         4 group removed          5 offsets committed     6 offsets expired
//!         7 topic deleted
//! ```
//!
//! All numbers are little-endian; text and blobs are a u32 length and bytes; lists a u32 count
//! and elements. A new field means a new version of its command, written only once the cluster's
//! feature level allows it.
//!
//! Invariants
//! - Decoding is bounds-checked and consumes exactly what a command's length says.
//!
//! Absent on purpose: heartbeats, and members that have not yet seen a generation.

use bateau_protocol::ids::{LogIndex, TopicId};
use bytes::Bytes;

use super::codec::{Reader, Writer};
use super::member::{MEMBER_BYTES_MIN, Member};
use super::{Assignment, CommandError, CommitPartition, CommitTopic, Name};

/// The only version of every command so far.
const VERSION: u16 = 1;

/// Bytes of a command's header.
const HEADER_BYTES: usize = 8;

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
        writer.u16(self.kind());
        writer.u16(VERSION);
        writer.u32(0);
        self.encode_body(&mut writer);
        let body = writer.len().saturating_sub(HEADER_BYTES);
        writer.patch_u32(4, u32::try_from(body).expect("COMMAND_BYTES_MAX is below 2^32"));
        Bytes::from(writer.into_bytes())
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
                writer.name(&command.group_id);
                writer.u64(command.revision);
                writer.name(&command.old_member_id);
                command.member.encode(writer);
            }
            Self::GroupRemoved(command) => {
                writer.name(&command.group_id);
                writer.u64(command.revision);
                writer.flag(command.with_offsets);
            }
            Self::OffsetsCommitted(command) => encode_commit(command, writer),
            Self::OffsetsExpired(command) => {
                writer.name(&command.group_id);
                writer.u64(command.revision);
                writer.count(command.offsets.len());
                for (topic, partition, index) in &command.offsets {
                    writer.name(topic);
                    writer.i32(*partition);
                    writer.u64(index.get());
                }
            }
            Self::TopicDeleted(command) => {
                writer.name(&command.topic);
                writer.raw(&command.topic_id.0);
            }
        }
    }

    /// All commands of a payload, in order.
    ///
    /// # Errors
    /// [`CommandError`]: nothing of the payload may be applied.
    pub(super) fn decode_all(payload: &[u8]) -> Result<Vec<Self>, CommandError> {
        let mut reader = Reader::new(payload, 0);
        if reader.is_empty() {
            return Err(reader.malformed("a payload without a command"));
        }
        let mut commands = Vec::with_capacity(1);
        while !reader.is_empty() {
            let (kind, version) = (reader.u16()?, reader.u16()?);
            let start = reader.position().saturating_add(4);
            let mut body = Reader::new(reader.slice()?, start);
            if version != VERSION {
                return Err(CommandError::Unknown { kind, version });
            }
            commands.push(Self::decode_body(kind, &mut body)?);
            if !body.is_empty() {
                return Err(body.malformed("a command shorter than its length says"));
            }
        }
        Ok(commands)
    }

    fn decode_body(kind: u16, reader: &mut Reader<'_>) -> Result<Self, CommandError> {
        Ok(match kind {
            1 => Self::GenerationStarted(decode_generation(reader)?),
            2 => Self::AssignmentsStored(decode_assignments(reader)?),
            3 => Self::StaticMemberReplaced(StaticMemberReplaced {
                group_id: reader.name()?,
                revision: reader.u64()?,
                old_member_id: reader.name()?,
                member: Member::decode(reader)?,
            }),
            4 => Self::GroupRemoved(GroupRemoved {
                group_id: reader.name()?,
                revision: reader.u64()?,
                with_offsets: reader.flag()?,
            }),
            5 => Self::OffsetsCommitted(decode_commit(reader)?),
            6 => Self::OffsetsExpired(OffsetsExpired {
                group_id: reader.name()?,
                revision: reader.u64()?,
                offsets: reader.list(16, |reader| {
                    Ok((reader.name()?, reader.i32()?, LogIndex::new(reader.u64()?)))
                })?,
            }),
            7 => Self::TopicDeleted(TopicDeleted {
                topic: reader.name()?,
                topic_id: TopicId(reader.array()?),
            }),
            kind => return Err(CommandError::Unknown { kind, version: VERSION }),
        })
    }
}

fn encode_generation(command: &GenerationStarted, writer: &mut Writer) {
    writer.name(&command.group_id);
    writer.u64(command.revision);
    writer.i32(command.generation);
    writer.name(&command.protocol_type);
    writer.name(&command.protocol);
    writer.name(&command.leader);
    writer.u64(command.wall_ms);
    writer.count(command.members.len());
    for member in &command.members {
        member.encode(writer);
    }
}

fn decode_generation(reader: &mut Reader<'_>) -> Result<GenerationStarted, CommandError> {
    Ok(GenerationStarted {
        group_id: reader.name()?,
        revision: reader.u64()?,
        generation: reader.i32()?,
        protocol_type: reader.name()?,
        protocol: reader.name()?,
        leader: reader.name()?,
        wall_ms: reader.u64()?,
        members: reader.list(MEMBER_BYTES_MIN, Member::decode)?,
    })
}

fn encode_assignments(command: &AssignmentsStored, writer: &mut Writer) {
    writer.name(&command.group_id);
    writer.u64(command.revision);
    writer.i32(command.generation);
    writer.count(command.assignments.len());
    for assigned in &command.assignments {
        writer.name(&assigned.member_id);
        writer.blob(&assigned.assignment);
    }
}

fn decode_assignments(reader: &mut Reader<'_>) -> Result<AssignmentsStored, CommandError> {
    Ok(AssignmentsStored {
        group_id: reader.name()?,
        revision: reader.u64()?,
        generation: reader.i32()?,
        assignments: reader.list(8, |reader| {
            Ok(Assignment { member_id: reader.name()?, assignment: reader.blob()? })
        })?,
    })
}

fn encode_commit(command: &OffsetsCommitted, writer: &mut Writer) {
    writer.name(&command.group_id);
    writer.i32(command.generation);
    writer.name(&command.member_id);
    writer.u64(command.wall_ms);
    writer.flag(command.expires_wall_ms.is_some());
    if let Some(expires_wall_ms) = command.expires_wall_ms {
        writer.u64(expires_wall_ms);
    }
    writer.count(command.topics.len());
    for topic in &command.topics {
        writer.name(&topic.name);
        writer.raw(&topic.topic_id.0);
        writer.count(topic.partitions.len());
        for partition in &topic.partitions {
            writer.i32(partition.partition);
            writer.i64(partition.offset);
            writer.i32(partition.leader_epoch);
            writer.name(&partition.metadata);
        }
    }
}

fn decode_commit(reader: &mut Reader<'_>) -> Result<OffsetsCommitted, CommandError> {
    Ok(OffsetsCommitted {
        group_id: reader.name()?,
        generation: reader.i32()?,
        member_id: reader.name()?,
        wall_ms: reader.u64()?,
        expires_wall_ms: if reader.flag()? { Some(reader.u64()?) } else { None },
        topics: reader.list(24, |reader| {
            Ok(CommitTopic {
                name: reader.name()?,
                topic_id: TopicId(reader.array()?),
                partitions: reader.list(20, decode_position)?,
            })
        })?,
    })
}

fn decode_position(reader: &mut Reader<'_>) -> Result<CommitPartition, CommandError> {
    Ok(CommitPartition {
        partition: reader.i32()?,
        offset: reader.i64()?,
        leader_epoch: reader.i32()?,
        metadata: reader.name()?,
    })
}
