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
pub mod topics;

use crate::api::TopicReference;
use crate::partition::PartitionView;
use bateau_core::consumer_group::Name;
use bateau_protocol::frame::leader_epoch;
use bateau_protocol::ids::{NodeId, Offset, Term};
use bateau_protocol::kafka::Text;
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

/// An offset on the wire.
fn wire_offset(offset: Offset) -> i64 {
    i64::try_from(offset.get()).unwrap_or(i64::MAX)
}

/// A node on the wire; −1 for one that has no place there.
fn wire_node(node: NodeId) -> i32 {
    i32::try_from(node.get()).unwrap_or(-1)
}

/// A term on the wire.
fn wire_epoch(term: Term) -> i32 {
    leader_epoch(term)
}

/// A duration that a client gave; a negative one is none.
fn milliseconds(wire: i32) -> u64 {
    u64::try_from(wire).unwrap_or(0)
}

/// The epoch under which a partition is served here, if it is: that of its leader, or the last
/// one of a log that is damaged and still lends what lies before the damage.
fn served_epoch(view: &PartitionView) -> Option<i32> {
    if let Some(term) = view.leader_term() {
        return Some(wire_epoch(term));
    }
    let last = || view.reader().terms().last().map_or(0, |start| wire_epoch(start.term));
    view.is_unavailable().then(last)
}

/// Text that outlives its request.
fn name(text: &str) -> Name {
    Name::from(text)
}

/// Text for an answer.
fn text(text: &str) -> Text {
    Text::from(text.to_owned())
}
