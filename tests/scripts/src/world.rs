//! One shard, a model disk and a clock that moves by hand.
//!
//! Invariants, checked after every step: the shard's own; nothing that must not fall has fallen
//! (I5); every ticket is answered at most once; what is acknowledged is flushed (I6) and stays at
//! its offset (I7); what a restart replays is what was there before.
//!
//! Absent on purpose: what a script looks like, and how effects are printed.

use crate::disk::{Disk, Survivors, Work};
use crate::names::Names;
use crate::random::Random;
use bateau_core::clock::Now;
use bateau_core::consumer_group::GroupSettings;
use bateau_core::controller::{
    BootEpoch, BrokerSettings, Founder, FoundingPlan, ListenerAddress, Metadata, NodeRegistration,
};
use bateau_core::replica::{Derived, MetadataStart, Produce, Producers, Replica};
use bateau_core::shard::{
    Effect, Effects, Input, LogBirth, REST_TICKS, Reply, Shard, ShardSettings, ShardStartError,
};
use bateau_core::ticket::Ticket;
use bateau_protocol::frame::STAMPED_BYTES;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, Term};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The one node.
pub(crate) const NODE: NodeId = NodeId::new(1);

/// Where the wall clock begins: some day in November 2023, in Unix milliseconds.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// How a world begins.
#[derive(Clone, Debug)]
pub struct WorldSettings {
    /// Seed of the ids that the controller draws.
    pub seed: u64,
    /// What the controller decides by.
    pub broker: BrokerSettings,
    /// Consumer groups.
    pub groups: GroupSettings,
}

impl Default for WorldSettings {
    fn default() -> Self {
        let broker = BrokerSettings { node: NODE, ..BrokerSettings::default() };
        Self { seed: 1, broker, groups: GroupSettings::default() }
    }
}

impl DerivedState {
    /// Ids of producers may be known after a replay that had expired before it.
    fn includes(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Producers(replayed), Self::Producers(before)) => replayed.includes(before),
            (replayed, before) => replayed == before,
        }
    }
}

/// A request that waits for its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A batch for this log.
    Produce(Incarnation, Bytes),
    /// Something of a group, by a member that the script calls so.
    Group(Option<String>),
    /// A question about groups.
    GroupQuery,
    /// Something of the controller.
    Controller,
}

/// An answer, and what it was for.
#[derive(Debug)]
pub struct Answer {
    /// Whose.
    pub ticket: Ticket,
    /// What had been asked.
    pub asked: Asked,
    /// The answer.
    pub reply: Reply,
}

/// What one step has shown.
#[derive(Debug)]
pub(crate) enum Shown {
    Effect(Effect),
    Answer(Answer),
}

/// What was seen of a log and must not fall (I5).
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    term: Term,
    applied: LogIndex,
    high_watermark: Offset,
    log_start: Offset,
}

/// State derived from a log, to be compared with what a restart replays.
#[derive(PartialEq, Debug)]
enum DerivedState {
    Producers(Producers),
    Snapshot(Bytes),
}

/// See the module's description.
pub struct World {
    pub(crate) shard: Option<Shard>,
    /// The disk, to be disturbed.
    pub disk: Disk,
    pub(crate) now: Now,
    pub(crate) names: Names,
    pub(crate) inbox: Vec<Input>,
    pub(crate) shown: Vec<Shown>,
    settings: WorldSettings,
    entropy: Arc<Mutex<Random>>,
    metadata: Option<Arc<Metadata>>,
    effects: Effects,
    waiting: BTreeMap<Ticket, Asked>,
    last_ticket: u64,
    seen: BTreeMap<Incarnation, Seen>,
    acked: BTreeMap<(Incarnation, Offset), Bytes>,
    isolated: BTreeSet<Incarnation>,
    boot_epoch: u64,
}

impl World {
    /// A founded cluster of one node whose internal partitions are led.
    #[must_use]
    pub fn new(settings: WorldSettings) -> Self {
        let entropy = Arc::new(Mutex::new(Random::new(settings.seed)));
        let mut disk = Disk::default();
        disk.create_now(LogBirth::of_metadata(NODE, &[NODE]));
        let mut world = Self {
            shard: None,
            disk,
            now: Now { wall_ms: WALL_START_MS, ..Now::default() },
            names: Names::default(),
            inbox: Vec::new(),
            shown: Vec::new(),
            settings,
            entropy,
            metadata: None,
            effects: Effects::default(),
            waiting: BTreeMap::new(),
            last_ticket: 0,
            seen: BTreeMap::new(),
            acked: BTreeMap::new(),
            isolated: BTreeSet::new(),
            boot_epoch: 0,
        };
        world.start().unwrap();
        world.flush();
        world.shown.clear();
        world
    }

