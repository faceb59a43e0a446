//! Members of a consumer group: join, sync, fetch their positions, heartbeat, commit, leave.
//!
//! ```text
//!   Join ──> Sync ──> Fetch ──> Stable: heartbeat, commit the next position, at times leave
//!     ^────────┴────────┴─────────┘  a new generation, an unknown member
//! ```
//!
//! Invariants: I12: what the checker sees of assignments; I13: a position that was committed, and
//! acknowledged, is never found lower. A request that nobody waits for any more is dropped on its
//! way, as its connection is.
//!
//! Absent on purpose: records; a position is a number that grows.

use super::{Answer, Ask, ClientId};
use crate::event::{Micros, NodeAt};
use crate::world::World;
use bateau_core::consumer_group::{
    Assignment, CommitPartition, CommitTopic, FetchedTopic, GroupRequest, GroupResponse, Heartbeat,
    HeartbeatError, JoinGroup, JoinGroupError, JoinedGroup, LeaveGroup, LeavingMember, Name,
    OffsetCommit, OffsetCommitError, OffsetFetch, Protocol, SyncGroup, SyncGroupError,
    partition_of,
};
use bateau_core::shard::Reply;
use bateau_protocol::ids::{Incarnation, TopicId};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Partitions that a group shares out.
const PARTITIONS: u8 = 4;
/// How long a member waits for an answer, in microseconds; a rebalance may take that long.
pub const PATIENCE: Micros = 3_000_000;
const JOIN_PATIENCE: Micros = 9_000_000;
const SESSION_MS: i32 = 6_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Join,
    Sync,
    Fetch,
    Stable,
}

/// A member of a group.
pub struct Member {
    group_id: Name,
    member_id: Name,
    generation: i32,
    phase: Phase,
    /// For the leader: everybody.
    members: Vec<Name>,
    positions: BTreeMap<i32, i64>,
    waits: Option<(u64, Micros)>,
    coordinator: Option<NodeAt>,
}

impl Member {
    /// A member that has not joined.
    pub fn new(group_id: &str) -> Self {
        Self {
            group_id: group_id.into(),
            member_id: "".into(),
            generation: -1,
            phase: Phase::Join,
            members: Vec::new(),
            positions: BTreeMap::new(),
            waits: None,
            coordinator: None,
        }
    }

