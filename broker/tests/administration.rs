//! What administration asks of a node, on a node: groups and their lag, topics, how it stands.
//!
//! Absent on purpose: doors. Every call goes straight to the broker behind them.

#![expect(clippy::unwrap_used, reason = "a test ends where a step of it fails")]

use bateau::admin::{AdminError, DescribeConfigsError, PartitionLag};
use bateau::api::{Broker, Durability, ProduceRequest, TopicReference};
use bateau::clock::Clock;
use bateau::controls::Door;
use bateau::engine::{Engine, EngineSettings, Starting};
use bateau::entropy::Entropy;
use bateau::exit::Failure;
use bateau_core::consumer_group::{
    CommitPartition, CommitTopic, DeleteGroupError, DescribeGroupError, GroupRequest,
    GroupResponse, GroupSettings, GroupState, JoinGroup, OffsetCommit, Protocol,
};
use bateau_core::controller::{
    AlterTopicConfigs, AlterTopicConfigsError, BrokerSettings, ConfigSource, CreatePartitions,
    CreatePartitionsError, CreateTopics, NewTopic,
};
use bateau_core::node::Voter;
use bateau_core::replica::ProduceAck;
use bateau_log::sim_disk::SimDisk;
use bateau_log::{DataDirOptions, SpaceState};
use bateau_protocol::ids::{NodeId, TopicId};
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet};

const DISK_BYTES: u64 = 256 << 20;
const TIMEOUT_MS: u64 = 10_000;

struct Node {
    starting: Starting,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Failure>>,
}

/// Runs a test on a node with a disk in memory.
fn on_a_node<F: Future<Output = ()>>(test: impl FnOnce(Broker) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let node = Node::start(SimDisk::new(1, DISK_BYTES)).await;
        test(node.starting.broker.clone()).await;
        let Node { starting, stop, task } = node;
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
        drop(starting);
    });
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
        let (running, starting) = Engine::open(Arc::new(disk), settings).unwrap().into_parts();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::task::spawn_local(running.run(stopped));
        starting.until_ready().await.unwrap();
        Self { starting, stop, task }
    }
}

async fn create(broker: &Broker, name: &str, partition_count: i32) {
    let (name, replication_factor) = (name.to_owned(), -1);
    let topic = NewTopic { name, partition_count, replication_factor, ..NewTopic::default() };
    let topics = vec![topic];
    let request = CreateTopics { topics, timeout_ms: TIMEOUT_MS, ..CreateTopics::default() };
    broker.create_topics(request).await.unwrap().remove(0).result.unwrap();
}

async fn produce(broker: &Broker, topic: &str, partition: i32, records: usize) -> ProduceAck {
    let mut batch = BatchBuilder::new();
    for _ in 0..records {
        batch.push(&NewRecord { value: Some(b"value"), ..NewRecord::default() }).unwrap();
    }
    let request = ProduceRequest {
        topic: &TopicReference::Name(topic.to_owned()),
        partition,
        records: batch.build().unwrap(),
        wants_ack: true,
        timeout: Duration::from_millis(TIMEOUT_MS),
        zstd_allowed: true,
    };
    broker.produce(request).await.wait().await.unwrap().unwrap()
}

async fn commit(broker: &Broker, group: &str, topic: &str, partition: i32, offset: i64) {
    let position = CommitPartition { partition, offset, leader_epoch: -1, metadata: "".into() };
    let (name, topic_id) = (topic.into(), TopicId::ZERO);
    let request = OffsetCommit {
        group_id: group.into(),
        generation: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_ms: None,
        topics: vec![CommitTopic { name, topic_id, partitions: vec![position] }],
    };
    match broker.group(GroupRequest::OffsetCommit(request)).await {
        Some(GroupResponse::OffsetCommit(Ok(_))) => {}
        other => panic!("{other:?}"),
    }
}

