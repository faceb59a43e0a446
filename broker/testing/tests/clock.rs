//! What an advance of the broker's clock moves, in which order, and what it leaves alone.

mod support;

use bateau::offsets::OffsetQuery;
use bateau_core::consumer_group::HeartbeatError;
use bateau_testing::{TestBroker, TestBrokerError};
use std::time::{Duration, Instant};
use support::{TOPIC, commit, committed, create_with, engine, heartbeat, join, offset, produce};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

#[bateau_testing::test]
async fn a_silent_member_is_gone_when_its_session_has_passed_and_not_before(broker: TestBroker) {
    let member = join(&broker, "", 10_000).await;
    broker.advance(Duration::from_secs(5)).await;
    assert_eq!(heartbeat(&broker, &member).await, Ok(()));
    broker.advance(Duration::from_secs(8)).await;
    assert_eq!(heartbeat(&broker, &member).await, Ok(()), "the heartbeat began its session anew");
    broker.advance(Duration::from_secs(11)).await;
    assert_eq!(heartbeat(&broker, &member).await, Err(HeartbeatError::UnknownMemberId));
}

#[bateau_testing::test]
async fn timers_fire_when_they_are_due_and_not_all_at_the_end() -> Result<(), TestBrokerError> {
    let builder = TestBroker::builder().config("groups.offsets_retention_minutes", "1");
    let broker = builder.start().await?;
    let member = join(&broker, "", 10_000).await;
    commit(&broker, &member, 7).await;
    // The member goes after 10 s; from then on the group's offsets have their minute.
    broker.advance(Duration::from_secs(65)).await;
    assert_eq!(committed(&broker).await, Some(7));
    broker.advance(Duration::from_secs(10)).await;
    assert_eq!(committed(&broker).await, None, "counted from the session's end");
    Ok(())
}

#[bateau_testing::test]
async fn one_long_advance_passes_through_everything_on_its_way(broker: TestBroker) {
    let member = join(&broker, "", 10_000).await;
    commit(&broker, &member, 7).await;
    broker.advance(30 * DAY).await;
    assert_eq!(committed(&broker).await, None);
    assert_eq!(heartbeat(&broker, &member).await, Err(HeartbeatError::UnknownMemberId));
}

#[bateau_testing::test]
async fn retention_has_been_looked_at_when_an_advance_returns(broker: TestBroker) {
    create_with(&broker, &[("retention.ms", "3600000")]).await;
    for value in [b"one", b"two"] {
        produce(&broker, value).await.expect("it is appended");
    }
    broker.advance(HOUR / 2).await;
    assert_eq!(offset(&broker, OffsetQuery::Earliest).await.0, 0);
    broker.advance(HOUR).await;
    assert_eq!(offset(&broker, OffsetQuery::Earliest).await.0, 2);
    assert_eq!(produce(&broker, b"three").await.expect("the log goes on"), 2);
}

#[bateau_testing::test]
async fn elections_and_deadlines_of_requests_keep_to_real_time(broker: TestBroker) {
    broker.seed_topic(TOPIC, 1).await.expect("it is new");
    let (_, epoch) = offset(&broker, OffsetQuery::Latest).await;
    let before = engine(&broker).clock().now();
    let begun = Instant::now();
    broker.advance(7 * DAY).await;
    assert!(begun.elapsed() < DAY / 24, "it does not wait");
    produce(&broker, b"one").await.expect("there is a leader");
    assert_eq!(offset(&broker, OffsetQuery::Latest).await, (1, epoch), "the same leader");
    let after = engine(&broker).clock().now();
    assert!(after.monotonic_ms - before.monotonic_ms < 3_600_000);
    assert!(after.service_ms - before.service_ms >= 7 * 24 * 3_600_000);
    assert!(after.wall_ms - before.wall_ms >= 7 * 24 * 3_600_000);
}

#[bateau_testing::test]
async fn a_clock_may_go_a_century_and_no_further(broker: TestBroker) {
    create_with(&broker, &[]).await;
    let member = join(&broker, "", 10_000).await;
    broker.advance(36_000 * DAY).await;
    assert_eq!(heartbeat(&broker, &member).await, Err(HeartbeatError::UnknownMemberId));
    assert_eq!(produce(&broker, b"late").await.expect("it is appended"), 0);
    for by in [1_000 * DAY, Duration::MAX] {
        let refused = broker.control().advance(by).await.expect_err("too far").to_string();
        assert!(refused.contains("at most 100 years"), "{refused}");
    }
}

#[bateau_testing::test]
async fn advances_that_are_asked_for_together_add_up(broker: TestBroker) {
    let (engine, other) = (engine(&broker), engine(&broker));
    let (first, second) = tokio::join!(engine.advance(HOUR), other.advance(2 * HOUR));
    assert_eq!((first, second), (Some(()), Some(())));
    assert_eq!(engine.clock().advanced(), 3 * HOUR);
}

#[bateau_testing::test]
async fn an_advance_under_busy_producers_ends(broker: TestBroker) {
    broker.seed_topic(TOPIC, 1).await.expect("it is new");
    let member = join(&broker, "", 10_000).await;
    let busy = async {
        loop {
            produce(&broker, b"busy").await.expect("it is appended");
        }
    };
    tokio::select! {
        () = busy => {}
        () = broker.advance(HOUR) => {}
    }
    assert_eq!(heartbeat(&broker, &member).await, Err(HeartbeatError::UnknownMemberId));
}
