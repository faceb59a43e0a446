//! The state snapshot: the tables as one checked block, so that the log before it can go.
//!
//! ```text
//!   magic u32 "BTGS" · version u16 · zero u16 · applied index u64 · body length u64 · crc32c u32
//!   the checksum covers what is before it and the body
//!   body: groups with members and positions, ordered by name; little-endian
//! ```
//!
//! Invariants
//! - Equal tables give equal bytes; restoring a snapshot and taking it again gives the same bytes.
//! - Length and checksum are verified before the body is read.
//!
//! Absent on purpose: live state. Timers start in full after a change of leader.

use std::collections::BTreeMap;

use bateau_protocol::ids::{LogIndex, TopicId};
use bytes::Bytes;

use super::codec::{Reader, Writer};
use super::member::{MEMBER_BYTES_MIN, Member};
use super::tables::{StoredGroup, StoredOffset, StoredTopic, Tables};
use super::{CommandError, Name, SNAPSHOT_BYTES_MAX, SnapshotError};

const MAGIC: u32 = u32::from_le_bytes(*b"BTGS");
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 28;

/// The tables as bytes.
pub(super) fn encode(tables: &Tables, applied: LogIndex) -> Bytes {
    let mut body = Writer::default();
    body.count(tables.groups.len());
    for (group_id, group) in &tables.groups {
        body.name(group_id);
        encode_group(group, &mut body);
    }
    let body = body.into_bytes();
    let mut writer = Writer::default();
    writer.u32(MAGIC);
    writer.u16(VERSION);
    writer.u16(0);
    writer.u64(applied.get());
    writer.u64(u64::try_from(body.len()).expect("a length in memory fits 64 bits"));
    let header = writer.into_bytes();
    let mut writer = Writer::default();
    writer.raw(&header);
    writer.u32(checksum_of(&header, &body));
    writer.raw(&body);
    Bytes::from(writer.into_bytes())
}

/// The tables and the applied index out of bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<(Tables, LogIndex), SnapshotError> {
    if bytes.len() > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotError::Length { found: bytes.len(), expected: SNAPSHOT_BYTES_MAX });
    }
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(SnapshotError::Length { found: bytes.len(), expected: HEADER_BYTES });
    };
    let covered = header.get(..HEADER_BYTES.saturating_sub(4)).unwrap_or_default();
    let mut header = Reader::new(header, 0);
    let (magic, version, _zero) = (header.u32()?, header.u16()?, header.u16()?);
    if magic != MAGIC || version != VERSION {
        return Err(SnapshotError::NotASnapshot { magic, found: version, expected: VERSION });
    }
    let (applied, length, checksum) = (header.u64()?, header.u64()?, header.u32()?);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length != body.len() {
        let expected = length.saturating_add(HEADER_BYTES);
        return Err(SnapshotError::Length { found: bytes.len(), expected });
    }
    let found = checksum_of(covered, body);
    if found != checksum {
        return Err(SnapshotError::Checksum { found, expected: checksum });
    }
    Ok((decode_body(body)?, LogIndex::new(applied)))
}

/// Over all but itself.
fn checksum_of(header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), body)
}

fn decode_body(body: &[u8]) -> Result<Tables, CommandError> {
    let mut reader = Reader::new(body, HEADER_BYTES);
    let groups = reader.list(50, |reader| Ok((reader.name()?, decode_group(reader)?)))?;
    if !reader.is_empty() {
        return Err(reader.malformed("bytes behind the last group"));
    }
    let mut tables = Tables { groups: ordered(groups), offset_bytes: 0 };
    tables.offset_bytes = tables.count_offset_bytes();
    Ok(tables)
}

fn ordered<K: Ord, V>(pairs: Vec<(K, V)>) -> BTreeMap<K, V> {
    pairs.into_iter().collect()
}

fn encode_group(group: &StoredGroup, writer: &mut Writer) {
    writer.u64(group.revision);
    writer.i32(group.generation);
    writer.flag(group.assigned);
    writer.name(&group.protocol_type);
    writer.name(&group.protocol);
    writer.name(&group.leader);
    writer.u64(group.since_wall_ms);
    writer.count(group.members.len());
    for member in group.members.values() {
        member.encode(writer);
        writer.blob(&member.assignment);
    }
    writer.count(group.topics.len());
    for (name, topic) in &group.topics {
        writer.name(name);
        writer.raw(&topic.topic_id.0);
        writer.count(topic.partitions.len());
        for (partition, offset) in &topic.partitions {
            writer.i32(*partition);
            encode_offset(offset, writer);
        }
    }
}

fn encode_offset(offset: &StoredOffset, writer: &mut Writer) {
    writer.i64(offset.offset);
    writer.i32(offset.leader_epoch);
    writer.name(&offset.metadata);
    writer.u64(offset.index.get());
    writer.u64(offset.committed_wall_ms);
    writer.flag(offset.expires_wall_ms.is_some());
    writer.u64(offset.expires_wall_ms.unwrap_or(0));
}

fn decode_group(reader: &mut Reader<'_>) -> Result<StoredGroup, CommandError> {
    Ok(StoredGroup {
        revision: reader.u64()?,
        generation: reader.i32()?,
        assigned: reader.flag()?,
        protocol_type: reader.name()?,
        protocol: reader.name()?,
        leader: reader.name()?,
        since_wall_ms: reader.u64()?,
        members: ordered(reader.list(MEMBER_BYTES_MIN, decode_member)?),
        topics: ordered(reader.list(24, decode_topic)?),
    })
}

fn decode_member(reader: &mut Reader<'_>) -> Result<(Name, Member), CommandError> {
    let member = Member::decode(reader)?;
    let member = Member { assignment: reader.blob()?, ..member };
    Ok((member.id.clone(), member))
}

fn decode_topic(reader: &mut Reader<'_>) -> Result<(Name, StoredTopic), CommandError> {
    let name = reader.name()?;
    let topic_id = TopicId(reader.array()?);
    let partitions = reader.list(45, |reader| Ok((reader.i32()?, decode_offset(reader)?)))?;
    Ok((name, StoredTopic { topic_id, partitions: ordered(partitions) }))
}

fn decode_offset(reader: &mut Reader<'_>) -> Result<StoredOffset, CommandError> {
    Ok(StoredOffset {
        offset: reader.i64()?,
        leader_epoch: reader.i32()?,
        metadata: reader.name()?,
        index: LogIndex::new(reader.u64()?),
        committed_wall_ms: reader.u64()?,
        expires_wall_ms: {
            let given = reader.flag()?;
            let expires_wall_ms = reader.u64()?;
            given.then_some(expires_wall_ms)
        },
    })
}
