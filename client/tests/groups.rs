//! Group members against a real broker: sharing out, commits, rebalances, restarts.

use bateau_client::group::Assignor;
use bateau_client::{Client, CommitError, CommitPolicy, Consumer, Record};
use bateau_testing::{Api, ErrorCode, TestBroker};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn Error>>;

const TOPIC: &str = "orders";

async fn fill(client: &Client, from: i64, to: i64) -> Outcome {
    let producer = client.producer(TOPIC);
    let records = (from..to).map(|number| {
        let partition = i32::try_from(number % 4).expect("below four");
        Record::new(format!("{number}")).partition(partition)
    });
    for ack in producer.send_all(records).await {
        ack?;
    }
    Ok(())
}

async fn member(client: &Client, assignors: &[Assignor]) -> Result<Consumer, Box<dyn Error>> {
    let builder = client
        .consumer("billing")
        .topics([TOPIC])
        .assignors(assignors.iter().copied())
        .heartbeat_interval(Duration::from_millis(50))
        .commit(CommitPolicy::AfterAck { interval: Duration::from_millis(20) });
    Ok(builder.start().await?)
}

/// Reads and acknowledges `count` records; says how often each value came.
async fn work(
    consumer: &mut Consumer,
    count: usize,
    seen: &mut BTreeMap<i64, u32>,
) -> Result<(), Box<dyn Error>> {
    for _ in 0..count {
        let delivery = consumer.try_next().await?.ok_or("the consumer ended")?;
        let value = delivery.value.as_deref().ok_or("a value")?;
        *seen.entry(std::str::from_utf8(value)?.parse()?).or_default() += 1;
        delivery.ack().await?;
    }
    Ok(())
}

fn once_each(count: i64) -> BTreeMap<i64, u32> {
    (0..count).map(|number| (number, 1)).collect()
}

#[bateau_testing::test]
async fn a_group_goes_on_where_its_last_member_stopped(broker: TestBroker) -> Outcome {
    broker.seed_topic(TOPIC, 4).await?;
    let client = broker.client().await?;
    fill(&client, 0, 100).await?;
    let mut seen = BTreeMap::new();
    let mut first = member(&client, &[Assignor::Range]).await?;
    work(&mut first, 40, &mut seen).await?;
    first.close().await?;
    let mut second = member(&client, &[Assignor::Range]).await?;
    work(&mut second, 60, &mut seen).await?;
    second.close().await?;
    assert_eq!(seen, once_each(100));
    let lags = client.admin().lag("billing").await?;
    assert_eq!(lags.iter().filter_map(|lag| lag.lag()).sum::<i64>(), 0, "{lags:?}");
    Ok(())
}

/// Two members share the work, whoever comes when; each record is worked on once.
async fn shared_by_two(broker: TestBroker, assignors: &[Assignor]) -> Outcome {
    broker.seed_topic(TOPIC, 4).await?;
    let client = broker.client().await?;
    fill(&client, 0, 200).await?;
    let mut seen = BTreeMap::new();
    let mut first = member(&client, assignors).await?;
    work(&mut first, 50, &mut seen).await?;
    let mut second = member(&broker.client().await?, assignors).await?;
    let mut others = BTreeMap::new();
    while seen.len() + others.len() < 200 {
        tokio::select! {
            done = work(&mut first, 1, &mut seen) => done?,
            done = work(&mut second, 1, &mut others) => done?,
        }
    }
    // The second one got something once the group had settled.
    fill(&client, 200, 240).await?;
    while first.assignment().len() != 2 || second.assignment().len() != 2 {
        tokio::task::yield_now().await;
    }
    while seen.len() + others.len() < 240 {
        tokio::select! {
            done = work(&mut first, 1, &mut seen) => done?,
            done = work(&mut second, 1, &mut others) => done?,
        }
    }
    assert!(others.len() >= 20, "{}", others.len());
    first.close().await?;
    second.close().await?;
    seen.extend(others);
    assert_eq!(seen, once_each(240));
    Ok(())
}

#[bateau_testing::test]
async fn two_eager_members_share_the_work(broker: TestBroker) -> Outcome {
    shared_by_two(broker, &[Assignor::Range, Assignor::CooperativeSticky]).await
}

#[bateau_testing::test]
async fn two_cooperative_members_share_the_work(broker: TestBroker) -> Outcome {
    shared_by_two(broker, &[Assignor::CooperativeSticky]).await
}

#[bateau_testing::test]
async fn two_members_under_the_assignor_of_kafkajs_share_the_work(broker: TestBroker) -> Outcome {
    shared_by_two(broker, &[Assignor::KafkaJsRoundRobin]).await
}

