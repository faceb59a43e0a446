//! Starts of other nodes, as the brain and as the meta log say them.
//!
//! Absent on purpose: whose start is heard, which `Node` decides.

use bateau_core::controller::BootEpoch;
use bateau_core::node::NodeInput;
use bateau_log::{Done, NodeStart, RecoveryReport, Work};
use bateau_protocol::ids::NodeId;
use std::collections::BTreeMap;

/// The newest start of a peer, as work for the disk.
#[must_use]
pub fn note_peer(node: NodeId, boot: BootEpoch) -> Work {
    Work::NotePeer { node, start: NodeStart { boot_epoch: boot.epoch, start_id: boot.start_id } }
}

/// The newest start of each peer, as stored.
#[must_use]
pub fn peer_boots(report: &RecoveryReport) -> BTreeMap<NodeId, BootEpoch> {
    report.peers.iter().map(|(node, start)| (*node, boot(*start))).collect()
}

/// What the node as a whole hears of an answer of the disk.
#[must_use]
pub fn told_by_disk(done: &Done) -> Option<NodeInput> {
    match done {
        Done::PeerNoted { node, start } => {
            Some(NodeInput::PeerNoted { node: *node, boot: boot(*start) })
        }
        _ => None,
    }
}

fn boot(start: NodeStart) -> BootEpoch {
    BootEpoch { epoch: start.boot_epoch, start_id: start.start_id }
}
