//! The one place that knows the `raft` package, and the rules for its use (R1 to R24).
//!
//! ```text
//!   propose ──┐                    ┌─> entries, term and vote   to be written and flushed
//!   peers    ─┼─> RawNode ─ take ──┼─> messages                 at once, or after the flush
//!   tick     ─┤                    ├─> committed entries        to be applied
//!   persisted ┘                    └─> reads                    that a majority confirmed
//! ```
//!
//! Rules kept here: R1 (every setting), R2 (nothing between `ready` and `advance`), R3 (a leader's
//! messages go at once, everybody else's after the flush of what they speak of), R4 (the
//! asynchronous path: entries are readable before `advance_append_async`, persisted in order), R5
//! and R6 (applied is our own), R7 (checked before raft is built and before a message is stepped),
//! R9 (entries that come late), R10 (a context of a read is never used twice), R12 and R19 (changes
//! of the configuration), R14 (`uncommitted_size` before a proposal), R18 and R21 (what a peer may
//! say), R20 (election timeouts are a pure function).
//!
//! Absent on purpose: leases (R11); snapshots that are received, for which raft is built anew
//! (`install`).

mod changes;
mod messages;
mod snapshots;

pub(super) use snapshots::{RaftRestart, WantedSnapshot};

use super::StartError;
use super::stamp;
use super::tail::{Appended, Coordinates, Tail, TailStart, Wanted};
use super::trim::LogStart;
use bateau_protocol::frame::Frame;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, ReplicaId, Term};
use bateau_protocol::peer::{RaftBody, RaftMessage};
use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, GetEntriesContext, INVALID_ID, ProgressState, RawNode, StateRole};
use slog::{Discard, Logger, o};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use thiserror::Error;

/// Ticks between two heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Ticks of the shortest election timeout; the longest is twice that.
const ELECTION_TICKS: usize = 10;
/// Bytes of one append message (R1: 0 would mean one entry per message).
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Append messages to one follower that may be unanswered.
const MESSAGES_INFLIGHT_MAX: usize = 32;
/// Bytes of entries that may wait for their commit; above it the shard stops draining its inbox.
pub(super) const UNCOMMITTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of committed entries that one ready hands out.
const COMMITTED_BYTES_PER_READY_MAX: u64 = 4 * 1024 * 1024;

/// Term and vote that must be on disk before anything that depends on them (D2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vote {
    /// The current term.
    pub term: Term,
    /// The replica that got this replica's vote in it; zero for none.
    pub voted_for: ReplicaId,
}

/// Whose reads these are: with a counter it makes a context that nobody uses twice (R10).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadOrigin {
    /// The node that asks.
    pub node: NodeId,
    /// Which of its starts.
    pub boot_epoch: u64,
}

/// Names a read that waits for a majority's word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ReadNumber(u64);

/// What a replica starts from.
#[derive(Clone, Debug)]
pub(super) struct RaftStart {
    pub replica_id: ReplicaId,
    pub incarnation: Incarnation,
    pub reads: ReadOrigin,
    pub tail: TailStart,
}

/// What one `ready` asks for.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Names this ready when it is reported as persisted.
    pub number: u64,
    pub vote: Option<Vote>,
    pub appended: Appended,
    pub committed: Vec<Entry>,
    /// Reads that a majority has confirmed, and the commit index at which each may be answered.
    pub confirmed: Vec<(ReadNumber, LogIndex)>,
}

impl Ready {
    pub fn must_persist(&self) -> bool {
        self.vote.is_some() || !self.appended.frames.is_empty()
    }
}

/// A proposal that raft did not take: this replica is not the leader, or gives leadership away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProposalDropped;

/// Why a peer's message was not believed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReplicaFault {
    /// The leader knows of entries that this replica had flushed and does not have: its log has
    /// lost them, and it must neither vote nor acknowledge (R7).
    #[error("the leader counts on entry {commit} here, and the log ends at {last}")]
    LostEntries {
        /// What the leader knows to be flushed here.
        commit: LogIndex,
        /// What the log holds.
        last: LogIndex,
    },
}

/// Entries that a follower waits for and the disk reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fetch {
    pub number: u64,
    pub first: LogIndex,
    pub last: LogIndex,
    pub bytes_max: u64,
    /// Who waits for them, where none of those has a vote.
    pub learner: Option<ReplicaId>,
}