/// Joins as a consumer of `topic`.
async fn join(broker: &Broker, group: &str, topic: &str) {
    let mut subscription = vec![0, 0, 0, 0, 0, 1];
    subscription.extend_from_slice(&u16::try_from(topic.len()).unwrap().to_be_bytes());
    subscription.extend_from_slice(topic.as_bytes());
    subscription.extend_from_slice(&[0xff; 4]);
    let metadata = Bytes::from(subscription);
    let request = JoinGroup {
        group_id: group.into(),
        member_id: "".into(),
        group_instance_id: None,
        client_id: "tester".into(),
        client_host: "/127.0.0.1".into(),
        member_uuid: [7; 16],
        member_id_required: false,
        can_skip_assignment: false,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata }],
    };
    let joined = match broker.group(GroupRequest::JoinGroup(request)).await {
        Some(GroupResponse::JoinGroup(Ok(joined))) => joined,
        other => panic!("{other:?}"),
    };
    let request = bateau_core::consumer_group::SyncGroup {
        group_id: group.into(),
        generation: joined.generation,
        member_id: joined.member_id,
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    };
    match broker.group(GroupRequest::SyncGroup(request)).await {
        Some(GroupResponse::SyncGroup(Ok(_))) => {}
        other => panic!("{other:?}"),
    }
}

async fn lags(broker: &Broker, group: &str) -> Vec<(String, i32, i64)> {
    let mut answers = broker.group_lag(vec![group.into()]).await;
    let positions = answers.remove(0).result.unwrap();
    let shown = |lag: PartitionLag| (lag.topic.to_string(), lag.partition, lag.lag);
    positions.partitions.into_iter().map(shown).collect()
}

#[test]
fn a_group_is_as_far_behind_as_the_log_is_longer_than_its_commits() {
    on_a_node(async |broker| {
        create(&broker, "orders", 2).await;
        produce(&broker, "orders", 0, 5).await;
        produce(&broker, "orders", 1, 3).await;
        commit(&broker, "billing", "orders", 0, 2).await;
        // Without a commit nobody can say how far it is.
        let found = lags(&broker, "billing").await;
        assert_eq!(found, [("orders".to_owned(), 0, 3), ("orders".to_owned(), 1, -1)]);
        commit(&broker, "billing", "orders", 0, 5).await;
        // A commit behind the end, of an operator who knows better, is no negative lag.
        commit(&broker, "billing", "orders", 1, 9).await;
        let found = lags(&broker, "billing").await;
        assert_eq!(found, [("orders".to_owned(), 0, 0), ("orders".to_owned(), 1, 0)]);
    });
}

#[test]
fn a_group_that_has_committed_nothing_yet_shows_what_it_subscribes_to() {
    on_a_node(async |broker| {
        create(&broker, "orders", 2).await;
        join(&broker, "billing", "orders").await;
        let found = lags(&broker, "billing").await;
        assert_eq!(found, [("orders".to_owned(), 0, -1), ("orders".to_owned(), 1, -1)]);
        // A topic that is gone is nothing to be behind in.
        let gone = bateau_core::controller::TopicReference {
            name: Some("orders".to_owned()),
            id: TopicId::ZERO,
        };
        broker.delete_topics(vec![gone], TIMEOUT_MS).await.unwrap();
        assert_eq!(lags(&broker, "billing").await, []);
    });
}

#[test]
fn groups_are_listed_described_and_deleted() {
    on_a_node(async |broker| {
        create(&broker, "orders", 1).await;
        commit(&broker, "idle", "orders", 0, 0).await;
        join(&broker, "busy", "orders").await;
        let list = broker.list_groups().await.unwrap();
        let found: Vec<_> =
            list.groups.iter().map(|group| (&*group.group_id, group.state)).collect();
        assert_eq!(found, [("busy", GroupState::Stable), ("idle", GroupState::Empty)]);
        assert_eq!(list.partitions_missing, 0);
        let ids = vec!["nobody".into(), "busy".into()];
        let described = broker.describe_groups(ids).await;
        assert_eq!(described[0].result, Err(DescribeGroupError::GroupIdNotFound));
        let busy = described[1].result.as_ref().unwrap();
        assert_eq!((busy.members.len(), &*busy.members[0].client_id), (1, "tester"));
        assert_eq!(broker.group_totals().await.unwrap().group_count, 2);
        let deleted =
            broker.delete_groups(vec!["idle".into(), "busy".into(), "nobody".into()]).await;
        let found: Vec<_> = deleted.into_iter().map(|(_, result)| result).collect();
        let refused =
            [Ok(()), Err(DeleteGroupError::NonEmptyGroup), Err(DeleteGroupError::GroupIdNotFound)];
        assert_eq!(found, refused);
        assert_eq!(broker.list_groups().await.unwrap().groups.len(), 1);
    });
}