    fn join(&self, uuid: u64) -> GroupRequest {
        let mut member_uuid = [0; 16];
        member_uuid[..8].copy_from_slice(&uuid.to_be_bytes());
        GroupRequest::JoinGroup(JoinGroup {
            group_id: self.group_id.clone(),
            member_id: self.member_id.clone(),
            group_instance_id: None,
            client_id: "sim".into(),
            client_host: "sim".into(),
            member_uuid,
            member_id_required: false,
            can_skip_assignment: false,
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::new() }],
        })
    }

    fn sync(&self) -> GroupRequest {
        let count = self.members.len().max(1);
        let share = |(place, member): (usize, &Name)| Assignment {
            member_id: member.clone(),
            assignment: (0..PARTITIONS)
                .filter(|number| usize::from(*number) % count == place)
                .collect::<Vec<u8>>()
                .into(),
        };
        GroupRequest::SyncGroup(SyncGroup {
            group_id: self.group_id.clone(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments: self.members.iter().enumerate().map(share).collect(),
        })
    }

    fn fetch(&self) -> GroupRequest {
        GroupRequest::OffsetFetch(OffsetFetch {
            group_id: self.group_id.clone(),
            topics: None,
            require_stable: false,
        })
    }

    fn heartbeat(&self) -> GroupRequest {
        GroupRequest::Heartbeat(Heartbeat {
            group_id: self.group_id.clone(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: None,
        })
    }

    fn leave(&self) -> GroupRequest {
        let member = LeavingMember { member_id: self.member_id.clone(), group_instance_id: None };
        GroupRequest::LeaveGroup(LeaveGroup {
            group_id: self.group_id.clone(),
            members: vec![member],
        })
    }

    fn commit(&mut self, chosen: u64) -> GroupRequest {
        let at = usize::try_from(chosen).unwrap_or(0) % self.positions.len().max(1);
        let position = self.positions.iter_mut().nth(at);
        let partitions = position.map(|(partition, next)| {
            *next += 1;
            let (partition, offset) = (*partition, *next);
            CommitPartition { partition, offset, leader_epoch: -1, metadata: "".into() }
        });
        let partitions = partitions.into_iter().collect();
        let topic = CommitTopic { name: "orders".into(), topic_id: TopicId::ZERO, partitions };
        GroupRequest::OffsetCommit(OffsetCommit {
            group_id: self.group_id.clone(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: None,
            retention_ms: None,
            topics: vec![topic],
        })
    }

    fn forget(&mut self) {
        self.member_id = "".into();
        self.phase = Phase::Join;
    }

    fn hear_join(&mut self, joined: Result<JoinedGroup, JoinGroupError>) {
        match joined {
            Ok(joined) => {
                self.generation = joined.generation;
                self.member_id = joined.member_id;
                self.members = joined.members.into_iter().map(|one| one.member_id).collect();
                self.phase = Phase::Sync;
            }
            Err(JoinGroupError::UnknownMemberId) => self.forget(),
            Err(_) => self.coordinator = None,
        }
    }

    fn hear_fetch(&mut self, topics: &[FetchedTopic]) {
        for topic in topics {
            for (partition, found) in &topic.partitions {
                if let (Some(next), Some(found)) = (self.positions.get_mut(partition), found) {
                    // What it has sent and given up may be committed behind this answer.
                    *next = found.offset.max(*next);
                }
            }
        }
        self.phase = Phase::Stable;
    }

    fn hear(&mut self, response: GroupResponse) {
        match response {
            GroupResponse::JoinGroup(joined) => self.hear_join(joined),
            GroupResponse::SyncGroup(Ok(synced)) => {
                let numbers = synced.assignment.iter().map(|number| (i32::from(*number), 0));
                self.positions = numbers.collect();
                self.phase = Phase::Fetch;
            }
            GroupResponse::SyncGroup(Err(SyncGroupError::UnknownMemberId))
            | GroupResponse::Heartbeat(Err(HeartbeatError::UnknownMemberId))
            | GroupResponse::OffsetCommit(Err(OffsetCommitError::UnknownMemberId)) => self.forget(),
            GroupResponse::SyncGroup(Err(SyncGroupError::Coordinator(_)))
            | GroupResponse::Heartbeat(Err(HeartbeatError::Coordinator(_)))
            | GroupResponse::OffsetFetch(Err(_))
            | GroupResponse::OffsetCommit(Err(OffsetCommitError::Coordinator(_))) => {
                self.coordinator = None;
            }
            GroupResponse::SyncGroup(Err(_))
            | GroupResponse::Heartbeat(Err(_))
            | GroupResponse::OffsetCommit(Err(_)) => self.phase = Phase::Join,
            GroupResponse::OffsetFetch(Ok(topics)) => self.hear_fetch(&topics),
            GroupResponse::LeaveGroup(_) => self.forget(),
            GroupResponse::Heartbeat(Ok(()))
            | GroupResponse::OffsetCommit(Ok(_))
            | GroupResponse::DeleteGroup(_) => {}
        }
    }
}

impl World {
    /// The log of a group's partition, as a node knows it.
    pub fn group_log(&self, n: NodeAt, group_id: &str) -> Option<Incarnation> {
        let metadata = self.metadata_at(n)?;
        let place = usize::try_from(partition_of(group_id)).ok()?;
        Some(metadata.group_topic()?.partitions.get(place)?.incarnation)
    }

    pub(super) fn tick_member(&mut self, id: ClientId, member: &mut Member) {
        if let Some((_, until)) = member.waits {
            if until > self.at {
                return;
            }
            member.waits = None;
            member.coordinator = None;
        }
        let coordinator = match member.coordinator {
            Some(coordinator) => coordinator,
            None => {
                let n = self.any_node();
                let Some(log) = self.group_log(n, &member.group_id) else { return };
                *member.coordinator.insert(self.find_leader(log))
            }
        };
        let request = match member.phase {
            Phase::Join => member.join(self.random.next_u64()),
            Phase::Sync => member.sync(),
            Phase::Fetch => member.fetch(),
            Phase::Stable if self.random.chance(1) => member.leave(),
            Phase::Stable if self.random.chance(50) && !member.positions.is_empty() => {
                member.commit(self.random.next_u64())
            }
            Phase::Stable if self.random.chance(5) => member.fetch(),
            Phase::Stable => member.heartbeat(),
        };
        let joins = member.phase == Phase::Join;
        let until = self.at + if joins { JOIN_PATIENCE } else { PATIENCE };
        let number = self.ask(id, coordinator, Ask::Group(request, until));
        member.waits = Some((number, until));
    }

    pub(super) fn answer_member(&mut self, member: &mut Member, number: u64, answer: Answer) {
        let is_awaited = member.waits.is_some_and(|(awaited, _)| awaited == number);
        if let (true, Reply::Group(response)) = (is_awaited, answer.reply) {
            member.waits = None;
            member.hear(response);
        }
    }
}
