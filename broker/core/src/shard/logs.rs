//! Logs and replicas: opened where the metadata places them, created where they are missing.
//!
//! Invariants
//! - "I do not know this partition" is never a reason to delete: a recovered log that the metadata
//!   does not name stays as it is, a tombstone alone takes it away (D10).
//! - A log is made with frame 1, the initial membership, committed from birth with term 1.
//! - The metadata partition opens first; without it the node does not start.
//!
//! Absent on purpose: files, and a log whose replica lives elsewhere.

use super::births::Births;
use super::copies::Copies;
use super::fitness::Fitness;
use super::leaving::Leaving;
use super::mending::{Mendings, Opening};
use super::peers::EarlyMessages;
use super::sweep::Sweep;
use super::timers::Timers;
use super::{Effect, Effects, Shard, ShardSettings, Slot, panic_message};
use crate::clock::Now;
use crate::controller::{MetadataEvent, PartitionPlacement, Replica as PlacedReplica, TopicConfig};
use crate::replica::membership::{Member, Membership};
use crate::replica::trim::{LogStart, Retention};
use crate::replica::{
    Assignment, DerivedStart, ProduceError, ReadOrigin, RecoveredLog, Replica, ReplicaSettings,
    ReplicaStart, StartError, TailBudget, Vote,
};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use bateau_protocol::terms::TermTable;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use thiserror::Error;

/// The term in which every partition is born.
const BIRTH_TERM: Term = Term::new(1);
const BIRTH_INDEX: LogIndex = LogIndex::new(1);

/// Why a shard does not start.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ShardStartError {
    /// The directory belongs to a cluster and has no metadata partition (exit code 4).
    #[error("the metadata partition's log is missing")]
    MetadataMissing,
    /// The metadata partition has lost a range that was durable (exit code 4).
    #[error("the metadata partition is damaged behind index {last_index}")]
    MetadataDamaged {
        /// The last index that can be read.
        last_index: LogIndex,
    },
    /// The metadata partition cannot be opened.
    #[error("the metadata partition cannot be opened: {0}")]
    Metadata(#[from] StartError),
}

/// A log to be made, with its first frame: the initial membership, committed from birth.
#[derive(Clone, Debug)]
pub struct LogBirth {
    /// Birth id.
    pub incarnation: Incarnation,
    /// This placement's id.
    pub replica_id: ReplicaId,
    /// Term and vote to start with.
    pub vote: Vote,
    /// Frame 1; `None` where the replica comes later, and gets all of its log from the others.
    pub first: Option<Frame>,
    /// The topic's configuration; `None` for an internal log, without which the cluster cannot
    /// work.
    pub config: Option<TopicConfig>,
}

impl LogBirth {
    /// A replica that is there from the birth on. Frame 1 is the same on all of them: it names the
    /// voters by their ids, and not in the order of preference, which may change before the last
    /// of them is made.
    pub(super) fn new(
        incarnation: Incarnation,
        replica_id: ReplicaId,
        mut voters: Vec<Member>,
    ) -> Self {
        voters.sort_by_key(|voter| voter.replica_id);
        let membership = Membership::initial(voters).encode();
        let entry = (BIRTH_TERM, BIRTH_INDEX);
        let first = Frame::new(FrameKind::Membership, entry, Offset::ZERO, 0, membership);
        let vote = Vote { term: BIRTH_TERM, voted_for: ReplicaId::ZERO };
        Self { incarnation, replica_id, vote, first: Some(first), config: None }
    }

    /// A replica that is given to a partition after its birth: it begins with nothing.
    #[must_use]
    pub fn of_later_replica(incarnation: Incarnation, replica_id: ReplicaId) -> Self {
        Self { incarnation, replica_id, vote: Vote::default(), first: None, config: None }
    }

    /// The metadata partition on `node_id`, one of the `founders` of a cluster: it exists before
    /// any shard does, and its replica ids are the nodes' own ids.
    ///
    /// - `founders`: every founder once, in the order of their ids, so that all write one frame 1.
    #[must_use]
    pub fn of_metadata(node_id: NodeId, founders: &[NodeId]) -> Self {
        let replica_id = |node: NodeId| ReplicaId::new(node.get());
        let member = |node: &NodeId| Member { replica_id: replica_id(*node), node_id: *node };
        let voters = founders.iter().map(member).collect();
        Self::new(Incarnation::METADATA, replica_id(node_id), voters)
    }

