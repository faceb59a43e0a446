//! What a running node holds in memory, and how it begins.
//!
//! ```text
//!   start ── IDENTITY, recovery ──> founded? ── no ──> the brain alone, until all have met
//!                                      └── yes ──────> brain and shard, which may vote
//! ```
//!
//! Invariants
//! - What a directory has promised is there, whenever its process begins (I6).
//! - The shard begins when the directory says that the cluster is founded, and not before.
//!
//! Absent on purpose: what a process does with what it hears, which is a `turn`.

use crate::brain::Brain;
use crate::checker::Seen;
use crate::clients::{Asked, Operation};
use crate::disk::SPACE_CHECK_EVERY;
use crate::event::{Event, Micros, NodeAt};
use crate::requests::RequestId;
use crate::world::World;
use bateau_core::consumer_group::GroupSettings;
use bateau_core::controller::{
    BootEpoch, BrokerSettings, Founder, FoundingPlan, ListenerAddress, Metadata, NodeRegistration,
};
use bateau_core::replica::MetadataStart;
use bateau_core::shard::{Effects, Input, REST_TICKS, RecoveredLog, Shard, ShardSettings};
use bateau_core::ticket::Ticket;
use bateau_log::sim_disk::SimRandom;
use bateau_log::{
    CommitCycle, DataDir, DataDirOptions, Done, Identity, LogReader, OpenError, RecoveryProgress,
    Work,
};
use bateau_protocol::ids::{Incarnation, NodeId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Size of a copy of a meta log, in bytes: small, so that a run has both of them in use.
const META_COPY_BYTES: u64 = 24 * 1024;

/// What a running node holds in memory.
pub struct Process {
    /// What decides as a whole.
    pub brain: Brain,
    /// What decides for the replicas, once the cluster is founded here.
    pub shard: Option<Shard>,
    /// What the shard will begin with.
    pub unfounded: Option<Unfounded>,
    pub(crate) effects: Effects,
    /// The memory's only writer.
    pub cycle: CommitCycle,
    /// Who reads the logs.
    pub readers: BTreeMap<Incarnation, LogReader>,
    /// What was seen of its logs.
    pub seen: BTreeMap<Incarnation, Seen>,
    /// Who leads what is not held here, as others say.
    pub elsewhere: BTreeMap<Incarnation, NodeAt>,
    /// The metadata as published.
    pub metadata: Option<Arc<Metadata>>,
    /// What waits for the next turn.
    pub inbox: Vec<Input>,
    /// Who waits for an answer of the shard.
    pub waiters: BTreeMap<Ticket, Waiter>,
    pub(crate) is_turn_due: bool,
    pub(crate) wake_at: Option<Micros>,
    /// What waits for the disk thread.
    pub work: Vec<Work>,
    /// Whether the disk thread works.
    pub is_cycling: bool,
    /// Counts the disk thread's cycles.
    pub quiet_number: u64,
    /// Logs that are out of service.
    pub isolated: BTreeMap<Incarnation, String>,
}

/// A directory that is open, and what the shard begins with.
pub struct Unfounded {
    /// The directory.
    pub data_dir: DataDir,
    /// What it says of itself.
    pub identity: Identity,
    /// Its logs.
    pub recovered: Vec<RecoveredLog>,
}

/// Who waits.
#[derive(Debug)]
pub enum Waiter {
    /// A client.
    Client(Operation, Asked),
    /// This node's own brain, which has asked the controller here.
    Brain {
        /// Its number of the request.
        number: u64,
        /// Which request.
        request: RequestId,
    },
    /// Another node's.
    Peer {
        /// Which node.
        node: NodeId,
        /// Its number of the request.
        number: u64,
        /// Which request.
        request: RequestId,
    },
    /// This node, which makes itself known.
    Registration,
    /// Whoever stops it.
    Stop,
}

impl Process {
    /// The replicas, once there are any.
    pub fn shard(&self) -> Option<&Shard> {
        self.shard.as_ref()
    }

    /// Who leads a log, as far as is known here.
    pub fn leader_of(&self, log: Incarnation) -> Option<NodeAt> {
        let held = self.seen.get(&log).and_then(|seen| seen.leader);
        held.or_else(|| self.elsewhere.get(&log).copied())
    }

    /// What it knows of a log, in words.
    pub fn describe(&self, log: Incarnation) -> String {
        let replica = self.shard().and_then(|shard| shard.replica(log));
        let state = replica.map(|one| (one.applied(), one.membership().clone()));
        let placed = self.metadata.as_ref().and_then(|metadata| metadata.partition_of(log));
        let name = placed.map(|(topic, number)| format!("{}/{number}", topic.name));
        let (seen, why) = (self.seen.get(&log), self.isolated.get(&log));
        format!("{name:?} {seen:?}, {state:?}, {why:?}, read {}", self.readers.contains_key(&log))
    }
}

/// The host and port of a node's peers listener.
pub fn peers_address(node: NodeId) -> String {
    format!("node{node}:9644")
}

fn registration(node: NodeId, directory: [u8; 16], boot: BootEpoch) -> NodeRegistration {
    let listener = |name: &str, port| ListenerAddress {
        name: name.into(),
        host: format!("node{node}").into(),
        port,
        pin: None,
    };
    let listeners = vec![listener("kafka", 9092), listener("peers", 9644)];
    NodeRegistration { node, directory, boot, rack: None, listeners }
}

fn shard_settings(
    registration: &NodeRegistration,
    founders: Vec<Founder>,
    seed: u64,
) -> ShardSettings {
    let mut random = SimRandom::new(seed);
    let rest_ticks = [2, 3, 5, REST_TICKS][random.below(4) as usize];
    let node_id = registration.node;
    ShardSettings {
        node_id,
        boot_epoch: registration.boot.epoch,
        groups: GroupSettings::default(),
        metadata: MetadataStart {
            settings: BrokerSettings { node: node_id, ..BrokerSettings::default() },
            founding: FoundingPlan { founders, nodes: vec![registration.clone()] },
            entropy: Box::new(move || random.next_u64()),
        },
        min_insync_replicas: None,
        rest_ticks,
    }
}

fn io_failure(operation: &str, reason: String) -> OpenError {
    OpenError::Io { operation: operation.to_owned(), source: std::io::Error::other(reason) }
}

impl World {
    /// Starts a node's process on what its disk has.
    pub fn start(&mut self, n: NodeAt) {
        let node = &self.nodes[n];
        if node.process.is_some() || node.is_silenced || node.is_out {
            return;
        }
        let away_until = self.nodes[n].away_until;
        if away_until > self.at {
            return self.events.put(away_until, Event::Restart(n));
        }
        self.nodes[n].life += 1;
        self.nodes[n].is_without_power = false;
        let life = self.nodes[n].life;
        self.trace.add_all([1, n as u64, life]);
        let began = self.open(n).and_then(|process| {
            self.nodes[n].process = Some(Box::new(process));
            self.begin_if_founded(n)
        });
        match began {
            Ok(()) => {
                self.turn_soon(n);
                self.events.put(self.at + SPACE_CHECK_EVERY, Event::SpaceCheck(n, life));
                if self.has_retention() {
                    let pause = self.until_next_look();
                    self.events.put(self.at + pause, Event::SegmentsLook(n, life));
                }
            }
            Err(error) => {
                self.nodes[n].process = None;
                self.note_failed_start(n, &error);
            }
        }
    }

    fn note_failed_start(&mut self, n: NodeAt, error: &OpenError) {
        match error {
            OpenError::Io { .. } if !self.nodes[n].is_silenced => {
                self.events.put(self.at + 500_000, Event::Restart(n));
            }
            error if self.nodes[n].is_corrupted => {
                self.trace.add(error.to_string().len() as u64);
                self.nodes[n].is_silenced = true;
                self.count("nodes silenced by their disks");
            }
            error => self.fail(format!("node {} does not start: {error}", n + 1)),
        }
    }

    /// Opens the directory, as the binary does.
    fn open(&mut self, n: NodeAt) -> Result<Process, OpenError> {
        let node = &self.nodes[n];
        let (id, disk) = (node.id, Arc::new(node.disk.clone()));
        let mut random = SimRandom::new(self.plan.seed ^ (n as u64) << 48 ^ node.life << 40);
        let data_dir = DataDir::lock(disk, 1)?;
        let mut founding_id = [0; 16];
        founding_id[..8].copy_from_slice(&random.next_u64().to_be_bytes());
        let mut identity = bateau_storage::identity(&data_dir, id, founding_id)?;
        let now = node.clock.now(self.at);
        let options = DataDirOptions {
            wall_ms: now.wall_ms,
            meta_copy_bytes: META_COPY_BYTES,
            ..DataDirOptions::default()
        };
        let voters = self.voters_of(n);
        founding_id[8..].copy_from_slice(&random.next_u64().to_be_bytes());
        let others = (&voters[..], founding_id);
        let progress = RecoveryProgress::default();
        let opened = bateau_storage::open(&data_dir, &mut identity, others, options, &progress)?;
        let directory = identity.founding_id;
        let (mut readers, mut recovered) = (BTreeMap::new(), Vec::new());
        let mut damage = None;
        for log in &opened.logs {
            readers.insert(log.incarnation, log.reader.clone());
            let corrupt = &log.corrupt;
            let (log, unreadable) = bateau_storage::recovered(log);
            if log.is_damaged {
                let found = format!("{corrupt:?}, {unreadable:?}");
                damage = Some(format!("{:?} of node {}: {found}", log.incarnation, n + 1));
            }
            recovered.push(log);
        }
        self.nodes[n].names = voters.iter().map(|voter| voter.node).collect();
        self.nodes[n].note_opened(directory);
        self.count("starts");
        self.counts_add("torn tails", opened.report.torn.len() as u64);
        self.check_recovered(n, damage, &recovered);
        let boot = BootEpoch { epoch: opened.report.boot_epoch, start_id: random.next_u64() };
        let met = bateau_storage::peer_boots(&opened.report);
        let brain =
            Brain::new(registration(id, directory, boot), (&identity, &recovered), met, &voters);
        let space = Done::Space(opened.cycle.space());
        Ok(Process {
            brain,
            shard: None,
            unfounded: Some(Unfounded { data_dir, identity, recovered }),
            effects: Effects::default(),
            cycle: opened.cycle,
            readers,
            seen: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            metadata: None,
            inbox: bateau_storage::answer(&space).into_iter().collect(),
            waiters: BTreeMap::new(),
            is_turn_due: false,
            wake_at: None,
            work: Vec::new(),
            is_cycling: false,
            quiet_number: 0,
            isolated: BTreeMap::new(),
        })
    }

    /// D10 and I6: a healthy disk has no damage, and everything that it has promised.
    fn check_recovered(&mut self, n: NodeAt, damage: Option<String>, recovered: &[RecoveredLog]) {
        // A passing error is gone with the process that met it.
        let is_excused = self.nodes[n].is_corrupted;
        if let Some(damage) = damage {
            self.count("damaged logs found");
            if !is_excused {
                self.fail(format!("D10: damage on a healthy disk: {damage}"));
            }
        }
        if let Some(truncated) = self.nodes[n].promises.truncated(recovered) {
            self.fail(format!("I18: node {} has cut off what was durable: {truncated}", n + 1));
        }
        if !is_excused && let Some(missing) = self.nodes[n].promises.missing(recovered) {
            self.fail(format!("I6: node {} has lost what was durable: {missing}", n + 1));
        }
    }

    /// Begins the shard where the directory says that the cluster is founded: from here on it
    /// votes.
    pub(crate) fn begin_if_founded(&mut self, n: NodeAt) -> Result<(), OpenError> {
        let node = &mut self.nodes[n];
        let seed = self.plan.seed ^ (n as u64) << 48 ^ node.life << 40 ^ 1;
        let (now, life) = (node.clock.now(self.at), node.life);
        let Some(process) = &mut node.process else { return Ok(()) };
        let Some(opening) = process.unfounded.take_if(|opening| opening.identity.founded) else {
            return Ok(());
        };
        let founders = bateau_storage::members(&opening.identity);
        let settings = shard_settings(&process.brain.registration, founders, seed);
        let shard = Shard::start(settings, opening.recovered, now, &mut process.effects);
        let shard = match shard {
            Ok(shard) => shard,
            Err(error) => {
                if !node.is_corrupted {
                    self.fail(format!("node {} does not start: {error}", n + 1));
                }
                self.nodes[n].is_silenced = self.nodes[n].is_corrupted;
                return Err(io_failure("start the shard", error.to_string()));
            }
        };
        if !bateau_storage::is_of_directory(shard.metadata(), &opening.identity) {
            self.fail(format!("D11: node {} has the metadata of another cluster", n + 1));
            return Ok(());
        }
        process.shard = Some(shard);
        self.events.put(self.at + 50_000, Event::Register(n, life));
        Ok(())
    }
}
