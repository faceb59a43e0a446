//! A node's turn: everything in its inbox, and what comes of it.
//!
//! ```text
//!   inbox ── Turn ──> Shard::step ──> effects ──┬─ work ──> the disk thread (`disk`)
//!              │                                ├─ messages ──> one frame per node (`links`)
//!              └────> Node::step ───> effects ──┴─ answers ──> clients, brains, peers
//! ```
//!
//! Invariants: effects are performed in order, as the body performs them; the metadata partition's
//! isolation and a failed directory end the process.
//!
//! Absent on purpose: rules.

use crate::clients::Answer;
use crate::event::{Event, FramesWanted, NodeAt};
use crate::process::{Process, Waiter};
use crate::world::World;
use bateau_core::shard::{Effect, Input, Reply};
use bateau_core::ticket::Ticket;
use bateau_protocol::ids::{Incarnation, NodeId};
use bateau_protocol::peer::RaftMessage;
use bateau_storage::Business;
use std::collections::BTreeMap;

/// Inputs, and requests to the disk, that a node of this load ever has waiting.
const WAITING_MAX: usize = 20_000;
/// Rounds between brain and shard in one turn.
const ROUNDS_MAX: usize = 100;

/// Why a process ends in a turn.
#[derive(Debug)]
pub enum Ending {
    /// It cannot go on.
    Failed(String),
    /// Its machine has lost its power.
    PowerLost,
    /// Its cluster does not take it, or not any more.
    NotTaken,
}

impl World {
    /// Puts something into a node's inbox.
    pub fn tell(&mut self, n: NodeAt, inputs: impl IntoIterator<Item = Input>) {
        if let Some(process) = &mut self.nodes[n].process {
            process.inbox.extend(inputs);
            self.turn_soon(n);
        }
    }

    pub(crate) fn turn_soon(&mut self, n: NodeAt) {
        let delay = 5 + self.random.below(60);
        let node = &mut self.nodes[n];
        if let Some(process) = &mut node.process
            && !process.is_turn_due
        {
            process.is_turn_due = true;
            self.events.put(self.at + delay, Event::Turn(n, node.life));
        }
    }

    /// The node's timer ran out.
    pub fn wake(&mut self, n: NodeAt) {
        if let Some(process) = &mut self.nodes[n].process
            && process.wake_at.is_some_and(|wake_at| wake_at <= self.at)
        {
            process.wake_at = None;
            self.turn(n);
        }
    }

    /// One turn over everything in the inbox.
    pub fn turn(&mut self, n: NodeAt) {
        let Some(mut process) = self.nodes[n].process.take() else { return };
        process.is_turn_due = false;
        let (inputs_count, work_count) = (process.inbox.len(), process.work.len());
        if inputs_count > WAITING_MAX || work_count > WAITING_MAX {
            let found = (inputs_count, work_count);
            self.fail(format!("I19: {found:?} inputs and requests wait on node {}", n + 1));
        }
        self.trace.add_all([2, n as u64, self.at, inputs_count as u64]);
        let result = self.think(n, &mut process);
        self.plan_wake(n, &mut process);
        self.nodes[n].process = Some(process);
        match result {
            Ok(()) => match self.begin_if_founded(n) {
                Ok(()) => self.begin_cycle_soon(n),
                Err(_) => self.kill(n),
            },
            Err(Ending::PowerLost) => self.crash(n),
            Err(Ending::NotTaken) => {
                self.count("nodes refused");
                self.kill(n);
            }
            Err(Ending::Failed(reason)) if self.nodes[n].is_corrupted => {
                self.trace.add(reason.len() as u64);
                self.kill(n);
            }
            Err(Ending::Failed(_))
                if self.nodes[n].process.as_deref().is_some_and(is_unfounded) =>
            {
                self.count("directories failed");
                self.kill(n);
            }
            Err(Ending::Failed(reason)) => {
                self.fail(format!("node {} cannot go on: {reason}", n + 1));
            }
        }
    }

    /// Shard and brain, until neither has anything for the other.
    fn think(&mut self, n: NodeAt, process: &mut Process) -> Result<(), Ending> {
        let now = self.nodes[n].clock.now(self.at);
        for _ in 0..ROUNDS_MAX {
            let inputs = std::mem::take(&mut process.inbox);
            let outbox = match &mut process.shard {
                Some(shard) => {
                    shard.step(now, inputs.into_iter(), &mut process.effects);
                    if self.step.is_multiple_of(32) {
                        shard.check_invariants();
                    }
                    self.perform(n, process)?
                }
                None => BTreeMap::new(),
            };
            if process.brain.wait_ms(now) == 0 {
                self.let_brain_decide(n, process, now)?;
            }
            for (node, messages) in outbox {
                self.send(process, node, messages);
            }
            if process.inbox.is_empty() && process.brain.told.is_empty() {
                return Ok(());
            }
        }
        self.fail(format!("I19: brain and shard of node {} talk for ever", n + 1));
        Ok(())
    }