    /// The log as recovery would find it right after it was made.
    #[must_use]
    pub fn into_recovered(self) -> RecoveredLog {
        let mut terms = TermTable::default();
        let mut log_start = LogStart { index: BIRTH_INDEX, ..LogStart::default() };
        let last_index = self.first.as_ref().map_or(LogIndex::ZERO, |first| first.index);
        if let Some(first) = &self.first {
            terms.note(BIRTH_TERM, BIRTH_INDEX, Offset::ZERO);
            let header = first.header(self.incarnation, 0, FlushSequence::ZERO);
            log_start = LogStart::behind_birth(header.chain_crc());
        }
        RecoveredLog {
            incarnation: self.incarnation,
            replica_id: self.replica_id,
            vote: self.vote,
            commit: last_index,
            log_start,
            last_index,
            end_offset: Offset::ZERO,
            terms,
            state: None,
            snapshot: None,
            frames: self.first.into_iter().collect(),
            is_damaged: false,
            mendable: None,
            readable: None,
        }
    }
}

/// A log that is being made, and what its replica will need.
pub(super) struct Creation {
    pub birth: LogBirth,
    parts: ReplicaParts,
    /// A tombstone has come meanwhile: the log goes when it was made.
    pub doom: Option<Doom>,
}

/// What a replica will need beside its log.
pub(super) struct ReplicaParts {
    pub assignment: Assignment,
    pub derived: DerivedStart,
    pub settings: ReplicaSettings,
}

/// How a log is to go.
#[derive(Clone, Copy)]
pub(super) struct Doom {
    /// Whether its partition lives on elsewhere.
    lives_on: bool,
}

