//! One node: its disk, its clock, and while it lives its process.
//!
//! ```text
//!   inbox ── Turn ──> Shard::step ──> effects ──┬─ work ──> the disk thread (`disk`)
//!                                               ├─ messages ──> one frame per node
//!                                               └─ answers ──> clients
//! ```
//!
//! Invariants: effects are performed in order, as the body performs them; the metadata partition's
//! isolation and a failed directory end the process.
//!
//! Absent on purpose: how a node finds its cluster: the founding is handed in by [`start`], the one
//! place where that changes.

use crate::checker::Seen;
use crate::clients::Answer;
use crate::clock::NodeClock;
use crate::disk::SPACE_CHECK_EVERY;
use crate::event::{Event, FramesWanted, Life, Micros, NodeAt};
use crate::network::Network;
use crate::plan::FaultClass;
use crate::promises::Promises;
use crate::world::World;
use bateau_core::consumer_group::GroupSettings;
use bateau_core::controller::{
    BootEpoch, BrokerSettings, Founder, FoundingPlan, ListenerAddress, Metadata, NodeRegistration,
};
use bateau_core::replica::MetadataStart;
use bateau_core::shard::{Effect, Effects, Input, LogBirth, Reply, Shard, ShardSettings};
use bateau_core::ticket::Ticket;
use bateau_log::sim_disk::{SimDisk, SimRandom};
use bateau_log::{
    CommitCycle, DataDir, DataDirOptions, Done, Identity, LogReader, OpenError, Work,
};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Term};
use bateau_protocol::peer::RaftMessage;
use bateau_storage::Business;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Room on a node's disk, in bytes.
pub const DISK_BYTES: u64 = 1 << 30;

/// Inputs, and requests to the disk, that a node of this load ever has waiting.
const WAITING_MAX: usize = 20_000;

/// One node.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its disk.
    pub disk: SimDisk,
    /// Its clocks.
    pub clock: NodeClock,
    /// Which process this is.
    pub life: Life,
    /// The process, while there is one.
    pub process: Option<Process>,
    /// Until then it stands still.
    pub paused_until: Micros,
    /// By how much its disk is slower than usual.
    pub slowness: u64,
    /// Its disk has lied: what is damaged on it may silence it.
    pub is_corrupted: bool,
    /// It does not come back: its own memory is damaged.
    pub is_silenced: bool,
    /// Its filesystem has hardly any room.
    pub is_full: bool,
    /// What its log has said is durable.
    pub promises: Promises,
    /// Cut the power at that call of the next cycle.
    pub cut_at: Option<u64>,
}

/// What a running node holds in memory.
pub struct Process {
    /// The brain.
    pub shard: Shard,
    effects: Effects,
    /// The memory's only writer.
    pub cycle: CommitCycle,
    /// Who reads the logs.
    pub readers: BTreeMap<Incarnation, LogReader>,
    /// What was seen of its logs.
    pub seen: BTreeMap<Incarnation, Seen>,
    /// The metadata as published.
    pub metadata: Option<Arc<Metadata>>,
    /// What waits for the next turn.
    pub inbox: Vec<Input>,
    is_turn_due: bool,
    wake_at: Option<Micros>,
    /// What waits for the disk thread.
    pub work: Vec<Work>,
    /// Whether the disk thread works.
    pub is_cycling: bool,
    /// Counts the disk thread's cycles.
    pub quiet_number: u64,
    /// Logs that are out of service.
    pub isolated: BTreeMap<Incarnation, String>,
}

impl Node {
    /// A node with an empty disk.
    pub fn new(id: u64, seed: u64) -> Self {
        let mut random = SimRandom::new(seed ^ (id << 32));
        Self {
            id: NodeId::new(id),
            disk: SimDisk::new(random.next_u64(), DISK_BYTES),
            clock: NodeClock::drawn(&mut random),
            life: 0,
            process: None,
            paused_until: 0,
            slowness: 1,
            is_corrupted: false,
            is_silenced: false,
            is_full: false,
            promises: Promises::default(),
            cut_at: None,
        }
    }

    fn identity(&self, founders: &[NodeId], founded: bool) -> Identity {
        let founder = |node: &NodeId| bateau_log::Founder {
            node: *node,
            address: address(*node),
            founding_id: founding_id(*node),
        };
        Identity {
            node: self.id,
            founding_id: founding_id(self.id),
            founded,
            founders: founders.iter().map(founder).collect(),
            cluster_id: None,
        }
    }

