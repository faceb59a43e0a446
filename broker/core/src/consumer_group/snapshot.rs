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

use super::member::{MEMBER_BYTES_MIN, Member};
use super::tables::{StoredGroup, StoredOffset, StoredTopic, Tables};
use super::{Name, SNAPSHOT_BYTES_MAX, SnapshotError};
use crate::codec::{DecodeError, Reader, Writer};

const MAGIC: u32 = u32::from_le_bytes(*b"BTGS");
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 28;

/// The tables as bytes.
pub(super) fn encode(tables: &Tables, applied: LogIndex) -> Bytes {
    let mut body = Writer::default();
    body.list(tables.groups.iter(), |body, (group_id, group)| {
        body.text(group_id);
        encode_group(group, body);
    });
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
    writer.into_bytes()
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
    let mut header = Reader::new(header);
    let (magic, version, _zero) =
        (header.u32("magic")?, header.u16("version")?, header.u16("zero")?);
    if magic != MAGIC || version != VERSION {
        return Err(SnapshotError::NotASnapshot { magic, found: version, expected: VERSION });
    }
    let (applied, length, checksum) =
        (header.u64("applied index")?, header.u64("body length")?, header.u32("checksum")?);
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

fn decode_body(body: &[u8]) -> Result<Tables, DecodeError> {
    let mut reader = Reader::new(body);
    let groups = reader
        .list("groups", 50, |reader| Ok((reader.text("group id")?, decode_group(reader)?)))?;
    reader.finish("group snapshot")?;
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
    writer.text(&group.protocol_type);
    writer.text(&group.protocol);
    writer.text(&group.leader);
    writer.u64(group.since_wall_ms);
    writer.list(group.members.values(), |writer, member| {
        member.encode(writer);
        writer.bytes(&member.assignment);
    });
    writer.list(group.topics.iter(), |writer, (name, topic)| {
        writer.text(name);
        writer.raw(&topic.topic_id.0);
        writer.list(topic.partitions.iter(), |writer, (partition, offset)| {
            writer.i32(*partition);
            encode_offset(offset, writer);
        });
    });
}

fn encode_offset(offset: &StoredOffset, writer: &mut Writer) {
    writer.i64(offset.offset);
    writer.i32(offset.leader_epoch);
    writer.text(&offset.metadata);
    writer.u64(offset.index.get());
    writer.u64(offset.committed_wall_ms);
    writer.flag(offset.expires_wall_ms.is_some());
    writer.u64(offset.expires_wall_ms.unwrap_or(0));
}

fn decode_group(reader: &mut Reader<'_>) -> Result<StoredGroup, DecodeError> {
    Ok(StoredGroup {
        revision: reader.u64("revision")?,
        generation: reader.i32("generation")?,
        assigned: reader.flag("assigned")?,
        protocol_type: reader.text("protocol type")?,
        protocol: reader.text("protocol")?,
        leader: reader.text("leader")?,
        since_wall_ms: reader.u64("since")?,
        members: ordered(reader.list("members", MEMBER_BYTES_MIN, decode_member)?),
        topics: ordered(reader.list("topics", 24, decode_topic)?),
    })
}

fn decode_member(reader: &mut Reader<'_>) -> Result<(Name, Member), DecodeError> {
    let member = Member::decode(reader)?;
    let member = Member { assignment: reader.owned_bytes("assignment")?, ..member };
    Ok((member.id.clone(), member))
}

fn decode_topic(reader: &mut Reader<'_>) -> Result<(Name, StoredTopic), DecodeError> {
    let name = reader.text("topic name")?;
    let topic_id = TopicId(reader.array("topic id")?);
    let partitions = reader
        .list("partitions", 45, |reader| Ok((reader.i32("partition")?, decode_offset(reader)?)))?;
    Ok((name, StoredTopic { topic_id, partitions: ordered(partitions) }))
}

fn decode_offset(reader: &mut Reader<'_>) -> Result<StoredOffset, DecodeError> {
    Ok(StoredOffset {
        offset: reader.i64("offset")?,
        leader_epoch: reader.i32("leader epoch")?,
        metadata: reader.text("offset metadata")?,
        index: LogIndex::new(reader.u64("index")?),
        committed_wall_ms: reader.u64("commit time")?,
        expires_wall_ms: {
            let given = reader.flag("expiry flag")?;
            let expires_wall_ms = reader.u64("expiry")?;
            given.then_some(expires_wall_ms)
        },
    })
}
