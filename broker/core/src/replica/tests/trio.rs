//! Stories of three replicas that speak to each other: the network and the disks do what a story
//! says.

mod quiescence;
mod snapshots;

use super::*;
use crate::consumer_group::{
    CoordinatorError, GroupRequest, GroupResponse, GroupSettings, OffsetFetch, OffsetFetchError,
};
use crate::replica::trim::LogStart;
use crate::shard::Input;
use bateau_protocol::peer::{RaftBody, RaftMessage, SnapshotChunk};
use std::collections::BTreeMap;

const VOTERS: [u64; 3] = [1, 2, 3];

/// What a disk has been asked to do: number, vote, where to truncate, frames.
type Asked = (u64, Option<Vote>, Option<LogIndex>, Vec<Frame>);

/// What a producer was told: its ticket, and the offset or why not.
type Answered = (u64, Result<u64, ProduceError>);

/// One replica and its disk.
struct Seat {
    replica: Replica,
    effects: Effects,
    log: Vec<Frame>,
    vote: Vote,
    start: LogStart,
    state: Option<(LogIndex, Bytes)>,
    /// Index of the state with which the log began anew.
    snapshot: Option<LogIndex>,
    writes: Vec<Asked>,
    /// Snapshots that are to be made durable.
    installs: Vec<(LogStart, LogIndex, Bytes)>,
    refuses_installs: bool,
    answers: Vec<Answered>,
    confirmed: Vec<(u64, bool)>,
    group_answers: Vec<(u64, GroupResponse)>,
    leader: Option<u64>,
}

struct Trio {
    derived: fn() -> DerivedStart,
    seats: BTreeMap<u64, Seat>,
    network: Network,
    now_ms: u64,
}

/// What is on its way.
#[derive(Default)]
struct Network {
    messages: Vec<RaftMessage>,
    chunks: Vec<SnapshotChunk>,
}

impl Network {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.chunks.is_empty()
    }
}

fn birth() -> Frame {
    let member = |id| Member { replica_id: ReplicaId::new(id), node_id: NodeId::new(id) };
    let payload = Membership::initial(VOTERS.map(member).to_vec()).encode();
    let entry = (Term::new(1), LogIndex::new(1));
    Frame::new(FrameKind::Membership, entry, Offset::ZERO, 0, payload)
}

fn recovered(id: u64, log: &[Frame], vote: Vote) -> RecoveredLog {
    let mut terms = TermTable::default();
    let mut end_offset = Offset::ZERO;
    for frame in log {
        terms.note(frame.term, frame.index, frame.base_offset);
        end_offset = frame.base_offset.plus(frame.record_count);
    }
    RecoveredLog {
        replica_id: ReplicaId::new(id),
        vote,
        commit: LogIndex::new(1),
        last_index: log.last().map_or(LogIndex::ZERO, |last| last.index),
        end_offset,
        terms,
        frames: log.to_vec(),
        ..newborn()
    }
}

const BIRTH: LogStart = LogStart {
    offset: Offset::ZERO,
    index: LogIndex::new(1),
    previous_term: Term::ZERO,
    previous_crc: 0,
};

impl Seat {
    fn start(id: u64, log: Vec<Frame>, vote: Vote, derived: DerivedStart, now: Now) -> Self {
        let start = ReplicaStart { derived, ..of_records() };
        let replica = Replica::start(recovered(id, &log, vote), start, now).unwrap();
        Self {
            replica,
            effects: Effects::default(),
            log,
            vote,
            start: BIRTH,
            state: None,
            snapshot: None,
            installs: Vec::new(),
            refuses_installs: false,
            writes: Vec::new(),
            answers: Vec::new(),
            confirmed: Vec::new(),
            group_answers: Vec::new(),
            leader: None,
        }
    }

