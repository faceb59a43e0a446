//! Scripts about one coordinator: a harness that plays log and clock, and the rules by topic.
//!
//! The harness applies proposals when the script says so, checks the coordinator's counts after
//! every call, and keeps every answer by its ticket.

mod errors;
mod joining;
mod model;
mod offsets;
mod recovery;
mod retention;
mod statics;
mod stored;
mod syncing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::timers::Timer;
use super::*;

/// One coordinator, its log and its clock.
pub(super) struct World {
    pub(super) coordinator: GroupCoordinator,
    pub(super) now: Now,
    /// Proposed, not yet committed.
    pub(super) proposed: VecDeque<Proposal>,
    /// Committed payloads, by index from 1.
    pub(super) log: Vec<Bytes>,
    pub(super) replies: BTreeMap<Ticket, GroupResponse>,
    /// The groups' stored generations when a commit was acknowledged.
    pub(super) generations_at: BTreeMap<Ticket, BTreeMap<Name, i32>>,
    /// Tickets handed in.
    pub(super) tickets: u64,
    /// Applies what is proposed at once.
    pub(super) is_prompt: bool,
    uuids: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(GroupSettings::default())
    }

    pub(super) fn with(settings: GroupSettings) -> Self {
        let now = Now { monotonic_ms: 0, service_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let mut coordinator = GroupCoordinator::new(settings);
        coordinator.become_leader(now, &mut GroupEffects::default());
        let (log, replies) = (Vec::new(), BTreeMap::new());
        let proposed = VecDeque::new();
        Self {
            coordinator,
            now,
            proposed,
            log,
            replies,
            generations_at: BTreeMap::new(),
            tickets: 0,
            is_prompt: true,
            uuids: 0,
        }
    }

    /// Runs one call on the coordinator and takes its effects.
    pub(super) fn call(&mut self, run: impl FnOnce(&mut GroupCoordinator, Now, &mut GroupEffects)) {
        let mut effects = GroupEffects::default();
        run(&mut self.coordinator, self.now, &mut effects);
        for (ticket, response) in effects.replies {
            assert!(ticket.0 <= self.tickets, "an answer to a ticket that nobody handed in");
            if matches!(response, GroupResponse::OffsetCommit(Ok(_))) {
                let groups = self.coordinator.tables.groups.iter();
                let generations = groups.map(|(id, group)| (id.clone(), group.generation));
                self.generations_at.insert(ticket, generations.collect());
            }
            let before = self.replies.insert(ticket, response);
            assert_eq!(before, None, "I-GRP-4: {ticket:?} is answered twice");
        }
        self.proposed.extend(effects.proposals);
        check(&self.coordinator);
        if self.is_prompt {
            self.settle();
        }
    }

    /// Commits and applies the oldest proposal.
    pub(super) fn apply_one(&mut self) -> bool {
        let Some(proposal) = self.proposed.pop_front() else { return false };
        self.log.push(proposal.payload.clone());
        let index = LogIndex::new(self.log.len() as u64);
        self.call(|coordinator, now, effects| {
            let token = Some(proposal.token);
            coordinator.apply(now, index, &proposal.payload, token, effects).unwrap();
        });
        true
    }

    pub(super) fn settle(&mut self) {
        while self.apply_one() {}
    }

    pub(super) fn drop_one(&mut self) {
        let proposal = self.proposed.pop_front().unwrap();
        self.call(|coordinator, now, effects| coordinator.dropped(now, proposal.token, effects));
    }

    /// Lets time pass, acting on each deadline when it is due.
    pub(super) fn pass(&mut self, milliseconds: u64) {
        let end = self.now.service_ms + milliseconds;
        for round in 0.. {
            assert!(round < 1_000_000, "the coordinator ticks in a circle");
            let next = self.coordinator.next_deadline().filter(|at| *at <= end);
            let at = next.unwrap_or(end).max(self.now.service_ms);
            self.now.wall_ms += at - self.now.service_ms;
            self.now.service_ms = at;
            if next.is_none() {
                break;
            }
            self.call(|coordinator, now, effects| coordinator.tick(now, effects));
        }
    }

    pub(super) fn send(&mut self, request: GroupRequest) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.call(|coordinator, now, effects| coordinator.handle(now, request, ticket, effects));
        ticket
    }

    pub(super) fn is_waiting(&self, ticket: Ticket) -> bool {
        !self.replies.contains_key(&ticket)
    }

    /// 16 bytes that nobody else got.
    pub(super) fn uuid(&mut self) -> [u8; 16] {
        self.uuids += 1;
        let mut uuid = [self.uuids as u8; 16];
        if self.uuids > 255 {
            uuid[..8].copy_from_slice(&self.uuids.to_be_bytes());
        }
        uuid
    }

    /// A JoinGroup of a new dynamic member of `group` with id and metadata from `client`.
    pub(super) fn join_request(&mut self, group: &str, client: &str) -> JoinGroup {
        JoinGroup {
            group_id: group.into(),
            member_id: "".into(),
            group_instance_id: None,
            client_id: client.into(),
            client_host: "127.0.0.1".into(),
            member_uuid: self.uuid(),
            member_id_required: true,
            can_skip_assignment: false,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![protocol("range", client)],
        }
    }

    pub(super) fn send_join(&mut self, request: JoinGroup) -> Ticket {
        self.send(GroupRequest::JoinGroup(request))
    }

    pub(super) fn joined(&self, ticket: Ticket) -> Result<JoinedGroup, JoinGroupError> {
        match self.replies.get(&ticket) {
            Some(GroupResponse::JoinGroup(outcome)) => outcome.clone(),
            other => panic!("no JoinGroup answer but {other:?}"),
        }
    }

    /// Asks for an id and joins with it.
    pub(super) fn enter(&mut self, group: &str, client: &str) -> (Name, Ticket) {
        let request = self.join_request(group, client);
        let first = self.send_join(request.clone());
        let Err(JoinGroupError::MemberIdRequired { member_id }) = self.joined(first) else {
            panic!("no id was handed out: {:?}", self.replies.get(&first));
        };
        let ticket = self.send_join(JoinGroup { member_id: member_id.clone(), ..request });
        (member_id, ticket)
    }

    pub(super) fn rejoin(&mut self, group: &str, client: &str, member_id: &Name) -> Ticket {
        let request = self.join_request(group, client);
        self.send_join(JoinGroup { member_id: member_id.clone(), ..request })
    }

    pub(super) fn send_sync(
        &mut self,
        group: &str,
        generation: i32,
        id: &Name,
        plan: &[(&Name, &str)],
    ) -> Ticket {
        let assignments = plan.iter().map(|(member_id, text)| Assignment {
            member_id: (*member_id).clone(),
            assignment: Bytes::copy_from_slice(text.as_bytes()),
        });
        self.send(GroupRequest::SyncGroup(SyncGroup {
            group_id: group.into(),
            generation,
            member_id: id.clone(),
            group_instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments: assignments.collect(),
        }))
    }

    pub(super) fn synced(&self, ticket: Ticket) -> Result<Bytes, SyncGroupError> {
        match self.replies.get(&ticket) {
            Some(GroupResponse::SyncGroup(outcome)) => {
                outcome.clone().map(|synced| synced.assignment)
            }
            other => panic!("no SyncGroup answer but {other:?}"),
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        group: &str,
        generation: i32,
        id: &Name,
    ) -> Result<(), HeartbeatError> {
        self.heartbeat_as(group, generation, id, None)
    }

    pub(super) fn heartbeat_as(
        &mut self,
        group: &str,
        generation: i32,
        id: &Name,
        instance_id: Option<&str>,
    ) -> Result<(), HeartbeatError> {
        let ticket = self.send(GroupRequest::Heartbeat(Heartbeat {
            group_id: group.into(),
            generation,
            member_id: id.clone(),
            group_instance_id: instance_id.map(Name::from),
        }));
        match self.replies.get(&ticket) {
            Some(GroupResponse::Heartbeat(outcome)) => outcome.clone(),
            other => panic!("no Heartbeat answer but {other:?}"),
        }
    }

    pub(super) fn send_leave(&mut self, group: &str, members: &[(&str, Option<&str>)]) -> Ticket {
        let members = members.iter().map(|(id, instance_id)| LeavingMember {
            member_id: Name::from(*id),
            group_instance_id: instance_id.map(Name::from),
        });
        let members = members.collect();
        self.send(GroupRequest::LeaveGroup(LeaveGroup { group_id: group.into(), members }))
    }

    pub(super) fn leave(
        &mut self,
        group: &str,
        members: &[(&str, Option<&str>)],
    ) -> Vec<Result<(), LeaveMemberError>> {
        let ticket = self.send_leave(group, members);
        match self.replies.get(&ticket) {
            Some(GroupResponse::LeaveGroup(Ok(left))) => left.iter().map(|m| m.outcome).collect(),
            other => panic!("no LeaveGroup answer but {other:?}"),
        }
    }

    /// Commits `offset` for partition 0 of topic `orders`.
    pub(super) fn commit(
        &mut self,
        group: &str,
        generation: i32,
        id: &str,
        offset: i64,
    ) -> Result<(), OffsetCommitError> {
        let ticket = self.send(commit_request(group, generation, id, offset));
        self.committed(ticket)
    }

    pub(super) fn committed(&self, ticket: Ticket) -> Result<(), OffsetCommitError> {
        match self.replies.get(&ticket) {
            Some(GroupResponse::OffsetCommit(outcome)) => outcome.clone().map(|_| ()),
            other => panic!("no OffsetCommit answer but {other:?}"),
        }
    }

    pub(super) fn fetch(
        &mut self,
        group: &str,
        topics: Option<Vec<(Name, Vec<i32>)>>,
    ) -> Vec<FetchedTopic> {
        let group_id = Name::from(group);
        let request = OffsetFetch { group_id, topics, require_stable: true };
        let ticket = self.send(GroupRequest::OffsetFetch(request));
        match self.replies.get(&ticket) {
            Some(GroupResponse::OffsetFetch(outcome)) => outcome.clone().unwrap(),
            other => panic!("no OffsetFetch answer but {other:?}"),
        }
    }

    /// The stored offset of partition 0 of `orders`.
    pub(super) fn position(&mut self, group: &str) -> Option<i64> {
        let fetched = self.fetch(group, Some(vec![("orders".into(), vec![0])]));
        fetched[0].partitions[0].1.as_ref().map(|offset| offset.offset)
    }

    /// A stable group of dynamic members; the first leads. Returns generation and ids.
    pub(super) fn stable(&mut self, group: &str, clients: &[&str]) -> (i32, Vec<Name>) {
        let mut ids: Vec<Name> = Vec::new();
        let mut generation = 0;
        for client in clients {
            let (id, mut tickets) = {
                let (id, ticket) = self.enter(group, client);
                (id, vec![ticket])
            };
            for (known, client) in ids.clone().iter().zip(clients) {
                tickets.push(self.rejoin(group, client, known));
            }
            ids.push(id);
            generation = self.joined(tickets[0]).unwrap().generation;
            let plan: Vec<_> = ids.iter().map(|id| (id, &**id)).collect();
            for id in &ids {
                self.send_sync(group, generation, id, &plan);
            }
        }
        (generation, ids)
    }

    pub(super) fn state(&self, group: &str) -> Option<GroupState> {
        self.coordinator.describe(group).map(|description| description.state)
    }

    /// kill -9: what was applied is replayed into a new coordinator, from a snapshot taken at
    /// `snapshot_at` on. What was only proposed is gone, and so are all waiting requests.
    pub(super) fn crash(&mut self, snapshot_at: usize) {
        let settings = self.coordinator.settings.clone();
        let mut before = GroupCoordinator::new(settings.clone());
        replay(&mut before, &self.log[..snapshot_at], 0);
        let at = LogIndex::new(snapshot_at as u64);
        let bytes = before.snapshot(at);
        let (mut after, applied) = GroupCoordinator::restore(settings, &bytes).unwrap();
        assert_eq!((applied, after.snapshot(at)), (at, bytes), "snapshot and restore");
        replay(&mut after, &self.log[snapshot_at..], snapshot_at);
        assert_eq!(after.tables, self.coordinator.tables, "a replay gives the live state");
        let mut effects = GroupEffects::default();
        after.become_leader(self.now, &mut effects);
        assert_eq!(effects, GroupEffects::default());
        check(&after);
        self.coordinator = after;
        self.proposed.clear();
    }
}

