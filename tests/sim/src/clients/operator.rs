//! The operator: nodes are added, removed and put in the place of lost ones; partitions move.
//!
//! Invariants: a directory is lost only while everything on it has two healthy copies elsewhere,
//! so that nothing that was acknowledged may be lost.
//!
//! Absent on purpose: what is refused, which the controller decides; a refusal is a refusal.

use super::{Answer, Ask, ClientId};
use crate::event::{Event, Micros, NodeAt};
use crate::node::Node;
use crate::plan::FaultClass;
use crate::world::World;
use bateau_core::controller::{
    ControllerRequest, ControllerResponse, Member, MembershipRequest, MembershipResponse, Metadata,
    Partition, Permit, Reassign, Standing,
};
use bateau_core::shard::Reply;
use bateau_protocol::ids::{Incarnation, NodeId};
use std::sync::Arc;

const TIMEOUT_MS: u64 = 1_000;
/// Between two errands, at most, in microseconds.
const PAUSE_MAX: Micros = 1_000_000;
/// How long a request may be on its way to whoever decides it.
const ON_ITS_WAY: Micros = 8_000_000;
/// Refusals behind which an errand is given up.
const REFUSALS_MAX: u64 = 20;

/// The operator.
#[derive(Default)]
pub struct Operator {
    errand: Option<Errand>,
    /// What has to wait until a disk that is of no use is replaced.
    put_off: Option<Errand>,
    refusals: u64,
    next_at: Micros,
    /// Requests to move a partition that were not answered.
    moves_asked: u64,
    /// Until then they may be on their way.
    moves_until: Micros,
}

/// What the operator is about.
#[derive(Clone, Copy, Debug)]
enum Errand {
    Add(NodeAt),
    Remove(NodeAt),
    Replace(NodeAt),
    /// Its votes are lost, and it comes back by itself.
    TakeBack(NodeAt),
    /// It gives its leaderships away.
    Drain(NodeAt),
    /// It may have them again.
    Resume(NodeAt),
    /// A partition moves.
    Move(Incarnation),
}

impl Operator {
    /// Whether nothing is begun and not finished.
    pub fn is_done(&self) -> bool {
        self.errand.is_none() && self.put_off.is_none()
    }

    /// What it is about, in words.
    pub fn describe(&self) -> String {
        format!("{:?}, put off {:?}", self.errand, self.put_off)
    }

    /// Whether no partition may be asked to move that was not shown to.
    fn has_no_move_on_its_way(&self, at: Micros) -> bool {
        self.moves_asked == 0 || at >= self.moves_until
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        if let Reply::Controller(Ok(ControllerResponse::Membership(response))) = answer.reply {
            let is_refused = match response {
                MembershipResponse::Permitted(result) | MembershipResponse::Standing(result) => {
                    result.is_err()
                }
                MembershipResponse::Reassigned(_) => {
                    self.moves_asked = self.moves_asked.saturating_sub(1);
                    false
                }
                _ => false,
            };
            self.refusals += u64::from(is_refused);
        }
    }
}

impl World {
    pub(super) fn tick_operator(&mut self, id: ClientId, operator: &mut Operator) {
        if self.random.chance(60) {
            return;
        }
        let Some(metadata) = self.newest_metadata() else { return };
        if metadata.topic("orders").is_none() {
            return;
        }
        if self.is_healing && !matches!(operator.errand, Some(Errand::Replace(_))) {
            self.replace_first(operator, &metadata);
        }
        if let Some(errand) = operator.errand {
            let is_awaited =
                matches!(errand, Errand::Move(_)) && !operator.has_no_move_on_its_way(self.at);
            let is_over = !is_awaited && self.go_on(id, errand, &metadata);
            if is_over || operator.refusals > REFUSALS_MAX {
                operator.errand = match errand {
                    Errand::Drain(n) => Some(Errand::Resume(n)),
                    Errand::Move(log) if !self.is_healing => self.lose_leader(log, &metadata),
                    _ => operator.put_off.take(),
                };
                operator.next_at = self.at + self.random.below(PAUSE_MAX);
            }
        } else if !self.is_healing && self.at >= operator.next_at {
            operator.refusals = 0;
            operator.errand = self.begin_errand(id, operator, &metadata);
            operator.next_at = self.at + self.random.below(PAUSE_MAX);
        }
    }