/// A [`Fetch`] that is not answered.
struct Asked {
    first: LogIndex,
    learner: Option<ReplicaId>,
    context: GetEntriesContext,
}

pub(super) struct RaftView {
    node: RawNode<Tail>,
    incarnation: Incarnation,
    /// Number of the newest ready that was handed out to be written.
    newest_written: u64,
    /// Number of the newest one that is known to be flushed.
    newest_persisted: u64,
    vote: Vote,
    /// Messages that may leave now.
    sendable: Vec<Message>,
    /// Messages that speak of what is being written, by the ready whose flush they wait for (R3).
    unsendable: VecDeque<(u64, Vec<Message>)>,
    fetches: BTreeMap<u64, Asked>,
    newest_fetch: u64,
    reads: ReadOrigin,
    newest_read: u64,
    /// Ticks since the start, and how many had passed when a peer was last heard.
    ticks: u64,
    heard: BTreeMap<u64, u64>,
}

impl RaftView {
    /// Builds raft on what recovery found.
    pub fn new(start: RaftStart) -> Result<Self, StartError> {
        let vote = Vote {
            term: Term::new(start.tail.hard_state.term),
            voted_for: ReplicaId::new(start.tail.hard_state.vote),
        };
        let config = Config {
            id: start.replica_id.get(),
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: start.tail.applied.index.get(),
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_INFLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX as u64,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
            ..Config::default()
        };
        let logger = Logger::root(Discard, o!());
        let node = RawNode::new(&config, Tail::new(start.tail), &logger)
            .map_err(|error| StartError::Refused { reason: error.to_string() })?;
        let mut view = Self {
            node,
            incarnation: start.incarnation,
            newest_written: 0,
            newest_persisted: 0,
            vote,
            sendable: Vec::new(),
            unsendable: VecDeque::new(),
            fetches: BTreeMap::new(),
            newest_fetch: 0,
            reads: start.reads,
            newest_read: 0,
            ticks: 0,
            heard: BTreeMap::new(),
        };
        view.pace_learners();
        view.overwrite_election_timeout();
        Ok(view)
    }

    /// Stands for election at once, if it has a vote.
    pub fn campaign(&mut self) {
        if !self.node.raft.promotable() {
            return;
        }
        // A campaign is refused only while a membership change waits to be applied, and then the
        // election clock asks again.
        let _ = self.node.campaign();
        self.overwrite_election_timeout();
    }

    /// Whether this replica stands and real votes are on their way to it.
    pub fn is_being_elected(&self) -> bool {
        self.node.raft.state == StateRole::Candidate
    }

