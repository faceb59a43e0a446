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
use super::leaving::Leaving;
use super::peers::EarlyMessages;
use super::timers::Timers;
use super::{Effect, Effects, Shard, ShardSettings, Slot, panic_message};
use crate::clock::Now;
use crate::controller::{MetadataEvent, PartitionPlacement, TopicConfig};
use crate::replica::membership::{Member, Membership};
use crate::replica::trim::{LogStart, Retention};
use crate::replica::{
    DerivedStart, ReadOrigin, RecoveredLog, Replica, ReplicaSettings, ReplicaStart, StartError,
    TailBudget, Vote,
};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
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
    /// Frame 1.
    pub first: Frame,
    /// The topic's configuration; `None` for an internal log, without which the cluster cannot
    /// work.
    pub config: Option<TopicConfig>,
}

impl LogBirth {
    fn new(incarnation: Incarnation, replica_id: ReplicaId, voters: Vec<Member>) -> Self {
        let membership = Membership::initial(voters).encode();
        let entry = (BIRTH_TERM, BIRTH_INDEX);
        let first = Frame::new(FrameKind::Membership, entry, Offset::ZERO, 0, membership);
        let vote = Vote { term: BIRTH_TERM, voted_for: ReplicaId::ZERO };
        Self { incarnation, replica_id, vote, first, config: None }
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
        terms.note(BIRTH_TERM, BIRTH_INDEX, Offset::ZERO);
        RecoveredLog {
            incarnation: self.incarnation,
            replica_id: self.replica_id,
            vote: self.vote,
            commit: BIRTH_INDEX,
            log_start: LogStart { index: BIRTH_INDEX, ..LogStart::default() },
            last_index: BIRTH_INDEX,
            end_offset: Offset::ZERO,
            terms,
            state: None,
            snapshot: None,
            frames: vec![self.first],
            is_damaged: false,
            readable: None,
        }
    }
}

