//! From raft to the world: what must be written, what is committed, who is acknowledged.
//!
//! Invariants
//! - `I-ACK-1` An ack leaves only when its entry is committed. This file holds the rule.
//! - Derived state follows the entries that raft hands out, in index order, each once.
//! - The high watermark is published before the acks that it allows.
//!
//! Absent on purpose: followers' reads; they see min(commit, written here) by the same rule.

use super::derived::Applied;
use super::raft_view::Ready;
use super::stamp::Stamp;
use super::trim::{LogStart, Roll, SealedSegment, Segments};
use super::{Membership, ProduceError, Producers, Replica, Role};
use crate::clock::Now;
use crate::codec::DecodeError;
use crate::shard::{Effect, Effects};
use crate::ticket::ProposalToken;
use bateau_protocol::frame::FrameKind;
use bateau_protocol::ids::{LogIndex, Term};
use bytes::Bytes;

impl Replica {
    /// Stands for election at once: for the first replica of a placement and for a lone voter.
    pub fn campaign(&mut self) {
        self.raft.campaign();
    }

    /// Whether this replica need not wait for others to stand: its vote decides alone, or the
    /// partition has just been made and names it first.
    #[must_use]
    pub fn stands_first(&self) -> bool {
        let is_new = self.raft.last().index == LogIndex::new(1);
        let first = self.steering.preferred().or(self.membership.voters.first().copied());
        let first = first.map(|first| first.replica_id);
        self.membership.is_sole_voter(self.replica_id) || (is_new && first == Some(self.replica_id))
    }

    /// Ends a turn: proposes what gathered and performs what raft wants, until it wants nothing.
    ///
    /// Errors: [`DecodeError`] where a committed command does not decode. The log's checksums are
    /// fine, so this replica must not go on: the caller isolates it.
    pub fn drain_ready(&mut self, now: Now, effects: &mut Effects) -> Result<(), DecodeError> {
        if self.installing.is_some() {
            // Raft is asked nothing any more; who waits for the state machine is answered.
            self.take_machine_effects(effects);
            self.publish(effects);
            return Ok(());
        }
        self.wake_if_stirred();
        self.repeat_writes(now, effects);
        loop {
            // What gathered is given back by the log's end as it was when it gathered.
            self.follow_raft_role(effects);
            self.admit_held(effects);
            self.take_confirmed(now);
            self.take_machine_effects(effects);
            self.propose_gathered(effects);
            self.steer(now, effects);
            self.ask_majority();
            let Some(ready) = self.raft.take_ready() else { break };
            self.handle_ready(ready, now, effects)?;
        }
        self.send_to_peers(effects);
        self.tell_leader(effects);
        self.publish(effects);
        self.answer_reads(effects);
        self.store_state_if_due(now, effects);
        Ok(())
    }

    fn handle_ready(
        &mut self,
        mut ready: Ready,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), DecodeError> {
        // A leader's followers write while it does.
        self.send_to_peers(effects);
        if let Some(index) = ready.appended.truncate_from
            && let Some(producers) = self.derived.producers_mut()
        {
            producers.truncate_from(index);
        }
        if ready.must_persist() {
            self.write(&mut ready, effects);
        }
        self.follow_raft_role(effects);
        for (number, index) in ready.confirmed {
            self.note_confirmed(number, index);
        }
        for entry in ready.committed {
            let stamp = Stamp::decode(&entry.context);
            let kind = stamp.map_or(FrameKind::Noop, |stamp| stamp.kind);
            let index = LogIndex::new(entry.index);
            let token = self.take_token(index);
            if let Some(stamp) = stamp {
                let present = self.changes_membership(kind, index);
                let applied = Applied { index, kind, base_offset: stamp.base_offset, token };
                self.apply(&applied, &entry.data, now)?;
                if let Some(present) = present {
                    self.follow_membership(&present);
                }
            }
            self.state_file.note_applied(entry.data.len(), now);
            if kind == FrameKind::Noop && Term::new(entry.term) == self.raft.term() {
                self.begin_to_lead(now, effects);
            }
            (self.applied, self.applied_term) = (index, Term::new(entry.term));
        }
        self.raft.applied(self.applied);
        Ok(())
    }

    /// Applies one committed frame; also what a replay at start does.
    pub(super) fn apply(
        &mut self,
        applied: &Applied,
        payload: &Bytes,
        now: Now,
    ) -> Result<(), DecodeError> {
        assert!(applied.index > self.applied, "I5: an entry is applied once, in order");
        match applied.kind {
            FrameKind::Records | FrameKind::Command | FrameKind::Membership
                if applied.index <= self.ahead =>
            {
                Ok(())
            }
            FrameKind::Records | FrameKind::Command => self.derived.apply(applied, payload, now),
            FrameKind::Membership => {
                self.membership = Membership::decode(payload)?;
                Ok(())
            }
            FrameKind::Trim => self.move_log_start(LogStart::decode(payload)?, applied.index),
            FrameKind::Noop | FrameKind::Gap => Ok(()),
        }
    }

    /// Follows a committed trim. Two may be under way at once, and the later one may reach less far
    /// where the retention was changed in between: the start never moves back.
    fn move_log_start(&mut self, start: LogStart, at: LogIndex) -> Result<(), DecodeError> {
        if start.index > at {
            let reason = format!("frame {at} trims up to {}, beyond itself", start.index);
            return Err(DecodeError::because("trim", reason));
        }
        if start.index > self.log_start.index {
            self.log_start = start;
            self.state_file.note_trim();
        }
        Ok(())
    }

