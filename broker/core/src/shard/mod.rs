//! A turn over the replicas that a shard owns: inputs in, effects out.
//!
//! ```text
//!   inbox, disk, clock ──> Shard::step ──┬─ handle each input ── one replica each
//!                                        └─ end of turn: drain every replica that was touched,
//!                                           follow what the metadata says, until all is quiet
//! ```
//!
//! The shell drains its inbox, calls [`Shard::step`], performs the effects in order and comes
//! back with what they led to. It decides nothing.
//!
//! Invariants
//! - A replica lives on one shard; nothing else touches it.
//! - One turn makes one `Persist` effect or a few per touched replica, however many requests.
//! - A log is made where the metadata places a replica, and taken away by a tombstone alone (D10).
//! - A panic in one replica isolates that replica (D21); of the metadata, it ends the node.
//!
//! Absent on purpose: a second shard. One owner per partition is what the code assumes; which
//! shard that is will be the router's business.

mod alone;
mod births;
mod copies;
mod effects;
mod fitness;
mod invariants;
mod leaving;
mod logs;
mod mending;
mod peers;
mod queries;
mod sweep;
mod timers;

#[cfg(test)]
mod tests;

pub use crate::replica::{REST_TICKS, RecoveredLog};
pub use alone::{Alone, AloneError, Left, Survival, Wanted};
pub use effects::{Effect, Effects, Reply};
pub use fitness::Unfit;
pub use logs::{LogBirth, ShardStartError};
pub use mending::{MendFailure, MendingInput, MissingRange, RANGE_BYTES_MAX, WantedRange};
pub use timers::{HOUSEKEEPING_MS, TICK_MS};

use crate::clock::Now;
use crate::consumer_group::{CoordinatorError, GroupQuery, GroupRequest, GroupResponse};
use crate::consumer_group::{GROUP_PARTITIONS, GroupSettings, partition_of};
use crate::controller::{ControllerRequest, Metadata};
use crate::replica::trim::Segments;
use crate::replica::{MetadataStart, Produce, ProduceError, ReadOrigin, Replica, TailBudget};
use crate::ticket::Ticket;
use bateau_protocol::frame::Frame;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, ReplicaId, Term, TopicId};
use bateau_protocol::peer::{RaftMessage, SnapshotChunk};
use births::Births;
use copies::Copies;
use fitness::Fitness;
use leaving::Leaving;
use logs::Creation;
use mending::{Mendings, Opening};
use peers::EarlyMessages;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use sweep::Sweep;
use timers::Timers;

