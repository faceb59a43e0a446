//! Consumer groups of the classic protocol: one coordinator per internal partition.
//!
//! ```text
//!                        handle, tick                          apply
//!   body ── requests ──► live groups ── proposals ──► log ──► tables ──► snapshot
//!                        timers, parked tickets               generations, members,
//!                              ▲                              assignments, offsets
//!                              └── become_leader: rebuilt from the tables
//! ```
//!
//! A group lives in partition `crc32c(group id) mod 16` ([`partition_of`]). The **tables** derive
//! from applied commands alone and are equal on all replicas. The **live** part exists on the
//! leader: it runs ahead of the tables by the commands in flight. An answer that rests on a
//! command leaves when that command is applied, so that nothing a client was told can fall
//! behind after a crash.
//!
//! Invariants
//! - `I-GRP-1` A group's generation never falls while the group exists.
//! - `I-GRP-2` A member's assignment belongs to the generation it was given for: one owner per
//!   partition and generation, where the leader's assignment has one.
//! - `I-GRP-3` A committed offset changes by a commit, an expiry or a deletion, nothing else.
//! - `I-GRP-4` Every accepted ticket is answered exactly once.
//! - `I-GRP-5` A command changes a group only if the group's revision is the one it was made for:
//!   commands left over from a lost leadership fall flat.
//!
//! Absent on purpose: transactional offsets, the consumer and share protocols, authorization,
//! whether a topic exists, and the meaning of subscription metadata (except for the topics of a
//! static member that restarts, see `subscription`).

mod command;
mod describe;
mod effects;
mod errors;
mod housekeeping;
mod join;
mod leave;
mod live;
mod member;
mod offsets;
mod rebalance;
mod requests;
mod settings;
mod settle;
mod snapshot;
mod subscription;
mod sync;
mod tables;
mod timers;
mod turn;

#[cfg(test)]
mod tests;

pub use describe::{
    DescribedGroup, GroupDescription, GroupList, GroupListing, GroupQuery, GroupQueryResponse,
    GroupState, GroupTotals, MemberDescription,
};
pub use effects::{GroupEffects, Proposal};
pub use errors::{
    CoordinatorError, DeleteGroupError, DescribeGroupError, HeartbeatError, JoinGroupError,
    LeaveGroupError, LeaveMemberError, OffsetCommitError, OffsetFetchError, OffsetPartitionError,
    SyncGroupError,
};
pub use requests::*;
pub use settings::*;

use bateau_protocol::ids::{LogIndex, TopicId};
use bytes::Bytes;

use self::command::Command;
use self::settle::Scope;
use self::tables::Tables;
use self::timers::Timers;
use self::turn::{Live, Turn};
use crate::clock::Now;
use crate::codec::DecodeError;
use crate::command_frame::CommandError;
use crate::ticket::{ProposalToken, Ticket};

/// The internal partition in which a group lives, in `0..16`.
#[must_use]
pub fn partition_of(group_id: &str) -> u32 {
    crc32c::crc32c(group_id.as_bytes()) % GROUP_PARTITIONS
}

/// A state snapshot that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not a snapshot of groups, or of a version this build does not know.
    #[error("not a group snapshot of version {expected}: magic {magic:#010x}, version {found}")]
    NotASnapshot {
        /// First four bytes.
        magic: u32,
        /// Version found.
        found: u16,
        /// Version this build reads.
        expected: u16,
    },
    /// Shorter or longer than its header says, or beyond the limit.
    #[error("group snapshot of {found} bytes, {expected} expected")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// CRC-32C over the body does not match.
    #[error("group snapshot has CRC {found:#010x}, {expected:#010x} expected")]
    Checksum {
        /// Computed.
        found: u32,
        /// In the header.
        expected: u32,
    },
    /// The body is malformed although its checksum holds.
    #[error("group snapshot: {0}")]
    Body(#[from] DecodeError),
}