    /// A node whose disk is of no use, and that is to stay, is replaced before anything else goes
    /// on: what moves may be on its way there.
    fn replace_first(&mut self, operator: &mut Operator, metadata: &Metadata) {
        let Some(n) = self.silenced(metadata) else { return };
        if matches!(operator.errand, Some(Errand::Remove(leaving)) if leaving == n) {
            return;
        }
        self.count("errands: a disk that has lied is replaced");
        operator.refusals = 0;
        operator.put_off = operator.errand.take().or(operator.put_off);
        operator.errand = Some(self.lose_disk(n));
    }

    fn begin_errand(
        &mut self,
        id: ClientId,
        operator: &mut Operator,
        metadata: &Metadata,
    ) -> Option<Errand> {
        let n = self.any_node();
        let member = metadata.member(self.nodes[n].id);
        let serving = metadata.members().filter(|one| one.standing == Standing::Serving).count();
        let lies = self.plan.has(FaultClass::Corruption);
        let least = if lies { 3 } else { usize::try_from(self.plan.nodes.min(3)).unwrap_or(3) };
        match self.random.below(6) {
            0 if member.is_none() && self.nodes[n].is_out => {
                self.count("errands: a node is added");
                self.nodes[n].is_out = false;
                self.events.put(self.at + self.random.below(500_000), Event::Restart(n));
                Some(Errand::Add(n))
            }
            1 if member.is_some() && serving > least => {
                self.count("errands: a node is removed");
                Some(Errand::Remove(n))
            }
            2 if member.is_some()
                && operator.has_no_move_on_its_way(self.at)
                && self.may_lose_directory(n, metadata) =>
            {
                self.count("errands: a disk is lost");
                Some(self.lose_disk(n))
            }
            3 if member.is_some()
                && operator.has_no_move_on_its_way(self.at)
                && self.may_lose_directory(n, metadata) =>
            {
                self.count("errands: votes are lost");
                if self.nodes[n].process.is_some() {
                    self.kill(n);
                }
                let copy = usize::try_from(self.random.below(3)).ok();
                self.nodes[n].lose_votes(copy.filter(|copy| *copy < 2));
                self.nodes[n].is_wiped = true;
                Some(Errand::TakeBack(n))
            }
            4 => {
                operator.moves_asked += 1;
                operator.moves_until = self.at + ON_ITS_WAY;
                let moved = self.reassign(id, metadata)?;
                // Or something else is begun meanwhile.
                self.random.chance(50).then_some(Errand::Move(moved))
            }
            5 if member.is_some_and(|member| member.standing == Standing::Serving) => {
                self.count("errands: a node is drained");
                Some(Errand::Drain(n))
            }
            _ => None,
        }
    }

    /// A node gets an empty disk, and is to be replaced.
    fn lose_disk(&mut self, n: NodeAt) -> Errand {
        if self.nodes[n].process.is_some() {
            self.kill(n);
        }
        let seed = self.random.next_u64();
        self.nodes[n].wipe(seed);
        self.nodes[n].directory = [0; 16];
        self.nodes[n].is_wiped = true;
        self.events.put(self.at + self.random.below(500_000), Event::Restart(n));
        Errand::Replace(n)
    }

    /// Whoever leads a partition that has just got where it was to go loses its disk, and everybody
    /// else at most the power: the others alone have to know where it is.
    fn lose_leader(&mut self, log: Incarnation, metadata: &Metadata) -> Option<Errand> {
        let n = self.find_leader(log);
        let is_member = metadata.member(self.nodes[n].id).is_some();
        if !is_member || !self.random.chance(50) || !self.may_lose_directory(n, metadata) {
            return None;
        }
        self.count("errands: the disk of a leader is lost behind a move");
        if self.random.chance(50) {
            let others = (0..self.nodes.len()).filter(|other| *other != n);
            others.collect::<Vec<_>>().into_iter().for_each(|other| self.crash(other));
        }
        Some(self.lose_disk(n))
    }

    /// A member that does not come back with the disk that it has.
    fn silenced(&self, metadata: &Metadata) -> Option<NodeAt> {
        let is_lost = |node: &Node| node.is_silenced && metadata.member(node.id).is_some();
        let has_operator = self.plan.has(FaultClass::Membership);
        self.nodes.iter().position(is_lost).filter(|_| has_operator)
    }

