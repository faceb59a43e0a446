//! What goes when nothing uses it: offsets after their retention, then the group (G51).
//!
//! ```text
//!   members             nothing expires, whatever retention a client once asked for
//!   none any more       an offset goes one retention after the group became empty, or after it
//!                       was committed, whichever is later
//!   never any           an offset goes one retention after it was committed
//!   client's retention  counts from the commit, in place of ours (OffsetCommit v2 to v4)
//!   no offsets left     the group goes
//! ```
//!
//! Wall time decides, because retention outlives a process; the timer that asks for it runs on
//! the service timeline, and looks again when the wall clock disagrees.
//!
//! Absent on purpose: Kafka's expiry of topics that a live consumer group no longer subscribes
//! to: it would have to trust opaque metadata with the deletion of positions.

use super::command::{Command, OffsetsExpired, TopicDeleted};
use super::live::LiveGroup;
use super::tables::StoredGroup;
use super::timers::Timer;
use super::turn::Turn;
use super::{EMPTY_GROUP_LINGER_MS, Name};
use bateau_protocol::ids::{LogIndex, TopicId};

/// Offsets that one command expires at most.
const EXPIRED_PER_COMMAND_MAX: usize = 10_000;

/// How long to wait before looking at a group again whose command was lost, in milliseconds.
const RETRY_MS: u64 = 60_000;

impl Turn<'_> {
    /// Looks at a group without members when its first expiry is due. Cost: its offsets, once per
    /// change of its membership.
    pub(super) fn schedule_housekeeping(&mut self, group_id: &Name) {
        let Some(group) = self.tables.groups.get(group_id) else { return };
        if !group.members.is_empty() {
            return;
        }
        let due_wall_ms = self.first_due(group);
        self.arm_housekeeping(group_id, due_wall_ms);
    }

    /// The same after a commit, at a cost that does not depend on what the group has stored: a
    /// timer that fires early looks again.
    pub(super) fn schedule_after_commit(&mut self, group_id: &Name, expires_wall_ms: Option<u64>) {
        let Some(group) = self.tables.groups.get(group_id) else { return };
        if group.members.is_empty() {
            let retention_ms = self.settings.offsets_retention_ms;
            let latest = self.now.wall_ms.saturating_add(retention_ms);
            self.arm_housekeeping(group_id, expires_wall_ms.unwrap_or(latest));
        }
    }

    /// Looks again later: at once, a log that takes nothing would be asked in a circle.
    pub(super) fn retry_housekeeping(&mut self, group_id: &Name) {
        let at = self.now.service_ms.saturating_add(RETRY_MS);
        self.live.timers.arm(Timer::Housekeeping(group_id.clone()), at);
    }

    fn arm_housekeeping(&mut self, group_id: &Name, due_wall_ms: u64) {
        let wait_ms = due_wall_ms.saturating_sub(self.now.wall_ms);
        let at = self.now.service_ms.saturating_add(wait_ms);
        self.live.timers.arm_by(Timer::Housekeeping(group_id.clone()), at);
    }

    fn first_due(&self, group: &StoredGroup) -> u64 {
        let retention_ms = self.settings.offsets_retention_ms;
        let offsets = group.topics.values().flat_map(|topic| topic.partitions.values());
        let due = offsets.map(|offset| group.expires_wall_ms(offset, retention_ms)).min();
        due.unwrap_or_else(|| group.since_wall_ms.saturating_add(EMPTY_GROUP_LINGER_MS))
    }

    /// The timer fired.
    pub(super) fn keep_house(&mut self, group_id: &Name) {
        if self.live.groups.contains_key(group_id) {
            // It is in use; once it is not, this is scheduled anew.
            return;
        }
        let tables = self.tables;
        let Some(group) = tables.groups.get(group_id) else { return };
        let due_wall_ms = self.first_due(group);
        if due_wall_ms > self.now.wall_ms {
            return self.arm_housekeeping(group_id, due_wall_ms);
        }
        if group.topics.is_empty() {
            let Some(live) = self.take_group(group_id) else { return };
            let live: LiveGroup = self.propose_removal(live, false);
            return self.put_group(live);
        }
        let offsets = self.due_offsets(group);
        let command = Command::OffsetsExpired(OffsetsExpired {
            group_id: group_id.clone(),
            revision: group.revision,
            offsets,
        });
        self.propose(group_id, None, &command, Vec::new());
    }

    fn due_offsets(&self, group: &StoredGroup) -> Vec<(Name, i32, LogIndex)> {
        let retention_ms = self.settings.offsets_retention_ms;
        let mut due = Vec::new();
        for (name, topic) in &group.topics {
            for (partition, offset) in &topic.partitions {
                let expires_wall_ms = group.expires_wall_ms(offset, retention_ms);
                if expires_wall_ms <= self.now.wall_ms && due.len() < EXPIRED_PER_COMMAND_MAX {
                    due.push((name.clone(), *partition, offset.index));
                }
            }
        }
        due
    }

    pub(super) fn delete_topic(&mut self, topic: &str, topic_id: TopicId) {
        let is_stored = self.tables.groups.values().any(|group| group.topics.contains_key(topic));
        if is_stored || !self.live.in_flight.is_empty() {
            let command =
                Command::TopicDeleted(TopicDeleted { topic: Name::from(topic), topic_id });
            self.propose(&Name::default(), None, &command, Vec::new());
        }
    }
}
