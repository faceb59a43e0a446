//! Three nodes in the process of a test: leaders move, nodes stand still, die and come back, ways
//! are cut, and what was acknowledged is there once.

mod support;

use bateau::api::Broker;
use bateau_client::Record;
use bateau_core::consumer_group::HeartbeatError;
use bateau_testing::{Api, ErrorCode, Store, TestBroker, TestBrokerError};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::{TOPIC, commit, committed, heartbeat, join, produce_at};

/// What takes longer has failed. Generous, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
const A_WHILE: Duration = Duration::from_millis(400);

async fn three() -> TestBroker {
    TestBroker::builder().nodes(3).topic(TOPIC, 1).start().await.expect("three nodes start")
}

fn engine_of(broker: &TestBroker, node: u64) -> Broker {
    broker.engine_of(node).expect("the node runs")
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The leader, once there is one among those that serve.
async fn leader(broker: &TestBroker) -> u64 {
    let mut found = None;
    until("somebody leads", || {
        found = broker.leader(TOPIC, 0).expect("there is such a topic");
        found.is_some()
    })
    .await;
    found.expect("somebody leads")
}

/// Nodes that do not lead.
fn others(broker: &TestBroker, leader: u64) -> Vec<u64> {
    broker.nodes().filter(|node| *node != leader).collect()
}

/// Records that a node knows to be committed.
fn seen_by(broker: &TestBroker, node: u64) -> u64 {
    let directory = engine_of(broker, node).directory();
    let topic = directory.topic(TOPIC).expect("it was seeded");
    directory.partition(topic, 0).expect("it has a replica").high_watermark().get()
}

async fn values(broker: &TestBroker) -> Vec<String> {
    let records = broker.drain_records(TOPIC).await.expect("it can be read");
    let text = |record: Record| String::from_utf8(record.value.expect("a value").to_vec());
    records.into_iter().map(|record| text(record).expect("it is text")).collect()
}

#[bateau_testing::test]
async fn three_nodes_are_one_cluster_with_three_replicas() {
    let broker = three().await;
    assert_eq!(broker.nodes().collect::<Vec<_>>(), [1, 2, 3]);
    let bootstrap = broker.kafka_bootstrap();
    assert_eq!(bootstrap.split(',').collect::<BTreeSet<_>>().len(), 3, "{bootstrap}");
    for node in broker.nodes() {
        let directory = engine_of(&broker, node).directory();
        assert_eq!(directory.metadata.nodes().len(), 3);
        let topic = directory.topic(TOPIC).expect("it was seeded");
        assert_eq!(topic.replication_factor(), 3);
        let log = topic.partition(0).expect("it has one").incarnation;
        assert!(directory.leader(log).is_some(), "node {node} knows who leads");
    }
    let made = broker.client().await.expect("it connects").producer("bills").send("one").await;
    made.expect("a topic on first use");
    let directory = engine_of(&broker, 1).directory();
    assert_eq!(directory.topic("bills").map(|topic| topic.replication_factor()), Some(3));
}

#[bateau_testing::test]
async fn an_idempotent_producer_loses_and_doubles_nothing_while_leaders_move() {
    let broker = three().await;
    let client = broker.client().await.expect("it connects");
    let producer = client.producer(TOPIC);
    let sending = async {
        for number in 0..200 {
            producer.send(number.to_string()).await.expect("it is acknowledged in the end");
        }
    };
    let moving = async {
        for round in 0..6 {
            let next = leader(&broker).await % 3 + 1;
            broker.move_leader(TOPIC, 0, next).await.expect("it takes over");
            assert_eq!(broker.leader(TOPIC, 0).expect("there is such a topic"), Some(next));
            if round % 3 == 2 {
                broker.shuffle_leaders().await.expect("others take over");
                assert_ne!(leader(&broker).await, next);
            }
        }
    };
    tokio::join!(sending, moving);
    let expected: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    assert_eq!(values(&broker).await, expected);
}

#[bateau_testing::test]
async fn a_leader_that_stands_still_acknowledges_nothing_and_another_takes_over() {
    let broker = three().await;
    let old = leader(&broker).await;
    broker.pause(old).await.expect("it stands still");
    let stopped = engine_of(&broker, old);
    let mut late = Box::pin(produce_at(&stopped, b"late"));
    let early = tokio::time::timeout(A_WHILE, &mut late).await;
    assert!(early.is_err(), "a node that stands still answered: {early:?}");
    let new = leader(&broker).await;
    assert_ne!(new, old);
    produce_at(&engine_of(&broker, new), b"on time").await.expect("two of three are enough");
    broker.resume(old).expect("it is there");
    // It finds that it is late, and that somebody else leads.
    assert!(late.await.is_err(), "what nobody holds was acknowledged");
    until("the old leader has what was written", || seen_by(&broker, old) == 1).await;
    assert_eq!(values(&broker).await, ["on time"]);
}

#[bateau_testing::test]
async fn a_node_that_was_killed_comes_back_and_catches_up() {
    let broker = three().await;
    let old = leader(&broker).await;
    produce_at(&engine_of(&broker, old), b"before").await.expect("it leads");
    broker.kill(old).await.expect("it is gone");
    assert!(broker.engine_of(old).is_none());
    let address = broker.kafka_bootstrap().split(',').nth(old as usize - 1).map(str::to_owned);
    let address = address.expect("it has one");
    assert!(std::net::TcpStream::connect(&address).is_err(), "nobody listens there");
    let new = leader(&broker).await;
    produce_at(&engine_of(&broker, new), b"after").await.expect("two of three are enough");
    broker.restart_node(old).await.expect("it starts again");
    assert!(std::net::TcpStream::connect(&address).is_ok(), "on the same port");
    broker.move_leader(TOPIC, 0, old).await.expect("it has caught up");
    assert_eq!(values(&broker).await, ["before", "after"]);
}

#[bateau_testing::test]
async fn all_nodes_killed_and_all_that_was_acknowledged_is_there() {
    let broker = three().await;
    let first = leader(&broker).await;
    produce_at(&engine_of(&broker, first), b"one").await.expect("it leads");
    broker.pause(first).await.expect("it stands still");
    for node in [1, 2, 3] {
        broker.kill(node).await.expect("it is gone, standing still or not");
    }
    let (one, two) = tokio::join!(broker.restart_node(1), broker.restart_node(2));
    one.and(two).expect("two of three are enough");
    broker.restart_node(3).await.expect("it starts again");
    assert_eq!(values(&broker).await, ["one"]);
    broker.crash().await.expect("all lose their power and come back");
    assert_eq!(values(&broker).await, ["one"]);
}

#[bateau_testing::test]
async fn what_is_said_on_a_cut_way_arrives_when_it_is_restored() {
    let broker = three().await;
    broker.move_leader(TOPIC, 0, 1).await.expect("it takes over");
    broker.cut_way(1, 2).expect("there are two such nodes");
    produce_at(&engine_of(&broker, 1), b"unheard").await.expect("nodes 1 and 3 are enough");
    until("node 3 has it", || seen_by(&broker, 3) == 1).await;
    assert_eq!(seen_by(&broker, 2), 0, "nothing passes from node 1 to node 2");
    broker.restore_link(1, 2).expect("there are two such nodes");
    until("node 2 has it", || seen_by(&broker, 2) == 1).await;
}

#[bateau_testing::test]
async fn a_leader_without_links_acknowledges_nothing_and_the_others_go_on() {
    let broker = three().await;
    let old = leader(&broker).await;
    let followers = others(&broker, old);
    for other in &followers {
        broker.cut_link(old, *other).expect("there are two such nodes");
    }
    let alone = engine_of(&broker, old);
    let mut lonely = Box::pin(produce_at(&alone, b"lonely"));
    assert!(tokio::time::timeout(A_WHILE, &mut lonely).await.is_err(), "one of three is too few");
    let leads = |found: Option<u64>| found.is_some_and(|leader| followers.contains(&leader));
    until("another one leads", || leads(broker.leader(TOPIC, 0).expect("a topic"))).await;
    let new = leader(&broker).await;
    produce_at(&engine_of(&broker, new), b"in company").await.expect("two are enough");
    for other in &followers {
        broker.restore_link(old, *other).expect("there are two such nodes");
    }
    assert!(lonely.await.is_err(), "what one node held was acknowledged");
    until("the old leader has what was written", || seen_by(&broker, old) == 1).await;
    assert_eq!(values(&broker).await, ["in company"]);
}

#[bateau_testing::test]
async fn what_passes_a_slow_link_comes_so_much_later_and_in_order() {
    let broker = three().await;
    broker.move_leader(TOPIC, 0, 1).await.expect("it takes over");
    let by = Duration::from_millis(100);
    for other in [2, 3] {
        broker.delay_link(1, other, by).expect("there are two such nodes");
    }
    let begun = Instant::now();
    for value in ["one", "two", "three"] {
        produce_at(&engine_of(&broker, 1), value.as_bytes()).await.expect("slow is not dead");
    }
    assert!(begun.elapsed() >= 6 * by, "there and back, three times: {:?}", begun.elapsed());
    assert_eq!(broker.leader(TOPIC, 0).expect("a topic"), Some(1), "slow is not dead");
    assert_eq!(values(&broker).await, ["one", "two", "three"]);
}

#[bateau_testing::test]
async fn faults_meet_the_next_request_at_whatever_node() {
    let broker = three().await;
    broker.move_leader(TOPIC, 0, 2).await.expect("it takes over");
    let client = broker.client().await.expect("it connects");
    broker.fail_next(Api::Produce, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    client.producer(TOPIC).send("one").await.expect("it tries again");
    let produces = broker.requests().into_iter().filter(|seen| seen.api == Api::Produce);
    let met: Vec<_> = produces.map(|seen| (seen.node.get(), seen.fault.is_some())).collect();
    assert_eq!(met, [(2, true), (2, false)]);
    assert!(broker.report().contains("node=2"), "{}", broker.report());
    broker.wait_until_idle().await.expect("nothing runs");
}

#[bateau_testing::test]
async fn a_session_expires_and_offsets_stay_wherever_the_coordinator_is() {
    let broker = three().await;
    broker.move_coordinator("billing", 1).await.expect("it takes over");
    let member = join(&broker, "", 45_000).await;
    commit(&broker, &member, 7).await;
    assert_eq!(heartbeat(&broker, &member).await, Ok(()));
    broker.advance(Duration::from_secs(46)).await;
    assert_eq!(heartbeat(&broker, &member).await, Err(HeartbeatError::UnknownMemberId));
    broker.move_coordinator("billing", 2).await.expect("it takes over");
    let lost = heartbeat(&broker, &member).await;
    assert!(matches!(lost, Err(HeartbeatError::Coordinator(_))), "{lost:?}");
    broker.move_coordinator("billing", 1).await.expect("it takes over");
    assert_eq!(committed(&broker).await, Some(7));
}

#[bateau_testing::test]
async fn time_passes_on_every_node_the_one_that_is_dead_too() {
    let broker = three().await;
    broker.kill(3).await.expect("it is gone");
    let week = Duration::from_hours(7 * 24);
    broker.advance(week).await;
    broker.restart_node(3).await.expect("it starts again");
    for node in broker.nodes() {
        assert_eq!(engine_of(&broker, node).clock().advanced(), week, "node {node}");
    }
}

#[bateau_testing::test]
async fn nobody_is_controlled_who_is_not_there() {
    let broker = three().await;
    let refused = broker.pause(4).await.expect_err("there is none").to_string();
    assert_eq!(refused, "there is no node 4 here; the nodes are 1 to 3");
    assert!(broker.cut_link(1, 1).is_err() && broker.cut_link(1, 9).is_err());
    assert!(broker.move_leader("bills", 0, 1).await.is_err(), "no such topic");
    assert!(broker.move_leader(TOPIC, 7, 1).await.is_err(), "no such partition");
    broker.pause(2).await.expect("it stands still");
    let refused = broker.move_leader(TOPIC, 0, 2).await.expect_err("it hears nothing").to_string();
    assert_eq!(refused, "node 2 does not serve at present");
}

#[bateau_testing::test]
async fn three_nodes_find_each_other_again_in_their_directory() -> Result<(), TestBrokerError> {
    let place = std::env::temp_dir().join(format!("bateau-kept-nodes-{}", std::process::id()));
    let builder = TestBroker::builder().store(Store::Directory(place.clone()));
    let broker = builder.clone().nodes(3).topic(TOPIC, 1).start().await?;
    let first = leader(&broker).await;
    produce_at(&engine_of(&broker, first), b"one").await.expect("it leads");
    let before = broker.kafka_bootstrap();
    drop(broker);
    for (nodes_count, expected) in [(1, "not of 1 node;"), (5, "not of 5 nodes;")] {
        let refused = builder.clone().nodes(nodes_count).start().await.err();
        let refused = refused.expect("another number").to_string();
        assert!(refused.contains("has the data of 3 nodes"), "{refused}");
        assert!(refused.contains(expected), "{refused}");
    }
    let again = builder.nodes(3).start().await?;
    assert_ne!(again.kafka_bootstrap(), before, "on other ports");
    assert_eq!(values(&again).await, ["one"]);
    drop(again);
    std::fs::remove_dir_all(place).expect("it is still there");
    Ok(())
}