#[test]
fn a_topic_gets_more_partitions_that_can_be_used_at_once() {
    on_a_node(async |broker| {
        create(&broker, "orders", 1).await;
        let request = |partition_count| CreatePartitions {
            topic: "orders".to_owned(),
            partition_count,
            validate_only: false,
            timeout_ms: TIMEOUT_MS,
        };
        let grown = broker.create_partitions(request(3)).await.unwrap();
        assert_eq!((grown.partition_count_before, grown.partition_count), (1, 3));
        assert_eq!(produce(&broker, "orders", 2, 1).await.base_offset.get(), 0);
        let refused = CreatePartitionsError::NotMore { found: 2, current: 3 };
        let found = broker.create_partitions(request(2)).await;
        assert_eq!(found, Err(AdminError::Refused(refused)));
    });
}

#[test]
fn a_topics_configs_are_altered_and_described_with_their_source() {
    on_a_node(async |broker| {
        create(&broker, "orders", 1).await;
        let alter = |topic: &str, value: Option<&str>| AlterTopicConfigs {
            topic: topic.to_owned(),
            changes: vec![("retention.ms".to_owned(), value.map(str::to_owned))],
            validate_only: false,
            timeout_ms: TIMEOUT_MS,
        };
        broker.alter_topic_configs(alter("orders", Some("1000"))).await.unwrap();
        let found = broker.describe_topic_configs("orders", Some(&["retention.ms"])).unwrap();
        assert_eq!(found[0].value.as_deref(), Some("1000"));
        assert_eq!(found[0].source, ConfigSource::DynamicTopicConfig);
        broker.alter_topic_configs(alter("orders", None)).await.unwrap();
        let found = broker.describe_topic_configs("orders", Some(&["retention.ms"])).unwrap();
        assert_eq!(found[0].source, ConfigSource::DefaultConfig);
        let found = broker.alter_topic_configs(alter("orders", Some("soon"))).await;
        let is_refused =
            matches!(found, Err(AdminError::Refused(AlterTopicConfigsError::InvalidConfig(_))));
        assert!(is_refused, "{found:?}");
        let found = broker.alter_topic_configs(alter("nothing", Some("1"))).await;
        assert_eq!(found, Err(AdminError::Refused(AlterTopicConfigsError::UnknownTopic)));
        let found = broker.describe_topic_configs("nothing", None);
        assert!(matches!(found, Err(DescribeConfigsError::UnknownTopic { .. })), "{found:?}");
        assert!(matches!(
            broker.describe_topic_configs("no such/name", None),
            Err(DescribeConfigsError::InvalidName(_))
        ));
    });
}

#[test]
fn a_node_says_how_it_stands() {
    on_a_node(async |broker| {
        create(&broker, "orders", 3).await;
        let ack = produce(&broker, "orders", 0, 4).await;
        assert_eq!((ack.replicas, ack.is_duplicate), (1, false));
        let connected = [broker.connected(Door::Kafka), broker.connected(Door::Native)];
        let status = broker.status();
        assert_eq!((status.node_id, status.nodes), (NodeId::new(1), 1));
        assert!(status.cluster_id.is_some());
        assert_eq!((status.topics, status.partitions), (1, 3));
        // Three partitions, sixteen of the groups, and the metadata.
        assert_eq!(status.local.placed, 20);
        assert_eq!((status.local.leaderless.len(), status.local.unavailable.len()), (0, 0));
        assert_eq!(status.disk_state, SpaceState::Ok);
        assert_eq!(status.disk_total_bytes, Some(DISK_BYTES));
        assert!(status.disk_free_bytes.is_some_and(|free| free < DISK_BYTES));
        assert!(status.log_bytes > 0);
        assert_eq!(status.durability.word(), "flushed");
        assert_eq!((status.connections.kafka, status.connections.native), (1, 1));
        drop(connected);
        assert_eq!(broker.status().connections.kafka, 0);
        assert!(broker.probe().await, "the loop turns");
    });
}
