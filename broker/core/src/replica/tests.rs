//! Stories of one replica, told to it directly: its disk is whoever answers its writes.

mod trio;

use super::membership::{Member, Membership};
use super::raft_view::UNCOMMITTED_BYTES_MAX;
use super::*;
use crate::shard::{Effect, LogBirth, Reply};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::NodeId;
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bateau_protocol::terms::TermTable;

const NOW: Now = Now { monotonic_ms: 1_000, service_ms: 1_000, wall_ms: 1_000_000 };

fn later(by_ms: u64) -> Now {
    Now {
        monotonic_ms: NOW.monotonic_ms + by_ms,
        service_ms: NOW.service_ms + by_ms,
        wall_ms: NOW.wall_ms + by_ms,
    }
}

/// A log as recovery finds it right after its birth.
fn newborn() -> RecoveredLog {
    let log = LogBirth::of_metadata(NodeId::new(1), &[NodeId::new(1)]).into_recovered();
    RecoveredLog { incarnation: Incarnation::new(77), ..log }
}

/// A topic's replica with all settings at their defaults.
fn of_records() -> ReplicaStart {
    ReplicaStart {
        settings: ReplicaSettings::default(),
        assignment: Assignment::default(),
        derived: DerivedStart::Records,
        reads: ReadOrigin::default(),
        budget: TailBudget::default(),
        rest_ticks: REST_TICKS,
    }
}

/// A replica and what it wants.
struct Story {
    replica: Replica,
    effects: Effects,
}

/// A write that waits to be answered.
#[derive(Debug)]
struct Write {
    ready: u64,
    indexes: Vec<u64>,
}

impl Story {
    fn start(start: RecoveredLog) -> Self {
        let mut replica = Replica::start(start, of_records(), NOW).unwrap();
        replica.campaign();
        let mut story = Self { replica, effects: Effects::default() };
        story.drain(NOW);
        story
    }

    /// A leader whose no-op is flushed.
    fn led() -> Self {
        let mut story = Self::start(newborn());
        let write = story.writes().remove(0);
        story.replica.handle_persisted(write.ready);
        story.drain(NOW);
        assert!(story.replica.is_leader());
        story.effects.drain().for_each(drop);
        story
    }

    fn drain(&mut self, now: Now) {
        self.replica.drain_ready(now, &mut self.effects).unwrap();
        self.replica.check_invariants();
    }

    /// Takes the writes; every other effect stays away.
    fn writes(&mut self) -> Vec<Write> {
        let writes = self.effects.drain().filter_map(|effect| match effect {
            Effect::Persist { ready, frames, .. } => {
                let indexes = frames.iter().map(|frame| frame.index.get()).collect();
                Some(Write { ready, indexes })
            }
            _ => None,
        });
        writes.collect()
    }

    fn produce(&mut self, ticket: u64, bytes: usize) {
        let value = vec![b'x'; bytes];
        let mut builder = BatchBuilder::new();
        let record = NewRecord { value: Some(&value), ..NewRecord::default() };
        builder.push(&record).unwrap();
        let produce = Produce {
            batch: builder.build().unwrap(),
            record_count: 1,
            producer: None,
            ticket: Some(Ticket(ticket)),
            deadline_ms: u64::MAX,
        };
        self.replica.produce(produce, &mut self.effects);
    }

    fn answers(&mut self) -> Vec<(u64, bool)> {
        let answers = self.effects.drain().filter_map(|effect| match effect {
            Effect::Reply(Ticket(ticket), Reply::Produce(result)) => Some((ticket, result.is_ok())),
            _ => None,
        });
        answers.collect()
    }
}

#[test]
fn an_answer_behind_a_refused_write_is_not_believed_of_the_refused_one() {
    let mut story = Story::led();
    story.produce(1, 10);
    story.drain(NOW);
    story.produce(2, 10);
    story.drain(NOW);
    let writes = story.writes();
    story.replica.handle_persist_failed(NOW, &mut story.effects);
    // No disk answers so; a disk that did would have written something else than these frames.
    story.replica.handle_persisted(writes[1].ready);
    story.drain(NOW);
    assert_eq!(story.replica.high_watermark(), Offset::ZERO);
    assert_eq!(story.answers(), [(1, false), (2, false)]);
}

