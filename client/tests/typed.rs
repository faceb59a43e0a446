//! Typed producers and consumers against a real broker: one order in three codecs, and records that
//! no codec made.

use bateau_client::codec::{Avro, Codec, Json, Protobuf};
use bateau_client::{CommitPolicy, ConsumeError, ErrorKind, Record};
use bateau_testing::TestBroker;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::time::Duration;

type Outcome = Result<(), Box<dyn Error>>;

/// Each ack waits until it is stored, so that what is stored in the end is certain.
const EACH: CommitPolicy = CommitPolicy::AfterAck { interval: Duration::ZERO };

#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
struct Order {
    #[prost(string, tag = "1")]
    customer: String,
    #[prost(int64, tag = "2")]
    cents: i64,
}

const SCHEMA: &str = r#"{
    "type": "record", "name": "Order", "fields": [
        { "name": "customer", "type": "string" },
        { "name": "cents", "type": "long" }
    ]
}"#;

fn order(cents: i64) -> Order {
    Order { customer: "Zoë".to_owned(), cents }
}

/// Two orders with poison between them go through, and the group is behind all three in the end.
async fn there_and_back<C: Codec<Order> + Clone>(
    broker: TestBroker,
    codec: C,
    name: &str,
) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let typed = client.producer("orders").typed(codec.clone());
    typed.send(&order(700)).await?;
    client.producer("orders").send(&b"\xff\xff poison"[..]).await?;
    typed.send(&order(-3)).await?;
    let consumer = client.consumer("billing").topics(["orders"]).commit(EACH).start().await?;
    let mut consumer = consumer.typed::<Order, _>(codec);
    let (value, delivery) = consumer.try_next().await?.ok_or("it ended")?;
    assert_eq!(value, Some(order(700)));
    delivery.ack().await?;
    let error = consumer.try_next().await.expect_err("no codec made it");
    assert!(error.is_retryable() && error.kind() == ErrorKind::Corrupt, "{error:?}");
    let ConsumeError::Decode { topic, partition, offset, .. } = &error else {
        return Err(error.into());
    };
    assert_eq!((topic.as_str(), *partition, *offset), ("orders", 0, 1));
    let text = error.to_string();
    assert!(text.contains("orders[0]@1") && text.contains(name), "{text}");
    let (value, delivery) = consumer.try_next().await?.ok_or("it ended")?;
    assert_eq!((value, delivery.offset), (Some(order(-3)), 2));
    delivery.ack().await?;
    let stored = client.admin().committed("billing").await?;
    assert_eq!(stored.iter().map(|one| one.offset).collect::<Vec<_>>(), [3]);
    Ok(())
}

#[bateau_testing::test]
async fn orders_go_as_json_and_poison_is_named(broker: TestBroker) -> Outcome {
    there_and_back(broker, Json, "JSON").await
}

#[bateau_testing::test]
async fn orders_go_as_protobuf_and_poison_is_named(broker: TestBroker) -> Outcome {
    there_and_back(broker, Protobuf, "Protobuf").await
}

#[bateau_testing::test]
async fn orders_go_as_avro_and_poison_is_named(broker: TestBroker) -> Outcome {
    there_and_back(broker, Avro::new(SCHEMA)?, "Avro").await
}

#[bateau_testing::test]
async fn poison_can_be_kept_elsewhere_and_is_not_acknowledged_before(
    broker: TestBroker,
) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    broker.seed_topic("orders.rejected", 1).await?;
    let client = broker.client().await?;
    client.producer("orders").send("poison").await?;
    let consumer = client.consumer("billing").topics(["orders"]).commit(EACH).start().await?;
    let mut consumer = consumer.typed::<Order, _>(Json);
    let error = consumer.try_next().await.expect_err("it is no JSON");
    let poison = consumer.undecodable().ok_or("the record of the error")?;
    assert!(consumer.undecodable().is_none());
    assert!(client.admin().committed("billing").await?.is_empty(), "nobody has dealt with it");
    let value = poison.value.clone().unwrap_or_default();
    let record = Record::new(value).header("reason", error.to_string());
    client.producer("orders.rejected").send(record).await?;
    poison.ack().await?;
    let stored = client.admin().committed("billing").await?;
    assert_eq!(stored.iter().map(|one| one.offset).collect::<Vec<_>>(), [1]);
    Ok(())
}

#[bateau_testing::test]
async fn a_value_that_its_schema_does_not_take_is_not_sent(broker: TestBroker) -> Outcome {
    broker.seed_topic("orders", 1).await?;
    let client = broker.client().await?;
    let schema = r#"{"type":"record","name":"Order","fields":[]}"#;
    let typed = client.producer("orders").typed::<Order, _>(Avro::new(schema)?);
    let error = typed.send(&order(7)).await.expect_err("the schema has no fields");
    assert!(error.to_string().contains("Avro") && !error.possibly_written(), "{error}");
    let ack = client.producer("orders").send("first").await?;
    assert_eq!(ack.offset, 0);
    Ok(())
}
