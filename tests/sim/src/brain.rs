//! A node's own brain: what `Node` decides, carried out over simulated links.
//!
//! Invariants
//! - The brain is told everything in the order in which it happened.
//! - A cluster is founded once: every node that ever was of one shows the same id (decision 16).
//!
//! Absent on purpose: rules, which are `Node`'s.

use crate::event::{Event, Micros, NodeAt};
use crate::links::LinkId;
use crate::plan::FaultClass;
use crate::process::{Process, Waiter, peers_address};
use crate::turn::Ending;
use crate::world::World;
use bateau_core::clock::Now;
use bateau_core::controller::{
    ClusterId, ControllerRequest, ControllerResponse, Founder, Metadata, NodeRegistration,
};
use bateau_core::node::{Node, NodeEffect, NodeInput, NodeSettings, PeerBoot, Voter};
use bateau_core::shard::{Input, RecoveredLog, Reply};
use bateau_core::ticket::Ticket;
use bateau_log::{Identity, OpenError};
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId, Term};
use bateau_protocol::peer::Idempotency;
use std::collections::BTreeMap;

/// How long one attempt to register may take, in milliseconds.
const REGISTRATION_TIMEOUT_MS: u64 = 30_000;
/// Between two looks at whether the node is registered.
const REGISTRATION_PAUSE: Micros = 100_000;

/// The brain, and what it has of links.
pub struct Brain {
    /// What decides.
    pub node: Node,
    /// What it is told next.
    pub told: Vec<NodeInput>,
    /// The links that it sends on.
    pub links: BTreeMap<NodeId, LinkId>,
    /// How it makes itself known.
    pub registration: NodeRegistration,
    has_begun: bool,
    is_asking: bool,
    /// The cluster knows this start of it.
    pub is_registered: bool,
    /// The cluster does not take it any more.
    is_refused: bool,
}

impl Brain {
    /// The brain of a node with this directory.
    pub fn new(
        registration: NodeRegistration,
        (identity, recovered): (&Identity, &[RecoveredLog]),
        peer_boots: BTreeMap<NodeId, PeerBoot>,
        voters: &[Voter],
    ) -> Self {
        let settings = NodeSettings {
            node_id: registration.node,
            founding_id: identity.founding_id,
            former_founding_id: identity.former,
            boot: registration.boot,
            cluster_id: identity.cluster_id.map(ClusterId),
            peer_boots,
            members: bateau_storage::members(identity),
            is_founder: bateau_storage::is_founder(identity, recovered),
            voters: bateau_storage::known(identity, voters),
            peers_address: peers_address(registration.node).into(),
        };
        Self {
            node: Node::new(settings),
            told: Vec::new(),
            links: BTreeMap::new(),
            registration,
            has_begun: false,
            is_asking: false,
            is_registered: false,
            is_refused: false,
        }
    }

    /// Milliseconds until it has something to do.
    pub fn wait_ms(&self, now: Now) -> u64 {
        let has_more = !self.has_begun || !self.told.is_empty() || self.is_refused;
        if has_more { 0 } else { self.node.wait_ms(now) }
    }

    /// Whose requests its requests are.
    fn origin(&self) -> Idempotency {
        let NodeRegistration { node, boot, .. } = &self.registration;
        Idempotency { node_id: *node, start_id: boot.start_id, number: 0 }
    }
}

impl World {
    /// Tells a node's brain at its next turn.
    pub fn tell_node(&mut self, n: NodeAt, input: NodeInput) {
        if let Some(process) = &mut self.nodes[n].process {
            process.brain.told.push(input);
            self.turn_soon(n);
        }
    }