    /// Goes on with an errand; whether it is over.
    fn go_on(&mut self, id: ClientId, errand: Errand, metadata: &Metadata) -> bool {
        match errand {
            Errand::Add(n) => {
                if metadata.member(self.nodes[n].id).is_none() {
                    self.permit(id, n, Permit::Join, metadata);
                    return false;
                }
                self.nodes[n].process.as_ref().is_some_and(|process| process.shard.is_some())
            }
            Errand::Remove(n) => {
                let node = self.nodes[n].id;
                match metadata.member(node).map(|member| member.standing) {
                    None => {
                        self.retire(n);
                        true
                    }
                    Some(Standing::Leaving) => false,
                    Some(_) => {
                        self.stand(id, n, Standing::Leaving, metadata);
                        false
                    }
                }
            }
            Errand::Replace(n) => {
                let is_there = self.is_back(n, metadata);
                if is_there.is_none() {
                    self.permit(id, n, Permit::Replace, metadata);
                }
                is_there.unwrap_or(false)
            }
            Errand::TakeBack(n) => self.is_back(n, metadata).unwrap_or(false),
            Errand::Drain(n) => {
                let is_drained = self.stand(id, n, Standing::Draining, metadata);
                let leads = is_drained && self.leads_something(n);
                if is_drained && !leads {
                    self.count("mark: a drained node leads nothing");
                }
                // There may be nobody else to lead.
                is_drained && (!leads || self.is_healing || self.random.chance(5))
            }
            Errand::Resume(n) => self.stand(id, n, Standing::Serving, metadata),
            Errand::Move(_) => metadata.reassigned().next().is_none(),
        }
    }

    /// Whether a node that has lost its directory has got everything again; `None` before the
    /// cluster has taken it.
    fn is_back(&mut self, n: NodeAt, metadata: &Metadata) -> Option<bool> {
        let (node, directory) = (self.nodes[n].id, self.nodes[n].directory);
        let is_it = |member: &Member| member.founder.founding_id == directory;
        metadata.member(node).filter(|member| is_it(member))?;
        self.nodes[n].is_wiped = is_behind(metadata, node);
        Some(!self.nodes[n].is_wiped)
    }

    /// Sees to it that a member is to do this; whether it is so.
    fn stand(&mut self, id: ClientId, n: NodeAt, standing: Standing, metadata: &Metadata) -> bool {
        let node = self.nodes[n].id;
        let is_so = metadata.member(node).is_none_or(|member| member.standing == standing);
        if !is_so {
            self.ask_members(id, MembershipRequest::SetStanding { node, standing });
        }
        is_so
    }

    fn leads_something(&self, n: NodeAt) -> bool {
        let process = self.nodes[n].process.as_ref();
        process.is_some_and(|one| one.seen.values().any(|seen| seen.leads.is_some()))
    }

    /// Lets a node come, and gives it a new file where all that its own names have left.
    fn permit(&mut self, id: ClientId, n: NodeAt, permit: Permit, metadata: &Metadata) {
        let node = &self.nodes[n];
        let is_stranded = node.names.iter().all(|name| metadata.member(*name).is_none());
        let waits = node.process.as_ref().is_some_and(|process| process.shard.is_none());
        let node = node.id;
        if waits && is_stranded {
            self.count("errands: a node gets another file");
            self.kill(n);
        }
        if metadata.permit_of(node).is_none() {
            self.ask_members(id, MembershipRequest::Permit { node, permit });
        }
    }

    fn ask_members(&mut self, id: ClientId, request: MembershipRequest) {
        let n = self.any_node();
        let request = ControllerRequest::Membership { request, timeout_ms: TIMEOUT_MS };
        self.ask(id, n, Ask::Controller(request));
    }

    /// A node that is no member any more is not run any more, and its disk is emptied.
    fn retire(&mut self, n: NodeAt) {
        self.count("nodes retired");
        self.nodes[n].is_out = true;
        if self.nodes[n].process.is_some() {
            self.kill(n);
        }
        let seed = self.random.next_u64();
        self.nodes[n].wipe(seed);
    }

    /// Whether a node's disk may go: all that is on it has two healthy copies elsewhere.
    fn may_lose_directory(&self, n: NodeAt, metadata: &Metadata) -> bool {
        let others = self.nodes.iter().enumerate().filter(|(at, _)| *at != n);
        others.into_iter().all(|(_, node)| !node.is_corrupted) && self.has_two_others(n, metadata)
    }

