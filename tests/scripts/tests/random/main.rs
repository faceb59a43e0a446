//! Random runs against a naive model: producers that retry, a group that commits, topics that come
//! and go, over a disk that refuses and a process that dies.
//!
//! The world checks every step (see `scripts::World`); here is what only a client knows: that it
//! is always answered in the end, once, and that nothing it sent is in a log twice.
//!
//! `SCRIPTS_SEEDS=N` runs N seeds, from `SCRIPTS_FIRST_SEED` on; `SCRIPTS_SEED=S` runs one and
//! prints what it does.
//!
//! Absent on purpose: time-outs of real clients; a run retries when its seed says so.

#![allow(clippy::unwrap_used, reason = "a run stops where something is not as it must be")]

mod reach;

use bateau_core::consumer_group::{
    CommitPartition, CommitTopic, GroupRequest, GroupResponse, OffsetCommit, OffsetFetch,
};
use bateau_core::controller::{
    ControllerRequest, ControllerResponse, CreatePartitions, CreateTopics, NewTopic, TopicReference,
};
use bateau_core::replica::{Produce, ProduceAck, ProduceError};
use bateau_core::shard::{Input, Reply};
use bateau_core::ticket::Ticket;
use bateau_protocol::frame::FrameKind;
use bateau_protocol::ids::{Incarnation, NodeId, Offset, TopicId};
use bateau_protocol::record::{BatchBuilder, BatchHeader, NewRecord, ProducerSequence};
use bytes::Bytes;
use reach::Reach;
use scripts::{Asked, Random, Survivors, World, WorldSettings};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Seeds of the daily run.
const SEEDS: u64 = 1_500;
const STEPS: usize = 120;

/// What may go wrong in a run: each seed has a subset.
#[derive(Clone, Copy, Debug)]
struct Faults {
    crashes: bool,
    refusals: bool,
    full_disk: bool,
    slow_disk: bool,
    retention: bool,
    topics: bool,
}

/// A batch that its producer has not seen acknowledged.
#[derive(Clone, Debug)]
struct Sent {
    batch: Bytes,
    ticket: Option<Ticket>,
    /// Answered, while an earlier one was not: it stays among the five.
    is_acked: bool,
}

impl Sent {
    fn is_due(&self) -> bool {
        !self.is_acked && self.ticket.is_none()
    }
}

/// An idempotent producer of one partition. It goes at most five batches beyond the oldest one
/// that is not acknowledged, as clients do: the window that the broker remembers.
#[derive(Debug)]
struct Producer {
    log: Incarnation,
    id: i64,
    next_sequence: i32,
    unacked: VecDeque<Sent>,
    acked: BTreeMap<i32, Offset>,
}

/// A consumer outside of any group generation that stores its position.
#[derive(Debug, Default)]
struct Committer {
    next: i64,
    /// Values that may have been stored, in the order in which they were sent.
    sent: Vec<(Option<Ticket>, i64)>,
    acked: i64,
}

struct Run {
    world: World,
    random: Random,
    faults: Faults,
    producers: Vec<Producer>,
    committer: Committer,
    fetches: BTreeMap<Ticket, i64>,
    id_blocks: BTreeSet<u64>,
    reach: Reach,
    is_loud: bool,
}

#[test]
fn acknowledged_batches_stay_and_nothing_is_appended_twice() {
    if let Some(seed) = number("SCRIPTS_SEED") {
        run(seed, true);
        return;
    }
    let first = number("SCRIPTS_FIRST_SEED").unwrap_or(0);
    let mut reached = Reach::default();
    for seed in first..first + number("SCRIPTS_SEEDS").unwrap_or(SEEDS) {
        let result = std::panic::catch_unwind(|| run(seed, false));
        match result {
            Ok((_, reach)) => reached.add(&reach),
            Err(_) => panic!("seed {seed} failed: SCRIPTS_SEED={seed} runs it alone"),
        }
    }
    reached.check();
}