/// What a shard is told.
#[derive(Debug)]
pub enum Input {
    /// Append a batch.
    Produce {
        /// To this partition.
        incarnation: Incarnation,
        /// The batch and who waits.
        produce: Produce,
    },
    /// Ask a group's coordinator.
    Group {
        /// What.
        request: GroupRequest,
        /// Who waits.
        ticket: Ticket,
    },
    /// Read about groups.
    GroupQuery {
        /// What.
        query: GroupQuery,
        /// Who waits.
        ticket: Ticket,
    },
    /// Ask the controller.
    Controller {
        /// What.
        request: ControllerRequest,
        /// Who waits.
        ticket: Ticket,
    },
    /// A log was made, with its first frame.
    Created {
        /// Which.
        incarnation: Incarnation,
    },
    /// A log could not be made; it is tried again.
    CreateFailed {
        /// Which.
        incarnation: Incarnation,
    },
    /// A write is flushed.
    Persisted {
        /// Of this log.
        incarnation: Incarnation,
        /// The effect's number.
        ready: u64,
    },
    /// A write was refused, and nothing of it is in the log.
    PersistFailed {
        /// Of this log.
        incarnation: Incarnation,
        /// The effect's number.
        ready: u64,
    },
    /// A state file was stored, or not.
    StateStored {
        /// Of this log.
        incarnation: Incarnation,
        /// Index that it includes.
        applied: LogIndex,
        /// Whether it is durable.
        is_stored: bool,
    },
    /// A snapshot is durable in the place of the log, or could not be written.
    Installed {
        /// Of this log.
        incarnation: Incarnation,
        /// The entry that the snapshot stands for.
        index: LogIndex,
        /// Whether it is durable; otherwise the log is as it was.
        is_installed: bool,
    },
    /// A node has sent a piece of a snapshot. Its bytes have been checked as a message's.
    SnapshotChunk {
        /// Which.
        node: NodeId,
        /// The piece.
        chunk: SnapshotChunk,
    },
    /// A snapshot has been carried, or not.
    SnapshotSent {
        /// Of this log.
        incarnation: Incarnation,
        /// To this replica.
        to: ReplicaId,
        /// Which one.
        number: u64,
        /// Whether all of it has left.
        is_sent: bool,
    },
    /// A node has sent this. Its bytes have been checked, and that the node is who it says.
    Peer {
        /// Which.
        node: NodeId,
        /// What one of its replicas says.
        message: RaftMessage,
    },
    /// A link to a node has dropped what was sent.
    Unreachable {
        /// Which.
        node: NodeId,
    },
    /// A node cannot be reached: its process has gone, or it has been silent for too long.
    PeerLost {
        /// Which.
        node: NodeId,
    },
    /// These replicas on a node have stopped, while the node itself lives.
    PeerStopped {
        /// The node.
        node: NodeId,
        /// All of them.
        stopped: BTreeSet<ReplicaId>,
    },
    /// The answer to `Effect::ReadFrames`.
    FramesRead {
        /// Of this log.
        incarnation: Incarnation,
        /// The effect's number.
        fetch: u64,
        /// What was found.
        found: FramesFound,
    },
    /// Say whether this node's replica leads, and answer when all that is committed now is applied.
    Confirm {
        /// Of this partition.
        incarnation: Incarnation,
        /// Who waits.
        ticket: Ticket,
    },
    /// Who lives, this node included.
    Lives(BTreeSet<NodeId>),
    /// Another node says that it leads a partition, held here or not.
    Leads {
        /// The partition's log.
        incarnation: Incarnation,
        /// The node.
        node: NodeId,
        /// Its term.
        term: Term,
    },
    /// Other nodes that give their leaderships away, and want none.
    GiveWay(BTreeSet<NodeId>),
    /// Give the leadership of a partition away.
    Transfer {
        /// Which.
        incarnation: Incarnation,
        /// To the replica on this node.
        node: NodeId,
    },
    /// Give every leadership away that another node could have, and say when it is done.
    Leave {
        /// Who waits.
        ticket: Ticket,
    },
    /// The segments of a log, for retention.
    Segments {
        /// Of this log.
        incarnation: Incarnation,
        /// All of them.
        segments: Segments,
    },
    /// The data directory has no room for records, or has it again (D20).
    DiskFull(bool),
    /// Something about damage, here or elsewhere.
    Mending(MendingInput),
}

/// What the disk has of the frames that a follower needs.
#[derive(Debug)]
pub enum FramesFound {
    /// The first ones of them, at least one.
    Frames(Vec<Frame>),
    /// Nothing any more: the log starts behind them.
    Gone,
    /// Nothing now.
    Unreadable,
    /// Nothing: they are damaged.
    Damaged {
        /// In this segment, by its base index.
        segment: LogIndex,
    },
}

/// What a shard needs to know of its node.
pub struct ShardSettings {
    /// This node.
    pub node_id: NodeId,
    /// Which of its starts this is: together with its id it names its reads (R10).
    pub boot_epoch: u64,
    /// Consumer groups.
    pub groups: GroupSettings,
    /// The controller.
    pub metadata: MetadataStart,
    /// `min.insync.replicas` of topics that set none; `None`: the majority.
    pub min_insync_replicas: Option<u32>,
    /// Ticks without anything to do behind which a partition sleeps: [`REST_TICKS`].
    pub rest_ticks: u32,
}

