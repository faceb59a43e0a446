//! How nodes meet: the founding of a cluster, and whose word is heard afterwards.
//!
//! ```text
//!   empty ──(every configured voter shows its founding id and the same list)──> found
//!   empty ──(a founded voter has us on its record)────────────────────────────> join
//!   empty ──(a member has a permit for us)──> admitted by the controller ─────> join
//!   votes lost ──(a member knows the directory that we had)──> admitted ──────> join
//!   empty ──(a founded voter does not know us)────────────────────────────────> stop, exit code 4
//!   member ──(removed meanwhile)──────────────────────────────────────────────> stop, exit code 4
//! ```
//!
//! Invariants
//! - Two lists that differ stop both nodes, each of which prints both (exit code 2).
//! - A recorded founder makes its first frame from the record, never from its own file. Nobody is
//!   let in as a founder by whoever does not know whether it is one.
//! - After the founding a node with another founding id is another data directory: refused.
//!
//! - Who is behind hears whoever is ahead, recorded here or not: it could not catch up otherwise.
//! - A node that joins later begins with an empty metadata log, under the replica id that it was
//!   given; it gets all of it from the others.
//!
//! Absent on purpose: who gets a permit, which is the operator's and the controller's.

use super::accepted::Shown;
use super::forward::OWN_TIMEOUT_MS;
use super::{Node, NodeEffect, PeerBoot, Phase, Voter};
use crate::clock::Now;
use crate::controller::{
    BootEpoch, ClusterId, ControllerError, ControllerRequest, ControllerResponse, Founder,
    MembershipRequest, MembershipResponse, NodeError,
};
use bateau_protocol::ids::{LogIndex, NodeId, ReplicaId};
use bateau_protocol::limits::PEER_VOTERS_MAX;
use bateau_protocol::peer::{
    Hello, HelloAnswer, PEER_VERSION_MAX, PEER_VERSION_MIN, Refusal, RefusalReason, VoterEntry,
    Welcome, common_peer_version, operator_text,
};
use std::sync::Arc;
use thiserror::Error;

/// Why a node does not start, or stops before it belongs to a cluster.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StartRefusal {
    /// Two configurations differ (exit code 2).
    #[error(
        "cluster.voters differ: node {own} has [{own_voters}], node {other} has [{other_voters}]; \
         make them equal on every founder"
    )]
    UnequalVoters {
        /// This node.
        own: NodeId,
        /// Its list.
        own_voters: String,
        /// The other one.
        other: NodeId,
        /// Its list.
        other_voters: String,
    },
    /// The same, as the other node says it (exit code 2).
    #[error("{reason}")]
    UnequalWith {
        /// Who said so.
        by: NodeId,
        /// In its words, with both lists.
        reason: String,
    },
    /// A cluster does not take this node (exit code 4).
    #[error("node {by} refuses this node: {reason}")]
    NotTaken {
        /// Who said so.
        by: NodeId,
        /// In its words.
        reason: String,
    },
}

/// Nodes without a permit that are remembered; others are asked for again.
const NOT_LET_IN_MAX: usize = 64;

/// Nodes that are not recorded here and heard all the same.
const AHEAD_MAX: usize = 64;

/// What both sides of a link show of themselves.
struct Face<'a> {
    node: NodeId,
    founding_id: [u8; 16],
    boot: BootEpoch,
    cluster_id: Option<ClusterId>,
    is_founded: bool,
    voters: &'a [VoterEntry],
    /// By which it was a member, until it lost its votes.
    former_founding_id: Option<[u8; 16]>,
    /// Where it is, as far as it says.
    peers_address: &'a str,
    /// How far it has applied the metadata.
    metadata_index: LogIndex,
}

/// As what a node begins.
enum Place {
    /// It makes frame 1 of the metadata log.
    Founder,
    /// It gets all of that log, for a replica with this id.
    Later(ReplicaId),
}

impl Face<'_> {
    const fn start(&self) -> PeerBoot {
        PeerBoot { directory: self.founding_id, boot: self.boot }
    }
}

