//! Stories of a follower that was away for longer than the log goes back.

use super::*;
use crate::replica::trim::{Retention, SealedSegment, Segments};
use bateau_protocol::ids::ReplicaId;
use bateau_protocol::peer::SnapshotHead;
use bateau_protocol::record::ProducerSequence;

impl Trio {
    /// A record of the one idempotent producer.
    fn produce_in_sequence(&mut self, id: u64, ticket: u64, sequence: i32) {
        let producer =
            ProducerSequence { id: 9, epoch: 0, first_sequence: sequence, last_sequence: sequence };
        let mut builder = BatchBuilder::new().producer(9, 0, sequence);
        builder.push(&NewRecord { value: Some(b"v"), ..NewRecord::default() }).unwrap();
        let produce = Produce {
            batch: builder.build().unwrap(),
            record_count: 1,
            producer: Some(producer),
            ticket: Some(Ticket(ticket)),
            deadline_ms: u64::MAX,
        };
        let seat = self.seat(id);
        seat.replica.produce(produce, &mut seat.effects);
        self.drain(id);
    }

    /// Everything below `index` goes at the leader `id` and at whoever hears it.
    fn trim(&mut self, id: u64, index: u64, ids: &[u64]) {
        let before = self.seats[&id].log.iter().find(|one| one.index.get() == index - 1).unwrap();
        let next_start = LogStart {
            offset: before.next_coordinates().1,
            index: LogIndex::new(index),
            previous_term: before.term,
            previous_crc: 7,
        };
        let sealed = SealedSegment { next_start, size_bytes: 1, timestamp_max_ms: Some(0) };
        let segments = Segments { sealed: vec![sealed], active: None, log_bytes: 1 };
        let retention = Retention { age_ms: Some(1), ..Retention::default() };
        let settings = ReplicaSettings { retention, ..ReplicaSettings::default() };
        self.seat(id).replica.configure(settings);
        // Once to store the state, once to trim what is in it.
        for _ in 0..2 {
            let now = self.now();
            let seat = self.seat(id);
            seat.replica.check_retention(&segments, now, &mut seat.effects);
            self.settle(ids);
        }
        assert_eq!(self.seats[&id].start.index.get(), index);
    }

    /// Replica 3 has missed twenty records, of which the first are gone.
    fn with_one_behind() -> Self {
        let mut trio = Self::led_by_1();
        trio.settle(&VOTERS);
        for number in 0..20 {
            trio.produce_in_sequence(1, number, number as i32);
            trio.settle(&[1, 2]);
        }
        trio.trim(1, 15, &[1, 2]);
        trio.network.clear();
        trio
    }

    /// Lets time pass among all until replica 3 has what the others have.
    fn catch_up(&mut self) {
        for _ in 0..300 {
            self.tick(&VOTERS);
            if self.seats[&3].replica.applied() == self.seats[&1].replica.applied() {
                return;
            }
        }
        panic!("replica 3 stays behind: {}", self.seats[&3].replica.applied());
    }

    fn assert_caught_up(&self) {
        let (one, three) = (&self.seats[&1], &self.seats[&3]);
        let missing = one.log.iter().filter(|frame| frame.index < three.start.index).count();
        assert!(three.log == one.log[missing..], "I4: replicas differ");
        assert_eq!(three.replica.high_watermark(), one.replica.high_watermark());
        assert_eq!(three.replica.encode_state(), one.replica.encode_state());
    }

    /// Ticks until the snapshot for replica 3 is on its way.
    fn until_sent(&mut self) {
        for _ in 0..300 {
            self.now_ms += 100;
            let now = self.now();
            for id in VOTERS {
                let seat = self.seats.get_mut(&id).unwrap();
                seat.replica.tick(now, &mut seat.effects);
                self.drain(id);
                self.flush(id);
            }
            if !self.network.chunks.is_empty() {
                return;
            }
            self.deliver(&VOTERS);
        }
        panic!("no snapshot was sent");
    }
}

#[test]
fn a_follower_behind_the_logs_start_gets_a_snapshot_and_then_appends() {
    let mut trio = Trio::with_one_behind();
    trio.catch_up();
    assert_eq!(trio.seats[&3].start.index.get(), 15);
    assert_eq!(
        trio.seats[&3].replica.log_start().offset,
        trio.seats[&1].replica.log_start().offset
    );
    trio.assert_caught_up();
    trio.produce_in_sequence(1, 90, 20);
    trio.settle(&[1, 3]);
    assert!(trio.answers(1).contains(&(90, Ok(20))), "it counts for a majority again");
}

#[test]
fn what_a_snapshot_has_brought_is_not_built_again_from_the_log() {
    let mut trio = Trio::with_one_behind();
    trio.catch_up();
    trio.seat(1).replica.transfer_leadership(NodeId::new(3));
    trio.settle(&VOTERS);
    assert!(trio.seats[&3].replica.is_leader());
    // Sequences 15 to 19 are among the last five; 20 comes next.
    trio.produce_in_sequence(3, 50, 19);
    trio.produce_in_sequence(3, 51, 20);
    trio.produce_in_sequence(3, 52, 25);
    trio.settle(&VOTERS);
    let answers = trio.answers(3);
    assert!(answers.contains(&(50, Ok(19))) && answers.contains(&(51, Ok(20))), "{answers:?}");
    assert!(matches!(answers.iter().find(|one| one.0 == 52), Some((_, Err(_)))), "{answers:?}");
}