/// Where a partition's replica stands.
enum Slot {
    /// Its log is being made, or the making failed and is tried again.
    Creating(Box<Creation>),
    Running(Box<Replica>),
    /// Its log is being mended, as far as others have what is missing.
    Mending(Box<Opening>),
    /// Damaged or isolated: its log may be read, nothing is appended.
    Unavailable(ReplicaId),
}

impl Slot {
    /// Which placement this is.
    fn replica_id(&self) -> ReplicaId {
        match self {
            Self::Creating(creation) => creation.birth.replica_id,
            Self::Running(replica) => replica.replica_id(),
            Self::Mending(opening) => opening.log.replica_id,
            Self::Unavailable(replica_id) => *replica_id,
        }
    }
}

/// The replicas of one shard.
pub struct Shard {
    node_id: NodeId,
    reads: ReadOrigin,
    /// What the tails of all replicas keep together.
    tail_budget: TailBudget,
    groups: GroupSettings,
    min_insync_replicas: Option<u32>,
    /// What the metadata has to reach before a log is made that is not there.
    births: Births,
    leaving: Leaving,
    fitness: Fitness,
    sweep: Sweep,
    mendings: Mendings,
    copies: Copies,
    rest_ticks: u32,
    /// Messages that came before their replica.
    early: EarlyMessages,
    slots: BTreeMap<Incarnation, Slot>,
    /// Logs that recovery found and the metadata has not named yet.
    recovered: BTreeMap<Incarnation, RecoveredLog>,
    /// Whose replica holds group partition 0, 1, …
    group_logs: BTreeMap<u32, Incarnation>,
    /// Touched in this turn.
    touched: BTreeSet<Incarnation>,
    published: LogIndex,
    is_disk_full: bool,
    timers: Timers,
}

impl Shard {
    /// One turn: handles `inputs`, acts on due timers, and drains what was touched.
    pub fn step(&mut self, now: Now, inputs: impl Iterator<Item = Input>, effects: &mut Effects) {
        for input in inputs {
            self.handle(input, now, effects);
        }
        self.tick(now, effects);
        self.end_turn(now, effects);
        self.go_on_copying(now, effects);
        self.weigh(now, effects);
        self.answer_leaving(effects);
    }