    /// Drains the replica; messages go to `network`, everything else is kept.
    fn drain(&mut self, now: Now, network: &mut Network) {
        self.replica.drain_ready(now, &mut self.effects).unwrap();
        self.replica.check_invariants();
        let (mut reads, mut sent, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        for effect in self.effects.drain() {
            match effect {
                Effect::Persist { ready, vote, truncate_from, frames, .. } => {
                    self.writes.push((ready, vote, truncate_from, frames));
                }
                Effect::Send { node, message } => {
                    assert_eq!(node.get(), message.to.get());
                    network.messages.push(message);
                }
                Effect::SendSnapshot(snapshot) => {
                    network.messages.push(snapshot.message.clone());
                    network.chunks.extend(snapshot.chunks());
                    if let Input::SnapshotSent { to, number, is_sent, .. } = snapshot.outcome(true)
                    {
                        sent.push((to, number, is_sent));
                    }
                }
                Effect::Install { vote, start, applied, state, .. } => {
                    self.vote = vote;
                    self.installs.push((start, applied, state));
                }
                Effect::StoreState { applied, state, .. } => {
                    self.state = Some((applied, state));
                    stored.push(applied);
                }
                Effect::Trim { start, .. } => {
                    self.start = start;
                    self.log.retain(|frame| frame.index >= start.index);
                }
                Effect::ReadFrames { fetch, first, last, .. } => reads.push((fetch, first, last)),
                Effect::LeaderChanged { leader, .. } => self.leader = leader.map(NodeId::get),
                Effect::Reply(Ticket(ticket), Reply::Produce(result)) => {
                    let offset = result.map(|ack| ack.base_offset.get());
                    self.answers.push((ticket, offset));
                }
                Effect::Reply(Ticket(ticket), Reply::Confirmed(result)) => {
                    self.confirmed.push((ticket, result.is_ok()));
                }
                Effect::Reply(Ticket(ticket), Reply::Group(answer)) => {
                    self.group_answers.push((ticket, answer));
                }
                _ => {}
            }
        }
        for applied in stored {
            self.replica.handle_state_stored(applied, true, now);
        }
        for (to, number, is_sent) in sent {
            self.replica.handle_snapshot_sent(to, number, is_sent);
        }
        for (fetch, first, last) in reads {
            let wanted = |frame: &&Frame| frame.index >= first && frame.index <= last;
            let frames = self.log.iter().filter(wanted).cloned().collect();
            self.replica.handle_frames_read(fetch, Some(frames));
            self.drain(now, network);
        }
    }

    /// Puts snapshots in the place of the log.
    fn install(&mut self, now: Now, network: &mut Network) {
        for (start, applied, state) in std::mem::take(&mut self.installs) {
            if !self.refuses_installs {
                self.log.clear();
                (self.start, self.snapshot) = (start, Some(applied));
                self.state = Some((applied, state));
            }
            let (index, is_installed) = (start.index.previous(), !self.refuses_installs);
            self.replica.handle_installed(index, is_installed, &mut self.effects).unwrap();
            self.drain(now, network);
        }
    }

    fn flush(&mut self, now: Now, network: &mut Network) {
        while !self.writes.is_empty() {
            let (ready, vote, truncate_from, frames) = self.writes.remove(0);
            self.vote = vote.unwrap_or(self.vote);
            if let Some(index) = truncate_from {
                self.log.retain(|frame| frame.index < index);
            }
            let last = self.log.last().map_or(self.start.index.previous(), |last| last.index);
            let next = last.next();
            assert!(frames.first().is_none_or(|first| first.index == next), "I-LOG-1");
            self.log.extend(frames);
            self.replica.handle_persisted(ready);
            self.drain(now, network);
        }
        self.install(now, network);
    }
}

impl Trio {
    fn new(derived: fn() -> DerivedStart) -> Self {
        let now = later(0);
        let vote = Vote { term: Term::new(1), voted_for: ReplicaId::ZERO };
        let seat = |id| (id, Seat::start(id, vec![birth()], vote, derived(), now));
        Self { derived, seats: VOTERS.map(seat).into(), network: Network::default(), now_ms: 0 }
    }

    /// Three replicas of which the first leads and has said so to the others.
    fn led_by_1() -> Self {
        Self::of(|| DerivedStart::Records)
    }

    /// As [`Self::led_by_1`], with this derived state.
    fn of(derived: fn() -> DerivedStart) -> Self {
        let mut trio = Self::new(derived);
        assert!(trio.seats[&1].replica.stands_first());
        assert!(!trio.seats[&2].replica.stands_first());
        trio.seat(1).replica.campaign();
        trio.settle(&VOTERS);
        assert!(trio.seats[&1].replica.is_leader());
        trio
    }

    fn now(&self) -> Now {
        later(self.now_ms)
    }

    fn seat(&mut self, id: u64) -> &mut Seat {
        self.seats.get_mut(&id).unwrap()
    }

    fn drain(&mut self, id: u64) {
        let now = self.now();
        self.seats.get_mut(&id).unwrap().drain(now, &mut self.network);
    }

    fn flush(&mut self, id: u64) {
        let now = self.now();
        self.seats.get_mut(&id).unwrap().flush(now, &mut self.network);
    }

