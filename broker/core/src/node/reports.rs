//! What this node tells the controller of its own accord: who lives, which groups that are led here
//! have the replicas that were assigned to them, which replicas here are lost, and what of deleted
//! logs is gone from here.
//!
//! Invariants
//! - A report is repeated until the metadata shows that it has arrived.
//! - A lost replica is reported while another one leads. Where all are lost nobody does, and then
//!   each keeps what is left of it.
//!
//! Absent on purpose: what the controller makes of it.

use super::forward::OWN_TIMEOUT_MS;
use super::{Node, NodeEffect};
use crate::clock::Now;
use crate::controller::{ControllerRequest, MembershipRequest, Metadata};
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds until a report is repeated that the metadata does not show.
const REPEAT_MS: u64 = 1_000;
/// Groups or logs in one report.
const REPORTED_MAX: usize = 1_000;

/// What is to be reported.
#[derive(Debug, Default)]
pub(super) struct Reports {
    assigned: BTreeMap<Incarnation, u64>,
    removed: BTreeSet<Incarnation>,
    /// Replicas here that others are to replace.
    lost: BTreeMap<Incarnation, ReplicaId>,
    /// When what was reported is reported again.
    again_ms: Option<u64>,
    /// What was added since.
    is_new: bool,
    pub told_lives: BTreeSet<NodeId>,
    pub told_giving_way: BTreeSet<NodeId>,
}

impl Reports {
    pub fn note_assigned(&mut self, incarnation: Incarnation, number: u64) {
        self.assigned.insert(incarnation, number);
        self.is_new = true;
    }

    pub fn note_removed(&mut self, incarnation: Incarnation) {
        self.removed.insert(incarnation);
        self.is_new = true;
    }

    pub fn note_lost(&mut self, incarnation: Incarnation, replica: ReplicaId) {
        self.lost.insert(incarnation, replica);
        self.is_new = true;
    }

    /// When something is due, on the monotonic clock in milliseconds.
    pub fn next_ms(&self) -> Option<u64> {
        self.again_ms.filter(|_| !self.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.assigned.is_empty() && self.removed.is_empty() && self.lost.is_empty()
    }
}

impl Node {
    pub(super) fn report(&mut self, now: Now) {
        let reports = &mut self.reports;
        let is_due = reports.again_ms.is_none_or(|again_ms| again_ms <= now.monotonic_ms);
        if reports.is_empty() || !(is_due || reports.is_new) {
            return;
        }
        let (metadata, node, timeout_ms) = (&self.metadata, self.settings.node_id, OWN_TIMEOUT_MS);
        reports.assigned.retain(|log, number| is_open(metadata, *log, *number));
        reports
            .removed
            .retain(|log| metadata.is_tombstone(*log) || metadata.has_removed_replica(*log, node));
        reports.lost.retain(|log, replica| {
            let partition = metadata.partition(*log);
            partition.is_some_and(|one| one.replicas.iter().any(|own| own.id == *replica))
        });
        (reports.is_new, reports.again_ms) = (false, Some(now.monotonic_ms + REPEAT_MS));
        let assigned = reports.assigned.iter().take(REPORTED_MAX);
        let settled: Vec<_> = assigned.map(|(log, number)| (*log, *number)).collect();
        let incarnations: Vec<_> = reports.removed.iter().take(REPORTED_MAX).copied().collect();
        let is_heard = |node| self.links.get(&node).is_some_and(|link| link.is_up());
        let is_led = |lost: &(&Incarnation, _)| self.leaders.is_led(*lost.0, is_heard);
        let lost = reports.lost.iter().filter(is_led).take(REPORTED_MAX);
        let lost: Vec<_> = lost.map(|(log, replica)| (*log, *replica)).collect();
        if !lost.is_empty() {
            let request = MembershipRequest::Renew(lost);
            self.ask_for_ourselves(ControllerRequest::Membership { request, timeout_ms });
        }
        if !settled.is_empty() {
            let request = MembershipRequest::Settle(settled);
            self.ask_for_ourselves(ControllerRequest::Membership { request, timeout_ms });
        }
        if !incarnations.is_empty() {
            let request = ControllerRequest::ConfirmRemoved { node, incarnations, timeout_ms };
            self.ask_for_ourselves(request);
        }
    }

    pub(super) fn tell_who_lives(&mut self) {
        let alive = self.links.iter().filter(|(_, link)| link.is_alive()).map(|(node, _)| *node);
        let lives: BTreeSet<NodeId> = alive.chain([self.settings.node_id]).collect();
        if self.is_founded() && lives != self.reports.told_lives {
            self.reports.told_lives.clone_from(&lives);
            self.effects.push(NodeEffect::Lives(lives));
        }
    }

    pub(super) fn tell_who_gives_way(&mut self) {
        let giving = self.links.iter().filter(|(_, link)| link.gives_way()).map(|(node, _)| *node);
        let giving: BTreeSet<NodeId> = giving.collect();
        if giving != self.reports.told_giving_way {
            self.reports.told_giving_way.clone_from(&giving);
            self.effects.push(NodeEffect::GiveWay(giving));
        }
    }
}

/// Whether the metadata, as far as it is known here, waits for this.
fn is_open(metadata: &Metadata, log: Incarnation, number: u64) -> bool {
    if log == Incarnation::METADATA {
        let quorum = metadata.quorum();
        return quorum.is_open && quorum.assignment <= number;
    }
    metadata.partition(log).is_some_and(|partition| {
        partition.assignment < number
            || (partition.assignment == number && partition.reassignment.is_some())
    })
}
