//! Topics that are deleted, and made anew, under those who write and read them.

use bateau_client::admin::NewTopic;
use bateau_client::{
    Client, CommitError, CommitPolicy, ConsumeError, ErrorKind, OutOfRange, Record, SendError,
};
use bateau_testing::{Api, ErrorCode, TestBroker};
use std::error::Error;
use std::time::Duration;

type Outcome = Result<(), Box<dyn Error>>;

const TOPIC: &str = "orders";

async fn make_anew(client: &Client, partitions: u32) -> Outcome {
    client.admin().delete_topic(TOPIC).await?;
    client.admin().create_topic(NewTopic::new(TOPIC).partitions(partitions)).await?;
    Ok(())
}

/// The values of a partition, from the start of the log that is there now.
async fn values(client: &Client, count: usize) -> Result<Vec<String>, Box<dyn Error>> {
    let mut reader = client.reader().partition(TOPIC, 0).start().await?;
    let mut values = Vec::new();
    while values.len() < count {
        let delivery = reader.try_next().await?.ok_or("it ended")?;
        assert_eq!(delivery.offset, i64::try_from(values.len())?);
        values.push(String::from_utf8(delivery.value.ok_or("a value")?.to_vec())?);
    }
    Ok(values)
}

#[bateau_testing::test]
async fn a_producer_goes_on_in_the_new_topic_and_begins_its_order_again(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let admin = broker.client().await?;
    let client = broker.client().await?;
    let producer = client.producer(TOPIC).batch_bytes(100);
    for number in 0..20 {
        assert_eq!(producer.send(format!("old {number}")).await?.offset, number);
    }
    make_anew(&admin, 1).await?;
    // Whether it has heard of the new topic yet or not.
    let acks = producer.send_all((0..50).map(|number| format!("new {number}"))).await;
    for (ack, number) in acks.into_iter().zip(0..) {
        let ack = ack?;
        assert_eq!((ack.offset, ack.duplicate), (number, false));
    }
    let expected: Vec<_> = (0..50).map(|number| format!("new {number}")).collect();
    assert_eq!(values(&admin, 50).await?, expected);
    Ok(())
}

#[bateau_testing::test]
async fn what_may_be_in_the_old_topic_is_not_written_into_the_new_one(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let admin = broker.client().await?;
    let client = broker.client().await?;
    let producer = client.producer(TOPIC);
    producer.send("known").await?;
    // Written, its ack lost, and what is sent again refused until the topic is another one.
    broker.drop_next_ack();
    let unsure = producer.send("unsure");
    while broker.request_count(Api::Produce) < 2 {
        tokio::task::yield_now().await;
    }
    broker.fail_next_times(Api::Produce, ErrorCode::NOT_LEADER_OR_FOLLOWER, 5);
    make_anew(&admin, 1).await?;
    let later = producer.send("later");
    let error = unsure.await.expect_err("nobody knows whether the old topic had it");
    assert!(matches!(error, SendError::OutcomeUnknown { .. }), "{error}");
    assert!(error.possibly_written());
    assert_eq!(later.await?.offset, 0);
    assert_eq!(values(&admin, 1).await?, ["later"]);
    Ok(())
}

#[bateau_testing::test]
async fn a_new_topic_with_fewer_partitions_gets_keys_by_its_own_count(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic(TOPIC, 8).await?;
    let admin = broker.client().await?;
    let client = broker.client().await?;
    let producer = client.producer(TOPIC);
    producer.send("old").await?;
    make_anew(&admin, 1).await?;
    // The producer has the new one when something has got through.
    producer.send(Record::new("new").partition(0)).await?;
    for number in 0..20 {
        let ack = producer.send(Record::new("new").key(format!("key {number}"))).await?;
        assert_eq!(ack.partition, 0);
    }
    let error = producer.send(Record::new("new").partition(5)).await;
    assert!(matches!(error, Err(SendError::NoSuchPartition { partitions: 1, .. })), "{error:?}");
    Ok(())
}

#[bateau_testing::test]
async fn a_reader_goes_on_at_the_start_of_the_new_topic(broker: TestBroker) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let client = broker.client().await?;
    let producer = client.producer(TOPIC);
    let mut reader = client.reader().topics([TOPIC]).start().await?;
    for number in 0..3 {
        producer.send(format!("old {number}")).await?;
        assert_eq!(reader.try_next().await?.ok_or("it ended")?.offset, number);
    }
    make_anew(&client, 1).await?;
    // More than the old one had: its offsets say nothing in the new one.
    for number in 0..5 {
        producer.send(format!("new {number}")).await?;
    }
    for number in 0..5 {
        let delivery = reader.try_next().await?.ok_or("it ended")?;
        assert_eq!(delivery.offset, number);
        assert_eq!(delivery.value.as_deref(), Some(format!("new {number}").as_bytes()));
    }
    Ok(())
}

#[bateau_testing::test]
async fn a_reader_that_is_to_say_so_says_that_its_topic_was_deleted(broker: TestBroker) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let client = broker.client().await?;
    let builder = client.reader().topics([TOPIC]).out_of_range(OutOfRange::Error);
    let mut reader = builder.start().await?;
    client.producer(TOPIC).send("old").await?;
    assert_eq!(reader.try_next().await?.ok_or("it ended")?.offset, 0);
    client.admin().delete_topic(TOPIC).await?;
    let error = reader.try_next().await.expect_err("the topic is gone");
    let gone = ConsumeError::TopicDeleted { topic: TOPIC.to_owned(), partition: 0, offset: 1 };
    assert_eq!((&error, error.kind()), (&gone, ErrorKind::NotFound));
    assert!(!error.is_retryable());
    Ok(())
}

#[bateau_testing::test]
async fn a_group_goes_on_in_the_new_topic_and_acks_of_the_old_one_do_not_count(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let client = broker.client().await?;
    let start = async || {
        let builder = client.consumer("billing").topics([TOPIC]);
        let builder = builder.heartbeat_interval(Duration::from_millis(50));
        builder.commit(CommitPolicy::AfterAck { interval: Duration::ZERO }).start().await
    };
    let producer = client.producer(TOPIC);
    for number in 0..3 {
        producer.send(format!("old {number}")).await?;
    }
    let mut consumer = start().await?;
    for _ in 0..2 {
        consumer.try_next().await?.ok_or("it ended")?.ack().await?;
    }
    let old = consumer.try_next().await?.ok_or("it ended")?;
    make_anew(&client, 1).await?;
    for number in 0..4 {
        producer.send(format!("new {number}")).await?;
    }
    for number in 0..2 {
        let delivery = consumer.try_next().await?.ok_or("it ended")?;
        assert_eq!(delivery.value.as_deref(), Some(format!("new {number}").as_bytes()));
        delivery.ack().await?;
    }
    let outdated = old.ack().await;
    assert!(matches!(outdated, Err(CommitError::Outdated { .. })), "{outdated:?}");
    consumer.close().await?;
    let mut consumer = start().await?;
    for number in 2..4 {
        let delivery = consumer.try_next().await?.ok_or("it ended")?;
        assert_eq!(delivery.value.as_deref(), Some(format!("new {number}").as_bytes()));
        delivery.ack().await?;
    }
    consumer.close().await?;
    Ok(())
}