    /// Whether everything on a node's disk has two copies elsewhere, and nothing is on its way.
    pub(crate) fn has_two_others(&self, n: NodeAt, metadata: &Metadata) -> bool {
        let id = self.nodes[n].id;
        let quorum = metadata.quorum();
        let is_quiet = metadata.reassigned().next().is_none()
            && !quorum.is_open
            && quorum.voters.len() >= 3
            && !has_lost_replicas(metadata)
            && metadata.members().all(|member| member.standing == Standing::Serving);
        let is_copied = |partition: &Partition| {
            partition.holders().all(|held| held.node != id) || partition.replicas.len() >= 3
        };
        is_quiet && partitions(metadata).all(|partition| is_copied(&partition))
    }

    fn reassign(&mut self, id: ClientId, metadata: &Metadata) -> Option<Incarnation> {
        let mut nodes: Vec<i32> = metadata
            .members()
            .filter(|member| member.standing == Standing::Serving)
            .filter_map(|member| i32::try_from(member.founder.node.get()).ok())
            .collect();
        // One disk that lies is a minority of three.
        let lies = self.plan.has(FaultClass::Corruption);
        let keep = if lies || self.random.chance(70) { 3 } else { 1 + self.random.below(3) };
        let keep = usize::try_from(keep).unwrap_or(3);
        while nodes.len() > keep.max(1) {
            let at = self.random.below(nodes.len() as u64);
            nodes.swap_remove(usize::try_from(at).unwrap_or(0));
        }
        let partition = i32::try_from(self.random.below(4)).unwrap_or(0);
        let nodes = (!self.random.chance(15)).then_some(nodes);
        self.count("errands: a partition moves");
        let moved = Reassign { topic: "orders".to_owned(), partition, nodes };
        self.ask_members(id, MembershipRequest::Reassign(vec![moved]));
        let partitions = &metadata.topic("orders")?.partitions;
        partitions.get(usize::try_from(partition).ok()?).map(|one| one.incarnation)
    }

    /// A change of membership that has not come to its end, in words.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let metadata: Arc<Metadata> = self.newest_metadata()?;
        let errand = self.clients.iter().flatten().find_map(|client| match client {
            super::Client::Operator(operator) if !operator.is_done() => Some(operator.describe()),
            _ => None,
        });
        if let Some(errand) = errand {
            let members: Vec<_> = metadata.members().collect();
            return Some(format!(
                "{errand}, {:?}, {members:?}, {}",
                metadata.quorum(),
                self.moving()
            ));
        }
        if metadata.quorum().is_open {
            return Some(format!("the quorum is to be {:?}", metadata.quorum()));
        }
        let leaving = metadata.members().find(|one| one.standing == Standing::Leaving);
        if let Some(leaving) = leaving {
            return Some(format!("{leaving:?} has not left"));
        }
        if has_lost_replicas(&metadata) {
            return Some("replicas are lost, and not renewed".to_owned());
        }
        if let Some(n) = self.silenced(&metadata) {
            return Some(format!("node {} has a disk that is of no use", n + 1));
        }
        metadata.reassigned().next().map(|_| self.moving())
    }

    /// A partition that moves, in words.
    fn moving(&self) -> String {
        let Some(metadata) = self.newest_metadata() else { return String::new() };
        let Some((topic, number, one)) = metadata.reassigned().next() else {
            return "nothing moves".to_owned();
        };
        let state = |node: &Node| match &node.process {
            Some(process) => format!("node {}: {}", node.id, process.describe(one.incarnation)),
            None => format!("node {}: down, silenced {}", node.id, node.is_silenced),
        };
        let states: Vec<_> = self.nodes.iter().map(state).collect();
        format!("{}/{number} moves: {one:?}; {}", topic.name, states.join("; "))
    }
}

fn partitions(metadata: &Metadata) -> impl Iterator<Item = Partition> + '_ {
    let topics = metadata.topics().chain(metadata.group_topic());
    topics.flat_map(|topic| topic.partitions.iter().cloned())
}

/// Whether a replaced node has not got everything yet that it is to hold.
fn is_behind(metadata: &Metadata, node: NodeId) -> bool {
    let moves = |partition: &Partition| partition.holders().any(|one| one.node == node);
    let is_moving = metadata.reassigned().any(|(.., partition)| moves(partition));
    is_moving || has_lost_replicas(metadata) || metadata.quorum().is_open
}

fn has_lost_replicas(metadata: &Metadata) -> bool {
    partitions(metadata).any(|one| one.holders().any(|replica| metadata.is_lost(replica)))
}
