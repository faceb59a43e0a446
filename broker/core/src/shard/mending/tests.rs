//! What a replica asks of others when its log has a hole, and what becomes of it.

use super::*;
use crate::controller::TopicConfig;
use crate::replica::membership::Member;
use crate::replica::{Assignment, DerivedStart, ReplicaSettings};
use crate::shard::tests::{at, founded};
use crate::shard::{Input, LogBirth};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Offset, ReplicaId};
use bytes::Bytes;

const LOG: Incarnation = Incarnation::new(4711);
const SEGMENT: LogIndex = LogIndex::new(1);
const MISSING: MissingRange = MissingRange {
    first: LogIndex::new(5),
    last: LogIndex::new(6),
    known: LogIndex::new(7),
    term: Term::new(2),
    payload_crc: 9,
};

fn voters() -> Vec<Member> {
    (1..=3).map(|id| Member { replica_id: ReplicaId::new(id), node_id: NodeId::new(id) }).collect()
}

/// The log as a start finds it, whole or not.
fn log(is_damaged: bool) -> RecoveredLog {
    let metadata = LogBirth::of_metadata(NodeId::new(1), &[1, 2, 3].map(NodeId::new));
    let mut log = metadata.into_recovered();
    (log.incarnation, log.is_damaged) = (LOG, is_damaged);
    log.mendable = Some(SEGMENT).filter(|_| is_damaged);
    log
}

/// A shard that has found a damaged log, and what it wants at once.
struct Story {
    shard: Shard,
    effects: Effects,
}

impl Story {
    fn begin() -> Self {
        let (mut shard, mut effects, _) = founded();
        let assignment = Assignment { voters: voters(), ..Assignment::default() };
        let (derived, settings) = (DerivedStart::Records, ReplicaSettings::default());
        let parts = ReplicaParts { assignment, derived, settings };
        let opening = Opening { log: log(true), parts, config: Some(TopicConfig::default()) };
        shard.mend_before_start(SEGMENT, opening, &mut effects);
        let mut story = Self { shard, effects };
        let wanted = story.wanted();
        let begun = wanted.iter().any(|effect| {
            matches!(effect, Effect::Mend { incarnation: LOG, frames, reopens: true, .. }
                if frames.is_empty())
        });
        assert!(begun, "{wanted:?}");
        story
    }

    fn wanted(&mut self) -> Vec<Effect> {
        self.effects.drain().collect()
    }

    fn tell(&mut self, now_ms: u64, input: MendingInput) -> Vec<Effect> {
        self.shard.step(at(now_ms), std::iter::once(Input::Mending(input)), &mut self.effects);
        self.shard.check_invariants();
        self.wanted()
    }

    fn pass(&mut self, now_ms: u64) -> Vec<Effect> {
        self.shard.step(at(now_ms), std::iter::empty(), &mut self.effects);
        self.wanted()
    }

    fn lacks(&mut self, now_ms: u64) -> (NodeId, u64) {
        let (incarnation, segment, missing) = (LOG, SEGMENT, MISSING);
        let is_refused = false;
        let wants = MendingInput::Wants { incarnation, segment, missing, is_refused };
        asked(&self.tell(now_ms, wants)).expect("somebody is asked")
    }
}

/// Who was asked, with which number.
fn asked(wanted: &[Effect]) -> Option<(NodeId, u64)> {
    wanted.iter().find_map(|effect| match effect {
        Effect::AskRange { node, number, wanted } => {
            assert_eq!(
                (wanted.first, wanted.last, wanted.term),
                (MISSING.first, MISSING.known, MISSING.term)
            );
            Some((*node, *number))
        }
        _ => None,
    })
}

fn entry() -> PeerEntry {
    let entry = (Term::new(2), MISSING.first);
    let frame = Frame::new(FrameKind::Noop, entry, Offset::ZERO, 0, Bytes::new());
    PeerEntry::from_frame(&frame)
}