impl Shard {
    /// Opens what recovery found, beginning with the metadata, and asks for what is missing.
    ///
    /// Errors: [`ShardStartError`]; nothing has been changed then.
    pub fn start(
        settings: ShardSettings,
        recovered: Vec<RecoveredLog>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Self, ShardStartError> {
        let by_incarnation = recovered.into_iter().map(|log| (log.incarnation, log));
        let mut shard = Self {
            node_id: settings.node_id,
            reads: ReadOrigin { node: settings.node_id, boot_epoch: settings.boot_epoch },
            tail_budget: TailBudget::default(),
            births: Births::default(),
            leaving: Leaving::default(),
            fitness: Fitness::default(),
            sweep: Sweep::default(),
            mendings: Mendings::default(),
            copies: Copies::default(),
            rest_ticks: settings.rest_ticks,
            early: EarlyMessages::default(),
            groups: settings.groups,
            min_insync_replicas: settings.min_insync_replicas,
            slots: BTreeMap::new(),
            recovered: by_incarnation.collect(),
            group_logs: BTreeMap::new(),
            touched: BTreeSet::new(),
            published: LogIndex::ZERO,
            is_disk_full: false,
            timers: Timers::default(),
        };
        shard.open_metadata(DerivedStart::Metadata(settings.metadata), now)?;
        shard.end_turn(now, effects);
        Ok(shard)
    }

    fn open_metadata(&mut self, derived: DerivedStart, now: Now) -> Result<(), ShardStartError> {
        let incarnation = Incarnation::METADATA;
        let log = self.recovered.remove(&incarnation).ok_or(ShardStartError::MetadataMissing)?;
        if log.is_damaged {
            return Err(ShardStartError::MetadataDamaged { last_index: log.last_index });
        }
        let assignment = Assignment::default();
        let settings = ReplicaSettings::default();
        let start = self.replica_start(ReplicaParts { assignment, derived, settings });
        let last_term = log.terms.last().map_or(log.vote.term, |last| last.term);
        self.births = Births::behind(log.last_index, last_term);
        let mut replica = Replica::start(log, start, now)?;
        replica.announce_metadata();
        if replica.stands_first() {
            replica.campaign();
        }
        self.slots.insert(incarnation, Slot::Running(Box::new(replica)));
        self.touched.insert(incarnation);
        Ok(())
    }

    pub(super) fn open_created(
        &mut self,
        incarnation: Incarnation,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(Slot::Creating(creation)) = self.slots.remove(&incarnation) else { return };
        let Creation { birth, parts, doom } = *creation;
        if let Some(Doom { lives_on }) = doom {
            effects.push(Effect::Delete { incarnation, lives_on });
            // Another replica may have been waiting for its place.
            self.place_due(now, effects);
            return;
        }
        if let Some(config) = birth.config.clone() {
            effects.push(Effect::Configure { incarnation, config });
        }
        let start = self.replica_start(parts);
        self.run(birth.into_recovered(), start, now, effects);
    }

    pub(super) fn replica_start(&self, parts: ReplicaParts) -> ReplicaStart {
        let ReplicaParts { assignment, derived, settings } = parts;
        let (reads, budget) = (self.reads, self.tail_budget.clone());
        let rest_ticks = self.rest_ticks;
        ReplicaStart { settings, assignment, derived, reads, budget, rest_ticks }
    }

    /// Starts a replica. It stands for election at once where nobody else can lead, or where its
    /// partition is new and its placement names it first.
    pub(super) fn run(
        &mut self,
        log: RecoveredLog,
        start: ReplicaStart,
        now: Now,
        effects: &mut Effects,
    ) {
        let (incarnation, replica_id) = (log.incarnation, log.replica_id);
        let is_disk_full = self.is_disk_full;
        // What was recovered may break an invariant, of raft or of ours: that log alone is out.
        let started = catch_unwind(AssertUnwindSafe(|| {
            let mut replica = Replica::start(log, start, now)
                .map_err(|error| (error.is_loss(), error.to_string()))?;
            replica.set_disk_full(is_disk_full);
            if replica.stands_first() {
                replica.campaign();
            }
            Ok(replica)
        }));
        match started.unwrap_or_else(|panic| Err((false, panic_message(&*panic)))) {
            Ok(replica) => {
                self.slots.insert(incarnation, Slot::Running(Box::new(replica)));
                self.touched.insert(incarnation);
                self.tell_early(incarnation, now, effects);
            }
            Err((is_lost, reason)) => {
                self.slots.insert(incarnation, Slot::Unavailable(replica_id));
                effects.push(Effect::Isolated { incarnation, replica_id, is_lost, reason });
            }
        }
    }

    pub(super) fn follow_event(&mut self, event: MetadataEvent, now: Now, effects: &mut Effects) {
        match event {
            MetadataEvent::PartitionCreated(placement)
            | MetadataEvent::PartitionAssigned(placement) => self.place(&placement, now, effects),
            MetadataEvent::ReplicaRemoved { incarnation, replica } => {
                if replica.node == self.node_id {
                    self.remove_replica(incarnation, replica.id, effects);
                }
            }
            MetadataEvent::QuorumAssigned => self.assign_quorum(effects),
            MetadataEvent::PartitionDeleted { incarnation, nodes } => {
                if nodes.contains(&self.node_id) {
                    self.take_away(incarnation, false, effects);
                }
            }
            MetadataEvent::TopicConfigChanged { incarnations, config, .. } => {
                for incarnation in incarnations {
                    self.configure(incarnation, &config, effects);
                }
            }
            MetadataEvent::TopicDeleted { topic, topic_id } => {
                self.forget_topic(&topic, topic_id, now, effects);
            }
            MetadataEvent::ClusterFounded { .. }
            | MetadataEvent::NodeRegistered { .. }
            | MetadataEvent::NodeAdmitted { .. }
            | MetadataEvent::NodeRemoved { .. } => {}
        }
    }

    /// Makes what has waited for that, where the metadata places it by now: it may have been
    /// placed anew, and a snapshot may have passed over its removal.
    pub(super) fn place_due(&mut self, now: Now, effects: &mut Effects) {
        for incarnation in self.births.take_due() {
            if let Some(placement) = self.metadata().and_then(|one| one.placement(incarnation)) {
                self.place(&placement, now, effects);
            }
        }
    }

    fn place(&mut self, placement: &PartitionPlacement, now: Now, effects: &mut Effects) {
        let incarnation = placement.incarnation;
        let Some(own) = placement.replica_on(self.node_id) else { return };
        if self.replaces(incarnation, own.id) {
            if self.births.may_happen() && self.retire(incarnation, effects) {
                self.place(placement, now, effects);
            } else {
                self.births.defer(incarnation);
            }
            return;
        }
        if self.slots.contains_key(&incarnation) {
            self.assign(placement, effects);
            // It is named again by a snapshot of the metadata, which may have changed since.
            if !placement.internal {
                self.configure(incarnation, &placement.config, effects);
            }
            return;
        }
        if self.metadata().is_some_and(|metadata| metadata.is_lost(&own)) {
            // It was on the directory before this one; another one will take its place.
            return;
        }
        if !self.recovered.contains_key(&incarnation) && !self.births.may_happen() {
            self.births.defer(incarnation);
            return;
        }
        let derived = if placement.internal {
            self.group_logs.insert(placement.partition, incarnation);
            DerivedStart::Groups(self.groups.clone())
        } else {
            DerivedStart::Records
        };
        let (assignment, settings) =
            (assignment_of(placement), self.replica_settings(&placement.config));
        let parts = ReplicaParts { assignment, derived, settings };
        let config = (!placement.internal).then(|| placement.config.clone());
        let Some(log) = self.recovered.remove(&incarnation) else {
            // Who is there from the birth on writes frame 1 itself.
            let mut birth = match placement.assignment {
                0 => LogBirth::new(incarnation, own.id, parts.assignment.voters.clone()),
                _ => LogBirth::of_later_replica(incarnation, own.id),
            };
            birth.config = config;
            effects.push(Effect::Create(birth.clone()));
            let doom = None;
            let creation = Box::new(Creation { birth, parts, doom });
            self.slots.insert(incarnation, Slot::Creating(creation));
            return;
        };
        let is_sole_voter = placement.replicas.len() == 1 && placement.leaving.is_empty();
        if let Some(segment) = log.mendable.filter(|_| log.is_damaged && !is_sole_voter) {
            return self.mend_before_start(segment, Opening { log, parts, config }, effects);
        }
        if let Some(config) = config {
            effects.push(Effect::Configure { incarnation, config });
        }
        if log.is_damaged {
            self.serve_prefix(&log, is_sole_voter, effects);
        } else {
            let start = self.replica_start(parts);
            self.run(log, start, now, effects);
            self.begin_asleep(incarnation, effects);
        }
    }

    /// Whether a new replica takes the place of one that is here, by a higher id. The metadata as
    /// known here may be older than the log: then it names a lower one.
    fn replaces(&self, incarnation: Incarnation, new: ReplicaId) -> bool {
        let present = self.slots.get(&incarnation).map(Slot::replica_id);
        let recovered = self.recovered.get(&incarnation).map(|log| log.replica_id);
        present.or(recovered).is_some_and(|present| present < new)
    }

    /// The replica here was lost, and another one takes its place. Whether it is gone; a log that
    /// is still being made goes first.
    fn retire(&mut self, incarnation: Incarnation, effects: &mut Effects) -> bool {
        self.forget(incarnation);
        match self.slots.get_mut(&incarnation) {
            Some(Slot::Running(replica)) => {
                replica.resign(ProduceError::NotLeader, effects);
            }
            Some(Slot::Creating(creation)) => {
                creation.doom = Some(Doom { lives_on: true });
                return false;
            }
            Some(Slot::Mending(_) | Slot::Unavailable(_)) | None => {}
        }
        self.slots.remove(&incarnation);
        effects.push(Effect::Quarantine { incarnation });
        true
    }

    fn forget(&mut self, incarnation: Incarnation) {
        self.timers.forget(incarnation);
        self.sweep.forget(incarnation);
        self.mendings.forget(incarnation);
        self.touched.remove(&incarnation);
        self.recovered.remove(&incarnation);
        self.births.forget(incarnation);
    }

    /// A partition that has a replica here is to have these replicas.
    fn assign(&mut self, placement: &PartitionPlacement, effects: &mut Effects) {
        let (incarnation, assignment) = (placement.incarnation, assignment_of(placement));
        match self.slots.get_mut(&incarnation) {
            Some(Slot::Creating(creation)) => creation.parts.assignment = assignment,
            Some(Slot::Mending(opening)) => opening.parts.assignment = assignment,
            _ => self.with(incarnation, effects, |replica, _| replica.assign(assignment)),
        }
    }

    fn assign_quorum(&mut self, effects: &mut Effects) {
        let Some(quorum) = self.metadata().map(|metadata| metadata.quorum().clone()) else {
            return;
        };
        let assignment = Assignment {
            number: quorum.assignment,
            voters: members(&quorum.voters),
            learners: members(&quorum.learners),
            is_open: quorum.is_open,
        };
        let log = Incarnation::METADATA;
        self.with(log, effects, |replica, _| replica.assign(assignment));
    }

    /// A committed tombstone of a single replica, whose partition lives on.
    fn remove_replica(
        &mut self,
        incarnation: Incarnation,
        replica: ReplicaId,
        effects: &mut Effects,
    ) {
        let slot = self.slots.get(&incarnation).map(Slot::replica_id);
        let recovered = self.recovered.get(&incarnation).map(|log| log.replica_id);
        if slot.or(recovered) == Some(replica) {
            self.take_away(incarnation, true, effects);
        } else {
            effects.push(Effect::NothingLeft { incarnation });
        }
    }

    /// What lies before a damaged range may be read; nothing is appended (decision 24). Whoever
    /// votes alone has committed all of it; of others' logs only what is known to be committed is
    /// shown, for nobody tells this replica any more what became of the rest.
    pub(super) fn serve_prefix(
        &mut self,
        log: &RecoveredLog,
        is_sole_voter: bool,
        effects: &mut Effects,
    ) {
        let (incarnation, replica_id) = (log.incarnation, log.replica_id);
        self.slots.insert(incarnation, Slot::Unavailable(replica_id));
        let all = is_sole_voter.then_some((log.last_index, log.end_offset));
        if let Some((commit, high_watermark)) = all.or(log.readable) {
            effects.push(Effect::Committed { incarnation, commit, high_watermark });
        }
        let is_lost = true;
        let reason = format!("the log is damaged behind index {}", log.last_index);
        effects.push(Effect::Isolated { incarnation, replica_id, is_lost, reason });
    }

    /// A committed tombstone: the log goes, and with it whoever waits.
    fn take_away(&mut self, incarnation: Incarnation, lives_on: bool, effects: &mut Effects) {
        self.forget(incarnation);
        match self.slots.get_mut(&incarnation) {
            Some(Slot::Running(replica)) => {
                replica.resign(ProduceError::NotLeader, effects);
            }
            // The log may not exist yet: it is deleted when it was made.
            Some(Slot::Creating(creation)) => {
                creation.doom = Some(Doom { lives_on });
                return;
            }
            // The disk may have nothing of it left; its answer says so.
            Some(Slot::Mending(_) | Slot::Unavailable(_)) | None => {}
        }
        self.slots.remove(&incarnation);
        self.group_logs.retain(|_, log| *log != incarnation);
        effects.push(Effect::Delete { incarnation, lives_on });
    }

    fn configure(&mut self, incarnation: Incarnation, config: &TopicConfig, effects: &mut Effects) {
        let settings = self.replica_settings(config);
        match self.slots.get_mut(&incarnation) {
            Some(Slot::Running(replica)) => {
                replica.configure(settings);
                effects.push(Effect::Configure { incarnation, config: config.clone() });
            }
            // The disk is told when the log is there.
            Some(Slot::Creating(creation)) => {
                creation.parts.settings = settings;
                creation.birth.config = Some(config.clone());
            }
            Some(Slot::Mending(opening)) => {
                opening.parts.settings = settings;
                opening.config = Some(config.clone());
            }
            Some(Slot::Unavailable(_)) | None => {}
        }
    }

    fn replica_settings(&self, config: &TopicConfig) -> ReplicaSettings {
        let least = config.min_insync_replicas.or(self.min_insync_replicas);
        ReplicaSettings {
            min_insync_replicas: least.map_or(0, |least| least as usize),
            retention: Retention {
                age_ms: config.retention_ms,
                size_bytes: config.retention_bytes,
                segment_ms: config.segment_ms,
            },
        }
    }
}

fn assignment_of(placement: &PartitionPlacement) -> Assignment {
    Assignment {
        number: placement.assignment,
        voters: members(&placement.replicas),
        learners: Vec::new(),
        is_open: placement.is_open,
    }
}

fn members(replicas: &[PlacedReplica]) -> Vec<Member> {
    let member = |one: &PlacedReplica| Member { replica_id: one.id, node_id: one.node };
    replicas.iter().map(member).collect()
}