impl Node {
    pub(super) fn hello_to(&self, node: NodeId) -> Hello {
        Hello {
            version_min: PEER_VERSION_MIN,
            version_max: PEER_VERSION_MAX,
            cluster_id: self.cluster_id.map(|id| id.0),
            node_id: self.settings.node_id,
            founding_id: self.settings.founding_id,
            boot_epoch: self.settings.boot.epoch,
            start_id: self.settings.boot.start_id,
            expected_node_id: node,
            shard: 0,
            is_founded: self.is_founded(),
            voters: self.shown_voters(),
            peers_address: self.settings.peers_address.to_string().into(),
            metadata_index: self.metadata.applied(),
            former_founding_id: self.settings.former_founding_id,
        }
    }

    /// The recorded members; before there is a record, the configured voters.
    fn shown_voters(&self) -> Vec<VoterEntry> {
        let entry = |node: NodeId, address: &str, founding_id: [u8; 16]| VoterEntry {
            node_id: node,
            address: address.to_owned().into(),
            founding_id,
        };
        if self.is_founded() {
            let members = self.members.iter().take(PEER_VOTERS_MAX);
            members
                .map(|member| entry(member.node, &member.peers_address, member.founding_id))
                .collect()
        } else {
            let voters = self.settings.voters.iter();
            voters.map(|voter| entry(voter.node, &voter.address, [0; 16])).collect()
        }
    }

    pub(super) fn hear_hello(&mut self, link: u64, hello: Hello, now: Now) {
        let boot = boot(hello.boot_epoch, hello.start_id);
        let start = PeerBoot { directory: hello.founding_id, boot };
        let answer = match self.judge_hello(&hello) {
            Ok(_) if !self.is_noted(hello.node_id, start) => {
                return self.boots.hold_hello(link, hello);
            }
            Ok(version) => {
                if !hello.is_founded && hello.former_founding_id.is_none() {
                    self.meet(hello.node_id, hello.founding_id);
                }
                let metadata_index = hello.metadata_index;
                let shown = Shown { directory: hello.founding_id, metadata_index };
                self.accept(hello.node_id, link, shown);
                self.note_contact(hello.node_id, now);
                self.repeat(hello.node_id, now);
                self.dial_soon(hello.node_id, now);
                HelloAnswer::Welcome(self.welcome(version, hello.node_id))
            }
            Err(refusal) => HelloAnswer::Refused(refusal),
        };
        self.effects.push(NodeEffect::Answer { link, answer });
    }

    /// What a recorded node begins with that has nothing yet.
    fn place_of(&self, node: NodeId) -> Option<Place> {
        let quorum = self.metadata.quorum();
        if quorum.assignment > 0 {
            return quorum.replica_on(node).map(|replica| Place::Later(replica.id));
        }
        // Before the first assignment the record has nobody but founders.
        (self.is_founder || self.metadata.founding().is_some()).then_some(Place::Founder)
    }

    fn welcome(&self, version: u16, to: NodeId) -> Welcome {
        let place = self.place_of(to);
        Welcome {
            version,
            cluster_id: self.cluster_id.map(|id| id.0),
            node_id: self.settings.node_id,
            founding_id: self.settings.founding_id,
            boot_epoch: self.settings.boot.epoch,
            start_id: self.settings.boot.start_id,
            is_founded: self.is_founded(),
            voters: self.shown_voters(),
            replica_id: match place {
                Some(Place::Later(replica)) => Some(replica),
                Some(Place::Founder) | None => None,
            },
            metadata_index: self.metadata.applied(),
        }
    }

    fn judge_hello(&mut self, hello: &Hello) -> Result<u16, Refusal> {
        let own = self.settings.node_id;
        let ours = (PEER_VERSION_MIN, PEER_VERSION_MAX);
        let theirs = (hello.version_min, hello.version_max);
        let Some(version) = common_peer_version(ours, theirs) else {
            let text = format!(
                "node {own} speaks the peer protocol's versions {} to {}, node {} speaks {} to {}",
                ours.0, ours.1, hello.node_id, theirs.0, theirs.1
            );
            return Err(refusal(RefusalReason::VersionMismatch, &text));
        };
        if hello.expected_node_id != own {
            let text = format!("this is node {own}, not node {}", hello.expected_node_id);
            return Err(refusal(RefusalReason::WrongNode, &text));
        }
        if hello.shard != 0 {
            let text = format!("node {own} has one shard, not a shard {}", hello.shard);
            return Err(refusal(RefusalReason::WrongShard, &text));
        }
        let face = Face {
            node: hello.node_id,
            founding_id: hello.founding_id,
            boot: boot(hello.boot_epoch, hello.start_id),
            cluster_id: hello.cluster_id.map(ClusterId),
            is_founded: hello.is_founded,
            voters: &hello.voters,
            former_founding_id: hello.former_founding_id,
            peers_address: hello.peers_address.as_str(),
            metadata_index: hello.metadata_index,
        };
        self.judge(&face).map(|()| version)
    }