fn replay(coordinator: &mut GroupCoordinator, log: &[Bytes], after: usize) {
    let mut effects = GroupEffects::default();
    for (position, payload) in log.iter().enumerate() {
        let index = LogIndex::new((after + position + 1) as u64);
        coordinator.apply(Now::default(), index, payload, None, &mut effects).unwrap();
    }
    assert_eq!(effects, GroupEffects::default(), "a follower wants nothing");
}

pub(super) fn protocol(name: &str, metadata: &str) -> Protocol {
    Protocol { name: name.into(), metadata: Bytes::copy_from_slice(metadata.as_bytes()) }
}

pub(super) fn commit_request(group: &str, generation: i32, id: &str, offset: i64) -> GroupRequest {
    GroupRequest::OffsetCommit(OffsetCommit {
        group_id: group.into(),
        generation,
        member_id: id.into(),
        group_instance_id: None,
        retention_ms: None,
        topics: vec![commit_topic("orders", &[(0, offset)])],
    })
}

pub(super) fn commit_topic(name: &str, positions: &[(i32, i64)]) -> CommitTopic {
    let positions = positions.iter().map(|(partition, offset)| CommitPartition {
        partition: *partition,
        offset: *offset,
        leader_epoch: 3,
        metadata: "".into(),
    });
    let topic_id = TopicId([7; 16]);
    CommitTopic { name: name.into(), topic_id, partitions: positions.collect() }
}