#[test]
fn a_refused_write_is_repeated_once_every_write_was_answered() {
    let mut story = Story::led();
    for ticket in 1..=3 {
        story.produce(ticket, 10);
        story.drain(NOW);
    }
    assert_eq!(story.writes().len(), 3);
    story.replica.handle_persist_failed(NOW, &mut story.effects);
    story.drain(later(10_000));
    assert!(story.writes().is_empty(), "two writes are still unanswered");
    story.replica.handle_persist_failed(later(10_000), &mut story.effects);
    story.replica.handle_persist_failed(later(10_000), &mut story.effects);
    story.drain(later(10_100));
    assert!(story.writes().is_empty(), "half a second passes first");
    story.drain(later(10_500));
    let writes = story.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].indexes, [3, 4, 5]);
    story.replica.handle_persisted(writes[0].ready);
    story.drain(later(10_500));
    assert_eq!(story.replica.high_watermark(), Offset::new(3));
    assert!(!story.replica.wants_ticks());
}

#[test]
fn what_raft_wants_while_a_write_is_repeated_follows_it() {
    let mut story = Story::led();
    story.produce(1, 10);
    story.drain(NOW);
    story.replica.handle_persist_failed(NOW, &mut story.effects);
    story.drain(later(500));
    let repeated = story.writes().pop().unwrap();
    story.replica.gather_trim(LogStart { index: LogIndex::new(2), ..LogStart::default() }.encode());
    story.drain(later(500));
    assert!(story.writes().is_empty(), "nothing overtakes the repetition");
    story.replica.handle_persisted(repeated.ready);
    story.drain(later(500));
    let followed = story.writes().pop().unwrap();
    assert_eq!(followed.indexes, [4]);
    story.replica.handle_persisted(followed.ready);
    story.drain(later(500));
    assert_eq!(story.replica.applied(), LogIndex::new(4));
}

#[test]
fn commands_above_raft_s_limit_wait_in_order_and_are_not_refused() {
    let mut story = Story::led();
    let large = Bytes::from(vec![0; 10 * 1024 * 1024]);
    story.produce(1, 10);
    for _ in 0..3 {
        // A records log meets commands nowhere else; what counts here is their size.
        story.replica.gather(FrameKind::Noop, 0, large.clone(), propose::Waiter::Nobody);
    }
    story.produce(2, 10);
    let mut indexes = Vec::new();
    loop {
        story.drain(NOW);
        let writes = story.writes();
        if writes.is_empty() {
            break;
        }
        for write in writes {
            let bytes = write.indexes.len() * large.len();
            assert!(bytes <= UNCOMMITTED_BYTES_MAX + large.len(), "{write:?}");
            indexes.extend(write.indexes);
            story.replica.handle_persisted(write.ready);
        }
    }
    assert_eq!(indexes, [3, 4, 5, 6, 7]);
    assert!(story.replica.is_leader());
    assert_eq!(story.replica.high_watermark(), Offset::new(2));
}

#[test]
fn who_waits_in_the_turn_of_the_end_is_told() {
    let mut story = Story::led();
    story.produce(1, 10);
    story.drain(NOW);
    story.produce(2, 10);
    story.replica.resign(ProduceError::NotLeader, &mut story.effects);
    let mut answers = story.answers();
    answers.sort_unstable();
    assert_eq!(answers, [(1, false), (2, false)]);
}

#[test]
fn a_trim_beyond_its_own_index_stops_the_replica() {
    let mut story = Story::led();
    let start = LogStart { index: LogIndex::new(9), ..LogStart::default() };
    story.replica.gather_trim(start.encode());
    story.drain(NOW);
    let write = story.writes().remove(0);
    story.replica.handle_persisted(write.ready);
    let error = story.replica.drain_ready(NOW, &mut story.effects).unwrap_err();
    assert!(error.to_string().contains("trim"), "{error}");
}