/// What a coordinator may answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoordinatorRole {
    /// Applies commands; every request gets NOT_COORDINATOR.
    Follower,
    /// Elected, but earlier commands are not all applied: COORDINATOR_LOAD_IN_PROGRESS.
    Loading,
    /// Serves.
    Leader,
    /// The partition is quarantined: COORDINATOR_NOT_AVAILABLE until restart.
    Unavailable,
}

/// The groups of one internal partition. See the module's picture.
#[derive(Debug)]
pub struct GroupCoordinator {
    settings: GroupSettings,
    role: CoordinatorRole,
    tables: Tables,
    /// Index of the newest command in `tables`.
    applied: LogIndex,
    live: Live,
}

impl GroupCoordinator {
    /// An empty follower.
    #[must_use]
    pub fn new(settings: GroupSettings) -> Self {
        Self {
            settings,
            role: CoordinatorRole::Follower,
            tables: Tables::default(),
            applied: LogIndex::ZERO,
            live: Live::default(),
        }
    }

    /// What it was made with.
    pub(crate) fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// A follower with the state of a snapshot, and the index up to which it has applied.
    ///
    /// # Errors
    /// [`SnapshotError`]; length and checksum are verified before anything is built.
    pub fn restore(
        settings: GroupSettings,
        snapshot: &[u8],
    ) -> Result<(Self, LogIndex), SnapshotError> {
        let (tables, applied) = snapshot::decode(snapshot)?;
        Ok((Self { tables, applied, ..Self::new(settings) }, applied))
    }

    /// The state of the tables. `applied` is the replica's applied index, which may be ahead of
    /// the last command. Cost: a copy of the whole state.
    #[must_use]
    pub fn snapshot(&self, applied: LogIndex) -> Bytes {
        assert!(applied >= self.applied, "a snapshot cannot be older than the state it holds");
        snapshot::encode(&self.tables, applied)
    }

    /// What this coordinator may answer now.
    #[must_use]
    pub fn role(&self) -> CoordinatorRole {
        self.role
    }

    /// This replica won an election, but its term's no-op is not yet applied here.
    pub fn become_loading(&mut self, effects: &mut GroupEffects) {
        self.leave_office(CoordinatorRole::Loading, CoordinatorError::NotCoordinator, effects);
    }

    /// This replica leads and has applied everything up to its term's no-op. Groups are rebuilt
    /// from the tables; all session timers start in full.
    pub fn become_leader(&mut self, now: Now, effects: &mut GroupEffects) {
        self.leave_office(CoordinatorRole::Leader, CoordinatorError::NotCoordinator, effects);
        let group_ids: Vec<Name> = self.tables.groups.keys().cloned().collect();
        let mut turn = self.turn(now, effects);
        for group_id in &group_ids {
            turn.load_group(group_id);
        }
    }

    /// This replica does not lead (any more): everything that waits gets NOT_COORDINATOR.
    /// Proposals of before may still be applied; their tokens are then ignored.
    pub fn resign(&mut self, effects: &mut GroupEffects) {
        self.leave_office(CoordinatorRole::Follower, CoordinatorError::NotCoordinator, effects);
    }

    /// The partition cannot be trusted or reached any more: everything that waits, and every
    /// later request, gets COORDINATOR_NOT_AVAILABLE.
    pub fn quarantine(&mut self, effects: &mut GroupEffects) {
        self.leave_office(CoordinatorRole::Unavailable, CoordinatorError::NotAvailable, effects);
    }

    /// Takes one request. The answer is in `effects` of this or of a later call. Without members
    /// in common, requests of different groups do not wait for each other.
    pub fn handle(
        &mut self,
        now: Now,
        request: GroupRequest,
        ticket: Ticket,
        effects: &mut GroupEffects,
    ) {
        if let Err(error) = self.may_serve(&request) {
            return effects.reply(ticket, GroupResponse::refused(&request, error));
        }
        let mut turn = self.turn(now, effects);
        match request {
            GroupRequest::JoinGroup(request) => turn.join_group(request, ticket),
            GroupRequest::SyncGroup(request) => turn.sync_group(request, ticket),
            GroupRequest::Heartbeat(request) => turn.heartbeat(&request, ticket),
            GroupRequest::LeaveGroup(request) => turn.leave_group(request, ticket),
            GroupRequest::OffsetCommit(request) => turn.commit_offsets(request, ticket),
            GroupRequest::OffsetFetch(request) => turn.fetch_offsets(request, ticket),
            GroupRequest::DeleteGroup(request) => turn.delete_group(&request, ticket),
        }
    }