    /// Whether somebody may be heard.
    fn judge(&mut self, face: &Face<'_>) -> Result<(), Refusal> {
        let (own, other) = (self.settings.node_id, face.node);
        if let (Some(ours), Some(theirs)) = (self.cluster_id, face.cluster_id)
            && ours != theirs
        {
            let text = format!("node {own} is of cluster {ours}, node {other} of {theirs}");
            return Err(refusal(RefusalReason::WrongCluster, &text));
        }
        if other == own {
            let text = format!("node {own} is here: no two nodes may have one node.id");
            return Err(refusal(RefusalReason::WrongNode, &text));
        }
        if self.is_founded() {
            self.judge_by_record(face)?;
            if !face.is_founded && self.place_of(other).is_none() {
                let text = format!("node {own} does not know yet as what node {other} begins");
                return Err(refusal(RefusalReason::NotReady, &text));
            }
        } else if !face.is_founded {
            self.judge_unfounded(face)?;
        }
        if self.cluster_id.is_none() && self.is_founded() {
            // A node that has joined and has nothing yet: whoever is on its record knows.
            let knows = self.is_recorded(other, face.founding_id);
            self.cluster_id = face.cluster_id.filter(|_| knows);
        }
        let seen = self.boots.newest_of(other, face.founding_id);
        if !seen.admits(face.boot) {
            let text = format!(
                "node {other} has started since: boot epoch {} is not above {}; its data \
                 directory is an old copy",
                face.boot.epoch, seen.epoch
            );
            return Err(refusal(RefusalReason::OlderBoot, &text));
        }
        Ok(())
    }

    fn judge_by_record(&mut self, face: &Face<'_>) -> Result<(), Refusal> {
        let (own, other) = (self.settings.node_id, face.node);
        let is_recorded = self.is_recorded(other, face.founding_id);
        if !is_recorded && self.is_ahead(face) && self.note_ahead(face) {
            return Ok(());
        }
        // Whether it has a permit, the controller knows: this node's metadata may be behind.
        let is_refused = self.not_let_in.get(&other) == Some(&face.founding_id);
        let says_where = !face.peers_address.is_empty();
        if !face.is_founded && !is_recorded && !is_refused && says_where {
            self.let_in(face);
            let text = format!("node {own} asks the controller whether node {other} may come");
            return Err(refusal(RefusalReason::NotReady, &text));
        }
        let is_member = self.members.iter().any(|member| member.node == other);
        if self.metadata.former_member(other) == Some(face.founding_id) {
            let text = match is_member {
                false => format!(
                    "node {other} was removed from the cluster; nobody needs its data directory now"
                ),
                true => format!(
                    "node {other} shows a data directory that another one has replaced; nobody \
                     needs it now"
                ),
            };
            return Err(refusal(RefusalReason::Removed, &text));
        }
        if !is_member {
            let text = format!(
                "node {other} is not a member of node {own}'s cluster; `bateau node add {other}` \
                 lets a new node in, `bateau node replace {other}` puts one in the place of a lost \
                 one"
            );
            return Err(refusal(RefusalReason::UnknownNode, &text));
        }
        if !is_recorded {
            let text = format!(
                "node {other} shows another data directory than the one that founded the cluster; \
                 `bateau node replace {other}` puts it in the place of the lost one"
            );
            return Err(refusal(RefusalReason::WrongFoundingId, &text));
        }
        Ok(())
    }

    /// Whether a node that is not recorded here may be one all the same: it is of this cluster, and
    /// knows more of it. Whoever leads the metadata has to be heard by whoever is behind.
    fn is_ahead(&self, face: &Face<'_>) -> bool {
        let is_ours = self.cluster_id.is_some() && self.cluster_id == face.cluster_id;
        face.is_founded && is_ours && face.metadata_index > self.metadata.applied()
    }