    /// The leader that this replica followed is not heard any more.
    pub fn forget_leader(&mut self) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, INVALID_ID);
        self.overwrite_election_timeout();
    }

    /// This replica follows `leader`, which leads in its term.
    pub fn remember_leader(&mut self, leader: ReplicaId) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, leader.get());
        self.overwrite_election_timeout();
    }

    /// Whether the election clock must run: not for whoever leads nobody but itself.
    pub fn needs_ticks(&self) -> bool {
        !self.is_leader() || self.node.raft.prs().iter().count() > 1
    }

    /// Whether raft has more to be done than to say who leads.
    pub fn is_stirred(&self) -> bool {
        let raft = &self.node.raft;
        let log = &raft.raft_log;
        let vote = Vote { term: Term::new(raft.term), voted_for: ReplicaId::new(raft.vote) };
        vote != self.vote
            || !raft.msgs.is_empty()
            || !raft.read_states.is_empty()
            || !log.unstable_entries().is_empty()
            || log.unstable_snapshot().is_some()
            || log.has_next_entries()
    }

    /// Goes on with the clocks that stood still: a leader says at once that it is there, and gives
    /// the others the time to answer before it counts them.
    pub fn wake(&mut self) {
        self.node.raft.election_elapsed = 0;
        if self.is_leader() {
            self.begin_to_lead();
            self.node.ping();
        }
    }

    /// Whether the log ends with what is committed and flushed here, and every other member has
    /// flushed it too.
    pub fn is_at_rest(&self) -> bool {
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        let is_here = raft.raft_log.committed == last
            && raft.raft_log.persisted == last
            && raft.raft_log.applied == last;
        let mut others = raft.prs().iter().filter(|(peer, _)| **peer != raft.id);
        let have_it = !self.is_leader() || others.all(|(_, progress)| progress.matched == last);
        is_here && have_it && self.unsendable.is_empty() && self.fetches.is_empty()
    }

    /// Moves raft's clock by one tick.
    pub fn tick(&mut self) {
        self.ticks += 1;
        self.node.tick();
        self.overwrite_election_timeout();
    }

    /// Whether `bytes` more may be proposed now (R14). A proposal larger than the whole limit is
    /// admitted alone. While the leadership is being handed over raft takes none: what waits goes
    /// on with whoever leads when that is over.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        if self.node.raft.lead_transferee.is_some() {
            return false;
        }
        let waiting = self.node.raft.uncommitted_size();
        waiting == 0 || waiting.saturating_add(bytes) <= UNCOMMITTED_BYTES_MAX
    }

    /// Proposes entries, all or none, without copying their payloads. Each is a payload and its
    /// encoded stamp; the first one gets index [`Self::last`] + 1.
    pub fn propose(
        &mut self,
        entries: impl Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), ProposalDropped> {
        let entries: Vec<Entry> =
            entries.map(|(data, context)| Entry { data, context, ..Entry::default() }).collect();
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.set_entries(entries.into());
        self.node.step(message).map_err(|_| ProposalDropped)
    }

    /// Takes what raft wants done, if anything (R2, R4). The frames are readable from the tail
    /// when this returns.
    pub fn take_ready(&mut self) -> Option<Ready> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let number = ready.number();
        let vote = ready.hs().map(|state| Vote {
            term: Term::new(state.term),
            voted_for: ReplicaId::new(state.vote),
        });
        let vote = vote.filter(|vote| *vote != self.vote);
        self.vote = vote.unwrap_or(self.vote);
        let appended = self.node.mut_store().append(ready.take_entries());
        let mut committed = ready.take_committed_entries();
        committed.iter_mut().for_each(stamp::settle);
        let confirmed = ready.take_read_states();
        self.sendable.extend(ready.take_messages());
        let unsendable = ready.take_persisted_messages();
        self.node.advance_append_async(ready);
        if let Some(index) = appended.committed_to {
            self.node.raft.raft_log.commit_to(index.get());
        }
        let confirmed = confirmed.iter().filter_map(|state| {
            Some((self.own_read(&state.request_ctx)?, LogIndex::new(state.index)))
        });
        let confirmed = confirmed.collect();
        let ready = Ready { number, vote, appended, committed, confirmed };
        if ready.must_persist() {
            self.newest_written = number;
        } else if self.newest_written == self.newest_persisted {
            // Reporting a number reports every earlier one, so this must not overtake a write.
            self.node.on_persist_ready(number);
        }
        self.send_after_flush(unsendable);
        self.overwrite_election_timeout();
        Some(ready)
    }

    /// R3: what somebody who does not lead says depends on everything that was handed out to be
    /// written before.
    fn send_after_flush(&mut self, messages: Vec<Message>) {
        if self.newest_written == self.newest_persisted {
            self.sendable.extend(messages);
        } else if !messages.is_empty() {
            self.unsendable.push_back((self.newest_written, messages));
        }
    }

    /// Takes what may be sent now.
    pub fn take_messages(&mut self) -> Vec<RaftMessage> {
        let messages = std::mem::take(&mut self.sendable);
        let incarnation = self.incarnation;
        messages.into_iter().filter_map(|one| messages::outbound(incarnation, one)).collect()
    }

    /// Hears a peer, whose message has been checked to come from a member of this group (R21).
    ///
    /// Errors: [`ReplicaFault`]: raft was not told.
    pub fn step(&mut self, message: RaftMessage) -> Result<(), ReplicaFault> {
        if let RaftBody::Heartbeat { commit, .. } = &message.body {
            let (commit, last) = (*commit, self.last_index());
            if message.term >= self.term() && commit > last {
                return Err(ReplicaFault::LostEntries { commit, last });
            }
        }
        self.heard.insert(message.from.get(), self.ticks);
        // What raft ignores or refuses (an answer of somebody who is no member) needs no word.
        if let Some(message) = messages::inbound(message) {
            let _ = self.node.step(message);
        }
        self.overwrite_election_timeout();
        Ok(())
    }

    /// A peer cannot be reached, or its link has dropped messages.
    pub fn unreachable(&mut self, peer: ReplicaId) {
        self.node.report_unreachable(peer.get());
    }

    /// Takes what followers need of the disk. Each is answered by [`Self::fetched`].
    pub fn take_fetches(&mut self) -> Vec<Fetch> {
        let mut fetches = Vec::new();
        for wanted in self.node.mut_store().take_wanted() {
            let Wanted { first, last, bytes_max, context } = wanted;
            let learner = self.learner_waiting_for(first);
            // Raft asks again with every answer of the follower. A voter does not wait for what is
            // read for a learner, and a learner waits at one place.
            let is_same = |asked: &Asked| asked.first == first && asked.learner == learner;
            if self.fetches.values().any(is_same) {
                continue;
            }
            self.fetches.retain(|_, asked| learner.is_none() || asked.learner != learner);
            self.newest_fetch += 1;
            let number = self.newest_fetch;
            self.fetches.insert(number, Asked { first, learner, context });
            fetches.push(Fetch { number, first, last, bytes_max, learner });
        }
        fetches
    }

    /// The disk's answer; `None` where it does not have the entries any more (R9: raft checks
    /// itself whether they are still of use).
    pub fn fetched(&mut self, number: u64, frames: Option<Vec<Frame>>) {
        let Some(Asked { first, context, .. }) = self.fetches.remove(&number) else { return };
        // An answer to whoever was here before, under the same number.
        if frames.as_ref().and_then(|frames| frames.first()).is_some_and(|one| one.index != first) {
            return;
        }
        self.node.mut_store().offer(first, frames);
        self.node.on_entries_fetched(context);
        self.node.mut_store().withdraw_offer();
    }

    /// The disk cannot answer now; raft asks again.
    pub fn fetch_failed(&mut self, number: u64) {
        self.fetches.remove(&number);
    }

    /// Asks a majority whether this replica still leads. Only for a leader whose no-op is applied:
    /// before that raft drops the question in silence.
    pub fn begin_read(&mut self) -> ReadNumber {
        self.newest_read += 1;
        let context = [self.reads.node.get(), self.reads.boot_epoch, self.newest_read];
        self.node.read_index(context.map(u64::to_le_bytes).concat());
        ReadNumber(self.newest_read)
    }

    fn own_read(&self, context: &[u8]) -> Option<ReadNumber> {
        let (origin, number) = context.split_last_chunk::<8>()?;
        let own = [self.reads.node.get(), self.reads.boot_epoch].map(u64::to_le_bytes).concat();
        (origin == own).then(|| ReadNumber(u64::from_le_bytes(*number)))
    }

    /// Of these, who could lead at once: another replica that answers, and holds most of the log.
    /// `None` for whoever does not lead.
    pub fn successor(&self, among: impl Iterator<Item = ReplicaId>) -> Option<ReplicaId> {
        let own = self.node.raft.id;
        let others = among.filter(|peer| peer.get() != own);
        let told = others.filter_map(|peer| Some((self.follows_to(peer)?, Reverse(peer))));
        told.max().filter(|_| self.is_leader()).map(|(_, Reverse(peer))| peer)
    }

    /// Whether a successor has been asked and the answer is not known.
    pub fn is_handing_over(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// Asks `peer` to take the leadership over. It may come to nothing: whoever asks watches.
    pub fn transfer_to(&mut self, peer: ReplicaId) {
        self.node.transfer_leader(peer.get());
    }

    /// The ready of this number, and with it every earlier one, is flushed here.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.newest_written, "R4: a ready was persisted that nobody asked for");
        self.newest_persisted = self.newest_persisted.max(number);
        self.node.on_persist_ready(number);
        while let Some((_, messages)) =
            self.unsendable.pop_front_if(|(awaited, _)| *awaited <= self.newest_persisted)
        {
            self.sendable.extend(messages);
        }
    }

    /// Frames that are not flushed here, for the repetition of refused writes.
    pub fn unpersisted_frames(&self) -> Vec<Frame> {
        self.node.store().frames_behind(self.persisted_index())
    }

    /// Number of the newest ready that wanted something written.
    pub fn newest_written(&self) -> u64 {
        self.newest_written
    }

    /// Last index that is flushed here.
    pub fn persisted_index(&self) -> LogIndex {
        LogIndex::new(self.node.raft.raft_log.persisted)
    }

    /// Everything up to `index` has been applied to the derived state.
    pub fn applied(&mut self, index: LogIndex) {
        self.node.advance_apply_to(index.get());
        let needed = self.needed_by_followers().unwrap_or(index.next());
        self.node.mut_store().release_to(index, needed);
    }

    /// The first index that a follower which answers may still ask for.
    fn needed_by_followers(&self) -> Option<LogIndex> {
        if !self.is_leader() {
            return None;
        }
        let id = self.node.raft.id;
        let others = self.node.raft.prs().iter().filter(|(peer, _)| **peer != id);
        let follows = others.filter(|(peer, progress)| {
            self.is_live(**peer) && progress.state == ProgressState::Replicate
        });
        follows.map(|(_, progress)| LogIndex::new(progress.matched).next()).min()
    }

    /// Gives every peer the time to be heard before it counts as lost.
    pub fn begin_to_lead(&mut self) {
        for peer in self.node.raft.prs().iter().map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.heard.insert(peer, self.ticks);
        }
    }

    /// Voters that a leader has heard from lately, itself included.
    pub fn live_voters(&self) -> usize {
        let raft = &self.node.raft;
        let is_live = |id: &u64| *id == raft.id || self.is_live(*id);
        raft.prs().conf().voters().ids().iter().filter(is_live).count()
    }

    /// Raft's own flag is cleared at each of its looks at the quorum, so it cannot be asked.
    fn is_live(&self, peer: u64) -> bool {
        let limit_ticks = 2 * ELECTION_TICKS as u64;
        self.heard.get(&peer).is_some_and(|heard| self.ticks - heard <= limit_ticks)
    }

    /// The last index that at least `count` voters are known to have flushed.
    pub fn flushed_by(&self, count: usize) -> LogIndex {
        let raft = &self.node.raft;
        let voters = raft.prs().conf().voters().ids();
        let matched = |id: u64| raft.prs().get(id).map_or(0, |progress| progress.matched);
        let mut matched: Vec<u64> = voters.iter().map(matched).collect();
        matched.sort_unstable_by(|one, other| other.cmp(one));
        let at = count.saturating_sub(1);
        LogIndex::new(matched.get(at).copied().unwrap_or(0))
    }

    pub fn trim_to(&mut self, start: LogStart) {
        self.node.mut_store().trim_to(start);
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The replica that leads, as far as is known here.
    pub fn leader(&self) -> Option<ReplicaId> {
        let leader = self.node.raft.leader_id;
        (leader != INVALID_ID).then(|| ReplicaId::new(leader))
    }

    pub fn term(&self) -> Term {
        Term::new(self.node.raft.term)
    }

    /// Whether raft holds entries that it has not handed out to be written yet.
    pub fn holds_entries(&self) -> bool {
        self.last_index() > self.last().index
    }

    fn last_index(&self) -> LogIndex {
        LogIndex::new(self.node.raft.raft_log.last_index())
    }

    pub fn commit(&self) -> LogIndex {
        LogIndex::new(self.node.raft.raft_log.committed)
    }

    pub fn last(&self) -> Coordinates {
        // Entries that raft holds and has not handed out yet are not in the tail.
        self.node.store().last()
    }

    pub fn tail(&self) -> &Tail {
        self.node.store()
    }

    /// R20: raft draws election timeouts from a thread's random numbers. Whatever may have reset
    /// one is followed by this, so that a run is a function of its inputs.
    fn overwrite_election_timeout(&mut self) {
        let seed = self.incarnation.get()
            ^ self.node.raft.id.rotate_left(32)
            ^ self.node.raft.term.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let spread = mix(seed) % ELECTION_TICKS as u64;
        let jitter_ticks = usize::try_from(spread).expect("the spread is below ELECTION_TICKS");
        self.node.raft.set_randomized_election_timeout(ELECTION_TICKS + jitter_ticks);
    }
}

/// The finaliser of SplitMix64: spreads a seed's bits.
const fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed ^ (seed >> 31)
}