#[bateau_testing::test]
async fn a_member_whose_sync_failed_claims_nothing_and_nothing_is_read_twice(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic(TOPIC, 4).await?;
    let client = broker.client().await?;
    fill(&client, 0, 40).await?;
    let mut seen = BTreeMap::new();
    let mut first = member(&client, &[Assignor::CooperativeSticky]).await?;
    work(&mut first, 20, &mut seen).await?;
    // The one that reads already misses an assignment, twice.
    broker.fail_next_times(Api::SyncGroup, ErrorCode::REBALANCE_IN_PROGRESS, 2);
    let mut second = member(&broker.client().await?, &[Assignor::CooperativeSticky]).await?;
    let mut others = BTreeMap::new();
    while seen.len() + others.len() < 40
        || first.assignment().len() != 2
        || second.assignment().len() != 2
    {
        tokio::select! {
            done = work(&mut first, 1, &mut seen) => done?,
            done = work(&mut second, 1, &mut others) => done?,
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
    fill(&client, 40, 60).await?;
    while seen.len() + others.len() < 60 {
        tokio::select! {
            done = work(&mut first, 1, &mut seen) => done?,
            done = work(&mut second, 1, &mut others) => done?,
        }
    }
    seen.extend(others);
    assert_eq!(seen, once_each(60));
    Ok(())
}

#[bateau_testing::test]
async fn a_broker_that_restarts_and_crashes_repeats_nothing_and_loses_nothing(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic(TOPIC, 4).await?;
    let client = broker.client().await?;
    fill(&client, 0, 100).await?;
    let mut seen = BTreeMap::new();
    let mut consumer = member(&client, &[Assignor::Range]).await?;
    work(&mut consumer, 30, &mut seen).await?;
    broker.restart().await?;
    fill(&client, 100, 150).await?;
    work(&mut consumer, 60, &mut seen).await?;
    broker.crash().await?;
    fill(&client, 150, 160).await?;
    work(&mut consumer, 70, &mut seen).await?;
    assert_eq!(seen, once_each(160));
    consumer.close().await?;
    Ok(())
}

#[bateau_testing::test]
async fn a_member_whose_session_ended_joins_again_by_itself(broker: TestBroker) -> Outcome {
    broker.seed_topic(TOPIC, 4).await?;
    let client = broker.client().await?;
    fill(&client, 0, 20).await?;
    let mut seen = BTreeMap::new();
    let mut consumer = member(&client, &[Assignor::Range]).await?;
    work(&mut consumer, 10, &mut seen).await?;
    broker.advance(Duration::from_secs(60)).await;
    work(&mut consumer, 10, &mut seen).await?;
    fill(&client, 20, 40).await?;
    work(&mut consumer, 20, &mut seen).await?;
    assert_eq!(seen, once_each(40));
    Ok(())
}

#[bateau_testing::test]
async fn what_is_not_acknowledged_comes_again_and_late_acks_are_told(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let client = broker.client().await?;
    let producer = client.producer(TOPIC);
    producer.send("0").await?;
    producer.send("1").await?;
    let mut first = member(&client, &[Assignor::Range]).await?;
    let zero = first.try_next().await?.ok_or("it ended")?;
    zero.ack().await?;
    let one = first.try_next().await?.ok_or("it ended")?;
    first.close().await?;
    let mut second = member(&client, &[Assignor::Range]).await?;
    assert_eq!(second.try_next().await?.ok_or("it ended")?.offset, 1);
    // It is not the first member's any more, and nothing of its ack is stored.
    let late = one.ack().await;
    assert!(matches!(late, Ok(()) | Err(CommitError::Revoked { .. })), "{late:?}");
    let stored = client.admin().committed("billing").await?;
    assert_eq!(stored.iter().map(|one| one.offset).collect::<Vec<_>>(), [1]);
    Ok(())
}

#[bateau_testing::test]
async fn at_most_once_stores_before_it_delivers(broker: TestBroker) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let client = broker.client().await?;
    client.producer(TOPIC).send("0").await?;
    let builder = client.consumer("billing").topics([TOPIC]);
    let mut consumer = builder.commit(CommitPolicy::BeforeDelivery).start().await?;
    assert_eq!(consumer.try_next().await?.ok_or("it ended")?.offset, 0);
    let stored = client.admin().committed("billing").await?;
    assert_eq!(stored.iter().map(|one| one.offset).collect::<Vec<_>>(), [1]);
    Ok(())
}

#[bateau_testing::test]
async fn positions_are_stored_by_hand_and_every_ack_may_wait_for_it(broker: TestBroker) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let client = broker.client().await?;
    let producer = client.producer(TOPIC);
    for value in ["0", "1", "2"] {
        producer.send(value).await?;
    }
    let stored = async || -> Result<i64, Box<dyn Error>> {
        let stored = client.admin().committed("billing").await?;
        Ok(stored.first().map_or(-1, |one| one.offset))
    };
    let builder = client.consumer("billing").topics([TOPIC]);
    let mut consumer = builder.commit(CommitPolicy::Manual).start().await?;
    consumer.try_next().await?.ok_or("it ended")?.ack().await?;
    assert_eq!(stored().await?, -1);
    consumer.commit().await?;
    assert_eq!(stored().await?, 1);
    consumer.close().await?;
    let each = CommitPolicy::AfterAck { interval: Duration::ZERO };
    let mut consumer = client.consumer("billing").topics([TOPIC]).commit(each).start().await?;
    consumer.try_next().await?.ok_or("it ended")?.ack().await?;
    assert_eq!(stored().await?, 2);
    consumer.close().await?;
    client
        .admin()
        .seek_group("billing", [bateau_client::admin::GroupPosition::new(TOPIC, 0, 0)])
        .await?;
    assert_eq!(stored().await?, 0);
    Ok(())
}