/// A log that is being made, and what its replica will need.
pub(super) struct Creation {
    pub birth: LogBirth,
    derived: DerivedStart,
    settings: ReplicaSettings,
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
        let start = self.replica_start(ReplicaSettings::default(), derived);
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
        let Some(Slot::Creating(creation)) = self.slots.remove(&incarnation) else {
            // The topic was deleted while its log was being made.
            effects.push(Effect::Delete { incarnation });
            return;
        };
        let Creation { birth, derived, settings } = *creation;
        if let Some(config) = birth.config.clone() {
            effects.push(Effect::Configure { incarnation, config });
        }
        self.run(birth.into_recovered(), settings, derived, now, effects);
    }

    fn replica_start(&self, settings: ReplicaSettings, derived: DerivedStart) -> ReplicaStart {
        ReplicaStart { settings, derived, reads: self.reads, budget: self.tail_budget.clone() }
    }

    /// Starts a replica. It stands for election at once where nobody else can lead, or where its
    /// partition is new and its placement names it first.
    fn run(
        &mut self,
        log: RecoveredLog,
        settings: ReplicaSettings,
        derived: DerivedStart,
        now: Now,
        effects: &mut Effects,
    ) {
        let incarnation = log.incarnation;
        let is_disk_full = self.is_disk_full;
        let start = self.replica_start(settings, derived);
        // What was recovered may break an invariant, of raft or of ours: that log alone is out.
        let started = catch_unwind(AssertUnwindSafe(|| {
            let mut replica = Replica::start(log, start, now).map_err(|error| error.to_string())?;
            replica.set_disk_full(is_disk_full);
            if replica.stands_first() {
                replica.campaign();
            }
            Ok(replica)
        }));
        match started.unwrap_or_else(|panic| Err(panic_message(&*panic))) {
            Ok(replica) => {
                self.slots.insert(incarnation, Slot::Running(Box::new(replica)));
                self.touched.insert(incarnation);
                self.tell_early(incarnation, now, effects);
            }
            Err(reason) => {
                self.slots.insert(incarnation, Slot::Unavailable);
                effects.push(Effect::Isolated { incarnation, reason });
            }
        }
    }

    pub(super) fn follow_event(&mut self, event: MetadataEvent, now: Now, effects: &mut Effects) {
        match event {
            MetadataEvent::PartitionCreated(placement) => self.place(&placement, now, effects),
            MetadataEvent::PartitionDeleted { incarnation, nodes } => {
                if nodes.contains(&self.node_id) {
                    self.take_away(incarnation, effects);
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
            MetadataEvent::ClusterFounded { .. } | MetadataEvent::NodeRegistered { .. } => {}
        }
    }

    pub(super) fn place(
        &mut self,
        placement: &PartitionPlacement,
        now: Now,
        effects: &mut Effects,
    ) {
        let incarnation = placement.incarnation;
        let Some(own) = placement.replica_on(self.node_id) else { return };
        if self.slots.contains_key(&incarnation) {
            // It is named again by a snapshot of the metadata, which may have changed since.
            if !placement.internal {
                self.configure(incarnation, &placement.config, effects);
            }
            return;
        }
        if !self.recovered.contains_key(&incarnation) && !self.births.may_happen() {
            self.births.defer(placement.clone());
            return;
        }
        let derived = if placement.internal {
            self.group_logs.insert(placement.partition, incarnation);
            DerivedStart::Groups(self.groups.clone())
        } else {
            DerivedStart::Records
        };
        let settings = self.replica_settings(&placement.config);
        let config = (!placement.internal).then(|| placement.config.clone());
        let Some(log) = self.recovered.remove(&incarnation) else {
            let member = |voter: &crate::controller::Replica| Member {
                replica_id: voter.id,
                node_id: voter.node,
            };
            let voters = placement.voters.iter().map(member).collect();
            let mut birth = LogBirth::new(incarnation, own.id, voters);
            birth.config = config;
            effects.push(Effect::Create(birth.clone()));
            let creation = Box::new(Creation { birth, derived, settings });
            self.slots.insert(incarnation, Slot::Creating(creation));
            return;
        };
        if let Some(config) = config {
            effects.push(Effect::Configure { incarnation, config });
        }
        if log.is_damaged {
            self.serve_prefix(&log, placement.voters.len() == 1, effects);
        } else {
            self.run(log, settings, derived, now, effects);
        }
    }

    /// What lies before a damaged range may be read; nothing is appended (decision 24). Whoever
    /// votes alone has committed all of it; of others' logs only what is known to be committed is
    /// shown, for nobody tells this replica any more what became of the rest.
    fn serve_prefix(&mut self, log: &RecoveredLog, is_sole_voter: bool, effects: &mut Effects) {
        let incarnation = log.incarnation;
        self.slots.insert(incarnation, Slot::Unavailable);
        let all = is_sole_voter.then_some((log.last_index, log.end_offset));
        if let Some((commit, high_watermark)) = all.or(log.readable) {
            effects.push(Effect::Committed { incarnation, commit, high_watermark });
        }
        let reason = format!("the log is damaged behind index {}", log.last_index);
        effects.push(Effect::Isolated { incarnation, reason });
    }

    /// A committed tombstone: the log goes, and with it whoever waits.
    fn take_away(&mut self, incarnation: Incarnation, effects: &mut Effects) {
        self.timers.forget(incarnation);
        self.touched.remove(&incarnation);
        self.recovered.remove(&incarnation);
        self.births.forget(incarnation);
        match self.slots.remove(&incarnation) {
            Some(Slot::Running(mut replica)) => {
                replica.resign(crate::replica::ProduceError::NotLeader, effects);
            }
            // The log may not exist yet: it is deleted when it was made.
            Some(Slot::Creating(_)) => return,
            Some(Slot::Unavailable) => {}
            // The disk may have nothing of it left; its answer says so.
            None => {}
        }
        effects.push(Effect::Delete { incarnation });
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
                creation.settings = settings;
                creation.birth.config = Some(config.clone());
            }
            Some(Slot::Unavailable) | None => {}
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