#[test]
fn a_seed_runs_twice_to_the_same_bytes() {
    for seed in 0..20 {
        assert_eq!(run(seed, false).0, run(seed, false).0, "seed {seed}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs a seed to its end and returns a digest of all logs.
fn run(seed: u64, is_loud: bool) -> (u32, Reach) {
    let mut run = Run::new(seed, is_loud);
    for _ in 0..STEPS {
        run.step();
    }
    run.heal();
    run.verify()
}

impl Run {
    fn new(seed: u64, is_loud: bool) -> Self {
        let mut random = Random::new(seed);
        let mut world = World::new(WorldSettings { seed, ..WorldSettings::default() });
        let mut coin = || random.one_in(2);
        let faults = Faults {
            crashes: coin(),
            refusals: coin(),
            full_disk: coin(),
            slow_disk: coin(),
            retention: coin(),
            topics: coin(),
        };
        let configs = match faults.retention {
            true => vec![("retention.bytes".to_owned(), Some("2000".to_owned()))],
            false => Vec::new(),
        };
        create(&mut world, "orders", 2, configs);
        world.flush();
        let producer = |id: i64| Producer {
            log: world.log_of(if id % 2 == 0 { "orders/0" } else { "orders/1" }).unwrap(),
            id,
            next_sequence: 0,
            unacked: VecDeque::new(),
            acked: BTreeMap::new(),
        };
        let producers = (0..4).map(producer).collect();
        let mut run = Self {
            world,
            random,
            faults,
            producers,
            committer: Committer::default(),
            fetches: BTreeMap::new(),
            id_blocks: BTreeSet::new(),
            reach: Reach::default(),
            is_loud,
        };
        run.hear();
        run
    }

    fn say(&self, what: &str) {
        if self.is_loud {
            println!("{what}");
        }
    }

    fn step(&mut self) {
        let choice = self.random.below(100);
        let faults = self.faults;
        match choice {
            0..=29 => self.send(),
            30..=39 => self.retry(),
            40..=46 => self.commit_offset(),
            47..=49 => self.fetch_offset(),
            50..=54 => self.world.turn(),
            55..=59 if faults.slow_disk => self.world.flush_one(),
            60..=64 if faults.slow_disk => {
                let log = self.any_log();
                self.world.flush_log(log);
            }
            65..=69 => {
                let by_ms = [10, 100, 700, 2_000, 31_000][self.random.below(5)];
                self.say(&format!("advance {by_ms}"));
                self.world.advance(by_ms);
            }
            70..=74 if faults.refusals => self.refuse(),
            75..=77 if faults.full_disk => {
                let is_full = self.random.one_in(2);
                self.say(&format!("disk full {is_full}"));
                self.world.put(Input::DiskFull(is_full));
            }
            78..=82 if faults.crashes => self.crash(),
            83..=85 if faults.retention => self.look_at_retention(),
            86..=88 if faults.topics => self.make_grow_or_delete_topic(),
            89..=90 => self.allocate_ids(),
            _ => {
                self.say("flush");
                self.world.flush();
            }
        }
        if self.random.one_in(2) {
            self.world.turn();
        }
        self.hear();
    }

    fn any_log(&mut self) -> Incarnation {
        let at = self.random.below(self.producers.len());
        self.producers[at].log
    }

    fn send(&mut self) {
        let at = self.random.below(self.producers.len());
        let count = 1 + self.random.below(3);
        let bytes = self.random.below(600);
        let producer = &mut self.producers[at];
        // An id that is not known yet may start with any sequence: until its first batch is
        // acknowledged a careful client has one in flight.
        let limit = if producer.acked.is_empty() { 1 } else { 5 };
        if producer.unacked.len() >= limit {
            return;
        }
        let sequence = producer.next_sequence;
        producer.next_sequence += i32::try_from(count).unwrap();
        let mut builder = BatchBuilder::new().producer(producer.id, 0, sequence);
        let value = vec![b'v'; bytes];
        let timestamp = i64::try_from(self.world.now().wall_ms).unwrap();
        for _ in 0..count {
            let record = NewRecord { timestamp, value: Some(&value), ..NewRecord::default() };
            builder.push(&record).unwrap();
        }
        let batch = builder.build().unwrap();
        producer.unacked.push_back(Sent { batch, ticket: None, is_acked: false });
        self.submit(at, self.producers[at].unacked.len() - 1);
    }

    fn submit(&mut self, producer: usize, place: usize) {
        let timeout_ms = [50, 1_000, 30_000][self.random.below(3)];
        let log = self.producers[producer].log;
        let batch = self.producers[producer].unacked[place].batch.clone();
        let header = BatchHeader::parse(&batch).unwrap();
        self.say(&format!("send {} {}", header.producer_id, header.base_sequence));
        let produce = Produce {
            record_count: u32::try_from(header.record_count).unwrap(),
            producer: ProducerSequence::of(&header),
            ticket: Some(Ticket(0)),
            deadline_ms: self.world.now().monotonic_ms + timeout_ms,
            batch,
        };
        let ticket = self.world.put_produce(log, produce);
        self.producers[producer].unacked[place].ticket = ticket;
    }

    /// Sends again what was answered with an error, in order; at times what was not answered, too.
    fn retry(&mut self) {
        let at = self.random.below(self.producers.len());
        let is_impatient = self.random.one_in(4);
        for place in 0..self.producers[at].unacked.len() {
            let sent = &self.producers[at].unacked[place];
            if sent.is_due() || (is_impatient && !sent.is_acked) {
                self.submit(at, place);
            }
        }
    }

    fn commit_offset(&mut self) {
        self.committer.next += 1;
        let offset = self.committer.next;
        let partition =
            CommitPartition { partition: 0, offset, leader_epoch: -1, metadata: "".into() };
        let topic = CommitTopic {
            name: "orders".into(),
            topic_id: TopicId::ZERO,
            partitions: vec![partition],
        };
        let request = GroupRequest::OffsetCommit(OffsetCommit {
            group_id: "g".into(),
            generation: -1,
            member_id: "".into(),
            group_instance_id: None,
            retention_ms: None,
            topics: vec![topic],
        });
        let ticket = self.world.ticket(Asked::Group(None));
        self.say(&format!("commit {offset} {ticket:?}"));
        self.committer.sent.push((Some(ticket), offset));
        self.world.put(Input::Group { request, ticket });
    }

    fn fetch_offset(&mut self) {
        let request = GroupRequest::OffsetFetch(OffsetFetch {
            group_id: "g".into(),
            topics: None,
            require_stable: false,
        });
        let ticket = self.world.ticket(Asked::Group(None));
        self.say(&format!("fetch {ticket:?}"));
        self.fetches.insert(ticket, self.committer.acked);
        self.world.put(Input::Group { request, ticket });
    }

    fn refuse(&mut self) {
        let log = match self.random.below(4) {
            0 => Incarnation::METADATA,
            1 => self.world.log_of("group/8").unwrap(),
            _ => self.any_log(),
        };
        let is_refused = self.random.one_in(2);
        self.say(&format!("refuse {log:?} {is_refused}"));
        self.world.disk.set_refused(log, is_refused);
        self.world.disk.set_refuses_state_files(self.random.one_in(3));
        self.world.disk.set_refuses_creation(self.random.one_in(3));
    }

    fn crash(&mut self) {
        let survivors = Survivors {
            frame_count: self.random.below(6),
            votes_are_lost: self.random.one_in(4),
            other_work_is_lost: self.random.one_in(2),
        };
        self.say(&format!("crash {survivors:?}"));
        self.hear();
        let stored = self.world.disk.logs().filter(|(_, log)| log.state_index().is_some());
        self.reach.starts_from_state_files += stored.count();
        self.world.crash(survivors);
        for producer in &mut self.producers {
            producer.unacked.iter_mut().for_each(|sent| sent.ticket = None);
        }
        self.committer.sent.iter_mut().for_each(|(ticket, _)| *ticket = None);
        self.fetches.clear();
    }

    fn look_at_retention(&mut self) {
        if self.random.one_in(2) {
            let log = self.any_log();
            self.world.disk.log_mut(log).unwrap().roll();
        }
        let offers: Vec<Input> = self
            .world
            .disk
            .logs()
            .map(|(incarnation, log)| Input::Segments { incarnation, segments: log.segments() })
            .collect();
        self.say("retention");
        offers.into_iter().for_each(|offer| self.world.put(offer));
    }

    fn make_grow_or_delete_topic(&mut self) {
        let name = format!("passing{}", self.random.below(3));
        self.say(&format!("make, grow or delete {name}"));
        if self.random.one_in(2) {
            create(&mut self.world, &name, 2, Vec::new());
        } else if self.random.one_in(2) {
            let ticket = self.world.ticket(Asked::Controller);
            let request = ControllerRequest::CreatePartitions(CreatePartitions {
                topic: name.clone(),
                partition_count: 2 + i32::try_from(self.random.below(4)).unwrap(),
                validate_only: false,
                timeout_ms: 5_000,
            });
            self.world.put(Input::Controller { request, ticket });
        } else {
            let ticket = self.world.ticket(Asked::Controller);
            let topic = TopicReference { name: Some(name.clone()), id: TopicId::ZERO };
            let request =
                ControllerRequest::DeleteTopics { topics: vec![topic], timeout_ms: 5_000 };
            self.world.put(Input::Controller { request, ticket });
        }
        // Somebody produces to it, whatever becomes of it.
        if let Some(incarnation) = self.world.log_of(&format!("{name}/0")) {
            let mut builder = BatchBuilder::new();
            builder.push(&NewRecord::default()).unwrap();
            let produce = Produce {
                batch: builder.build().unwrap(),
                record_count: 1,
                producer: None,
                ticket: Some(Ticket(0)),
                deadline_ms: self.world.now().monotonic_ms + 1_000,
            };
            self.world.put_produce(incarnation, produce);
        }
    }

    fn allocate_ids(&mut self) {
        let ticket = self.world.ticket(Asked::Controller);
        let request =
            ControllerRequest::AllocateProducerIds { node: NodeId::new(1), timeout_ms: 5_000 };
        self.world.put(Input::Controller { request, ticket });
    }

    fn hear(&mut self) {
        for answer in self.world.take_answers() {
            match answer.reply {
                Reply::Produce(result) => {
                    self.count(&result);
                    self.hear_produce(answer.ticket, result.map(|ack| ack.base_offset));
                }
                Reply::Group(GroupResponse::OffsetCommit(result)) => {
                    self.hear_commit(answer.ticket, result.is_ok());
                }
                Reply::Group(GroupResponse::OffsetFetch(Ok(topics))) => {
                    let stored =
                        topics.first().and_then(|topic| topic.partitions.first()?.1.clone());
                    self.hear_fetch(answer.ticket, stored.map_or(0, |stored| stored.offset));
                }
                Reply::Controller(Ok(ControllerResponse::ProducerIdsAllocated(block))) => {
                    let first = block.expect("ids are left").first;
                    assert!(self.id_blocks.insert(first), "producer ids from {first} came twice");
                }
                Reply::Group(_) | Reply::GroupQuery(_) | Reply::Controller(_) => {}
                Reply::Confirmed(_) | Reply::Left => panic!("nobody asked for that"),
            }
        }
    }

    fn count(&mut self, result: &Result<ProduceAck, ProduceError>) {
        let reach = &mut self.reach;
        match result {
            Ok(ack) => reach.duplicates += usize::from(ack.is_duplicate),
            Err(ProduceError::TimedOut) => reach.timeouts += 1,
            Err(ProduceError::Storage) => reach.storage_errors += 1,
            Err(ProduceError::Sequence(_)) => reach.gaps += 1,
            Err(ProduceError::NotLeader) => reach.topics_gone_under_producers += 1,
            Err(
                ProduceError::NotEnoughReplicas { .. } | ProduceError::NotEnoughReplicasAfterAppend,
            ) => {}
        }
    }

    fn hear_produce(&mut self, ticket: Ticket, result: Result<Offset, ProduceError>) {
        let mut waiting = self.producers.iter_mut().flat_map(|producer| {
            let Producer { unacked, acked, .. } = producer;
            let place = unacked.iter().position(|sent| sent.ticket == Some(ticket));
            place.map(|place| (unacked, acked, place))
        });
        let Some((unacked, acked, place)) = waiting.next() else { return };
        match result {
            Ok(offset) => {
                let sent = &mut unacked[place];
                sent.is_acked = true;
                let sequence = BatchHeader::parse(&sent.batch).unwrap().base_sequence;
                let before = acked.insert(sequence, offset);
                assert!(before.is_none_or(|before| before == offset), "two acks, two offsets");
                while unacked.front().is_some_and(|sent| sent.is_acked) {
                    unacked.pop_front();
                }
            }
            // A gap comes from an earlier batch that was refused and is sent again first.
            Err(ProduceError::Sequence(bateau_core::replica::SequenceError::Fenced { .. })) => {
                panic!("fenced without another epoch")
            }
            Err(_) => unacked[place].ticket = None,
        }
    }

    fn hear_commit(&mut self, ticket: Ticket, is_stored: bool) {
        let found = self.committer.sent.iter().find(|(sent, _)| *sent == Some(ticket));
        if let Some((_, offset)) = found
            && is_stored
        {
            self.reach.committed_offsets += 1;
            self.committer.acked = self.committer.acked.max(*offset);
        }
    }

    /// I13: what was acknowledged when the question was asked is there, or a later one.
    fn hear_fetch(&mut self, ticket: Ticket, stored: i64) {
        if let Some(least) = self.fetches.remove(&ticket) {
            assert!(stored >= least, "I13: offset {least} was acknowledged, {stored} is stored");
        }
    }

    /// The faults end: everything that was sent must come through.
    fn heal(&mut self) {
        self.say("heal");
        let logs: Vec<Incarnation> = self.world.disk.logs().map(|(log, _)| log).collect();
        logs.into_iter().for_each(|log| self.world.disk.set_refused(log, false));
        self.world.disk.set_refuses_creation(false);
        self.world.disk.set_refuses_state_files(false);
        self.world.put(Input::DiskFull(false));
        for _ in 0..20 {
            self.world.flush();
            self.world.advance(700);
            self.world.flush();
            self.hear();
            for at in 0..self.producers.len() {
                for place in 0..self.producers[at].unacked.len() {
                    if self.producers[at].unacked[place].is_due() {
                        self.submit(at, place);
                    }
                }
            }
            self.world.turn();
        }
        self.world.flush();
        self.hear();
        for producer in &self.producers {
            assert!(producer.unacked.is_empty(), "never acknowledged: {producer:?}");
        }
        self.world.advance(60_000);
        self.world.flush();
        let waiting: Vec<_> = self.world.waiting_for().collect();
        assert!(waiting.is_empty(), "never answered: {waiting:?}");
    }

    /// The logs themselves, and a last restart.
    fn verify(mut self) -> (u32, Reach) {
        self.fetch_offset();
        self.world.flush();
        self.world.turn();
        self.hear();
        let mut digest = Vec::new();
        let mut appended = BTreeMap::new();
        for (incarnation, log) in self.world.disk.logs() {
            for frame in log.frames().filter(|frame| frame.kind == FrameKind::Records) {
                digest.extend_from_slice(&frame.payload_crc.to_le_bytes());
                let header = BatchHeader::parse(&frame.payload).unwrap();
                if header.has_producer() {
                    let key = (incarnation, header.producer_id, header.base_sequence);
                    let before = appended.insert(key, frame.base_offset);
                    assert!(before.is_none(), "I10: {key:?} was appended twice");
                }
            }
        }
        for producer in &self.producers {
            let start = self.world.disk.log(producer.log).unwrap().start().offset;
            self.reach.trimmed_logs += usize::from(start > Offset::ZERO);
            for (sequence, offset) in producer.acked.iter().filter(|(_, offset)| **offset >= start)
            {
                let found = appended.get(&(producer.log, producer.id, *sequence));
                assert_eq!(found, Some(offset), "I7: {} {sequence}", producer.id);
            }
            let offsets: Vec<&Offset> = producer.acked.values().collect();
            assert!(offsets.is_sorted(), "I11: the batches of {} changed order", producer.id);
        }
        self.world.crash(Survivors::default());
        self.world.flush();
        (crc32fast::hash(&digest), self.reach)
    }
}

fn create(
    world: &mut World,
    name: &str,
    partition_count: i32,
    configs: Vec<(String, Option<String>)>,
) {
    let topic = NewTopic {
        name: name.to_owned(),
        partition_count,
        replication_factor: -1,
        configs,
        ..NewTopic::default()
    };
    let ticket = world.ticket(Asked::Controller);
    let create = CreateTopics { topics: vec![topic], timeout_ms: 5_000, ..CreateTopics::default() };
    world.put(Input::Controller { request: ControllerRequest::CreateTopics(create), ticket });
    world.turn();
}