fn refusal(start: RecoveredLog) -> StartError {
    match Replica::start(start, of_records(), NOW) {
        Ok(_) => panic!("the replica starts"),
        Err(error) => error,
    }
}

#[test]
fn a_log_that_ends_before_its_commit_has_lost_something() {
    let commit = LogIndex::new(2);
    let last = LogIndex::new(1);
    let lost = refusal(RecoveredLog { commit, ..newborn() });
    assert_eq!(lost, StartError::CommitBehindLog { commit, last });
    let ahead = Story::led().replica.encode_state();
    let lost = refusal(RecoveredLog { state: Some((commit, ahead)), ..newborn() });
    assert_eq!(lost, StartError::CommitBehindLog { commit, last });
}

#[test]
fn frames_that_are_not_there_are_named() {
    let (expected, found) = (LogIndex::new(1), LogIndex::new(0));
    let lost = refusal(RecoveredLog { frames: Vec::new(), ..newborn() });
    assert_eq!(lost, StartError::MissingFrames { expected, found });
    let log_start = LogStart { index: LogIndex::new(2), ..LogStart::default() };
    let (expected, found) = (LogIndex::new(1), LogIndex::new(2));
    let noop = Frame::new(FrameKind::Noop, (Term::new(1), found), Offset::ZERO, 0, Bytes::new());
    let frames = vec![noop];
    let lost = refusal(RecoveredLog { log_start, last_index: found, frames, ..newborn() });
    assert_eq!(lost, StartError::MissingFrames { expected, found });
}

#[test]
fn what_another_voter_may_lack_is_not_committed_by_a_start() {
    let voters =
        [1, 2].map(|id| Member { replica_id: ReplicaId::new(id), node_id: NodeId::new(id) });
    let payload = Membership::initial(voters.to_vec()).encode();
    let frame = |kind, index, payload| {
        let entry = (Term::new(1), LogIndex::new(index));
        Frame::new(kind, entry, Offset::ZERO, 0, payload)
    };
    let first = frame(FrameKind::Membership, 1, payload);
    let frames = vec![first, frame(FrameKind::Noop, 2, Bytes::new())];
    let last_index = LogIndex::new(2);
    let log = RecoveredLog { frames, last_index, ..newborn() };
    let replica = Replica::start(log, of_records(), NOW).unwrap();
    assert_eq!(replica.applied(), LogIndex::new(1));
    assert!(!replica.stands_first(), "its log is not new");
}

#[test]
fn a_state_file_of_another_version_is_not_guessed_at() {
    let mut state = Story::led().replica.encode_state().to_vec();
    state[0] = 99;
    let refused =
        refusal(RecoveredLog { state: Some((LogIndex::new(1), state.into())), ..newborn() });
    assert!(matches!(refused, StartError::Undecodable(_)), "{refused}");
}

#[test]
fn a_term_of_the_log_that_the_vote_has_not_kept_is_not_used_again() {
    let mut terms = TermTable::default();
    terms.note(Term::new(1), LogIndex::new(1), Offset::ZERO);
    terms.note(Term::new(5), LogIndex::new(2), Offset::ZERO);
    let entry = (Term::new(5), LogIndex::new(2));
    let noop = Frame::new(FrameKind::Noop, entry, Offset::ZERO, 0, Bytes::new());
    let mut frames = newborn().frames;
    frames.push(noop);
    let last_index = LogIndex::new(2);
    let story = Story::start(RecoveredLog { terms, frames, last_index, ..newborn() });
    assert_eq!(story.replica.term(), Term::new(6));
}

#[test]
fn an_idle_leader_wants_no_ticks() {
    let mut story = Story::led();
    assert!(!story.replica.wants_ticks());
    story.produce(1, 10);
    assert!(!story.replica.wants_ticks(), "nothing waits before the turn's end");
    story.drain(NOW);
    assert!(story.replica.wants_ticks(), "a producer's deadline may come");
}
