//! A member of a consumer group, one call at a time, as the classic protocol has it.
//!
//! Invariant: an answer is read to its last byte.
//! Absent on purpose: waiting for a coordinator; a broker that has said that it is ready has one.

use super::bytes::Reader;
use super::connection::Connection;
use super::requests::{
    HEARTBEAT, JOIN_GROUP, OFFSET_COMMIT, OFFSET_FETCH, Request, SYNC_GROUP, api,
};

/// Who asks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Member {
    /// The group.
    pub group: String,
    /// Empty before it was given one.
    pub id: String,
    /// The name that a static member gives itself.
    pub instance_id: Option<String>,
    /// The generation that it belongs to; -1 for somebody outside of the group.
    pub generation: i32,
}

impl Member {
    /// Nobody yet.
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned(), generation: -1, ..Self::default() }
    }

    /// Nobody yet, under a name of its own.
    pub fn named(group: &str, instance_id: &str) -> Self {
        Self { instance_id: Some(instance_id.to_owned()), ..Self::new(group) }
    }
}

/// The answer to a JoinGroup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Joined {
    /// Error code.
    pub code: i16,
    /// The group's generation.
    pub generation: i32,
    /// Id of its leader.
    pub leader: String,
    /// Id of the one who joined.
    pub id: String,
    /// Ids of all members, for the leader.
    pub members: Vec<String>,
}

/// JoinGroup v5, to be sent by hand where nobody waits for its answer.
pub fn join_request(member: &Member) -> Request {
    api(JOIN_GROUP).request_with(5, |writer| {
        writer.string(&member.group).int32(30_000).int32(5_000).string(&member.id);
        writer.nullable_string(member.instance_id.as_deref()).string("consumer");
        writer.array(1).string("range").byte_string(b"subscription");
    })
}

/// Joins. The member's id and generation are taken over from the answer where it has them.
pub fn join(connection: &mut Connection, member: &mut Member) -> Joined {
    let answer = connection.call(&join_request(member));
    let mut reader = Reader::new(&answer);
    let (_throttle, code, generation) = (reader.int32(), reader.int16(), reader.int32());
    let (_protocol, leader, id) = (reader.string(), reader.string(), reader.string());
    let members = (0..reader.count())
        .map(|_| {
            let (id, _instance) = (reader.string(), reader.string());
            assert_eq!(reader.byte_string(), b"subscription");
            id
        })
        .collect();
    assert_eq!(reader.rest().len(), 0);
    if !id.is_empty() {
        member.id.clone_from(&id);
    }
    if code == super::code::NONE {
        member.generation = generation;
    }
    Joined { code, generation, leader, id, members }
}

/// SyncGroup v3 with what each member shall have, from the leader: error code and own assignment.
pub fn sync(
    connection: &mut Connection,
    member: &Member,
    assignments: &[(&str, &[u8])],
) -> (i16, Vec<u8>) {
    let request = api(SYNC_GROUP).request_with(3, |writer| {
        writer.string(&member.group).int32(member.generation).string(&member.id);
        writer.nullable_string(member.instance_id.as_deref()).array(assignments.len());
        for (id, assignment) in assignments {
            writer.string(id).byte_string(assignment);
        }
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let (_throttle, code) = (reader.int32(), reader.int16());
    let assignment = reader.byte_string().to_vec();
    assert_eq!(reader.rest().len(), 0);
    (code, assignment)
}

/// Error code of Heartbeat v3.
pub fn heartbeat(connection: &mut Connection, member: &Member) -> i16 {
    let request = api(HEARTBEAT).request_with(3, |writer| {
        writer.string(&member.group).int32(member.generation).string(&member.id);
        writer.nullable_string(member.instance_id.as_deref());
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let (_throttle, code) = (reader.int32(), reader.int16());
    assert_eq!(reader.rest().len(), 0);
    code
}

/// Error code of OffsetCommit v7 for partition 0 of `topic`.
pub fn commit(connection: &mut Connection, member: &Member, topic: &str, offset: i64) -> i16 {
    let request = api(OFFSET_COMMIT).request_with(7, |writer| {
        writer.string(&member.group).int32(member.generation).string(&member.id);
        writer.nullable_string(member.instance_id.as_deref());
        writer.array(1).string(topic).array(1).int32(0).int64(offset).int32(-1);
        writer.nullable_string(Some("note"));
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    assert_eq!((reader.count(), reader.string().as_str()), (1, topic));
    assert_eq!((reader.count(), reader.int32()), (1, 0));
    let code = reader.int16();
    assert_eq!(reader.rest().len(), 0);
    code
}

/// What the group has committed for partition 0 of `topic`: error code and offset, from
/// OffsetFetch v5; offset -1 for nothing.
pub fn committed(connection: &mut Connection, group: &str, topic: &str) -> (i16, i64) {
    let request = api(OFFSET_FETCH).request_with(5, |writer| {
        writer.string(group).array(1).string(topic).array(1).int32(0);
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    let mut found = (super::code::NONE, -1);
    // A coordinator that answers nothing names no partition.
    for _ in 0..reader.count() {
        assert_eq!((reader.string().as_str(), reader.count(), reader.int32()), (topic, 1, 0));
        let (offset, _epoch, _note) = (reader.int64(), reader.int32(), reader.string());
        found = (reader.int16(), offset);
    }
    let code = reader.int16();
    assert_eq!(reader.rest().len(), 0);
    if code == super::code::NONE { found } else { (code, -1) }
}