    /// Delivers what was sent between `ids`, once; the rest is lost. Nobody's disk does anything.
    fn deliver(&mut self, ids: &[u64]) {
        let Network { messages, chunks } = std::mem::take(&mut self.network);
        for message in messages {
            let (from, to) = (message.from.get(), message.to.get());
            if ids.contains(&from) && ids.contains(&to) {
                self.seat(to).replica.hear_peer(NodeId::new(from), message).unwrap();
                self.drain(to);
            }
        }
        for chunk in chunks {
            let (from, to) = (chunk.from.get(), chunk.to.get());
            if ids.contains(&from) && ids.contains(&to) {
                let seat = self.seat(to);
                seat.replica.hear_chunk(NodeId::new(from), &chunk, &mut seat.effects);
                self.drain(to);
            }
        }
    }

    /// Lets `ids` speak and write until there is nothing left to say.
    fn settle(&mut self, ids: &[u64]) {
        loop {
            for id in ids {
                self.drain(*id);
                self.flush(*id);
            }
            if self.network.is_empty() {
                return;
            }
            self.deliver(ids);
        }
    }

    /// Lets time pass for `ids` until one of them leads.
    fn elect_among(&mut self, ids: &[u64]) -> u64 {
        for _ in 0..200 {
            self.tick(ids);
            if let Some(id) = ids.iter().find(|id| self.seats[id].replica.is_leader()) {
                return *id;
            }
        }
        panic!("nobody was elected among {ids:?}");
    }

    fn produce(&mut self, id: u64, ticket: u64, value: &[u8]) {
        let mut builder = BatchBuilder::new();
        builder.push(&NewRecord { value: Some(value), ..NewRecord::default() }).unwrap();
        let produce = Produce {
            batch: builder.build().unwrap(),
            record_count: 1,
            producer: None,
            ticket: Some(Ticket(ticket)),
            deadline_ms: u64::MAX,
        };
        let seat = self.seat(id);
        seat.replica.produce(produce, &mut seat.effects);
        self.drain(id);
    }

    fn answers(&mut self, id: u64) -> Vec<Answered> {
        std::mem::take(&mut self.seat(id).answers)
    }

    fn restart(&mut self, id: u64) {
        let (now, derived) = (self.now(), (self.derived)());
        let seat = self.seats.remove(&id).unwrap();
        let mut log = recovered(id, &seat.log, seat.vote);
        log.log_start = seat.start;
        let before = seat.start.index.previous();
        log.last_index = seat.log.last().map_or(before, |last| last.index);
        if seat.log.is_empty() {
            log.end_offset = seat.start.offset;
        }
        log.commit = log.commit.max(before);
        log.snapshot = seat.snapshot;
        if let Some((applied, _)) = &seat.state
            && *applied <= log.last_index
        {
            log.frames.retain(|frame| frame.index > *applied);
            log.commit = log.commit.max(*applied);
        }
        log.state = seat.state.clone();
        let replica = Replica::start(log, ReplicaStart { derived, ..of_records() }, now).unwrap();
        let empty = Seat::start(id, vec![birth()], seat.vote, (self.derived)(), now);
        let Seat { log, vote, start, state, snapshot, .. } = seat;
        let new = Seat { replica, log, vote, start, state, snapshot, ..empty };
        self.seats.insert(id, new);
    }

    /// One tick of everybody's clock, and what follows from it among `ids`.
    fn tick(&mut self, ids: &[u64]) {
        self.now_ms += 100;
        ids.iter().for_each(|id| self.tick_at_once(*id));
        self.settle(ids);
    }

    /// A tick before any time has passed.
    fn tick_at_once(&mut self, id: u64) {
        let now = self.now();
        let seat = self.seat(id);
        seat.replica.tick(now, &mut seat.effects);
    }

    /// What is on its way is lost, the others elect one of them, and then 1 hears it.
    fn depose_1(&mut self) {
        self.network.clear();
        let new = self.elect_among(&[2, 3]);
        for id in [1, new].repeat(4) {
            self.tick_at_once(id);
            self.settle(&VOTERS);
        }
    }

