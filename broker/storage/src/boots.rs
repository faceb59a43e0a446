//! Starts of other nodes, as the brain and as the meta log say them; and what else the node as a
//! whole hears of the disk.
//!
//! Absent on purpose: whose start is heard, which `Node` decides.

use bateau_core::controller::BootEpoch;
use bateau_core::node::{NodeInput, PeerBoot};
use bateau_log::{Done, NodeStart, RecoveryReport, Work};
use bateau_protocol::ids::NodeId;
use std::collections::BTreeMap;

/// The newest start of a peer, as work for the disk.
#[must_use]
pub fn note_peer(node: NodeId, start: PeerBoot) -> Work {
    let PeerBoot { directory, boot } = start;
    let start = NodeStart { directory, boot_epoch: boot.epoch, start_id: boot.start_id };
    Work::NotePeer { node, start }
}

/// The newest start of each peer, as stored.
#[must_use]
pub fn peer_boots(report: &RecoveryReport) -> BTreeMap<NodeId, PeerBoot> {
    report.peers.iter().map(|(node, start)| (*node, boot(*start))).collect()
}

/// What the node as a whole hears of an answer of the disk.
#[must_use]
pub fn told_by_disk(done: &Done) -> Option<NodeInput> {
    match done {
        Done::PeerNoted { node, start } => {
            Some(NodeInput::PeerNoted { node: *node, start: boot(*start) })
        }
        Done::Deleted { incarnation } => Some(NodeInput::NothingLeft { incarnation: *incarnation }),
        _ => None,
    }
}

fn boot(start: NodeStart) -> PeerBoot {
    let boot = BootEpoch { epoch: start.boot_epoch, start_id: start.start_id };
    PeerBoot { directory: start.directory, boot }
}