    /// Starts the shard on what the disk has.
    ///
    /// Errors: as [`Shard::start`]; the world is then without a shard.
    pub fn start(&mut self) -> Result<(), ShardStartError> {
        assert!(self.shard.is_none(), "the shard runs already");
        (self.now.monotonic_ms, self.now.service_ms) = (1, 1);
        self.boot_epoch += 1;
        let entropy = Arc::clone(&self.entropy);
        let draw = move || entropy.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        let founder =
            Founder { node: NODE, founding_id: [7; 16], peers_address: "node1:9644".into() };
        let founding = FoundingPlan { founders: vec![founder], nodes: vec![self.registration()] };
        let settings = ShardSettings {
            node_id: NODE,
            boot_epoch: self.boot_epoch,
            groups: self.settings.groups.clone(),
            metadata: MetadataStart {
                settings: self.settings.broker.clone(),
                founding,
                entropy: Box::new(draw),
            },
            min_insync_replicas: self.settings.broker.min_insync_replicas,
            rest_ticks: REST_TICKS,
        };
        let shard = Shard::start(settings, self.disk.recover(), self.now, &mut self.effects)?;
        self.shard = Some(shard);
        self.follow_effects();
        self.check();
        Ok(())
    }

    fn registration(&self) -> NodeRegistration {
        let (name, host) = ("kafka".into(), "127.0.0.1".into());
        let listener = ListenerAddress { name, host, port: 9092, pin: None };
        let boot = BootEpoch { epoch: self.boot_epoch, start_id: self.boot_epoch };
        NodeRegistration {
            node: NODE,
            directory: [0; 16],
            boot,
            rack: None,
            listeners: vec![listener],
        }
    }

    /// One turn over everything in the inbox.
    pub fn turn(&mut self) {
        let inputs = std::mem::take(&mut self.inbox);
        if let Some(shard) = &mut self.shard {
            shard.step(self.now, inputs.into_iter(), &mut self.effects);
            self.follow_effects();
            self.check();
        }
    }

    /// Puts an input into the inbox of the next turn.
    pub fn put(&mut self, input: Input) {
        self.inbox.push(input);
    }

    /// Does everything that the disk was asked to do, and what follows from it, until it is idle.
    pub fn flush(&mut self) {
        while self.disk.queued() > 0 {
            while let Some(answers) = self.disk.perform_one(|_| true) {
                self.inbox.extend(answers);
            }
            self.turn();
        }
    }

    /// Does what the disk was asked to do for one log, and what follows from it for that log.
    pub fn flush_log(&mut self, incarnation: Incarnation) {
        while !self.disk.is_quiet(incarnation) {
            while let Some(answers) = self.disk.perform_one(|log| log == incarnation) {
                self.inbox.extend(answers);
            }
            self.turn();
        }
    }

    /// Does the oldest thing that the disk was asked to do.
    pub fn flush_one(&mut self) {
        if let Some(answers) = self.disk.perform_one(|_| true) {
            self.inbox.extend(answers);
            self.turn();
        }
    }

    /// Moves the clock; the shard is stepped whenever it wants to be. The disk does nothing.
    pub fn advance(&mut self, by_ms: u64) {
        let end_ms = self.now.monotonic_ms + by_ms;
        while let Some(shard) = &self.shard
            && self.now.monotonic_ms + shard.wait_ms(self.now) <= end_ms
        {
            let wait_ms = shard.wait_ms(self.now).max(1);
            let wake_ms = (self.now.monotonic_ms + wait_ms).min(end_ms);
            self.set_clock(wake_ms);
            self.turn();
            if wake_ms == end_ms {
                return;
            }
        }
        self.set_clock(end_ms);
    }

    fn set_clock(&mut self, monotonic_ms: u64) {
        let passed_ms = monotonic_ms - self.now.monotonic_ms;
        self.now.wall_ms += passed_ms;
        self.now.service_ms += passed_ms;
        self.now.monotonic_ms = monotonic_ms;
    }

    /// Loses the process, and of what was not flushed all but the survivors.
    pub fn stop(&mut self, survivors: Survivors) -> Memory {
        let memory = self.remember();
        self.shard = None;
        self.inbox.clear();
        self.waiting.clear();
        self.isolated.clear();
        self.disk.crash(survivors);
        self.check_disk();
        memory
    }

    /// A crash and a start.
    pub fn crash(&mut self, survivors: Survivors) {
        let memory = self.stop(survivors);
        self.start().unwrap();
        self.compare(&memory);
    }

