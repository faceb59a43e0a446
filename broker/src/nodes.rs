//! What administration asks [`Broker`] about nodes: who is of the cluster, who holds and leads
//! what, and that this be otherwise.
//!
//! ```text
//!   bateau node list   ──native door──> Broker::nodes           ──> directory, who lives
//!   bateau node remove                  Broker::set_standing    ──> the controller
//!   kafka-reassign-partitions ──Kafka─> Broker::reassign, moves ──> the controller, directory
//!   kafka-leader-election               Broker::elect_preferred ──> whoever leads (`elections`)
//! ```
//!
//! Invariants
//! - What changes something is answered when it is committed, not when it has come to its end:
//!   that is to be looked at.
//! - A question whether something may be (`validate_only`) is answered from what is known here.
//!
//! Absent on purpose: rules, which are the controller's.

mod copies;
mod elections;

pub use copies::ReplicationFactorError;
pub use elections::{Elected, ElectionError};

use crate::admin::AdminError;
use crate::api::Broker;
use crate::router::Directory;
use crate::shard::handing_over::replica_nodes;
use bateau_core::controller::{
    ControllerError, ControllerRequest, ControllerResponse, ListenerAddress, Member,
    MembershipRequest, MembershipResponse, Metadata, NodeError, Partition, Permit, Reassign,
    ReassignError, Replica, Standing,
};
use bateau_protocol::ids::{Incarnation, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a node is to the metadata partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetadataRole {
    /// It leads, and so decides.
    Leader,
    /// It votes.
    Voter,
    /// It follows.
    Learner,
}

/// A member, or a node that may become one, at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeState {
    /// Its id.
    pub node: NodeId,
    /// Where it is, by the names of listeners.
    pub listeners: Vec<ListenerAddress>,
    /// Its rack.
    pub rack: Option<String>,
    /// Counts its starts; `None` while it has not registered.
    pub boot_epoch: Option<u64>,
    /// Whether the answering node hears it.
    pub is_alive: bool,
    /// What it is to do; `None` for no member.
    pub standing: Option<Standing>,
    /// What it may do with an empty directory.
    pub permit: Option<Permit>,
    /// What it is to the metadata.
    pub role: Option<MetadataRole>,
    /// Partitions, internal ones too, that are assigned to it.
    pub replicas: usize,
    /// Those of them that it leads.
    pub leaders: usize,
    /// Partitions that move to it.
    pub incoming: usize,
    /// Partitions that it holds until they are elsewhere, or still removes.
    pub outgoing: usize,
    /// Why what it was told cannot come to its end as things are.
    pub hindrance: Option<String>,
}

/// A partition that is being moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moving {
    /// The topic.
    pub topic: Arc<str>,
    /// Whether only we use it.
    pub internal: bool,
    /// Its partition.
    pub partition: u32,
    /// Where it is to be, preferred leader first.
    pub nodes: Vec<NodeId>,
    /// Those of them that it was not on before.
    pub adding: Vec<NodeId>,
    /// Those that give it up.
    pub leaving: Vec<NodeId>,
}