#[test]
fn a_start_between_snapshot_and_appends_goes_on_where_it_was() {
    let mut trio = Trio::with_one_behind();
    trio.until_sent();
    trio.deliver(&VOTERS);
    trio.flush(3);
    trio.network.clear();
    let (applied, _) = trio.seats[&3].state.clone().unwrap();
    assert!(trio.seats[&3].log.is_empty() && applied > trio.seats[&3].start.index);
    trio.restart(3);
    assert_eq!(trio.seats[&3].replica.applied(), LogIndex::new(14));
    trio.catch_up();
    trio.assert_caught_up();
    // And once more with the whole log, of which the snapshot holds a part.
    trio.restart(3);
    trio.catch_up();
    trio.assert_caught_up();
}

#[test]
fn a_state_ahead_of_the_log_without_its_snapshot_is_a_loss() {
    let mut trio = Trio::with_one_behind();
    trio.until_sent();
    trio.deliver(&VOTERS);
    trio.flush(3);
    let seat = &trio.seats[&3];
    let log = RecoveredLog {
        log_start: seat.start,
        last_index: seat.start.index.previous(),
        end_offset: seat.start.offset,
        commit: seat.start.index.previous(),
        state: seat.state.clone(),
        ..recovered(3, &[], seat.vote)
    };
    let of = |snapshot| Replica::start(RecoveredLog { snapshot, ..log.clone() }, of_records(), NOW);
    assert!(matches!(of(None), Err(StartError::CommitBehindLog { .. })));
    let other = seat.snapshot.map(|index| index.next());
    assert!(matches!(of(other), Err(StartError::CommitBehindLog { .. })));
    assert!(of(seat.snapshot).is_ok());
}

#[test]
fn nobody_is_heard_while_a_snapshot_takes_the_logs_place() {
    let mut trio = Trio::with_one_behind();
    trio.until_sent();
    let (messages, chunks) = (trio.network.messages.clone(), trio.network.chunks.clone());
    trio.deliver(&VOTERS);
    assert_eq!(trio.seats[&3].installs.len(), 1);
    // The same once more, and an election among the others.
    trio.network = Network { messages, chunks };
    trio.deliver(&VOTERS);
    assert_eq!(trio.seats[&3].installs.len(), 1, "R8");
    let term = trio.seats[&3].replica.term();
    trio.seat(2).replica.forget_leader(NodeId::new(1));
    trio.settle(&[1, 2]);
    trio.deliver(&VOTERS);
    assert_eq!(trio.seats[&3].replica.term(), term);
    trio.catch_up();
    trio.assert_caught_up();
}

#[test]
fn a_lost_chunk_costs_time_and_a_doubled_one_nothing() {
    let mut trio = Trio::with_one_behind();
    trio.until_sent();
    trio.network.chunks.clear();
    trio.deliver(&VOTERS);
    trio.until_sent();
    let doubled = trio.network.chunks.clone();
    trio.network.chunks.extend(doubled);
    trio.deliver(&VOTERS);
    assert_eq!(trio.seats[&3].installs.len(), 1);
    trio.catch_up();
    trio.assert_caught_up();
}

#[test]
fn a_disk_that_refuses_a_snapshot_leaves_everything_as_it_was() {
    let mut trio = Trio::with_one_behind();
    trio.seat(3).refuses_installs = true;
    trio.until_sent();
    trio.deliver(&VOTERS);
    trio.flush(3);
    assert_eq!(trio.seats[&3].start, BIRTH);
    assert_eq!(trio.seats[&3].replica.applied(), LogIndex::new(2));
    trio.seat(3).refuses_installs = false;
    let before_ms = trio.now_ms;
    trio.catch_up();
    trio.assert_caught_up();
    assert!(trio.now_ms - before_ms < 4_000, "the leader sees that it has come to nothing");
}

#[test]
fn a_link_that_breaks_ends_the_snapshot_on_it_at_once() {
    let mut trio = Trio::with_one_behind();
    trio.until_sent();
    trio.network.clear();
    trio.seat(1).replica.note_unreachable(NodeId::new(3));
    let before_ms = trio.now_ms;
    trio.until_sent();
    assert!(trio.now_ms - before_ms < 1_000, "nobody has waited for an answer");
    trio.deliver(&VOTERS);
    trio.catch_up();
    trio.assert_caught_up();
}

#[test]
fn a_head_that_contradicts_itself_is_dropped() {
    let mut trio = Trio::with_one_behind();
    trio.until_sent();
    let is_head = |one: &RaftMessage| matches!(one.body, RaftBody::InstallSnapshot { .. });
    let good = trio.network.messages.iter().find(|one| is_head(one)).unwrap().clone();
    let RaftBody::InstallSnapshot { snapshot: head } = &good.body else { panic!() };
    let chunks = std::mem::take(&mut trio.network.chunks);
    let mut bad: Vec<SnapshotHead> = vec![(**head).clone(); 9];
    bad[0].log_start.index = head.log_start.index.next();
    bad[1].membership_index = head.index.previous();
    bad[2].state_index = head.index.previous();
    bad[3].state_bytes = 1 << 30;
    bad[4].membership = Bytes::new();
    bad[5].next_offset = Offset::new(3);
    bad[6].state_crc ^= 1;
    bad[7].log_start.previous_term = Term::new(1);
    let member = Member { replica_id: ReplicaId::new(1), node_id: NodeId::new(1) };
    bad[8].membership = Membership::initial(vec![member]).encode();
    for (at, head) in bad.into_iter().enumerate() {
        let body = RaftBody::InstallSnapshot { snapshot: Box::new(head) };
        trio.network.messages = vec![RaftMessage { body, ..good.clone() }];
        trio.network.chunks = chunks.clone();
        trio.deliver(&VOTERS);
        assert_eq!(trio.seats[&3].installs.len(), 0, "head {at}");
    }
    trio.network.messages = vec![good];
    trio.network.chunks = chunks;
    trio.deliver(&VOTERS);
    assert_eq!(trio.seats[&3].installs.len(), 1, "the true one");
}