    fn assert_equal_logs(&self) {
        for seat in self.seats.values() {
            assert!(seat.log == self.seats[&1].log, "I4: replicas differ");
        }
    }
}

#[test]
fn an_ack_waits_for_the_flush_of_a_majority_and_not_for_the_leaders_own() {
    let mut trio = Trio::led_by_1();
    trio.produce(1, 7, b"a");
    trio.deliver(&VOTERS);
    assert!(trio.network.is_empty(), "R3: followers answer after their flush");
    trio.flush(2);
    trio.deliver(&VOTERS);
    assert_eq!(trio.answers(1), [], "only one of three has flushed it");
    trio.flush(3);
    trio.deliver(&VOTERS);
    assert_eq!(trio.answers(1), [(7, Ok(0))]);
    assert_eq!(trio.seats[&1].replica.high_watermark(), Offset::ZERO, "not written here yet");
    trio.settle(&VOTERS);
    for seat in trio.seats.values() {
        assert_eq!(seat.replica.high_watermark(), Offset::new(1));
        assert_eq!(seat.leader, Some(1));
    }
    trio.assert_equal_logs();
}

#[test]
fn who_follows_takes_no_records_and_says_so() {
    let mut trio = Trio::led_by_1();
    trio.produce(2, 7, b"a");
    assert_eq!(trio.answers(2), [(7, Err(ProduceError::NotLeader))]);
}

#[test]
fn what_only_an_old_leader_had_gives_way_to_what_was_committed() {
    let mut trio = Trio::led_by_1();
    trio.produce(1, 7, b"alone");
    trio.produce(1, 8, b"alone too");
    trio.flush(1);
    trio.network.clear();
    let leader = trio.elect_among(&[2, 3]);
    trio.produce(leader, 9, b"agreed");
    trio.settle(&[2, 3]);
    assert_eq!(trio.answers(leader), [(9, Ok(0))]);
    let other = if leader == 2 { 3 } else { 2 };
    trio.now_ms += 1_000;
    trio.elect_among(&[leader]);
    trio.settle(&VOTERS);
    for _ in 0..3 {
        trio.tick_at_once(leader);
        trio.settle(&VOTERS);
    }
    let expected = [(7, Err(ProduceError::NotLeader)), (8, Err(ProduceError::NotLeader))];
    assert_eq!(trio.answers(1), expected);
    assert_eq!(trio.seats[&1].leader, Some(leader));
    assert_eq!(trio.seats[&other].leader, Some(leader));
    trio.assert_equal_logs();
}

#[test]
fn a_replica_that_comes_back_catches_up_from_the_disk_of_the_leader() {
    let mut trio = Trio::led_by_1();
    for number in 0..40_u64 {
        trio.produce(1, number, &[b'x'; 100]);
        trio.settle(&[1, 2]);
    }
    trio.restart(3);
    for _ in 0..5 {
        VOTERS.into_iter().for_each(|id| trio.tick_at_once(id));
        trio.settle(&VOTERS);
    }
    assert_eq!(trio.seats[&3].replica.high_watermark(), Offset::new(40));
    trio.assert_equal_logs();
}

#[test]
fn a_leader_is_confirmed_by_a_majority_and_an_isolated_one_is_not() {
    let mut trio = Trio::led_by_1();
    let ask = |trio: &mut Trio, ticket| {
        let seat = trio.seat(1);
        seat.replica.confirm(Ticket(ticket), &mut seat.effects);
        trio.drain(1);
    };
    ask(&mut trio, 1);
    assert_eq!(trio.seat(1).confirmed, []);
    trio.settle(&[1, 3]);
    assert_eq!(trio.seat(1).confirmed, [(1, true)]);
    ask(&mut trio, 2);
    trio.depose_1();
    assert_eq!(trio.seat(1).confirmed, [(1, true), (2, false)]);
}

#[test]
fn a_coordinator_reads_offsets_for_a_group_only_while_a_majority_follows_it() {
    let mut trio = Trio::of(|| DerivedStart::Groups(GroupSettings::default()));
    let ask = |trio: &mut Trio, ticket| {
        let fetch = OffsetFetch { group_id: "g".into(), topics: None, require_stable: false };
        let now = trio.now();
        trio.seat(1).replica.ask_group(GroupRequest::OffsetFetch(fetch), Ticket(ticket), now);
        trio.drain(1);
    };
    ask(&mut trio, 1);
    assert_eq!(trio.seat(1).group_answers, [], "nobody was asked whether it leads");
    trio.settle(&[1, 3]);
    assert_eq!(trio.seat(1).group_answers, [(1, GroupResponse::OffsetFetch(Ok(Vec::new())))]);
    ask(&mut trio, 2);
    trio.depose_1();
    let error = OffsetFetchError::Coordinator(CoordinatorError::NotCoordinator);
    assert_eq!(trio.seat(1).group_answers[1..], [(2, GroupResponse::OffsetFetch(Err(error)))]);
}

#[test]
fn a_leader_that_counts_on_what_a_follower_has_lost_silences_it() {
    let mut trio = Trio::led_by_1();
    trio.produce(1, 7, b"a");
    trio.settle(&VOTERS);
    // The disk of 2 forgets what it had flushed.
    let seat = trio.seat(2);
    seat.log.truncate(1);
    trio.restart(2);
    let term = trio.seats[&1].replica.term();
    let heartbeat = RaftMessage {
        incarnation: Incarnation::new(77),
        from: ReplicaId::new(1),
        to: ReplicaId::new(2),
        term,
        body: RaftBody::Heartbeat { commit: LogIndex::new(3), context: Bytes::new() },
    };
    let fault = trio.seat(2).replica.hear_peer(NodeId::new(1), heartbeat).unwrap_err();
    let (commit, last) = (LogIndex::new(3), LogIndex::new(1));
    assert_eq!(fault, ReplicaFault::LostEntries { commit, last });
}

#[test]
fn leadership_moves_when_it_is_asked_to() {
    let mut trio = Trio::led_by_1();
    trio.seat(1).replica.transfer_leadership(NodeId::new(3));
    trio.settle(&VOTERS);
    assert!(trio.seats[&3].replica.is_leader());
    assert!(!trio.seats[&1].replica.is_leader());
}

#[test]
fn leadership_is_handed_to_the_voter_that_answers_and_to_nobody_else() {
    let mut trio = Trio::led_by_1();
    for ticket in 0..3 {
        trio.produce(1, ticket, b"only two hear of it");
        trio.settle(&[1, 3]);
    }
    assert!(trio.seats[&1].replica.has_successor(|_| true));
    trio.seat(1).replica.hand_over(|_| true);
    trio.settle(&VOTERS);
    assert!(trio.seats[&3].replica.is_leader(), "it holds more of the log than the other one");
    assert!(!trio.seats[&1].replica.has_successor(|_| true), "whoever follows has nothing to give");
    for _ in 0..25 {
        trio.tick_at_once(3);
    }
    assert!(!trio.seats[&3].replica.has_successor(|_| true), "nobody answers any more");
}

#[test]
fn more_flushes_than_a_majority_are_waited_for_where_the_topic_asks() {
    let mut trio = Trio::led_by_1();
    let settings = ReplicaSettings { min_insync_replicas: 3, ..ReplicaSettings::default() };
    trio.seat(1).replica.configure(settings);
    trio.produce(1, 7, b"a");
    trio.settle(&[1, 2]);
    assert_eq!(trio.answers(1), [], "a majority is not enough here");
    trio.produce(1, 8, b"b");
    trio.settle(&VOTERS);
    assert_eq!(trio.answers(1), [(7, Ok(0)), (8, Ok(1))]);
}

#[test]
fn whoever_loses_its_leaders_node_stands_at_once_and_in_turn() {
    let mut trio = Trio::led_by_1();
    for id in [2, 3] {
        assert!(trio.seats[&id].replica.followed_on(NodeId::new(1)).is_some());
        trio.seat(id).replica.forget_leader(NodeId::new(1));
    }
    trio.settle(&[2, 3]);
    assert!(trio.seats[&2].replica.is_leader(), "no time has passed");
    assert_eq!(trio.seats[&3].leader, Some(2));
}

#[test]
fn survivors_that_meet_late_elect_within_a_round() {
    let mut trio = Trio::led_by_1();
    for id in [2, 3] {
        trio.seat(id).replica.forget_leader(NodeId::new(1));
    }
    for _ in 0..8 {
        trio.tick(&[]);
        for id in [2, 3] {
            let now = trio.now();
            let seat = trio.seat(id);
            seat.replica.tick(now, &mut seat.effects);
            trio.drain(id);
        }
        trio.network.clear();
    }
    let met_ms = trio.now_ms;
    while !trio.seats[&2].replica.is_leader() && !trio.seats[&3].replica.is_leader() {
        assert!(trio.now_ms < met_ms + 700, "two voters, so a round is over after 600 ms");
        trio.tick(&[2, 3]);
    }
}

#[test]
fn a_leader_that_one_voter_alone_has_lost_goes_on() {
    let mut trio = Trio::led_by_1();
    trio.seat(2).replica.forget_leader(NodeId::new(1));
    trio.settle(&VOTERS);
    trio.produce(1, 7, b"a");
    trio.settle(&VOTERS);
    assert!(trio.seats[&1].replica.is_leader());
    assert_eq!(trio.answers(1), [(7, Ok(0))]);
    assert_eq!(trio.seats[&2].leader, Some(1));
}