    /// The configuration as it is, where this entry is another one that raft has not heard of.
    fn changes_membership(&self, kind: FrameKind, index: LogIndex) -> Option<Membership> {
        let is_change = kind == FrameKind::Membership && index > self.ahead;
        is_change.then(|| self.membership.clone())
    }

    /// Tells raft and whoever sends what was just applied in the place of `present`.
    fn follow_membership(&mut self, present: &Membership) {
        self.raft.apply_membership(present, &self.membership);
        let membership = &self.membership;
        self.strangers.retain(|replica, _| membership.member(*replica).is_none());
        self.sending.retain(|replica, _| membership.member(*replica).is_some());
    }

    fn take_token(&mut self, index: LogIndex) -> Option<ProposalToken> {
        let (first, token) = *self.tokens.front()?;
        if first != index {
            return None;
        }
        self.tokens.pop_front();
        Some(token)
    }

    pub(super) fn follow_raft_role(&mut self, effects: &mut Effects) {
        let (incarnation, term) = (self.incarnation, self.raft.term());
        let leads = self.raft.is_leader().then_some(term);
        if self.role != Role::Follower && leads != Some(self.role_term) {
            self.resign(ProduceError::NotLeader, effects);
            effects.push(Effect::Deposed { incarnation, term });
        }
        if self.role == Role::Follower && leads.is_some() {
            (self.role, self.role_term) = (Role::Electing, term);
            self.derived.elect();
        }
    }

    /// The no-op of our own term is applied: everything of earlier terms is in the derived state.
    fn begin_to_lead(&mut self, now: Now, effects: &mut Effects) {
        if self.role != Role::Electing {
            return;
        }
        self.role = Role::Leader;
        self.led_since_ms = now.monotonic_ms;
        let settled = self.derived.producers().is_none_or(Producers::is_settled);
        assert!(settled, "I10: a batch of an earlier term is neither committed nor gone");
        self.raft.begin_to_lead();
        self.derived.lead(now);
        effects.push(Effect::Leads { incarnation: self.incarnation, term: self.raft.term() });
    }

    fn publish(&mut self, effects: &mut Effects) {
        let commit = self.raft.commit().min(self.raft.persisted_index());
        if self.state_file.moves_commit(commit) {
            let high_watermark = self.raft.tail().end_offset_at(commit);
            let high_watermark = high_watermark.expect("what is not applied yet is pinned");
            assert!(high_watermark >= self.high_watermark, "I5: a high watermark never falls");
            self.high_watermark = high_watermark;
            let incarnation = self.incarnation;
            effects.push(Effect::Committed { incarnation, commit, high_watermark });
        }
        for (ticket, ack) in self.acks.release(self.acknowledgeable()) {
            effects.reply_produce(ticket, Ok(ack));
        }
        if self.state_file.take_trim() {
            let start = self.log_start;
            self.raft.trim_to(start);
            effects.push(Effect::Trim { incarnation: self.incarnation, start });
        }
    }

    /// The last index whose batch may be acknowledged: committed, and flushed by as many voters as
    /// the topic asks for where that is more than a majority.
    pub(super) fn acknowledgeable(&self) -> LogIndex {
        let commit = self.raft.commit();
        let required = self.settings.min_insync_replicas;
        if required <= self.membership.majority() {
            return commit;
        }
        commit.min(self.raft.flushed_by(required))
    }

    fn store_state_if_due(&mut self, now: Now, effects: &mut Effects) {
        // The state is ahead of the log for as long as the log has not caught up with a snapshot.
        if self.applied >= self.ahead && self.state_file.is_due(now) {
            let state = self.encode_state();
            self.state_file.note_asked(state.len());
            let (incarnation, applied) = (self.incarnation, self.applied);
            effects.push(Effect::StoreState { incarnation, applied, state });
        }
    }

    /// A state file is durable (`true`), or could not be written and is tried again later.
    pub fn handle_state_stored(&mut self, applied: LogIndex, is_stored: bool, now: Now) {
        self.state_file.note_stored(applied, is_stored, now);
    }

    /// Hears which segments there are: the derived state is stored with the closed ones, the one
    /// that is being written may be closed, and a prefix of the log may go.
    ///
    /// Only what the newest durable state file includes goes: a start must find either the frames
    /// or what they have built. Topics keep what their retention says; of a state machine's
    /// commands nothing is kept.
    pub fn check_retention(&mut self, segments: &Segments, now: Now, effects: &mut Effects) {
        let stored = self.state_file.stored();
        let sealed = &segments.sealed;
        if sealed.last().is_some_and(|newest| newest.next_start.index.previous() > stored) {
            self.state_file.note_rolled();
        }
        if self.role != Role::Leader || self.writes.are_stalled() {
            return;
        }
        let retention = self.settings.retention;
        let start = if self.derived.producers().is_some() {
            self.roll_if_due(segments, now, effects);
            retention.log_start(sealed, segments.log_bytes, stored, now.wall_ms)
        } else {
            let gone = |segment: &&SealedSegment| segment.next_start.index.previous() <= stored;
            sealed.iter().take_while(gone).last().map(|segment| segment.next_start)
        };
        if let Some(start) = start.filter(|start| start.index > self.log_start.index) {
            self.gather_trim(start.encode());
        }
    }

    fn roll_if_due(&mut self, segments: &Segments, now: Now, effects: &mut Effects) {
        let due = segments.active.and_then(|active| {
            let retention = self.settings.retention;
            retention.roll(&active, now.wall_ms)
        });
        let Some(roll) = due else { return };
        effects.push(Effect::Roll { incarnation: self.incarnation });
        if roll == Roll::Now {
            // The log closes a segment with an append. Nobody may be writing, so the present log
            // start is written again, which changes nothing.
            self.gather_trim(self.log_start.encode());
        }
    }
}
