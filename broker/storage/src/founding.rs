//! The founding on the disk: the identity of a data directory, and its metadata's first log.
//!
//! ```text
//!   new directory ──> IDENTITY, not founded ──(Node: all have met)──> metadata log, flushed
//!                                                                 ──> IDENTITY, founded
//!   votes lost, others to ask ──> IDENTITY, not founded, knows what it was ──> as above, joining
//! ```
//!
//! Invariants
//! - The identity of a new directory is stored before anything else is.
//! - The metadata log exists and is flushed before `IDENTITY` says "founded" (decision 16).
//!
//! Absent on purpose: when a cluster is founded, and by whom. That is `Node`'s.

use crate::work::birth;
use bateau_core::controller::{ClusterId, Founder, Metadata};
use bateau_core::node::Voter;
use bateau_core::shard::{LogBirth, RecoveredLog};
use bateau_log::{
    CommitCycle, DataDir, DataDirOptions, Done, Identity, LogReader, OpenError, Opened,
    RecoveryProgress, Work,
};
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};

/// The directory's identity; a new one is stored before anything else is.
///
/// - `founding_id`: of a directory that was never used.
///
/// Errors: as of [`DataDir::identity`].
pub fn identity(
    data_dir: &DataDir,
    node: NodeId,
    founding_id: [u8; 16],
) -> Result<Identity, OpenError> {
    if let Some(identity) = data_dir.identity(node)? {
        return Ok(identity);
    }
    let (founders, cluster_id, former) = (Vec::new(), None, None);
    let identity = Identity { node, founding_id, founded: false, founders, cluster_id, former };
    data_dir.store_identity(&identity)?;
    Ok(identity)
}

/// Recovers the directory. Where its votes are lost and others are of its cluster, it is renounced:
/// the node shows them who it was, and gets new replicas. Whoever is alone has nobody to ask.
///
/// - `voters`: as configured.
/// - `founding_id`: of the directory from then on.
///
/// Errors: as of [`DataDir::open`].
pub fn open(
    data_dir: &DataDir,
    identity: &mut Identity,
    (voters, founding_id): (&[Voter], [u8; 16]),
    options: DataDirOptions,
    progress: &RecoveryProgress,
) -> Result<Opened, OpenError> {
    let opened = data_dir.open_watched(identity, options, progress);
    let has_others = known(identity, voters).iter().any(|voter| voter.node != identity.node);
    match opened {
        Err(OpenError::MetaLogLost | OpenError::Corrupt { .. })
            if identity.founded && has_others =>
        {
            *identity = data_dir.renounce(identity, founding_id)?;
            data_dir.open_watched(identity, options, progress)
        }
        opened => opened,
    }
}

/// Whom this node may ask for its cluster before it is of one: the configured voters, and where
/// those members were that a directory names which was renounced.
#[must_use]
pub fn known(identity: &Identity, voters: &[Voter]) -> Vec<Voter> {
    let mut known = voters.to_vec();
    for founder in &identity.founders {
        if voters.iter().all(|voter| voter.node != founder.node) {
            known.push(Voter { node: founder.node, address: founder.address.as_str().into() });
        }
    }
    known
}

/// The members as stored; none before the founding.
#[must_use]
pub fn members(identity: &Identity) -> Vec<Founder> {
    if !identity.founded {
        return Vec::new();
    }
    let founder = |stored: &bateau_log::Founder| Founder {
        node: stored.node,
        founding_id: stored.founding_id,
        peers_address: stored.address.as_str().into(),
    };
    identity.founders.iter().map(founder).collect()
}

/// Whether this directory was there at the founding: its replica of the metadata has the node's
/// own id.
#[must_use]
pub fn is_founder(identity: &Identity, recovered: &[RecoveredLog]) -> bool {
    let metadata = recovered.iter().find(|log| log.incarnation == Incarnation::METADATA);
    identity.founded && metadata.is_some_and(|log| log.replica_id.get() == identity.node.get())
}

/// Makes the metadata log of these founders, and stores that the cluster is founded. Returns the
/// log as the shard takes it up, and who reads it.
///
/// Errors: the disk refuses; nothing is founded then, and the next start begins anew.
pub fn found(
    data_dir: &DataDir,
    cycle: &mut CommitCycle,
    identity: &mut Identity,
    founders: &[Founder],
) -> Result<(RecoveredLog, LogReader), OpenError> {
    let nodes: Vec<NodeId> = founders.iter().map(|founder| founder.node).collect();
    let first = LogBirth::of_metadata(identity.node, &nodes);
    begin(data_dir, cycle, identity, (first, founders))
}

/// Makes an empty metadata log for a node that joins a cluster under this replica id, and stores
/// who its members are, and which cluster it is, where that is known.
///
/// Errors: as of [`found`].
pub fn join(
    data_dir: &DataDir,
    cycle: &mut CommitCycle,
    identity: &mut Identity,
    (members, replica_id, cluster_id): (&[Founder], ReplicaId, Option<ClusterId>),
) -> Result<(RecoveredLog, LogReader), OpenError> {
    let first = LogBirth::of_later_replica(Incarnation::METADATA, replica_id);
    identity.cluster_id = cluster_id.map(|id| id.0).or(identity.cluster_id);
    begin(data_dir, cycle, identity, (first, members))
}

fn begin(
    data_dir: &DataDir,
    cycle: &mut CommitCycle,
    identity: &mut Identity,
    (first, members): (LogBirth, &[Founder]),
) -> Result<(RecoveredLog, LogReader), OpenError> {
    let mut done = Vec::new();
    let made = cycle.run(&mut vec![Work::Create(birth(first.clone()))], &mut done);
    made.map_err(|error| refused(error.to_string()))?;
    let reader = done.into_iter().find_map(|answer| match answer {
        Done::Created { reader, .. } => Some(Ok(reader)),
        Done::CreateFailed { error, .. } => Some(Err(refused(error.to_string()))),
        _ => None,
    });
    let reader = reader.unwrap_or_else(|| Err(refused("nothing was answered".to_owned())))?;
    (identity.founded, identity.former) = (true, None);
    identity.founders = members.iter().map(stored).collect();
    data_dir.store_identity(identity)?;
    Ok((first.into_recovered(), reader))
}

/// Whether the metadata is of the cluster that this directory belongs to: it names every member's
/// id, and `IDENTITY` this node's. They part where files of two clusters were mixed.
#[must_use]
pub fn is_of_directory(metadata: Option<&Metadata>, identity: &Identity) -> bool {
    let recorded = metadata.and_then(|metadata| metadata.member(identity.node));
    recorded.is_none_or(|member| member.founder.founding_id == identity.founding_id)
}

fn refused(reason: String) -> OpenError {
    let operation = "make the metadata log".to_owned();
    OpenError::Io { operation, source: std::io::Error::other(reason) }
}

fn stored(founder: &Founder) -> bateau_log::Founder {
    bateau_log::Founder {
        node: founder.node,
        address: founder.peers_address.to_string(),
        founding_id: founder.founding_id,
    }
}