/// Everything that is counted, counted again; every timer has its object.
pub(super) fn check(coordinator: &GroupCoordinator) {
    let live = &coordinator.live;
    let mut parked: usize = live.in_flight.values().map(|in_flight| in_flight.replies.len()).sum();
    for (id, group) in &live.groups {
        assert_eq!(*id, group.id);
        let joining = group.members().filter(|member| member.join.is_some()).count();
        let all_joined = joining == group.member_count() && group.pending.is_empty();
        assert_eq!(group.all_joined(), all_joined);
        parked += joining + group.members().filter(|member| member.sync.is_some()).count();
        let bytes = group.members().map(|member| member.member.metadata_bytes());
        assert_eq!(group.metadata_bytes(), bytes.sum::<usize>());
        assert!(!group.is_vacant(), "a group without content stays");
        assert!(group.in_flight.is_none_or(|token| live.in_flight.contains_key(&token)));
        let stored = coordinator.tables.groups.get(id);
        if group.in_flight.is_none() {
            assert_eq!(stored.map_or(0, |stored| stored.revision), group.revision);
        }
        let statics = group.members().filter_map(|member| member.member.instance_id.clone());
        let statics: BTreeSet<_> = statics.collect();
        for instance_id in statics {
            let id = group.static_member(&instance_id).expect("an instance has its member");
            assert!(group.member(id).is_some());
        }
        let ids: BTreeSet<_> = group.member_ids().into_iter().collect();
        assert!(group.pending_syncs.is_subset(&ids));
        if group.state == GroupState::PreparingRebalance {
            let join = Timer::Join(id.clone());
            assert!(live.timers.armed().any(|timer| *timer == join), "a rebalance without end");
        }
        if !group.pending_syncs.is_empty() {
            let sync = Timer::Sync(id.clone());
            assert!(live.timers.armed().any(|timer| *timer == sync), "a sync without end");
        }
        for member in group.members() {
            let session = Timer::Session(id.clone(), member.member.id.clone());
            let waits = member.join.is_some() || member.sync.is_some();
            let is_armed = live.timers.armed().any(|timer| *timer == session);
            assert!(waits || is_armed, "a member that can be silent for ever");
        }
    }
    assert_eq!(parked, live.parked);
    for timer in live.timers.armed() {
        let (Timer::Session(group, _) | Timer::Pending(group, _)) = timer else { continue };
        let group = live.groups.get(group).expect("a timer has its group");
        match timer {
            Timer::Session(_, id) => assert!(group.member(id).is_some(), "{timer:?}"),
            Timer::Pending(_, id) => assert!(group.pending.contains(id), "{timer:?}"),
            _ => {}
        }
    }
    assert_eq!(coordinator.tables.offset_bytes, coordinator.tables.count_offset_bytes());
}