    /// Lets the brain decide, and does what it wants.
    pub(crate) fn let_brain_decide(
        &mut self,
        n: NodeAt,
        process: &mut Process,
        now: Now,
    ) -> Result<(), Ending> {
        process.brain.has_begun = true;
        if process.brain.is_refused {
            return Err(Ending::NotTaken);
        }
        let told = std::mem::take(&mut process.brain.told);
        let effects: Vec<NodeEffect> = process.brain.node.step(now, told.into_iter()).collect();
        for effect in effects {
            self.trace.add_all([11, n as u64]);
            match effect {
                NodeEffect::Dial { node, hello, .. } => self.dial(n, process, node, *hello),
                NodeEffect::HangUp { node } => self.drop_link(process, node),
                NodeEffect::Answer { link, answer } => self.answer_hello(link, answer),
                NodeEffect::Close { link } => self.break_link(link),
                NodeEffect::Found { founders } => {
                    self.begin_member(n, process, &founders, None)?;
                    process.brain.told.push(NodeInput::Founded);
                }
                NodeEffect::Join { members, replica_id, cluster_id } => {
                    let joins = Some((replica_id, cluster_id));
                    self.begin_member(n, process, &members, joins)?;
                    process.brain.told.push(NodeInput::Founded);
                }
                NodeEffect::NotePeer { node, start } => {
                    process.work.push(bateau_storage::note_peer(node, start));
                }
                NodeEffect::GiveWay(nodes) => process.inbox.push(Input::GiveWay(nodes)),
                NodeEffect::Lives(live) => process.inbox.push(Input::Lives(live)),
                NodeEffect::Lost { node } => process.inbox.push(Input::PeerLost { node }),
                NodeEffect::PeerStopped { node, stopped } => {
                    process.inbox.push(Input::PeerStopped { node, stopped });
                }
                NodeEffect::Decide { number, request } => {
                    let request_id = self.note_request((n, self.nodes[n].life, number), &request);
                    let waiter = Waiter::Brain { number, request: request_id };
                    let ticket = self.ticket(process, waiter);
                    process.inbox.push(Input::Controller { request, ticket });
                }
                NodeEffect::Reply { ticket, response } => {
                    self.reply(n, process, ticket, Reply::Controller(response));
                }
                NodeEffect::Stop(_) if self.may_be_refused(n) => return Err(Ending::NotTaken),
                NodeEffect::Stop(refusal) => {
                    self.fail(format!("node {} is not let in: {refusal}", n + 1));
                }
                NodeEffect::LeaderElsewhere { incarnation, leader } => {
                    self.note_leader_elsewhere(process, incarnation, leader);
                }
                letter @ (NodeEffect::Send { .. }
                | NodeEffect::Request { .. }
                | NodeEffect::Announce { .. }) => {
                    if let Ok(letter) = bateau_storage::letter(letter, process.brain.origin()) {
                        let (node, breaks_unsaid) = (letter.node, letter.breaks_unsaid);
                        if !self.post(process, letter) && breaks_unsaid {
                            self.drop_link(process, node);
                            process.brain.told.push(NodeInput::LinkDown { node });
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Hangs up on a node, if there is a link.
    fn drop_link(&mut self, process: &mut Process, node: NodeId) {
        if let Some(id) = process.brain.links.remove(&node) {
            self.hang_up(id);
        }
    }

    /// A node is told who leads what it does not hold, or may not hold.
    fn note_leader_elsewhere(
        &self,
        process: &mut Process,
        log: Incarnation,
        leader: Option<(NodeId, Term)>,
    ) {
        let leads = leader.map(|(node, term)| Input::Leads { incarnation: log, node, term });
        process.inbox.extend(leads);
        let place = leader.and_then(|(node, _)| self.place_of(node));
        match place {
            Some(place) => drop(process.elsewhere.insert(log, place)),
            None => drop(process.elsewhere.remove(&log)),
        }
    }

    /// Stores the founding, or that this node joins; the power may go meanwhile.
    fn begin_member(
        &mut self,
        n: NodeAt,
        process: &mut Process,
        members: &[Founder],
        joins: Option<(ReplicaId, Option<ClusterId>)>,
    ) -> Result<(), Ending> {
        let dies = self.plan.has(FaultClass::Crashes) && self.random.chance(20);
        if dies {
            self.nodes[n].disk.cut_power_at(self.random.below(16));
        }
        let Some(opening) = &mut process.unfounded else {
            self.fail(format!("node {} founds a cluster again", n + 1));
            return Ok(());
        };
        let (data_dir, identity) = (&opening.data_dir, &mut opening.identity);
        let cycle = &mut process.cycle;
        let made = match joins {
            Some((replica, cluster_id)) => {
                let place = (members, replica, cluster_id);
                bateau_storage::join(data_dir, cycle, identity, place)
            }
            None => bateau_storage::found(data_dir, cycle, identity, members),
        };
        if dies {
            self.count("mark: power lost inside a founding");
            return Err(Ending::PowerLost);
        }
        match made {
            Ok((log, reader)) => {
                self.count(if joins.is_some() { "nodes that join" } else { "foundings" });
                self.nodes[n].promises.note_made(&log);
                process.readers.insert(log.incarnation, reader);
                opening.recovered.push(log);
                Ok(())
            }
            Err(OpenError::Io { .. }) => Err(Ending::Failed("the founding failed".to_owned())),
            Err(error) => {
                self.fail(format!("node {} does not found: {error}", n + 1));
                Ok(())
            }
        }
    }

    /// A ticket for somebody who waits.
    pub(crate) fn ticket(&mut self, process: &mut Process, waiter: Waiter) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        process.waiters.insert(ticket, waiter);
        ticket
    }

    /// Makes a node known to its cluster, as soon as somebody leads that.
    pub(crate) fn register(&mut self, n: NodeAt) {
        let life = self.nodes[n].life;
        let Some(mut process) = self.nodes[n].process.take() else { return };
        let brain = &process.brain;
        let is_founded = process.metadata.as_ref().is_some_and(|one| one.founding().is_some());
        let controller = process.seen.get(&Incarnation::METADATA);
        let is_led = controller.is_some_and(|seen| seen.leader.is_some());
        if is_founded && is_led && !brain.is_asking && !brain.is_registered {
            let (registration, timeout_ms) = (brain.registration.clone(), REGISTRATION_TIMEOUT_MS);
            let request = ControllerRequest::RegisterNode { registration, timeout_ms };
            let ticket = self.ticket(&mut process, Waiter::Registration);
            process.brain.is_asking = true;
            process.brain.told.push(NodeInput::Ask { request, ticket });
        }
        let is_registered = process.brain.is_registered;
        self.nodes[n].process = Some(process);
        self.turn_soon(n);
        if !is_registered {
            self.events.put(self.at + REGISTRATION_PAUSE, Event::Register(n, life));
        }
    }

    /// What the controller says to a node that makes itself known.
    pub(crate) fn hear_registration(&mut self, n: NodeAt, process: &mut Process, reply: &Reply) {
        process.brain.is_asking = false;
        match reply {
            Reply::Controller(Ok(ControllerResponse::NodeRegistered(Ok(())))) => {
                self.count("registrations");
                process.brain.is_registered = true;
            }
            Reply::Controller(Ok(ControllerResponse::NodeRegistered(Err(_))))
                if self.may_be_refused(n) =>
            {
                process.brain.is_refused = true;
            }
            Reply::Controller(Ok(ControllerResponse::NodeRegistered(Err(error)))) => {
                self.fail(format!("D10: node {} is not registered: {error}", n + 1));
            }
            _ => {}
        }
    }

    /// Every node that is of a cluster is of the same one.
    pub(crate) fn check_cluster(&mut self, n: NodeAt, metadata: &Metadata) {
        let Some(found) = metadata.cluster_id() else { return };
        let known = *self.checker.cluster_id.get_or_insert(found);
        if known != found {
            let name = n + 1;
            self.fail(format!("decision 16: node {name} is of cluster {found}, others of {known}"));
        }
    }
}
