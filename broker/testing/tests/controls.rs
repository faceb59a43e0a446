//! Restarts, crashes and choices of a test broker.

mod support;

use bateau::offsets::OffsetQuery;
use bateau_client::codec::{Codec, CodecError, CodecStep};
use bateau_client::{Compression, Header, Record};
use bateau_testing::{Api, Door, ErrorCode, Store, TestBroker, TestBrokerError};
use bytes::Bytes;
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

/// Values that are UTF-8.
struct Utf8;

impl Codec<String> for Utf8 {
    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<String, CodecError> {
        String::from_utf8(bytes.to_vec()).map_err(|error| CodecError {
            codec: "UTF-8",
            step: CodecStep::Decode,
            source: error.into(),
        })
    }
}

#[bateau_testing::test]
async fn a_topic_is_drained_partition_by_partition_and_stays_as_it_is(
    broker: TestBroker,
) -> bateau_client::Result<()> {
    broker.seed_topic(TOPIC, 3).await?;
    let client = broker.client().await?;
    let producer = client.producer(TOPIC).compression(Compression::Lz4);
    for (partition, value) in [(2, "c"), (0, "a"), (2, "d")] {
        let record = Record::new(value).key("k").header("trace", "on").partition(partition);
        producer.send(record).await?;
    }
    producer.send(Record::tombstone("k").partition(1)).await?;
    // More than one step of reading.
    let large = "x".repeat(400_000);
    for _ in 0..8 {
        producer.send(Record::new(large.clone()).partition(1)).await?;
    }
    let seen = broker.requests().len();
    for _ in 0..2 {
        let records = broker.drain_records(TOPIC).await?;
        let partitions: Vec<_> = records.iter().filter_map(|record| record.partition).collect();
        assert_eq!(partitions, [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2]);
        let first = &records[0];
        assert_eq!(
            (first.key.as_deref(), first.value.as_deref()),
            (Some(&b"k"[..]), Some(&b"a"[..]))
        );
        assert_eq!(first.headers, [Header::new("trace", "on")]);
        assert!(first.timestamp_ms.is_some_and(|time| time > 0));
        let values: Vec<String> = broker.drain(TOPIC, Utf8).await?;
        assert_eq!((values.len(), &values[0][..], &values[10][..]), (11, "a", "d"));
    }
    assert_eq!(broker.requests().len(), seen, "nobody has asked at a door");
    producer.send(Record::new(vec![0xff]).partition(0)).await?;
    let unreadable = broker.drain::<String, _>(TOPIC, Utf8).await.expect_err("it is no text");
    assert!(unreadable.to_string().contains("UTF-8"), "{unreadable}");
    let nowhere = broker.drain_records("nowhere").await.expect_err("there is none");
    assert_eq!(nowhere.to_string(), "there is no topic \"nowhere\"");
    let told = bateau_client::Error::from(nowhere);
    assert_eq!(told.kind(), bateau_client::ErrorKind::NotFound);
    Ok(())
}

#[bateau_testing::test]
async fn idle_is_when_everything_has_been_answered(
    broker: TestBroker,
) -> Result<(), TestBrokerError> {
    broker.seed_topic(TOPIC, 1).await?;
    broker.wait_until_idle().await?;
    let client = broker.client().await.expect("it trusts the broker's certificate");
    broker.delay_next(Api::Produce, Duration::from_hours(1));
    let producer = client.producer(TOPIC);
    let sending = tokio::spawn(producer.send("one"));
    // The record is there, and its answer is not.
    while broker.drain_records(TOPIC).await?.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut idle = std::pin::pin!(broker.wait_until_idle());
    let is_idle = tokio::select! {
        biased;
        _ = &mut idle => true,
        () = tokio::task::yield_now() => false,
    };
    assert!(!is_idle, "the produce is still being served");
    broker.advance(Duration::from_hours(1)).await;
    idle.await?;
    let sent = sending.await.expect("it does not panic");
    assert_eq!(sent.expect("it was delayed, not lost").offset, 0);
    Ok(())
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