    /// Loses what a log has behind an index, though it had been flushed.
    pub fn damage(&mut self, incarnation: Incarnation, behind: LogIndex) {
        let log = self.disk.log_mut(incarnation).expect("a log to damage");
        log.damage_behind(behind);
        let end = log.end_offset();
        self.acked.retain(|(log, offset), _| *log != incarnation || *offset < end);
        self.seen.remove(&incarnation);
    }

    /// What is derived from logs that have applied everything that is flushed.
    fn remember(&self) -> Memory {
        let mut states = BTreeMap::new();
        for (incarnation, log) in self.disk.logs() {
            let replica = self.replica(incarnation);
            let replica = replica.filter(|replica| replica.applied() == log.last_index());
            if let Some(replica) = replica {
                states.insert(incarnation, (replica.applied(), derived_state(replica)));
            }
        }
        Memory { states }
    }

    /// Asserts that what was replayed is what was there before. A log of which more survived than
    /// had been applied is left out.
    pub fn compare(&self, memory: &Memory) {
        for (incarnation, (applied, state)) in &memory.states {
            let Some(replica) = self.replica(*incarnation) else { continue };
            if replica.applied() == *applied {
                let name = self.names.log(*incarnation);
                let replayed = derived_state(replica);
                assert!(replayed.includes(state), "{name} replayed {replayed:?}, not {state:?}");
            }
        }
    }

    /// The replica of a log, while it is in service.
    #[must_use]
    pub fn replica(&self, incarnation: Incarnation) -> Option<&Replica> {
        self.shard.as_ref()?.replica(incarnation)
    }

    /// The newest log of a name such as `orders/0`.
    #[must_use]
    pub fn log_of(&self, name: &str) -> Option<Incarnation> {
        self.names.find(name)
    }

    /// The metadata as last published.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_deref()
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Moves only the wall clock, as an operator or a time server does.
    pub fn set_wall_ms(&mut self, wall_ms: u64) {
        self.now.wall_ms = wall_ms;
    }

    /// A ticket for a request that is about to be put into the inbox.
    pub fn ticket(&mut self, asked: Asked) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.insert(ticket, asked);
        ticket
    }

    /// Puts a batch into the inbox.
    pub fn put_produce(&mut self, incarnation: Incarnation, produce: Produce) -> Option<Ticket> {
        let asked = Asked::Produce(incarnation, produce.batch.clone());
        let ticket = produce.ticket.map(|_| self.ticket(asked));
        self.put(Input::Produce { incarnation, produce: Produce { ticket, ..produce } });
        ticket
    }

    /// Requests that have not been answered.
    pub fn waiting(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.waiting.keys().copied()
    }

    /// What the requests that have not been answered asked for.
    pub fn waiting_for(&self) -> impl Iterator<Item = (Ticket, &Asked)> {
        self.waiting.iter().map(|(ticket, asked)| (*ticket, asked))
    }

    /// Takes the answers since the last call; everything else that was shown is dropped.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        let shown = std::mem::take(&mut self.shown).into_iter();
        shown
            .filter_map(|shown| match shown {
                Shown::Answer(answer) => Some(answer),
                Shown::Effect(_) => None,
            })
            .collect()
    }

    fn follow_effects(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain() {
            self.follow(effect);
        }
        self.effects = effects;
    }

    fn follow(&mut self, effect: Effect) {
        match &effect {
            Effect::Create(birth) => self.disk.push(Work::Create(birth.clone())),
            Effect::Persist { incarnation, ready, vote, truncate_from, frames } => {
                assert_eq!(*truncate_from, None, "a lone voter overwrites nothing");
                let (incarnation, ready, vote) = (*incarnation, *ready, *vote);
                let frames = frames.clone();
                self.disk.push(Work::Persist { incarnation, ready, vote, frames });
            }
            Effect::StoreState { incarnation, applied, state } => {
                let (incarnation, applied, state) = (*incarnation, *applied, state.clone());
                self.disk.push(Work::StoreState { incarnation, applied, state });
            }
            Effect::Trim { incarnation, start } => {
                self.disk.push(Work::Trim { incarnation: *incarnation, start: *start });
            }
            Effect::Roll { incarnation } => {
                self.disk.push(Work::Roll { incarnation: *incarnation });
            }
            Effect::Delete { incarnation, .. } | Effect::Quarantine { incarnation } => {
                self.disk.push(Work::Delete { incarnation: *incarnation });
            }
            Effect::Committed { incarnation, commit, .. } => {
                self.disk.commit(*incarnation, *commit);
            }
            Effect::Isolated { incarnation, .. } => {
                self.isolated.insert(*incarnation);
            }
            Effect::Metadata(metadata) => {
                self.names.learn(metadata);
                self.metadata = Some(Arc::clone(metadata));
            }
            Effect::LeaderChanged { .. } => return,
            Effect::Send { .. }
            | Effect::SendSnapshot(_)
            | Effect::Install { .. }
            | Effect::ReadFrames { .. } => {
                panic!("a lone voter has no followers: {effect:?}")
            }
            Effect::Configure { .. }
            | Effect::GivesWay(_)
            | Effect::Leads { .. }
            | Effect::Deposed { .. }
            | Effect::Assigned { .. }
            | Effect::NothingLeft { .. } => {}
            Effect::Reply(ticket, _) => {
                let asked = self.waiting.remove(ticket);
                let asked = asked.unwrap_or_else(|| panic!("{ticket:?} was answered twice"));
                let Effect::Reply(ticket, reply) = effect else { unreachable!("matched above") };
                self.check_ack(&asked, &reply);
                self.shown.push(Shown::Answer(Answer { ticket, asked, reply }));
                return;
            }
        }
        self.shown.push(Shown::Effect(effect));
    }
}

