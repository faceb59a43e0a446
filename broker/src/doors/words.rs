//! Small words that every door says the same way: offsets, nodes, epochs, texts, coordinators.
//!
//! Absent on purpose: anything that differs between two protocols.

use crate::partition::PartitionView;
use crate::router::Directory;
use bateau_core::consumer_group::{Name, partition_of};
use bateau_protocol::frame::leader_epoch;
use bateau_protocol::ids::{Incarnation, NodeId, Offset, Term};
use bateau_protocol::wire::Text;
use std::borrow::Cow;

/// An offset on the wire.
pub fn wire_offset(offset: Offset) -> i64 {
    i64::try_from(offset.get()).unwrap_or(i64::MAX)
}

/// A node on the wire; −1 for one that has no place there.
pub fn wire_node(node: NodeId) -> i32 {
    i32::try_from(node.get()).unwrap_or(-1)
}

/// A term on the wire.
pub fn wire_epoch(term: Term) -> i32 {
    leader_epoch(term)
}

/// A text that is usually part of the program, and was carried here by a peer otherwise.
pub fn static_text(text: Cow<'static, str>) -> Text {
    match text {
        Cow::Borrowed(text) => Text::from_static(text),
        Cow::Owned(text) => Text::from(text),
    }
}

/// A duration that a client gave; a negative one is none.
pub fn milliseconds(wire: i32) -> u64 {
    u64::try_from(wire).unwrap_or(0)
}

/// The epoch under which a partition is served here, if it is: that of its leader, or the last
/// one of a log that is damaged and still lends what lies before the damage.
pub fn served_epoch(view: &PartitionView) -> Option<i32> {
    if let Some(term) = view.leader_term() {
        return Some(wire_epoch(term));
    }
    let last = || view.reader().terms().last().map_or(0, |start| wire_epoch(start.term));
    view.is_unavailable().then(last)
}

/// Which node serves a partition, and under which epoch, as far as is known on node `own`.
pub fn served_by(
    directory: &Directory,
    incarnation: Incarnation,
    own: NodeId,
) -> Option<(NodeId, i32)> {
    match directory.leader(incarnation) {
        Some((node, term)) => Some((node, wire_epoch(term))),
        None => served_epoch(directory.view(incarnation)?).map(|epoch| (own, epoch)),
    }
}

/// The node that decides what concerns the cluster, as far as is known on node `own`.
pub fn controller(directory: &Directory, own: NodeId) -> NodeId {
    served_by(directory, Incarnation::METADATA, own).map_or(own, |(node, _)| node)
}

/// Text that outlives its request.
pub fn name(text: &str) -> Name {
    Name::from(text)
}

/// Text for an answer.
pub fn text(text: &str) -> Text {
    Text::from(text.to_owned())
}

/// The node that coordinates a group, as far as is known here: it leads the group's partition.
pub fn coordinator(directory: &Directory, group: &str) -> Option<NodeId> {
    let topic = directory.metadata.group_topic()?;
    let partition = topic.partition(partition_of(group))?;
    directory.leader(partition.incarnation).map(|(node, _)| node)
}
