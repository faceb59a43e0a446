//! The whole node over a simulated disk whose power is cut at random while producers and a group
//! work: every acknowledged record and offset is found again after the restart.
//!
//! `kill -9` keeps the page cache and so cannot see an acknowledgement that came before the flush.
//! This test does: over a disk whose flushes do nothing, which is an ack before the flush, it must
//! find a loss, and that is a test too.

#![expect(clippy::unwrap_used, reason = "a test ends where a step of it fails")]

use bateau::api::{Broker, Durability, ProduceRequest, TopicReference};
use bateau::clock::Clock;
use bateau::engine::{Engine, EngineSettings, Starting};
use bateau::entropy::Entropy;
use bateau::exit::Failure;
use bateau::readers::{FetchPartition, FetchRequest};
use bateau_core::consumer_group::{
    CommitPartition, CommitTopic, GroupRequest, GroupResponse, GroupSettings, OffsetCommit,
    OffsetFetch,
};
use bateau_core::controller::{BrokerSettings, CreateTopics, NewTopic};
use bateau_core::node::Voter;
use bateau_log::DataDirOptions;
use bateau_log::sim_disk::{SimDisk, SimRandom};
use bateau_protocol::ids::{NodeId, TopicId};
use bateau_protocol::record::{BatchBuilder, Batches, NewRecord};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet};

const TOPIC: &str = "orders";
const GROUP: &str = "inventory";
const PARTITIONS: i32 = 3;
const DISK_BYTES: u64 = 1 << 30;
/// Power cuts of one run.
const CUTS: usize = 2;
const SEEDS: u64 = 40;

/// What the clients were told.
#[derive(Default)]
struct Promises {
    /// Acknowledged values by partition and offset.
    records: BTreeMap<(i32, u64), String>,
    /// The highest acknowledged commit by partition.
    commits: BTreeMap<i32, i64>,
    /// Numbers the values, so that each is written once.
    written: u64,
}

type Shared = Rc<RefCell<Promises>>;

struct Node {
    starting: Starting,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Failure>>,
}

impl Node {
    async fn start(disk: SimDisk) -> Self {
        let settings = EngineSettings {
            node_id: NodeId::new(1),
            rack: None,
            listeners: Vec::new(),
            voters: vec![Voter { node: NodeId::new(1), address: "127.0.0.1:9644".into() }],
            broker: BrokerSettings::default(),
            durability: Durability::Flushed,
            groups: GroupSettings::default(),
            data_dir: DataDirOptions { ballast_bytes: 0, ..DataDirOptions::default() },
            retention_check: Duration::from_secs(60),
            scrub: None,
            clock: Clock::new(),
            entropy: Entropy::system(),
        };
        let engine = Engine::open(Arc::new(disk), settings).unwrap();
        let (running, starting) = engine.into_parts();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::task::spawn_local(running.run(stopped));
        starting.until_ready().await.unwrap();
        Self { starting, stop, task }
    }

    fn broker(&self) -> Broker {
        self.starting.broker.clone()
    }

    /// Waits until the power is gone and the engine has noticed.
    async fn until_dead(self) {
        let Self { starting, stop, task } = self;
        let ended = task.await.unwrap();
        assert!(ended.is_err(), "the engine goes on over a disk without power");
        drop((starting, stop));
    }
}

/// Produces values one after the other until the node is gone, as an idempotent producer.
async fn produce(broker: Broker, partition: i32, promises: Shared) {
    let Ok(producer_id) = broker.producer_id().await else { return };
    let topic = TopicReference::Name(TOPIC.to_owned());
    for sequence in 0.. {
        let value = {
            let mut promises = promises.borrow_mut();
            promises.written += 1;
            format!("value {}", promises.written)
        };
        let producer_id = i64::try_from(producer_id).unwrap();
        let mut batch = BatchBuilder::new().producer(producer_id, 0, sequence);
        batch.push(&NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() }).unwrap();
        let request = ProduceRequest {
            topic: &topic,
            partition,
            records: batch.build().unwrap(),
            wants_ack: true,
            timeout: Duration::from_secs(30),
            zstd_allowed: true,
        };
        match broker.produce(request).await.wait().await {
            Some(Ok(ack)) => {
                let place = (partition, ack.base_offset.get());
                let before = promises.borrow_mut().records.insert(place, value);
                assert_eq!(before, None, "one offset was acknowledged twice");
            }
            _ => return,
        }
    }
}

/// Commits rising offsets until the node is gone.
async fn commit(broker: Broker, promises: Shared) {
    loop {
        for partition in 0..PARTITIONS {
            let before = promises.borrow().commits.get(&partition).copied();
            let offset = before.unwrap_or(0) + 1;
            let position =
                CommitPartition { partition, offset, leader_epoch: -1, metadata: "".into() };
            let topic = CommitTopic {
                name: TOPIC.into(),
                topic_id: TopicId::ZERO,
                partitions: vec![position],
            };
            let request = OffsetCommit {
                group_id: GROUP.into(),
                generation: -1,
                member_id: "".into(),
                group_instance_id: None,
                retention_ms: None,
                topics: vec![topic],
            };
            let answer = broker.group(GroupRequest::OffsetCommit(request)).await;
            let Some(GroupResponse::OffsetCommit(Ok(topics))) = answer else { return };
            assert_eq!(topics[0].partitions[0], (partition, Ok(())));
            promises.borrow_mut().commits.insert(partition, offset);
        }
    }
}