/// What a restart must replay.
#[derive(Debug)]
pub struct Memory {
    states: BTreeMap<Incarnation, (LogIndex, DerivedState)>,
}

fn derived_state(replica: &Replica) -> DerivedState {
    match replica.derived() {
        Derived::Records(producers) => DerivedState::Producers(producers.clone()),
        other => {
            let groups = other.coordinator().map(|groups| groups.snapshot(replica.applied()));
            let metadata = other.metadata().map(Metadata::snapshot);
            DerivedState::Snapshot(groups.or(metadata).unwrap_or_default())
        }
    }
}

/// Checks.
impl World {
    fn check(&mut self) {
        let Some(shard) = &self.shard else { return };
        shard.check_invariants();
        for (incarnation, log) in self.disk.logs() {
            let Some(replica) = shard.replica(incarnation) else { continue };
            let seen = Seen {
                term: replica.term(),
                applied: replica.applied(),
                high_watermark: replica.high_watermark(),
                log_start: replica.log_start().offset,
            };
            let name = self.names.log(incarnation);
            let before = self.seen.insert(incarnation, seen).unwrap_or_default();
            assert!(before.term <= seen.term, "I5: the term of {name} fell");
            assert!(before.applied <= seen.applied, "I5: the applied index of {name} fell");
            assert!(
                before.high_watermark <= seen.high_watermark,
                "I5: the high watermark of {name} fell"
            );
            assert!(before.log_start <= seen.log_start, "I5: the log start of {name} fell");
            assert!(replica.applied() <= log.last_index(), "{name} applied what is not flushed");
        }
    }

    /// I6: what is acknowledged is flushed at that very moment.
    fn check_ack(&mut self, asked: &Asked, reply: &Reply) {
        let (Asked::Produce(incarnation, batch), Reply::Produce(Ok(ack))) = (asked, reply) else {
            return;
        };
        let log = self.disk.log(*incarnation).expect("an ack comes from a log");
        if ack.base_offset < log.start().offset {
            return;
        }
        let body = batch.slice(STAMPED_BYTES..);
        let found = stored_body(log.frames(), ack.base_offset);
        assert_eq!(found, Some(body.clone()), "I6: an ack at {} before its flush", ack.base_offset);
        let before = self.acked.insert((*incarnation, ack.base_offset), body.clone());
        assert!(before.is_none_or(|before| before == body), "I7: an offset holds two batches");
    }

    /// I7: everything that was acknowledged is where it was, unless it was trimmed or deleted;
    /// and offsets are dense.
    fn check_disk(&self) {
        for ((incarnation, offset), body) in &self.acked {
            let Some(log) = self.disk.log(*incarnation) else { continue };
            if *offset < log.start().offset {
                continue;
            }
            let found = stored_body(log.frames(), *offset);
            let name = self.names.log(*incarnation);
            assert_eq!(found.as_ref(), Some(body), "I7: {name} lost what it acked at {offset}");
        }
    }
}

fn stored_body<'a>(
    mut frames: impl Iterator<Item = &'a bateau_protocol::frame::Frame>,
    offset: Offset,
) -> Option<Bytes> {
    let holds = |frame: &&bateau_protocol::frame::Frame| {
        frame.base_offset == offset && frame.record_count > 0
    };
    frames.find(holds).map(|frame| frame.payload.slice(STAMPED_BYTES..))
}