    /// Remembers where such a node is, to be able to answer it. Whether it may be heard: it is one
    /// of a bounded number, or we have dialled it.
    fn note_ahead(&mut self, face: &Face<'_>) -> bool {
        if face.peers_address.is_empty() {
            return self.links.contains_key(&face.node);
        }
        let has_room = self.ahead.len() < AHEAD_MAX || self.ahead.contains_key(&face.node);
        if has_room {
            self.ahead.insert(face.node, (face.metadata_index, face.peers_address.into()));
        }
        has_room
    }

    /// Asks the controller to make a member of a node, for which it must have a permit.
    fn let_in(&mut self, face: &Face<'_>) {
        let founder = Founder {
            node: face.node,
            founding_id: face.founding_id,
            peers_address: face.peers_address.into(),
        };
        let former = face.former_founding_id;
        let request = MembershipRequest::Admit { founder, former };
        let timeout_ms = OWN_TIMEOUT_MS;
        self.ask_for_ourselves(ControllerRequest::Membership { request, timeout_ms });
    }

    /// What the controller says to what this node has asked for itself.
    pub(super) fn hear_own_answer(
        &mut self,
        request: ControllerRequest,
        response: Result<ControllerResponse, ControllerError>,
    ) {
        if let ControllerRequest::Membership { request, .. } = request
            && let MembershipRequest::Admit { founder, .. } = request
            && let Ok(ControllerResponse::Membership(response)) = response
            // Of one that seems to be alive it is asked again.
            && let MembershipResponse::Admitted(Err(NodeError::NotPermitted { .. })) = response
            && self.not_let_in.len() < NOT_LET_IN_MAX
        {
            self.not_let_in.insert(founder.node, founder.founding_id);
        }
    }

    /// Neither of the two is of a cluster, as far as it shows. Whoever was of one waits for that.
    fn judge_unfounded(&mut self, face: &Face<'_>) -> Result<(), Refusal> {
        let has_been = [
            (self.settings.node_id, self.settings.former_founding_id),
            (face.node, face.former_founding_id),
        ];
        if let Some((waits, _)) = has_been.into_iter().find(|(_, former)| former.is_some()) {
            let text = format!(
                "node {waits} has lost its votes and waits for members of its cluster, of which \
                 none is met here"
            );
            return Err(refusal(RefusalReason::NotReady, &text));
        }
        self.judge_by_list(face)
    }

    fn judge_by_list(&mut self, face: &Face<'_>) -> Result<(), Refusal> {
        let theirs: Vec<Voter> = face.voters.iter().map(voter).collect();
        if sorted(&theirs) == sorted(&self.settings.voters) {
            return self.judge_by_place(face.node);
        }
        let unequal = StartRefusal::UnequalVoters {
            own: self.settings.node_id,
            own_voters: listed(&self.settings.voters),
            other: face.node,
            other_voters: listed(&theirs),
        };
        let text = unequal.to_string();
        self.effects.push(NodeEffect::Stop(unequal));
        Err(refusal(RefusalReason::UnequalVoters, &text))
    }

    fn judge_by_place(&self, other: NodeId) -> Result<(), Refusal> {
        if self.settings.voters.iter().any(|voter| voter.node == other) {
            return Ok(());
        }
        let listed = listed(&self.settings.voters);
        let text = format!("node {other} is not one of cluster.voters, which are [{listed}]");
        Err(refusal(RefusalReason::UnknownNode, &text))
    }

    pub(super) fn hear_welcome(&mut self, node: NodeId, welcome: Welcome, now: Now) {
        let face = Face {
            node: welcome.node_id,
            founding_id: welcome.founding_id,
            boot: boot(welcome.boot_epoch, welcome.start_id),
            cluster_id: welcome.cluster_id.map(ClusterId),
            is_founded: welcome.is_founded,
            voters: &welcome.voters,
            former_founding_id: None,
            peers_address: "",
            metadata_index: welcome.metadata_index,
        };
        let start = face.start();
        if node != welcome.node_id || self.judge(&face).is_err() {
            self.effects.push(NodeEffect::HangUp { node });
            self.note_link_down(node, now);
            return;
        }
        if !self.is_noted(node, start) {
            return self.boots.hold_welcome(node, welcome);
        }
        if !welcome.is_founded {
            self.meet(node, welcome.founding_id);
        }
        let Welcome { founding_id: directory, metadata_index, .. } = welcome;
        self.note_link_up(node, Shown { directory, metadata_index }, now);
        if welcome.is_founded && self.phase == Phase::Meeting {
            // It let us in, so it has us on its record, and knows the others.
            let recorded = welcome.voters.iter();
            self.met.extend(recorded.map(|founder| (founder.node_id, founder.founding_id)));
            let voters = welcome.voters.iter().map(voter).collect();
            match welcome.replica_id {
                Some(replica_id) => self.join(voters, replica_id, welcome.cluster_id),
                None => self.found(voters),
            }
        }
    }