#[test]
fn a_replica_begins_when_others_have_given_what_its_log_had_lost() {
    let mut story = Story::begin();
    assert!(story.shard.replica(LOG).is_none(), "it is silent until then");
    let (node, number) = story.lacks(10);
    let late = MendingInput::Answered { node, number: number + 9, entries: vec![entry()] };
    assert!(story.tell(20, late).is_empty(), "nobody has asked that");
    let none = MendingInput::Answered { node, number, entries: Vec::new() };
    assert!(asked(&story.tell(30, none)).is_none(), "the next one is asked after a pause");
    let (other, number) = asked(&story.pass(30 + PAUSE_MS)).expect("another one is asked");
    assert_ne!(other, node);
    let answer = MendingInput::Answered { node: other, number, entries: vec![entry()] };
    let wanted = story.tell(700, answer);
    let given = wanted
        .iter()
        .any(|effect| matches!(effect, Effect::Mend { frames, .. } if frames.len() == 1));
    assert!(given, "{wanted:?}");
    let log = Some(Box::new(log(false)));
    let wanted = story.tell(800, MendingInput::Mended { incarnation: LOG, segment: SEGMENT, log });
    assert!(story.shard.replica(LOG).is_some());
    let is_configured =
        |effect: &Effect| matches!(effect, Effect::Configure { incarnation: LOG, .. });
    assert!(wanted.iter().any(is_configured), "the disk hears of its settings: {wanted:?}");
}

#[test]
fn who_is_silent_is_not_waited_for_and_never_counts_as_a_refusal() {
    let mut story = Story::begin();
    let (mut now_ms, mut asked_of) = (10, Vec::new());
    asked_of.push(story.lacks(now_ms).0);
    for _ in 0..40 {
        now_ms += ANSWER_MS;
        asked_of.extend(asked(&story.pass(now_ms)).map(|(node, _)| node));
    }
    assert!(asked_of.len() > 30, "{asked_of:?}");
    assert!(asked_of.windows(2).all(|two| two[0] != two[1]), "in turns: {asked_of:?}");
}

#[test]
fn what_nobody_has_is_lost() {
    let mut story = Story::begin();
    let (mut node, mut number) = story.lacks(10);
    let (mut now_ms, mut refusals) = (10, 0);
    let wanted = loop {
        let none = MendingInput::Answered { node, number, entries: Vec::new() };
        story.tell(now_ms, none);
        refusals += 1;
        now_ms += PAUSE_MS;
        let wanted = story.pass(now_ms);
        match asked(&wanted) {
            Some(next) => (node, number) = next,
            None => break wanted,
        }
    };
    assert_eq!(refusals, 2 * REFUSALS_MAX);
    let is_lost = |effect: &Effect| matches!(effect, Effect::Isolated { is_lost: true, .. });
    assert!(wanted.iter().any(is_lost), "{wanted:?}");
    assert!(wanted.iter().any(|effect| matches!(effect, Effect::StopMending { .. })));
}

#[test]
fn what_is_not_known_to_be_committed_is_not_asked_for() {
    let mut story = Story::begin();
    let (incarnation, segment, failure) = (LOG, SEGMENT, MendFailure::Uncommitted);
    let failed =
        MendingInput::Failed { incarnation, segment, failure, reason: "it is not".to_owned() };
    let wanted = story.tell(10, failed);
    let is_lost = |effect: &Effect| matches!(effect, Effect::Isolated { is_lost: true, .. });
    assert!(wanted.iter().any(is_lost), "{wanted:?}");
}

#[test]
fn a_full_disk_is_asked_again() {
    let mut story = Story::begin();
    let (incarnation, segment, failure) = (LOG, SEGMENT, MendFailure::Disk);
    let failed =
        MendingInput::Failed { incarnation, segment, failure, reason: "no space".to_owned() };
    assert!(story.tell(10, failed).is_empty());
    let wanted = story.pass(10 + RETRY_MS);
    assert!(wanted.iter().any(|effect| matches!(effect, Effect::Mend { .. })), "{wanted:?}");
}

#[test]
fn a_stranger_gets_no_entries() {
    let (mut shard, mut effects, _) = founded();
    let wanted = WantedRange {
        incarnation: Incarnation::METADATA,
        first: LogIndex::new(1),
        last: LogIndex::new(1),
        term: Term::new(1),
        payload_crc: 0,
        bytes_max: 1,
    };
    for (node, gets_them) in [(1, true), (2, false)] {
        let asked = MendingInput::Asked { node: NodeId::new(node), number: 3, wanted };
        shard.step(at(5), std::iter::once(Input::Mending(asked)), &mut effects);
        let wanted: Vec<Effect> = effects.drain().collect();
        let reads = wanted.iter().any(|effect| matches!(effect, Effect::ReadFrames { .. }));
        assert_eq!(reads, gets_them, "{wanted:?}");
    }
}