    fn plan_wake(&mut self, n: NodeAt, process: &mut Process) {
        let node = &self.nodes[n];
        let now = node.clock.now(self.at);
        let shard_ms = process.shard.as_ref().map_or(u64::MAX, |shard| shard.wait_ms(now));
        let wait_ms = shard_ms.min(process.brain.wait_ms(now));
        if wait_ms == u64::MAX {
            return;
        }
        let wake_at = node.clock.after(self.at, wait_ms);
        if process.wake_at.is_none_or(|planned| wake_at < planned) {
            process.wake_at = Some(wake_at);
            self.events.put(wake_at, Event::Wake(n, node.life));
        }
    }

    /// Performs the effects of the shard; what it says to other nodes comes back.
    fn perform(
        &mut self,
        n: NodeAt,
        process: &mut Process,
    ) -> Result<BTreeMap<NodeId, Vec<RaftMessage>>, Ending> {
        let mut effects = std::mem::take(&mut process.effects);
        let wall_ms = self.nodes[n].clock.now(self.at).wall_ms;
        let mut outbox: BTreeMap<NodeId, Vec<RaftMessage>> = BTreeMap::new();
        let (mut failure, mut snapshots, mut letters) = (None, Vec::new(), Vec::new());
        for effect in effects.drain() {
            self.note(n, process, &effect);
            process.brain.told.extend(bateau_storage::told_by_shard(&effect));
            match bateau_storage::work(effect, wall_ms) {
                Business::Disk(work) => process.work.push(work),
                Business::Other(Effect::Send { node, message }) => {
                    outbox.entry(node).or_default().push(message);
                }
                Business::Other(Effect::SendSnapshot(snapshot)) => snapshots.push(snapshot),
                Business::Other(Effect::ReadFrames {
                    incarnation,
                    fetch,
                    first,
                    last,
                    bytes_max,
                }) => {
                    self.count("mark: a follower is served from the disk");
                    let wanted = FramesWanted { incarnation, fetch, first, last, bytes_max };
                    let delay = (50 + self.random.below(2_000)) * self.nodes[n].slowness;
                    let life = self.nodes[n].life;
                    self.events.put(self.at + delay, Event::ReadFrames(n, life, wanted));
                }
                Business::Other(Effect::Isolated { incarnation, reason, .. }) => {
                    if incarnation == Incarnation::METADATA {
                        failure = Some(reason.clone());
                    }
                    process.isolated.insert(incarnation, reason);
                }
                Business::Other(Effect::Metadata(metadata)) => {
                    self.check_cluster(n, &metadata);
                    self.note_metadata(&metadata);
                    process.metadata = Some(metadata);
                }
                Business::Other(Effect::Reply(ticket, reply)) => {
                    self.reply(n, process, ticket, reply);
                }
                Business::Other(other) => letters.extend(bateau_storage::mending_letter(other)),
            }
        }
        process.effects = effects;
        for letter in letters {
            self.post(process, letter);
        }
        snapshots.iter().for_each(|snapshot| self.send_snapshot(process, snapshot));
        failure.map_or(Ok(outbox), |reason| Err(Ending::Failed(reason)))
    }

    /// An answer goes to whoever waits for it.
    pub(crate) fn reply(&mut self, n: NodeAt, process: &mut Process, ticket: Ticket, reply: Reply) {
        let Some(waiter) = process.waiters.remove(&ticket) else {
            return self.fail(format!("{ticket:?} was answered twice, or never asked"));
        };
        self.trace.add_all([4, ticket.0]);
        match (waiter, reply) {
            (Waiter::Client(operation, asked), reply) => {
                self.check_reply(n, process, &asked, &reply);
                if !self.network.loses(n, n) {
                    let arrival = self.network.arrival(self.at, n, n);
                    let answer = Box::new(Answer { node: n, reply });
                    self.events.put(arrival, Event::Answer(operation, answer));
                }
            }
            (Waiter::Brain { number, request }, reply) => {
                self.check_taken(n, request, &reply);
                if let Reply::Controller(response) = reply {
                    let input = bateau_core::node::NodeInput::Answered { number, response };
                    process.brain.told.push(input);
                }
            }
            (Waiter::Peer { node, number, request }, reply) => {
                self.check_taken(n, request, &reply);
                if let Reply::Controller(response) = reply {
                    self.post(process, bateau_storage::answer_letter(node, number, &response));
                }
            }
            (Waiter::Registration, reply) => self.hear_registration(n, process, &reply),
            (Waiter::Stop, _) => {
                self.count("mark: a node has given all leaderships away");
                self.events.put(self.at, Event::StopEnds(n, self.nodes[n].life));
            }
        }
    }
}

fn is_unfounded(process: &Process) -> bool {
    process.shard.is_none()
}