    /// The cluster has begun without us, or has gone on: there is no first frame to be made.
    fn join(&mut self, members: Vec<Voter>, replica_id: ReplicaId, cluster_id: Option<[u8; 16]>) {
        self.members = self.met_members(members);
        self.phase = Phase::Storing;
        let members = self.members.clone();
        let cluster_id = cluster_id.map(ClusterId);
        self.cluster_id = cluster_id;
        self.effects.push(NodeEffect::Join { members, replica_id, cluster_id });
    }

    pub(super) fn hear_refusal(&mut self, node: NodeId, refused: &Refusal, now: Now) {
        self.note_link_down(node, now);
        let is_final = match refused.reason {
            RefusalReason::NotReady
            | RefusalReason::VersionMismatch
            | RefusalReason::WrongNode
            | RefusalReason::WrongCertificate => false,
            // A member has a cluster to go on with; somebody else's mistake is not its end.
            RefusalReason::WrongCluster
            | RefusalReason::UnknownNode
            | RefusalReason::WrongFoundingId
            | RefusalReason::UnequalVoters => !self.is_founded(),
            RefusalReason::OlderBoot | RefusalReason::Removed => true,
            RefusalReason::WrongShard | RefusalReason::Other(_) => false,
        };
        if is_final {
            let (by, reason) = (node, refused.text.as_str().to_owned());
            self.effects.push(NodeEffect::Stop(match refused.reason {
                RefusalReason::UnequalVoters => StartRefusal::UnequalWith { by, reason },
                _ => StartRefusal::NotTaken { by, reason },
            }));
        }
    }

    /// Notes another founder that has not founded either. A member's greeting says nothing of
    /// whether its cluster has us on its record: only its welcome does.
    fn meet(&mut self, node: NodeId, founding_id: [u8; 16]) {
        if self.phase == Phase::Meeting {
            self.met.insert(node, founding_id);
        }
    }

    /// With the word of every configured voter, the cluster begins.
    pub(super) fn found_if_all_met(&mut self) {
        let own = self.settings.node_id;
        let is_met = |voter: &Voter| voter.node == own || self.met.contains_key(&voter.node);
        if self.settings.former_founding_id.is_some() {
            return;
        }
        let names_us = self.settings.voters.iter().any(|voter| voter.node == own);
        if self.phase == Phase::Meeting && names_us && self.settings.voters.iter().all(is_met) {
            self.found(self.settings.voters.clone());
        }
    }

    fn found(&mut self, voters: Vec<Voter>) {
        self.members = self.met_members(voters);
        self.phase = Phase::Storing;
        self.is_founder = true;
        self.effects.push(NodeEffect::Found { founders: self.members.clone() });
    }

    /// With what they showed, as far as this node has met them.
    fn met_members(&self, mut voters: Vec<Voter>) -> Vec<Founder> {
        voters.sort_unstable();
        let founder = |voter: Voter| {
            let is_own = voter.node == self.settings.node_id;
            let met = self.met.get(&voter.node).copied();
            let founding_id =
                if is_own { self.settings.founding_id } else { met.unwrap_or_default() };
            Founder { node: voter.node, founding_id, peers_address: voter.address }
        };
        voters.into_iter().map(founder).collect()
    }
}

const fn boot(epoch: u64, start_id: u64) -> BootEpoch {
    BootEpoch { epoch, start_id }
}

fn voter(entry: &VoterEntry) -> Voter {
    Voter { node: entry.node_id, address: Arc::from(entry.address.as_str()) }
}

fn sorted(voters: &[Voter]) -> Vec<Voter> {
    let mut sorted = voters.to_vec();
    sorted.sort_unstable();
    sorted
}

fn listed(voters: &[Voter]) -> String {
    let names: Vec<String> = sorted(voters).iter().map(Voter::to_string).collect();
    names.join(", ")
}

fn refusal(reason: RefusalReason, text: &str) -> Refusal {
    Refusal { reason, text: operator_text(text) }
}