    /// A topic is gone: its offsets are dropped by command. Offsets committed for a later topic
    /// of the same name stay. Does nothing unless this coordinator leads.
    pub fn topic_deleted(
        &mut self,
        now: Now,
        topic: &str,
        topic_id: TopicId,
        effects: &mut GroupEffects,
    ) {
        if self.role == CoordinatorRole::Leader {
            self.turn(now, effects).delete_topic(topic, topic_id);
        }
    }

    /// Applies a committed kind-6 payload. `token` names the proposal where it was made by this
    /// coordinator, in any of its leaderships. Indexes rise from call to call.
    ///
    /// # Errors
    /// [`CommandError`]: nothing of the payload is applied and the caller stops the partition.
    pub fn apply(
        &mut self,
        now: Now,
        index: LogIndex,
        payload: &[u8],
        token: Option<ProposalToken>,
        effects: &mut GroupEffects,
    ) -> Result<(), CommandError> {
        let commands = Command::decode_all(payload)?;
        assert!(index > self.applied, "commands are applied once and in order");
        self.applied = index;
        let mut in_flight = token.and_then(|token| self.live.in_flight.remove(&token));
        for command in commands {
            let scope = Scope::of(&command);
            let outcome = self.tables.apply(index, command);
            if self.role == CoordinatorRole::Leader {
                let mut turn = self.turn(now, effects);
                turn.settle(&scope, outcome, token, in_flight.take());
            }
        }
        Ok(())
    }

    /// A proposal will never be committed. What waits for it is refused with NOT_COORDINATOR, and
    /// its group is rebuilt from the tables.
    pub fn dropped(&mut self, now: Now, token: ProposalToken, effects: &mut GroupEffects) {
        if let Some(in_flight) = self.live.in_flight.remove(&token) {
            self.turn(now, effects).fail(in_flight, CoordinatorError::NotCoordinator);
        }
    }

    /// When [`tick`](Self::tick) has something to do, in `service_ms`. May be early, never late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.live.timers.next_deadline()
    }

    /// Acts on every deadline up to `now`. Cost: of the due deadlines, not of the groups.
    pub fn tick(&mut self, now: Now, effects: &mut GroupEffects) {
        while let Some(timer) = self.live.timers.pop_due(now.service_ms) {
            self.turn(now, effects).fire(timer);
        }
    }

    fn turn<'a>(&'a mut self, now: Now, effects: &'a mut GroupEffects) -> Turn<'a> {
        let (settings, tables, live) = (&self.settings, &self.tables, &mut self.live);
        Turn { now, settings, tables, live, effects }
    }

    fn may_serve(&self, request: &GroupRequest) -> Result<(), CoordinatorError> {
        self.check_role()?;
        let may_wait =
            !matches!(request, GroupRequest::Heartbeat(_) | GroupRequest::OffsetFetch(_));
        if may_wait && self.live.parked >= PARKED_REQUESTS_MAX {
            return Err(CoordinatorError::NotAvailable);
        }
        Ok(())
    }

    /// Answers everything that waits and forgets the live part.
    fn leave_office(
        &mut self,
        role: CoordinatorRole,
        error: CoordinatorError,
        effects: &mut GroupEffects,
    ) {
        self.role = role;
        // Nothing that is done on the way out looks at the time.
        let mut turn = self.turn(Now::default(), effects);
        while let Some((_, group)) = turn.live.groups.pop_first() {
            turn.dismiss_group(group, error);
        }
        while let Some((_, in_flight)) = turn.live.in_flight.pop_first() {
            turn.refuse(in_flight.replies, error);
        }
        assert_eq!(self.live.parked, 0, "I-GRP-4: a ticket is neither waiting nor answered");
        self.live.timers = Timers::default();
    }
}