    fn handle(&mut self, input: Input, now: Now, effects: &mut Effects) {
        match input {
            Input::Produce { incarnation, produce } => self.produce(incarnation, produce, effects),
            Input::Group { request, ticket } => self.ask_group(request, ticket, now, effects),
            Input::GroupQuery { query, ticket } => {
                let response = self.query_groups(query);
                effects.push(Effect::Reply(ticket, Reply::GroupQuery(response)));
            }
            Input::Controller { request, ticket } => {
                self.with(Incarnation::METADATA, effects, |replica, _| {
                    replica.ask_controller(request, ticket, now);
                });
            }
            Input::Created { incarnation } => self.open_created(incarnation, now, effects),
            Input::CreateFailed { incarnation } => self.timers.retry_create(incarnation, now),
            Input::Peer { node, message } => self.hear_peer(node, message, now, effects),
            Input::Installed { incarnation, index, is_installed } => {
                self.begin_anew(incarnation, index, is_installed, effects);
            }
            Input::SnapshotChunk { node, chunk } => {
                self.with(chunk.incarnation, effects, |replica, effects| {
                    replica.hear_chunk(node, &chunk, effects);
                });
            }
            Input::SnapshotSent { incarnation, to, number, is_sent } => {
                self.with(incarnation, effects, |replica, _| {
                    replica.handle_snapshot_sent(to, number, is_sent);
                });
            }
            Input::Unreachable { node } => self.note_unreachable(node, effects),
            Input::PeerLost { node } => self.note_lost(node, effects),
            Input::PeerStopped { node, stopped } => self.note_stopped(node, &stopped, effects),
            Input::FramesRead { incarnation, fetch, found } => {
                self.copies.note_read(incarnation, fetch, &found, now);
                self.hear_frames(incarnation, fetch, found, effects);
            }
            Input::Confirm { incarnation, ticket } => self.confirm(incarnation, ticket, effects),
            Input::Transfer { incarnation, node } => {
                self.with(incarnation, effects, |replica, _| replica.transfer_leadership(node));
            }
            Input::Lives(live) => self.note_live(live, effects),
            Input::Leads { incarnation, node, term } => {
                self.hear_leader(incarnation, (node, term), effects);
            }
            Input::GiveWay(nodes) => self.fitness.hear_giving_way(nodes),
            Input::Leave { ticket } => self.leave(ticket, effects),
            Input::Persisted { incarnation, ready } => {
                self.fitness.note_persisted(incarnation, ready, now);
                self.with(incarnation, effects, |replica, _| replica.handle_persisted(ready));
            }
            Input::PersistFailed { incarnation, .. } => {
                self.with(incarnation, effects, |replica, effects| {
                    replica.handle_persist_failed(now, effects);
                });
            }
            Input::StateStored { incarnation, applied, is_stored } => {
                self.with(incarnation, effects, |replica, _| {
                    replica.handle_state_stored(applied, is_stored, now);
                });
            }
            Input::Segments { incarnation, segments } => {
                self.with(incarnation, effects, |replica, effects| {
                    replica.check_retention(&segments, now, effects);
                });
            }
            Input::DiskFull(is_full) => self.set_disk_full(is_full, effects),
            Input::Mending(input) => self.mend(input, now, effects),
        }
    }

    fn produce(&mut self, incarnation: Incarnation, produce: Produce, effects: &mut Effects) {
        match self.slots.get(&incarnation) {
            Some(Slot::Running(_)) => self.with(incarnation, effects, |replica, effects| {
                replica.produce(produce, effects);
            }),
            Some(Slot::Unavailable(_)) => {
                effects.reply_maybe(produce.ticket, Err(ProduceError::Storage));
            }
            Some(Slot::Creating(_) | Slot::Mending(_)) | None => {
                effects.reply_maybe(produce.ticket, Err(ProduceError::NotLeader));
            }
        }
    }

    fn ask_group(
        &mut self,
        request: GroupRequest,
        ticket: Ticket,
        now: Now,
        effects: &mut Effects,
    ) {
        let partition = partition_of(request.group_id());
        let log = self.group_logs.get(&partition).copied();
        let is_running =
            log.is_some_and(|log| matches!(self.slots.get(&log), Some(Slot::Running(_))));
        match log {
            Some(log) if is_running => self.with(log, effects, |replica, _| {
                replica.ask_group(request, ticket, now);
            }),
            _ => {
                let refused = GroupResponse::refused(&request, CoordinatorError::NotAvailable);
                effects.push(Effect::Reply(ticket, Reply::Group(refused)));
            }
        }
    }

    fn set_disk_full(&mut self, is_full: bool, effects: &mut Effects) {
        self.is_disk_full = is_full;
        for incarnation in self.running() {
            self.with(incarnation, effects, |replica, _| replica.set_disk_full(is_full));
        }
    }

    fn running(&self) -> Vec<Incarnation> {
        let running = |(incarnation, slot): (&Incarnation, &Slot)| match slot {
            Slot::Running(_) => Some(*incarnation),
            Slot::Creating(_) | Slot::Mending(_) | Slot::Unavailable(_) => None,
        };
        self.slots.iter().filter_map(running).collect()
    }

