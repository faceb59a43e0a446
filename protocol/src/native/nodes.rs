//! The nodes of the cluster, and which of them hold what.

use crate::wire::notation::structure;
use crate::wire::{ErrorCode, Text};

structure! {
    /// Asks for the nodes, and how far what moves between them is.
    ListNodesRequest {}
}

structure! {
    /// The nodes by number, as the answering node knows them.
    ListNodesResponse {
        nodes: Vec<NodeDescription>,
    }
}

structure! {
    /// A member of the cluster, or a node that may become one.
    NodeDescription {
        node_id: i32,
        /// Where its listeners are, as it has registered them; the peers listener of a node that
        /// has not is where it was first met.
        listeners: Vec<NodeListener>,
        rack: Option<Text>,
        /// Counts its starts; −1 while it has not registered.
        boot_epoch: i64 = -1,
        /// Whether the answering node hears it.
        is_alive: bool,
        /// `serving`, `draining`, `leaving`; empty for a node that is no member yet.
        standing: Text,
        /// What it may do with an empty directory: `join`, `replace`, or nothing.
        permit: Text,
        /// On the metadata: `leader`, `voter`, `learner`, or nothing.
        role: Text,
        /// Partitions, internal ones too, that are assigned to it.
        replicas: i32,
        /// Those of them that it leads, as far as the answering node knows.
        leaders: i32,
        /// Partitions that still move to it.
        incoming: i32,
        /// Partitions that it holds until they have moved to others, or still removes.
        outgoing: i32,
        /// Why what it was told cannot come to its end as things are; empty where it can.
        hindrance: Text,
    }
}

structure! {
    /// A listener of a node.
    NodeListener {
        name: Text,
        host: Text,
        port: i32,
    }
}

structure! {
    /// Lets a node with an empty data directory into the cluster.
    PermitNodeRequest {
        node_id: i32,
        /// Whether it takes the place of a member whose directory is lost.
        replaces: bool,
        /// Whether only to say what would happen.
        validate_only: bool,
        timeout_ms: i32,
    }
}

structure! {
    /// Done.
    PermitNodeResponse {}
}

structure! {
    /// Tells a member to serve, to lead nothing, or to leave. A node that has only a permit loses
    /// it by leaving.
    SetStandingRequest {
        node_id: i32,
        /// `serving`, `draining` or `leaving`.
        standing: Text,
        /// Whether only to say what would happen.
        validate_only: bool,
        timeout_ms: i32,
    }
}

structure! {
    /// The node will do so.
    SetStandingResponse {}
}

structure! {
    /// Moves partitions (KIP-455). Each is decided alone.
    ReassignPartitionsRequest {
        partitions: Vec<PartitionMove>,
        timeout_ms: i32,
    }
}

structure! {
    /// Where a partition is to be.
    PartitionMove {
        topic: Text,
        partition: i32,
        /// The nodes, preferred leader first; null cancels the move that is under way.
        nodes: Option<Vec<i32>>,
    }
}

structure! {
    /// What came of each, in the order of the request.
    ReassignPartitionsResponse {
        partitions: Vec<MoveOutcome>,
    }
}

structure! {
    /// What came of one partition.
    MoveOutcome {
        error_code: ErrorCode,
        /// Empty without an error.
        message: Text,
        topic: Text,
        partition: i32,
    }
}

structure! {
    /// Asks which partitions are being moved.
    ListReassignmentsRequest {}
}

structure! {
    /// The partitions that are being moved, internal ones too.
    ListReassignmentsResponse {
        partitions: Vec<MovingPartition>,
    }
}

structure! {
    /// A partition that is being moved.
    MovingPartition {
        topic: Text,
        partition: i32,
        /// Where it is to be, preferred leader first.
        nodes: Vec<i32>,
        /// Those of them that it was not on before.
        adding: Vec<i32>,
        /// Nodes that give it up.
        leaving: Vec<i32>,
    }
}