impl Broker {
    /// Members and expected nodes, by id.
    ///
    /// Cost: a look at every partition.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeState> {
        let directory = self.directory();
        let metadata = &directory.metadata;
        let mut counts: BTreeMap<NodeId, Counts> = BTreeMap::new();
        for partition in all_partitions(metadata) {
            count(&mut counts, &directory, partition);
        }
        for (_, removed) in metadata.removed_replicas() {
            counts.entry(removed.node).or_default().outgoing += 1;
        }
        let members = metadata.members().map(|member| {
            let counts = counts.get(&member.founder.node).copied().unwrap_or_default();
            describe(&directory, member, counts)
        });
        let is_new = |node: NodeId| metadata.member(node).is_none();
        let expected = metadata.permits().filter(|(node, _)| is_new(*node));
        let expected = expected.map(|(node, permit)| NodeState {
            node,
            listeners: Vec::new(),
            rack: None,
            boot_epoch: None,
            is_alive: false,
            standing: None,
            permit: Some(permit),
            role: None,
            replicas: 0,
            leaders: 0,
            incoming: 0,
            outgoing: 0,
            hindrance: None,
        });
        let mut all: Vec<NodeState> = members.chain(expected).collect();
        all.sort_by_key(|one| one.node);
        all
    }

    /// Lets a node with an empty directory come.
    ///
    /// Errors: [`AdminError`].
    pub async fn permit_node(
        &self,
        node: NodeId,
        permit: Permit,
        validate_only: bool,
        timeout_ms: u64,
    ) -> Result<(), AdminError<NodeError>> {
        if validate_only {
            let directory = self.directory();
            let allowed = directory.metadata.check_permit(node, permit, directory.live());
            return allowed.map_err(AdminError::Refused);
        }
        match self.membership(MembershipRequest::Permit { node, permit }, timeout_ms).await? {
            MembershipResponse::Permitted(result) => result.map_err(AdminError::Refused),
            _ => Err(ControllerError::NotController.into()),
        }
    }

    /// Tells a member what to do.
    ///
    /// Errors: [`AdminError`].
    pub async fn set_standing(
        &self,
        node: NodeId,
        standing: Standing,
        validate_only: bool,
        timeout_ms: u64,
    ) -> Result<(), AdminError<NodeError>> {
        if validate_only {
            let directory = self.directory();
            let metadata = &directory.metadata;
            let withdraws = standing == Standing::Leaving && metadata.permit_of(node).is_some();
            if withdraws && metadata.member(node).is_none() {
                return Ok(());
            }
            let allowed = metadata.check_standing(node, standing, directory.live());
            return allowed.map_err(AdminError::Refused);
        }
        let request = MembershipRequest::SetStanding { node, standing };
        match self.membership(request, timeout_ms).await? {
            MembershipResponse::Standing(result) => result.map_err(AdminError::Refused),
            _ => Err(ControllerError::NotController.into()),
        }
    }

    /// Moves partitions; one result for each, in order.
    ///
    /// Errors: [`ControllerError`].
    pub async fn reassign(
        &self,
        partitions: Vec<Reassign>,
        timeout_ms: u64,
    ) -> Result<Vec<Result<(), ReassignError>>, ControllerError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        match self.membership(MembershipRequest::Reassign(partitions), timeout_ms).await? {
            MembershipResponse::Reassigned(results) => Ok(results),
            _ => Err(ControllerError::NotController),
        }
    }

    /// The partitions that are being moved.
    #[must_use]
    pub fn moves(&self) -> Vec<Moving> {
        let directory = self.directory();
        let moving = directory.metadata.reassigned().map(|(topic, number, partition)| Moving {
            topic: Arc::clone(&topic.name),
            internal: topic.internal,
            partition: number,
            nodes: partition.replicas.iter().map(|one| one.node).collect(),
            adding: partition.adding().map(|one| one.node).collect(),
            leaving: partition.leaving().map(|one| one.node).collect(),
        });
        moving.collect()
    }

    async fn membership(
        &self,
        request: MembershipRequest,
        timeout_ms: u64,
    ) -> Result<MembershipResponse, ControllerError> {
        match self.control(ControllerRequest::Membership { request, timeout_ms }).await? {
            ControllerResponse::Membership(response) => Ok(response),
            _ => Err(ControllerError::NotController),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Counts {
    leaders: usize,
    incoming: usize,
    outgoing: usize,
}

fn all_partitions(metadata: &Metadata) -> impl Iterator<Item = &Partition> {
    metadata.topics().chain(metadata.group_topic()).flat_map(|topic| &topic.partitions)
}

fn count(counts: &mut BTreeMap<NodeId, Counts>, directory: &Directory, partition: &Partition) {
    if let Some((leader, _)) = directory.leader(partition.incarnation) {
        counts.entry(leader).or_default().leaders += 1;
    }
    if partition.reassignment.is_none() {
        return;
    }
    for replica in partition.adding() {
        counts.entry(replica.node).or_default().incoming += 1;
    }
    for replica in partition.leaving() {
        counts.entry(replica.node).or_default().outgoing += 1;
    }
}

fn describe(directory: &Directory, member: &Member, counts: Counts) -> NodeState {
    let metadata = &directory.metadata;
    let node = member.founder.node;
    let registered = metadata.node(node);
    let mut listeners = registered.map(|known| known.listeners.clone()).unwrap_or_default();
    if listeners.is_empty() {
        listeners.extend(first_met(&member.founder.peers_address));
    }
    let leads = directory.leader(Incarnation::METADATA).is_some_and(|(leader, _)| leader == node);
    let is_of = |all: &[Replica]| all.iter().any(|one| one.node == node);
    let role = match metadata.quorum() {
        _ if leads => Some(MetadataRole::Leader),
        quorum if is_of(&quorum.voters) => Some(MetadataRole::Voter),
        quorum if is_of(&quorum.learners) => Some(MetadataRole::Learner),
        _ => None,
    };
    NodeState {
        node,
        listeners,
        rack: registered.and_then(|known| known.rack.as_deref()).map(str::to_owned),
        boot_epoch: registered.map(|known| known.boot.epoch),
        is_alive: directory.live().contains(&node),
        standing: Some(member.standing),
        permit: metadata.permit_of(node),
        role,
        replicas: metadata.load_of(node).replicas as usize,
        leaders: counts.leaders,
        incoming: counts.incoming,
        outgoing: counts.outgoing,
        hindrance: hindrance(directory, node, member.standing),
    }
}

/// Where a node that has not registered was met.
fn first_met(address: &str) -> Option<ListenerAddress> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let (name, pin) = ("peers".into(), None);
    Some(ListenerAddress { name, host: host.into(), port: port.parse().ok()?, pin })
}

/// Why a member cannot do what it was told, whatever time it takes.
fn hindrance(directory: &Directory, node: NodeId, standing: Standing) -> Option<String> {
    let metadata = &directory.metadata;
    match standing {
        Standing::Serving => None,
        Standing::Leaving => {
            let found = metadata.check_standing(node, standing, directory.live()).err()?;
            Some(found.to_string())
        }
        Standing::Draining => {
            let leads = |log| directory.leader(log).is_some_and(|(leader, _)| leader == node);
            let named = metadata.partitions_on(node).map(|(name, one)| (name, one.incarnation));
            let all = named.chain([("the metadata".to_owned(), Incarnation::METADATA)]);
            let led: Vec<_> = all.filter(|(_, log)| leads(*log)).collect();
            let mut alone = led.iter().filter(|(_, log)| !others_could(directory, node, *log));
            let (example, count) = (alone.next()?, alone.count() + 1);
            (count == led.len()).then(|| {
                format!(
                    "node {node} goes on leading {count} partitions, {} among them: no other node \
                     that is alive and serves has a copy",
                    example.0
                )
            })
        }
    }
}

/// Whether a node that serves could lead instead of `node`.
fn others_could(directory: &Directory, node: NodeId, log: Incarnation) -> bool {
    let metadata = &directory.metadata;
    replica_nodes(metadata, log).into_iter().any(|other| {
        let standing = metadata.member(other).map(|member| member.standing);
        let serves = standing == Some(Standing::Serving) && directory.live().contains(&other);
        other != node && serves
    })
}
