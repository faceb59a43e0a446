//! Producers and readers against a real broker: order, writing once, deadlines, bounded memory.

use bateau_client::{
    Compression, ErrorKind, OutOfRange, Record, RequestError, SendError, Start, TopicPartition,
};
use bateau_testing::{Api, ErrorCode, TestBroker};
use std::time::Duration;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Reads a partition from its start until `count` records have come.
async fn read(
    broker: &TestBroker,
    topic: &str,
    partition: i32,
    count: usize,
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let client = broker.client().await?;
    let mut reader = client.reader().partition(topic, partition).start().await?;
    let mut values = Vec::new();
    while values.len() < count {
        let delivery = reader.try_next().await?.ok_or("the reader ended")?;
        assert_eq!(delivery.offset, i64::try_from(values.len())?, "no gap and nothing twice");
        values.push(String::from_utf8(delivery.value.ok_or("a value")?.to_vec())?);
    }
    Ok(values)
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("record {number}")).collect()
}

#[bateau_testing::test]
async fn a_record_is_acknowledged_and_read(broker: TestBroker) -> Outcome {
    let client = broker.client().await?;
    broker.seed_topic("orders", 3).await?;
    let producer = client.producer("orders");
    let ack = producer.send(Record::new("paid").key("k").header("h", "v")).await?;
    assert_eq!((ack.offset, ack.duplicate), (0, false));
    let mut reader = client.reader().topics(["orders"]).start().await?;
    let delivery = reader.try_next().await?.ok_or("the reader ended")?;
    assert_eq!((&*delivery.topic, delivery.partition), ("orders", ack.partition));
    assert_eq!(delivery.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(delivery.header("h"), Some(&b"v"[..]));
    assert!(delivery.timestamp_ms.is_some());
    client.close().await?;
    Ok(())
}

#[bateau_testing::test]
async fn many_records_go_in_few_batches_and_in_order(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    for compression in [Compression::None, Compression::Lz4] {
        let producer = client.producer("orders").compression(compression);
        let acks = producer.send_all(numbered(2_000)).await;
        assert!(acks.iter().all(Result::is_ok), "{:?}", acks.iter().find(|ack| ack.is_err()));
    }
    let expected: Vec<_> = [numbered(2_000), numbered(2_000)].concat();
    assert_eq!(read(&broker, "orders", 0, 4_000).await?, expected);
    assert!(broker.request_count(Api::Produce) < 400, "{}", broker.request_count(Api::Produce));
    Ok(())
}

#[bateau_testing::test]
async fn an_acknowledgement_that_is_lost_is_asked_for_again(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders");
    producer.send("record 0").await?;
    broker.drop_next_ack();
    let ack = producer.send("record 1").await?;
    assert_eq!((ack.offset, ack.duplicate), (1, true));
    producer.send("record 2").await?;
    assert_eq!(read(&broker, "orders", 0, 3).await?, numbered(3));
    Ok(())
}

#[bateau_testing::test]
async fn batches_that_fail_in_mid_stream_keep_their_order(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders").batch_bytes(200);
    producer.ready().await?;
    let mut handles = Vec::new();
    for (number, record) in numbered(500).into_iter().enumerate() {
        if number % 100 == 50 {
            broker.fail_next_times(Api::Produce, ErrorCode::NOT_LEADER_OR_FOLLOWER, 2);
        }
        handles.push(producer.send(record).queued().await?);
    }
    for handle in handles {
        handle.await?;
    }
    assert_eq!(read(&broker, "orders", 0, 500).await?, numbered(500));
    Ok(())
}

#[bateau_testing::test]
async fn a_record_that_a_topic_does_not_take_stops_nothing(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders");
    let large = producer.send(vec![7; 2 * 1024 * 1024]);
    let small = producer.send("record 0");
    let error = large.await.expect_err("max.message.bytes is 1 MiB");
    assert!(!error.possibly_written() && error.kind() == ErrorKind::Refused, "{error}");
    assert_eq!(small.await?.offset, 0);
    let unsent = producer.flush().await.expect_err("one was refused");
    assert_eq!((unsent.not_written, unsent.outcome_unknown), (1, 0));
    producer.flush().await?;
    Ok(())
}

#[bateau_testing::test]
async fn a_producer_waits_for_room_and_says_when_there_is_none(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer =
        client.producer("orders").buffer_bytes(64 * 1024).timeout(Duration::from_secs(9));
    let early = producer.try_send("too early").expect_err("nothing is known yet");
    assert!(matches!(early, SendError::NotReady { .. }), "{early}");
    producer.ready().await?;
    broker.delay_next(Api::Produce, Duration::from_secs(60));
    let mut taken = 0;
    let full = loop {
        match producer.try_send(vec![0; 10_000]) {
            Ok(handle) => drop(handle),
            Err(error) => break error,
        }
        taken += 1;
    };
    assert!(matches!(full, SendError::BufferFull { .. }), "{full}");
    assert!(taken <= 6, "{taken}");
    while broker.request_count(Api::Produce) == 0 {
        tokio::task::yield_now().await;
    }
    let waiting = producer.send(vec![0; 10_000]);
    broker.advance(Duration::from_secs(60)).await;
    waiting.await?;
    producer.close().await?;
    let count = usize::try_from(taken + 1)?;
    let client = broker.client().await?;
    let ends = client.admin().offsets("orders", bateau_client::admin::OffsetAt::End).await?;
    assert_eq!(ends[0].offset, Some(i64::try_from(count)?));
    Ok(())
}

#[bateau_testing::test]
async fn a_record_that_is_late_may_be_written(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders").timeout(Duration::from_millis(400));
    producer.send("record 0").await?;
    broker.delay_next(Api::Produce, Duration::from_secs(3_600));
    let error = producer.send("record 1").await.expect_err("the broker thinks about it");
    assert!(error.possibly_written(), "{error}");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    Ok(())
}

#[bateau_testing::test]
async fn a_topic_that_does_not_exist_is_made_or_named(broker: TestBroker) -> Outcome {
    let client = broker.client().await?;
    let ack = client.producer("new").send("record 0").await?;
    assert_eq!(ack.offset, 0);
    let error = client.producer("never").auto_create(false).send("x").await;
    let error = error.expect_err("nobody makes it");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = client.producer("new").send(Record::new("x").partition(99)).await;
    assert!(matches!(error, Err(SendError::NoSuchPartition { partition: 99, .. })));
    Ok(())
}

#[bateau_testing::test]
async fn a_broker_that_restarts_loses_nothing_and_writes_nothing_twice(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders").batch_bytes(500);
    let sending = tokio::spawn({
        let producer = producer.clone();
        async move {
            let mut handles = Vec::new();
            for record in numbered(3_000) {
                handles.push(producer.send(record).queued().await?);
                tokio::task::yield_now().await;
            }
            for handle in handles {
                handle.await?;
            }
            Ok::<_, SendError>(())
        }
    });
    while producer.buffered_bytes() == 0 {
        tokio::task::yield_now().await;
    }
    broker.restart().await?;
    broker.crash().await?;
    sending.await??;
    assert_eq!(read(&broker, "orders", 0, 3_000).await?, numbered(3_000));
    Ok(())
}

#[bateau_testing::test]
async fn a_reader_goes_on_over_a_restart_without_gap_or_double(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders");
    producer.send_all(numbered(100)).await;
    let mut reader = client.reader().topics(["orders"]).start().await?;
    for offset in 0..50 {
        assert_eq!(reader.try_next().await?.ok_or("it ended")?.offset, offset);
    }
    broker.restart().await?;
    producer.send("behind").await?;
    for offset in 50..101 {
        assert_eq!(reader.try_next().await?.ok_or("it ended")?.offset, offset);
    }
    Ok(())
}

#[bateau_testing::test]
async fn readers_begin_where_they_are_told_to(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders");
    for number in 0..10_i64 {
        producer.send(Record::new("x").timestamp_ms(1_000 + number)).await?;
    }
    for (start, expected) in [
        (Start::Earliest, 0),
        (Start::Offset(4), 4),
        (Start::AfterStart(3), 3),
        (Start::BeforeEnd(2), 8),
        (Start::Time(1_006), 6),
        (Start::Latest, 10),
        (Start::Time(9_999_999), 10),
    ] {
        let mut reader = client.reader().partition_from("orders", 0, start).start().await?;
        if expected == 10 {
            while reader.position("orders", 0) != Some(10) {
                tokio::task::yield_now().await;
            }
            continue;
        }
        let first = reader.try_next().await?.ok_or("it ended")?;
        assert_eq!(first.offset, expected, "{start:?}");
        reader.seek("orders", 0, Start::Offset(9)).await?;
        assert_eq!(reader.try_next().await?.ok_or("it ended")?.offset, 9);
        assert_eq!(reader.position("orders", 0), Some(10));
        assert_eq!(reader.assignment(), [TopicPartition { topic: "orders".into(), partition: 0 }]);
    }
    Ok(())
}

#[bateau_testing::test]
async fn a_cursor_resumes_with_another_client(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 2).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders");
    for number in 0..20 {
        producer.send(Record::new(format!("{number}")).partition(number % 2)).await?;
    }
    let mut reader = client.reader().topics(["orders"]).start().await?;
    let mut seen = Vec::new();
    for _ in 0..9 {
        let delivery = reader.try_next().await?.ok_or("it ended")?;
        seen.push((delivery.partition, delivery.offset));
    }
    let cursor = reader.cursor().to_string();
    drop(reader);
    let other = broker.client().await?;
    let resumed = other.reader().topics(["orders"]).from_cursor(cursor.as_bytes())?;
    let mut reader = resumed.start().await?;
    for _ in 0..11 {
        let delivery = reader.try_next().await?.ok_or("it ended")?;
        seen.push((delivery.partition, delivery.offset));
    }
    seen.sort_unstable();
    let expected: Vec<_> = (0..2).flat_map(|part| (0..10).map(move |at| (part, at))).collect();
    assert_eq!(seen, expected);
    Ok(())
}