#[bateau_testing::test]
async fn a_record_that_is_not_accepted_comes_again_and_its_partition_waits(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic(TOPIC, 4).await?;
    let client = broker.client().await?;
    fill(&client, 0, 12).await?;
    let mut consumer = member(&client, &[Assignor::Range]).await?;
    // Values 0, 4 and 8 lie in partition 0, and all are in the application's hands.
    let mut of_zero = Vec::new();
    let mut others = 0;
    while of_zero.len() + others < 12 {
        let delivery = consumer.try_next().await?.ok_or("it ended")?;
        if delivery.partition == 0 {
            of_zero.push(delivery);
        } else {
            others += 1;
            delivery.ack().await?;
        }
    }
    let mut of_zero = of_zero.into_iter();
    let (first, second) = (of_zero.next().ok_or("0")?, of_zero.next().ok_or("4")?);
    let third = of_zero.next().ok_or("8")?;
    first.ack().await?;
    let (asked, delay) = (Instant::now(), Duration::from_millis(60));
    second.nack(delay)?;
    let outdated = third.ack().await;
    assert!(matches!(outdated, Err(CommitError::Outdated { offset: 2, .. })), "{outdated:?}");
    // The other partitions go on meanwhile.
    client.producer(TOPIC).send(Record::new("13").partition(1)).await?;
    let mut came = Vec::new();
    while came.len() < 3 {
        let delivery = consumer.try_next().await?.ok_or("it ended")?;
        let is_early = delivery.partition == 0 && asked.elapsed() < delay;
        assert!(!is_early, "{:?}", asked.elapsed());
        came.push((delivery.partition, delivery.offset));
        delivery.ack().await?;
    }
    came.sort_by_key(|(partition, _)| *partition);
    assert_eq!(came, [(0, 1), (0, 2), (1, 3)]);
    consumer.close().await?;
    let lags = client.admin().lag("billing").await?;
    assert_eq!(lags.iter().filter_map(|lag| lag.lag()).sum::<i64>(), 0, "{lags:?}");
    Ok(())
}

#[bateau_testing::test]
async fn who_delivers_at_most_once_delivers_nothing_again(broker: TestBroker) -> Outcome {
    broker.seed_topic(TOPIC, 1).await?;
    let client = broker.client().await?;
    client.producer(TOPIC).send("0").await?;
    let builder = client.consumer("billing").topics([TOPIC]);
    let mut consumer = builder.commit(CommitPolicy::BeforeDelivery).start().await?;
    let delivery = consumer.try_next().await?.ok_or("it ended")?;
    assert_eq!(delivery.nack(Duration::ZERO), Err(CommitError::AtMostOnce));
    // A reader has no group, and goes back all the same.
    let mut reader = client.reader().topics([TOPIC]).start().await?;
    for _ in 0..3 {
        let delivery = reader.try_next().await?.ok_or("it ended")?;
        assert_eq!(delivery.offset, 0);
        delivery.nack(Duration::ZERO)?;
    }
    Ok(())
}

#[bateau_testing::test]
async fn changes_of_the_assignment_are_told(broker: TestBroker) -> Outcome {
    broker.seed_topic(TOPIC, 4).await?;
    let client = broker.client().await?;
    let first = member(&client, &[Assignor::Range]).await?;
    let mut watch = first.assignment_watch();
    let mut until = async |count: usize| loop {
        let assigned = watch.changed().await?;
        if assigned.len() == count {
            return Some(assigned);
        }
    };
    let all = until(4).await.ok_or("it ended")?;
    assert_eq!(all, first.assignment());
    let second = member(&broker.client().await?, &[Assignor::Range]).await?;
    let half = until(2).await.ok_or("it ended")?;
    assert!(half.iter().all(|one| one.topic == TOPIC && all.contains(one)), "{half:?}");
    second.close().await?;
    assert_eq!(until(4).await, Some(all));
    first.close().await?;
    assert_eq!(until(9).await, None, "the consumer is over");
    Ok(())
}
