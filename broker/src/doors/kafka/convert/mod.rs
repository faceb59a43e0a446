//! Wire to [`Broker`](crate::api::Broker) and back, one file per family of APIs.
//!
//! Kafka's words end here: the leader epoch is a term from here on, throttle times are 0, and a
//! version becomes the flags that `Broker` and core understand. Every error of ours has its code in
//! [`codes`](crate::doors::codes).
//!
//! Absent on purpose: rules, retries and routing.

pub mod cluster;

pub mod configs;
pub mod fetch;
pub mod groups;
pub mod metadata;
pub mod offsets;
pub mod positions;
pub mod produce;
pub mod reassignments;
pub mod topics;

use crate::api::TopicReference;
use crate::doors::words::{milliseconds, name, text, wire_epoch, wire_node, wire_offset};
use bateau_protocol::kafka::view;

/// First version in which Produce and Fetch name topics by id (KIP-516).
const TOPIC_ID_SINCE: i16 = 13;

/// A topic of Produce or Fetch.
fn topic_reference(version: i16, topic: &view::TopicReference) -> TopicReference {
    if version >= TOPIC_ID_SINCE {
        TopicReference::Id(topic.topic_id)
    } else {
        TopicReference::Name(topic.name.as_str().to_owned())
    }
}