#[bateau_testing::test]
async fn an_offset_that_is_not_in_the_log_is_dealt_with_as_wished(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    client.producer("orders").send("record 0").await?;
    let beyond = || client.reader().partition_from("orders", 0, Start::Offset(77));
    let mut reader = beyond().start().await?;
    assert_eq!(reader.try_next().await?.ok_or("it ended")?.offset, 0);
    let mut reader = beyond().out_of_range(OutOfRange::Error).start().await?;
    let error = reader.try_next().await.expect_err("it was told to say so");
    assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");
    Ok(())
}

#[bateau_testing::test]
async fn batches_far_above_a_readers_room_come_one_by_one(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 4).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders");
    let sends =
        (0..12).map(|number| producer.send(Record::new(vec![7; 900_000]).partition(number % 4)));
    for send in sends.collect::<Vec<_>>() {
        send.await?;
    }
    let mut reader = client.reader().topics(["orders"]).buffer_bytes(1_000).start().await?;
    for _ in 0..12 {
        let delivery = reader.try_next().await?.ok_or("it ended")?;
        assert_eq!(delivery.value.map(|value| value.len()), Some(900_000));
    }
    Ok(())
}

#[bateau_testing::test]
async fn a_client_whose_port_changes_goes_on(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders");
    for number in 0..20 {
        if number % 5 == 0 {
            client.rebind()?;
        }
        assert_eq!(producer.send("x").await?.offset, number);
    }
    Ok(())
}