    /// Makes the data directory with the metadata log, as a founder's first start does.
    pub fn found(&self, founders: &[NodeId]) -> Result<(), String> {
        let dir = DataDir::lock(Arc::new(self.disk.clone()), 1).map_err(text)?;
        let unfounded = self.identity(&[], false);
        dir.store_identity(&unfounded).map_err(text)?;
        let mut cycle = dir.open(&unfounded, DataDirOptions::default()).map_err(text)?.cycle;
        let birth = bateau_storage::birth(LogBirth::of_metadata(self.id, founders));
        cycle.run(&mut vec![Work::Create(birth)], &mut Vec::new()).map_err(text)?;
        dir.store_identity(&self.identity(founders, true)).map_err(text)
    }

    /// Whether a process runs and does not stand still.
    pub fn is_up(&self, at: Micros) -> bool {
        self.process.is_some() && self.paused_until <= at
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn address(node: NodeId) -> String {
    format!("node{node}:9644")
}

fn founding_id(node: NodeId) -> [u8; 16] {
    u128::from(node.get()).to_be_bytes()
}

fn shard_settings(id: NodeId, founders: &[NodeId], boot_epoch: u64, seed: u64) -> ShardSettings {
    let mut random = SimRandom::new(seed);
    let founder = |node: &NodeId| Founder {
        node: *node,
        founding_id: founding_id(*node),
        peers_address: address(*node).into(),
    };
    let registration = |node: &NodeId| NodeRegistration {
        node: *node,
        boot: BootEpoch { epoch: 1, start_id: node.get() },
        rack: None,
        listeners: vec![ListenerAddress {
            name: "kafka".into(),
            host: format!("node{node}").into(),
            port: 9092,
            pin: None,
        }],
    };
    let founding = FoundingPlan {
        founders: founders.iter().map(founder).collect(),
        nodes: founders.iter().map(registration).collect(),
    };
    ShardSettings {
        node_id: id,
        boot_epoch,
        groups: GroupSettings::default(),
        metadata: MetadataStart {
            settings: BrokerSettings { node: id, ..BrokerSettings::default() },
            founding,
            entropy: Box::new(move || random.next_u64()),
        },
        min_insync_replicas: None,
    }
}

impl World {
    /// Starts a node's process on what its disk has.
    pub fn start(&mut self, n: NodeAt) {
        if self.nodes[n].process.is_some() || self.nodes[n].is_silenced {
            return;
        }
        self.nodes[n].life += 1;
        self.trace.add_all([1, n as u64, self.nodes[n].life]);
        match self.open(n) {
            Ok(()) => {
                self.turn_soon(n);
                let life = self.nodes[n].life;
                self.events.put(self.at + SPACE_CHECK_EVERY, Event::SpaceCheck(n, life));
            }
            Err(OpenError::Io { .. }) => self.events.put(self.at + 500_000, Event::Restart(n)),
            Err(error) if self.nodes[n].is_corrupted => {
                self.trace.add(error.to_string().len() as u64);
                self.nodes[n].is_silenced = true;
                self.count("nodes silenced by their disks");
            }
            Err(error) => self.fail(format!("node {} does not start: {error}", n + 1)),
        }
    }

    fn open(&mut self, n: NodeAt) -> Result<(), OpenError> {
        let founders = self.founders();
        let node = &self.nodes[n];
        let dir = DataDir::lock(Arc::new(node.disk.clone()), 1)?;
        let now = node.clock.now(self.at);
        let options = DataDirOptions { wall_ms: now.wall_ms, ..DataDirOptions::default() };
        let opened = dir.open(&node.identity(&founders, true), options)?;
        // A passing error is gone with the process that met it.
        let is_excused = node.is_corrupted;
        let (mut readers, mut recovered) = (BTreeMap::new(), Vec::new());
        let mut damage = None;
        for log in &opened.logs {
            readers.insert(log.incarnation, log.reader.clone());
            let (log, unreadable) = bateau_storage::recovered(log);
            if log.is_damaged {
                damage = Some(format!("{:?} of node {}: {unreadable:?}", log.incarnation, n + 1));
            }
            recovered.push(log);
        }
        self.count("starts");
        self.counts_add("torn tails", opened.report.torn.len() as u64);
        if let Some(damage) = damage {
            self.count("damaged logs found");
            if !is_excused {
                self.fail(format!("D10: damage on a healthy disk: {damage}, {:?}", opened.report));
            }
        }
        if !is_excused && let Some(missing) = self.nodes[n].promises.missing(&recovered) {
            self.fail(format!("I6: node {} has lost what was durable: {missing}", n + 1));
        }
        let node = &self.nodes[n];
        let seed = self.plan.seed ^ (n as u64) << 48 ^ node.life << 40;
        let settings = shard_settings(node.id, &founders, opened.report.boot_epoch, seed);
        let mut effects = Effects::default();
        let shard = match Shard::start(settings, recovered, now, &mut effects) {
            Ok(shard) => shard,
            Err(error) => {
                let operation = "start the shard".to_owned();
                if !is_excused {
                    self.fail(format!("node {} does not start: {error}", n + 1));
                }
                self.nodes[n].is_silenced = self.nodes[n].is_corrupted;
                let source = std::io::Error::other(error.to_string());
                return Err(OpenError::Io { operation, source });
            }
        };
        let space = Done::Space(opened.cycle.space());
        self.nodes[n].process = Some(Process {
            shard,
            effects,
            cycle: opened.cycle,
            readers,
            seen: BTreeMap::new(),
            metadata: None,
            inbox: bateau_storage::answer(&space).into_iter().collect(),
            is_turn_due: false,
            wake_at: None,
            work: Vec::new(),
            is_cycling: false,
            quiet_number: 0,
            isolated: BTreeMap::new(),
        });
        Ok(())
    }

    /// Puts something into a node's inbox.
    pub fn tell(&mut self, n: NodeAt, inputs: impl IntoIterator<Item = Input>) {
        if let Some(process) = &mut self.nodes[n].process {
            process.inbox.extend(inputs);
            self.turn_soon(n);
        }
    }

    fn turn_soon(&mut self, n: NodeAt) {
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
        let now = self.nodes[n].clock.now(self.at);
        let Some(mut process) = self.nodes[n].process.take() else { return };
        process.is_turn_due = false;
        let inputs = std::mem::take(&mut process.inbox);
        let (inputs_count, work_count) = (inputs.len(), process.work.len());
        if inputs_count > WAITING_MAX || work_count > WAITING_MAX {
            let found = (inputs_count, work_count);
            self.fail(format!("I19: {found:?} inputs and requests wait on node {}", n + 1));
        }
        self.trace.add_all([2, n as u64, self.at, inputs.len() as u64]);
        process.shard.step(now, inputs.into_iter(), &mut process.effects);
        if self.step.is_multiple_of(16) {
            process.shard.check_invariants();
        }
        let failure = self.perform(n, &mut process);
        self.plan_wake(n, &mut process);
        self.nodes[n].process = Some(process);
        match failure {
            None => self.begin_cycle_soon(n),
            Some(reason) if self.nodes[n].is_corrupted => {
                self.trace.add(reason.len() as u64);
                self.kill(n);
            }
            Some(reason) => self.fail(format!("node {} cannot go on: {reason}", n + 1)),
        }
    }

    fn plan_wake(&mut self, n: NodeAt, process: &mut Process) {
        let node = &self.nodes[n];
        let wait_ms = process.shard.wait_ms(node.clock.now(self.at));
        let wake_at = node.clock.after(self.at, wait_ms);
        if process.wake_at.is_none_or(|planned| wake_at < planned) {
            process.wake_at = Some(wake_at);
            self.events.put(wake_at, Event::Wake(n, node.life));
        }
    }

    /// Performs the effects of a turn; says why the process cannot go on, if so.
    fn perform(&mut self, n: NodeAt, process: &mut Process) -> Option<String> {
        let mut effects = std::mem::take(&mut process.effects);
        let wall_ms = self.nodes[n].clock.now(self.at).wall_ms;
        let mut outbox: BTreeMap<NodeId, Vec<RaftMessage>> = BTreeMap::new();
        let mut failure = None;
        for effect in effects.drain() {
            self.note(n, process, &effect);
            match bateau_storage::work(effect, wall_ms) {
                Business::Disk(work) => process.work.push(work),
                Business::Other(Effect::Send { node, message }) => {
                    outbox.entry(node).or_default().push(message);
                }
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
                Business::Other(Effect::Isolated { incarnation, reason }) => {
                    if incarnation == Incarnation::METADATA {
                        failure = Some(reason.clone());
                    }
                    process.isolated.insert(incarnation, reason);
                }
                Business::Other(Effect::Metadata(metadata)) => process.metadata = Some(metadata),
                Business::Other(Effect::Reply(ticket, reply)) => {
                    self.reply(n, process, ticket, reply);
                }
                Business::Other(_) => {}
            }
        }
        process.effects = effects;
        for (node, messages) in outbox {
            self.send(n, node, messages);
        }
        failure
    }

    fn send(&mut self, from: NodeAt, node: NodeId, messages: Vec<RaftMessage>) {
        let to = usize::try_from(node.get()).unwrap_or(0) - 1;
        let bytes = match Network::encode(messages) {
            Ok(bytes) => bytes,
            Err(error) => return self.fail(format!("a turn's messages are no frame: {error}")),
        };
        self.trace.add_all([3, from as u64, to as u64, bytes.len() as u64]);
        // The frame's own checksum stands for its content.
        if let Some(crc) = bytes.get(4..8) {
            crc.iter().for_each(|byte| self.trace.add(u64::from(*byte)));
        }
        let arrivals = self.network.arrivals(self.at, from, to);
        match arrivals.len() {
            0 => {
                self.count("frames lost");
                if self.random.chance(20) {
                    let life = self.nodes[from].life;
                    let learns = self.at + self.random.below(500_000);
                    self.events.put(learns, Event::Unreachable(from, life, to));
                }
            }
            2 => self.count("frames duplicated"),
            _ => {}
        }
        for arrival in arrivals {
            let bytes = bytes.clone();
            self.events.put(arrival, Event::Deliver { from, to, bytes });
        }
    }

    /// A frame arrives, if anybody is there.
    pub fn deliver(&mut self, from: NodeAt, to: NodeAt, bytes: &bytes::Bytes) {
        if self.network.is_blocked(from, to) || self.nodes[to].process.is_none() {
            return;
        }
        match self.network.decode(bytes) {
            Ok(messages) => {
                let node = NodeId::new(from as u64 + 1);
                self.tell(to, messages.into_iter().map(|message| Input::Peer { node, message }));
            }
            Err(error) => self.fail(format!("a frame does not decode: {error}")),
        }
    }

    fn reply(&mut self, n: NodeAt, process: &mut Process, ticket: Ticket, reply: Reply) {
        let Some((operation, asked)) = self.asked.remove(&ticket) else {
            return self.fail(format!("{ticket:?} was answered twice, or never asked"));
        };
        self.trace.add_all([4, ticket.0]);
        self.check_reply(n, process, &asked, &reply);
        let arrivals = self.network.arrivals(self.at, n, n);
        if let Some(arrival) = arrivals.first() {
            self.events
                .put(*arrival, Event::Answer(operation, Box::new(Answer { node: n, reply })));
        }
    }

    /// Adds an effect to the trace, and shows it to the checker.
    fn note(&mut self, n: NodeAt, process: &mut Process, effect: &Effect) {
        if !process.isolated.is_empty() {
            self.check_silence(n, process, effect);
        }
        let number = |value: LogIndex| value.get();
        match effect {
            Effect::Persist { incarnation, ready, truncate_from, frames, .. } => {
                if truncate_from.is_some() {
                    self.count("mark: a suffix is overwritten after a conflict");
                }
                self.trace.add_all([5, incarnation.get(), *ready, frames.len() as u64]);
            }
            Effect::Committed { incarnation, commit, high_watermark } => {
                self.trace.add_all([6, incarnation.get(), number(*commit), high_watermark.get()]);
                self.check_committed(n, process, *incarnation, *commit, *high_watermark);
            }
            Effect::Leads { incarnation, term } => {
                self.trace.add_all([7, incarnation.get(), term.get()]);
                self.check_leads(n, process, *incarnation, *term);
            }
            Effect::Deposed { incarnation, term } => {
                self.trace.add_all([8, incarnation.get(), term.get()]);
                process.seen.entry(*incarnation).or_default().leads = None;
            }
            Effect::LeaderChanged { incarnation, leader, term } => {
                self.trace.add_all([9, incarnation.get(), term.get()]);
                let seen = process.seen.entry(*incarnation).or_default();
                seen.leader = leader.map(|node| usize::try_from(node.get()).unwrap_or(1) - 1);
                self.check_term(n, process, *incarnation, *term);
            }
            Effect::Delete { incarnation } => self.check_delete(n, process, *incarnation),
            Effect::Isolated { incarnation, reason } => {
                self.count("replicas isolated");
                let is_excused =
                    self.nodes[n].is_corrupted || self.plan.has(FaultClass::FlushErrors);
                if !is_excused {
                    let name = n + 1;
                    self.fail(format!("{incarnation:?} of node {name} is isolated: {reason}"));
                }
            }
            _ => {}
        }
    }

    /// I15: who is out of service says nothing, writes nothing and does not lead.
    fn check_silence(&mut self, n: NodeAt, process: &Process, effect: &Effect) {
        let log = match effect {
            Effect::Persist { incarnation, .. } | Effect::Leads { incarnation, .. } => *incarnation,
            Effect::Send { message, .. } => message.incarnation,
            _ => return,
        };
        if let Some(reason) = process.isolated.get(&log) {
            let name = n + 1;
            self.fail(format!("I15: {log:?} of node {name}, isolated ({reason}): {effect:?}"));
        }
    }

    fn check_term(&mut self, n: NodeAt, process: &mut Process, log: Incarnation, term: Term) {
        let seen = process.seen.entry(log).or_default();
        if term < seen.term {
            let before = seen.term;
            self.fail(format!(
                "I5: the term of {log:?} on node {} fell from {before} to {term}",
                n + 1
            ));
        } else {
            seen.term = term;
        }
    }
}