    /// The metadata as applied here; `None` while its own log is being made.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        match self.slots.get(&Incarnation::METADATA) {
            Some(Slot::Running(replica)) => replica.derived().metadata(),
            _ => None,
        }
    }

    /// The replica of a log, while it is in service here.
    #[must_use]
    pub fn replica(&self, incarnation: Incarnation) -> Option<&Replica> {
        match self.slots.get(&incarnation) {
            Some(Slot::Running(replica)) => Some(replica),
            Some(Slot::Creating(_) | Slot::Mending(_) | Slot::Unavailable(_)) | None => None,
        }
    }

    /// Touches one replica; a panic inside isolates it (D21).
    fn with(
        &mut self,
        incarnation: Incarnation,
        effects: &mut Effects,
        act: impl FnOnce(&mut Replica, &mut Effects),
    ) {
        let Some(Slot::Running(replica)) = self.slots.get_mut(&incarnation) else { return };
        self.touched.insert(incarnation);
        let result = catch_unwind(AssertUnwindSafe(|| act(replica, effects)));
        if let Err(panic) = result {
            self.isolate(incarnation, panic_message(&*panic), effects);
        }
    }

    /// Takes a replica out of service for the rest of this process.
    fn isolate(&mut self, incarnation: Incarnation, reason: String, effects: &mut Effects) {
        self.stop(incarnation, false, reason, effects);
    }

    /// The same.
    ///
    /// - `is_lost`: whether it has lost what it had acknowledged.
    fn stop(
        &mut self,
        incarnation: Incarnation,
        is_lost: bool,
        reason: String,
        effects: &mut Effects,
    ) {
        self.touched.remove(&incarnation);
        self.timers.forget(incarnation);
        self.sweep.forget(incarnation);
        self.mendings.forget(incarnation);
        let Some(slot) = self.slots.remove(&incarnation) else { return };
        let replica_id = slot.replica_id();
        self.slots.insert(incarnation, Slot::Unavailable(replica_id));
        if let Slot::Running(mut replica) = slot {
            // Whoever waits is told; should the replica panic at that too, they time out.
            let told = catch_unwind(AssertUnwindSafe(|| replica.quarantine(effects)));
            drop(told);
        }
        effects.push(Effect::Isolated { incarnation, replica_id, is_lost, reason });
    }

    /// Drains every touched replica and follows the metadata until nothing moves.
    fn end_turn(&mut self, now: Now, effects: &mut Effects) {
        while let Some(incarnation) = self.touched.pop_first() {
            let Some(Slot::Running(replica)) = self.slots.get_mut(&incarnation) else { continue };
            let drained = catch_unwind(AssertUnwindSafe(|| replica.drain_ready(now, effects)));
            match drained {
                Ok(Ok(())) => self.timers.note(incarnation, replica, now),
                Ok(Err(error)) => self.isolate(incarnation, error.to_string(), effects),
                Err(panic) => self.isolate(incarnation, panic_message(&*panic), effects),
            }
            self.copy_for(incarnation);
            if incarnation == Incarnation::METADATA {
                self.follow_metadata(now, effects);
            }
        }
    }

    /// Acts on what the metadata has applied, and publishes it.
    fn follow_metadata(&mut self, now: Now, effects: &mut Effects) {
        let Some(Slot::Running(replica)) = self.slots.get_mut(&Incarnation::METADATA) else {
            return;
        };
        let events = replica.take_metadata_events();
        self.births.note_applied(replica.applied(), replica.applied_term());
        let Some(metadata) = replica.derived().metadata() else { return };
        if metadata.applied() > self.published {
            self.published = metadata.applied();
            effects.push(Effect::Metadata(Arc::new(metadata.clone())));
        }
        for event in events {
            self.follow_event(event, now, effects);
        }
        self.place_due(now, effects);
    }

    /// Offsets that groups hold for a deleted topic go with it.
    fn forget_topic(&mut self, name: &str, id: TopicId, now: Now, effects: &mut Effects) {
        for partition in 0..GROUP_PARTITIONS {
            if let Some(log) = self.group_logs.get(&partition).copied() {
                self.with(log, effects, |replica, _| replica.forget_topic(name, id, now));
            }
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the replica panicked".to_owned())
}