/// Everything that a partition holds, by offset.
async fn read_all(broker: &Broker, partition: i32) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    let mut offset = 0;
    loop {
        let wanted = FetchPartition {
            topic: TopicReference::Name(TOPIC.to_owned()),
            partition,
            offset,
            bytes_max: 1 << 20,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        };
        let request = FetchRequest {
            partitions: vec![wanted],
            wait: Duration::ZERO,
            bytes_min: 0,
            bytes_max: 1 << 20,
        };
        let fetched = broker.fetch(&request).await.remove(0).unwrap();
        if fetched.batches.is_empty() {
            assert_eq!(u64::try_from(offset).unwrap(), fetched.high_watermark.get());
            return found;
        }
        for bytes in fetched.batches {
            for batch in Batches::new(bytes) {
                let batch = batch.unwrap();
                batch.verify_crc().unwrap();
                for record in batch.records().unwrap() {
                    let record = record.unwrap();
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    found.insert(u64::try_from(record.offset).unwrap(), value);
                }
                offset = batch.header().next_offset();
            }
        }
    }
}

async fn committed(broker: &Broker) -> BTreeMap<i32, i64> {
    let request = OffsetFetch { group_id: GROUP.into(), topics: None, require_stable: false };
    let answer = broker.group(GroupRequest::OffsetFetch(request)).await;
    let Some(GroupResponse::OffsetFetch(Ok(topics))) = answer else { panic!("{answer:?}") };
    let positions = topics.into_iter().flat_map(|topic| topic.partitions);
    positions.filter_map(|(partition, found)| Some((partition, found?.offset))).collect()
}

/// What was promised and is not there. Empty is what everybody wants.
async fn losses(broker: &Broker, promises: &Promises) -> Vec<String> {
    let mut losses = Vec::new();
    for partition in 0..PARTITIONS {
        let found = read_all(broker, partition).await;
        let offsets: Vec<u64> = found.keys().copied().collect();
        let dense: Vec<u64> = (0..u64::try_from(offsets.len()).unwrap()).collect();
        assert_eq!(offsets, dense, "I9: offsets are dense");
        let mut values: Vec<&String> = found.values().collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), found.len(), "I10: a value is there once");
        let wanted = promises.records.iter().filter(|((of, _), _)| *of == partition);
        for ((_, offset), value) in wanted {
            if found.get(offset) != Some(value) {
                let there = found.get(offset);
                losses.push(format!("{value} at {partition}/{offset}: {there:?}"));
            }
        }
    }
    let found = committed(broker).await;
    for (partition, offset) in &promises.commits {
        if found.get(partition).is_none_or(|found| found < offset) {
            losses.push(format!("commit {offset} of {partition}: {:?}", found.get(partition)));
        }
    }
    losses
}

/// One run: cuts the power [`CUTS`] times at random and looks after each.
async fn run(seed: u64, flushes_lie: bool) -> (Vec<String>, usize) {
    let mut random = SimRandom::new(seed);
    let promises = Shared::default();
    let mut disk = SimDisk::new(seed, DISK_BYTES);
    for cut in 0..=CUTS {
        let node = Node::start(disk.clone()).await;
        let broker = node.broker();
        if cut == 0 {
            let partition_count = PARTITIONS;
            let (name, replication_factor) = (TOPIC.to_owned(), -1);
            let topic =
                NewTopic { name, partition_count, replication_factor, ..NewTopic::default() };
            let request =
                CreateTopics { topics: vec![topic], timeout_ms: 10_000, ..CreateTopics::default() };
            broker.create_topics(request).await.unwrap()[0].result.as_ref().unwrap();
        } else {
            let told = std::mem::take(&mut *promises.borrow_mut());
            let losses = losses(&broker, &told).await;
            if !losses.is_empty() || cut == CUTS {
                return (losses, told.records.len());
            }
            *promises.borrow_mut() = told;
        }
        if flushes_lie {
            disk.lie_about_flushes();
        }
        disk.cut_power_at(1 + random.below(400));
        let producers = (0..PARTITIONS).map(|partition| {
            tokio::task::spawn_local(produce(broker.clone(), partition, Rc::clone(&promises)))
        });
        let mut clients: Vec<JoinHandle<()>> = producers.collect();
        clients.push(tokio::task::spawn_local(commit(broker.clone(), Rc::clone(&promises))));
        node.until_dead().await;
        drop(broker);
        for client in clients {
            client.await.unwrap();
        }
        disk = disk.crash(random.next_u64());
    }
    unreachable!("the last round returns")
}

fn run_blocking(seed: u64, flushes_lie: bool) -> (Vec<String>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, run(seed, flushes_lie))
}

#[test]
fn everything_acknowledged_survives_a_power_cut() {
    let mut acknowledged = 0;
    for seed in 0..SEEDS {
        let (losses, count) = run_blocking(seed, false);
        assert_eq!(losses, Vec::<String>::new(), "seed {seed}");
        acknowledged += count;
    }
    assert!(acknowledged > 1_000, "the runs are too short: {acknowledged} acknowledged records");
}

#[test]
fn an_acknowledgement_before_the_flush_is_found_out() {
    // A node that does not even start over what such a disk left has been found out as well.
    let is_found_out = |seed| {
        let run = std::panic::catch_unwind(|| run_blocking(seed, true));
        run.map_or(true, |(losses, _)| !losses.is_empty())
    };
    let found_out = (0..SEEDS).filter(|seed| is_found_out(*seed)).count();
    assert!(found_out > 0, "no seed noticed a disk whose flushes do nothing");
}