#[bateau_testing::test]
async fn a_closed_client_sends_nothing_more_and_says_so(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let producer = client.producer("orders").linger(Duration::from_secs(3_600));
    producer.ready().await?;
    drop(producer.send("record 0"));
    client.clone().close().await?;
    assert_eq!(read(&broker, "orders", 0, 1).await?, numbered(1));
    assert_eq!(producer.send("x").await.map(drop), Err(SendError::Closed));
    let status = client.admin().status().await.expect_err("it is closed");
    assert_eq!(status, RequestError::Closed.into());
    Ok(())
}

#[bateau_testing::test]
async fn tasks_that_share_a_compressing_producer_keep_their_own_order(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let zstd = Compression::Zstd;
    let producer = client.producer("orders").compression(zstd).batch_bytes(2_000);
    let mut tasks = Vec::new();
    // Threads of their own: on one thread nobody sends while another one compresses.
    for task in 0..4 {
        let producer = producer.clone();
        let runtime = tokio::runtime::Handle::current();
        tasks.push(tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                for number in 0..500 {
                    let record = format!("{task}: record {number}, and what compresses well");
                    drop(producer.send(record).queued().await?);
                }
                Ok::<_, SendError>(())
            })
        }));
    }
    for task in tasks {
        task.await??;
    }
    producer.flush().await?;
    assert_eq!(producer.buffered_bytes(), 0);
    let mut next = [0; 4];
    for value in read(&broker, "orders", 0, 2_000).await? {
        let (task, rest) = value.split_once(": record ").ok_or("a task")?;
        let (number, _) = rest.split_once(',').ok_or("a number")?;
        let next = &mut next[task.parse::<usize>()?];
        assert_eq!(number.parse::<usize>()?, *next, "in the order of task {task}");
        *next += 1;
    }
    assert_eq!(next, [500; 4]);
    Ok(())
}
