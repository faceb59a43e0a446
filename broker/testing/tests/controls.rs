//! Restarts, crashes and choices of a test broker.

mod support;

use bateau::api::OffsetQuery;
use bateau_testing::{Api, Door, ErrorCode, Store, TestBroker, TestBrokerError};
use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;
use support::{TOPIC, engine, offset, produce};

#[bateau_testing::test]
async fn a_restart_keeps_ports_records_and_time(broker: TestBroker) {
    broker.seed_topic(TOPIC, 1).await.expect("it is new");
    produce(&broker, b"one").await.expect("it is appended");
    broker.advance(Duration::from_hours(1)).await;
    let address = broker.kafka_bootstrap();
    let mut open = TcpStream::connect(&address).expect("it listens");
    for _ in 0..3 {
        broker.restart().await.expect("it starts again");
        assert_eq!(broker.kafka_bootstrap(), address);
        TcpStream::connect(&address).expect("it listens on the same port");
    }
    // Closed, or cut before it was accepted.
    assert_eq!(open.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(offset(&broker, OffsetQuery::Latest).await.0, 1);
    assert_eq!(engine(&broker).clock().advanced(), Duration::from_hours(1));
}

#[bateau_testing::test]
async fn a_crash_loses_nothing_that_was_acknowledged(broker: TestBroker) {
    broker.seed_topic(TOPIC, 1).await.expect("it is new");
    for round in 0..5 {
        assert_eq!(produce(&broker, b"kept").await.expect("it is appended"), round);
        let address = broker.kafka_bootstrap();
        broker.crash().await.expect("it starts again");
        TcpStream::connect(address).expect("it listens on the same port");
        assert_eq!(offset(&broker, OffsetQuery::Latest).await.0, round + 1);
    }
}

#[bateau_testing::test]
async fn our_own_client_meets_the_same_faults(broker: TestBroker) {
    broker.seed_topic(TOPIC, 1).await.expect("it is new");
    let client = broker.client().await.expect("it trusts the broker's certificate");
    let producer = client.producer(TOPIC);
    broker.fail_next(Api::Produce, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let ack = producer.send("one").await.expect("it tries again");
    assert_eq!(ack.offset, 0);
    assert_eq!(broker.request_count(Api::Produce), 2);
    broker.drop_next_ack();
    let ack = producer.send("two").await.expect("it asks again");
    assert_eq!(ack.offset, 1, "and is not written twice");
    broker.restart().await.expect("it starts again");
    let ack = producer.send("three").await.expect("it connects again");
    assert_eq!(ack.offset, 2);
    let doors: Vec<Door> = broker.requests().iter().map(|seen| seen.door).collect();
    assert!(doors.iter().all(|door| *door == Door::Native), "{doors:?}");
    client.close().await.expect("everything was sent");
}

#[bateau_testing::test]
async fn a_client_at_work_survives_crashes_and_writes_once(broker: TestBroker) {
    broker.seed_topic(TOPIC, 1).await.expect("it is new");
    let client = broker.client().await.expect("it trusts the broker's certificate");
    let producer = client.producer(TOPIC);
    for round in 0..3 {
        let ack = producer.send("kept").await.expect("it connects again");
        assert_eq!(ack.offset, round);
        broker.crash().await.expect("it starts again on its ports");
    }
    assert_eq!(offset(&broker, OffsetQuery::Latest).await.0, 3);
}

#[bateau_testing::test]
async fn only_memory_can_lose_what_was_not_flushed() -> Result<(), TestBrokerError> {
    let broker = TestBroker::builder().store(Store::Temporary).topic(TOPIC, 1).start().await?;
    let refused = broker.crash().await.expect_err("it cannot").to_string();
    assert!(refused.starts_with("a crash needs the memory store"), "{refused}");
    assert_eq!(produce(&broker, b"one").await.expect("it runs on"), 0);
    broker.restart().await?;
    assert_eq!(offset(&broker, OffsetQuery::Latest).await.0, 1);
    Ok(())
}

#[bateau_testing::test]
async fn a_directory_stays_and_is_found_again() -> Result<(), TestBrokerError> {
    let place = std::env::temp_dir().join(format!("bateau-kept-{}", std::process::id()));
    let builder = TestBroker::builder().store(Store::Directory(place.clone()));
    let broker = builder.clone().topic(TOPIC, 1).start().await?;
    produce(&broker, b"one").await.expect("it is appended");
    let held = builder.clone().start().await.expect_err("one broker per directory").to_string();
    assert!(held.contains("in use"), "{held}");
    drop(broker);
    let again = builder.start().await?;
    assert_eq!(offset(&again, OffsetQuery::Latest).await.0, 1);
    drop(again);
    std::fs::remove_dir_all(place).expect("it is still there");
    Ok(())
}

#[bateau_testing::test]
async fn a_seed_repeats_the_ids() -> Result<(), TestBrokerError> {
    let mut ids = Vec::new();
    for seed in [7, 7, 8] {
        let broker = TestBroker::builder().seed(seed).topic(TOPIC, 1).start().await?;
        assert_eq!(broker.seed(), seed);
        let directory = engine(&broker).directory();
        ids.push(directory.topic(TOPIC).expect("it was seeded").id);
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    Ok(())
}

#[bateau_testing::test]
async fn a_topic_that_cannot_be_made_is_named(broker: TestBroker) {
    broker.seed_topic(TOPIC, 1).await.expect("it is new");
    let again = broker.seed_topic(TOPIC, 1).await.expect_err("it exists").to_string();
    assert!(again.contains("\"orders\""), "{again}");
    let started = TestBroker::builder().topic("no/slash", 1).start().await;
    let refused = started.expect_err("no legal name").to_string();
    assert!(refused.contains("\"no/slash\""), "{refused}");
}

#[bateau_testing::test]
async fn records_beyond_the_memory_store_are_refused_and_the_report_says_why(broker: TestBroker) {
    broker.seed_topic(TOPIC, 1).await.expect("it is new");
    let value = vec![7; 900 * 1024];
    let mut refused = None;
    for _ in 0..300 {
        if let Err(error) = produce(&broker, &value).await {
            refused = Some(error);
            break;
        }
    }
    assert!(refused.is_some(), "more than 256 MiB were taken");
    assert!(broker.report().contains("the in-memory store is full"), "{}", broker.report());
}
