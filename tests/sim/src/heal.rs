//! After the faults: everything is mended, and then everything must come right by itself (I20).
//!
//! ```text
//!   heal ──5 election timeouts──> every log is led ──clients finish──> all copies are equal
//! ```
//!
//! Absent on purpose: the metadata of a node whose disk has garbled just that: it stays silent.

use crate::clients::Client;
use crate::event::{Event, Micros, NodeAt};
use crate::network::Quality;
use crate::node::{DISK_BYTES, Node};
use crate::world::World;
use bateau_core::controller::Metadata;
use bateau_protocol::ids::{Incarnation, LogIndex};
use std::sync::Arc;

/// Nodes come back, and what was on its way arrives, in microseconds.
const SETTLING: Micros = 6_000_000;
/// Five election timeouts of at most two seconds.
pub(crate) const ELECTED_WITHIN: Micros = 10_000_000;
/// Until every node is registered, and has heard of every other.
const KNOWN_WITHIN: Micros = 10_000_000;
/// Until all copies are equal.
pub(crate) const CONVERGED_WITHIN: Micros = 120_000_000;
/// Between two looks.
const LOOK: Micros = 250_000;

impl World {
    /// Ends all faults, and waits for what must come.
    pub fn heal(&mut self) {
        self.is_healing = true;
        self.network.mend();
        self.network.quality = Quality::GOOD;
        self.break_stuck_links();
        for n in 0..self.nodes.len() {
            self.nodes[n].slowness = 1;
            self.nodes[n].is_full = false;
            self.nodes[n].disk.set_capacity(DISK_BYTES);
            self.nodes[n].paused_until = 0;
            self.nodes[n].away_until = 0;
            self.events.put(self.at + 100_000, Event::Restart(n));
        }
        self.live_until(self.at + SETTLING);
        self.wait("I20: elected within five timeouts", ELECTED_WITHIN, Self::unled);
        self.wait("I20: changes of membership end", CONVERGED_WITHIN, Self::unsettled);
        self.wait("I20: elected within five timeouts", ELECTED_WITHIN, Self::unled);
        self.wait("I20: every node is known and lives", KNOWN_WITHIN, Self::unknown);
        self.wait("I20: every node knows who leads", KNOWN_WITHIN, Self::misled);
        self.is_draining = true;
        self.wait("I20: everything is acknowledged", CONVERGED_WITHIN, Self::unfinished);
        self.wait("I20: all copies are equal", CONVERGED_WITHIN, Self::unequal);
        self.wait("I18: what was damaged is whole", CONVERGED_WITHIN, Self::unmended);
        self.check_acked();
        self.rest();
    }

    pub(crate) fn wait(
        &mut self,
        what: &str,
        within: Micros,
        lacks: impl Fn(&Self) -> Option<String>,
    ) {
        let end = self.at + within;
        while self.broken.is_none() {
            let Some(missing) = lacks(self) else { return };
            if self.at >= end {
                return self.fail(format!("{what}: {missing}"));
            }
            self.live_until(self.at + LOOK);
        }
    }

    /// The newest metadata that any node has ever shown.
    pub(crate) fn newest_metadata(&self) -> Option<Arc<Metadata>> {
        self.newest.clone()
    }

    /// A node shows metadata.
    pub(crate) fn note_metadata(&mut self, metadata: &Arc<Metadata>) {
        if self.newest.as_ref().is_none_or(|newest| newest.applied() < metadata.applied()) {
            self.newest = Some(Arc::clone(metadata));
        }
    }

    /// All logs with the nodes that hold them, those excepted that their disks have silenced.
    pub(crate) fn placed(&self) -> Result<Vec<(Incarnation, Vec<NodeAt>)>, String> {
        let metadata = self.newest_metadata().ok_or("nobody has any metadata")?;
        if metadata.topic("orders").is_none() {
            return Err("the topic of all clients was never made".to_owned());
        }
        let quorum = metadata.quorum().replicas().filter_map(|one| self.place_of(one.node));
        let mut placed = vec![(Incarnation::METADATA, quorum.collect())];
        for topic in metadata.topics().chain(metadata.group_topic()) {
            for partition in &topic.partitions {
                let nodes = partition.replicas.iter().map(|replica| replica.node.get());
                let nodes = nodes.map(|id| usize::try_from(id).unwrap_or(1) - 1).collect();
                placed.push((partition.incarnation, nodes));
            }
        }
        Ok(placed)
    }

    fn is_silenced(&self, n: NodeAt, log: Incarnation) -> bool {
        let node = &self.nodes[n];
        let isolated = node.process.as_ref().is_some_and(|one| one.isolated.contains_key(&log));
        node.is_silenced || (node.is_corrupted && (isolated || node.process.is_none()))
    }

    pub(crate) fn unled(&self) -> Option<String> {
        match self.placed() {
            Ok(placed) => self.unled_of(placed),
            Err(error) => Some(error),
        }
    }

    /// The first of these logs that nobody leads, in words.
    pub(crate) fn unled_of(
        &self,
        placed: impl IntoIterator<Item = (Incarnation, Vec<NodeAt>)>,
    ) -> Option<String> {
        let is_led = |log: &Incarnation| {
            self.nodes.iter().any(|node| {
                let seen = node.process.as_ref().and_then(|process| process.seen.get(log));
                seen.is_some_and(|seen| seen.leads.is_some())
            })
        };
        let (log, nodes) = placed.into_iter().find(|(log, _)| !is_led(log))?;
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let states: Vec<String> = processes.map(|process| process.describe(log)).collect();
        Some(format!("nobody leads {log:?} of {nodes:?}: {}", states.join("; ")))
    }

    /// A node that its cluster does not know, or that another takes for dead.
    fn unknown(&self) -> Option<String> {
        let metadata = self.newest_metadata()?;
        let sound = |node: &&Node| !node.is_corrupted && !node.is_out;
        for node in self.nodes.iter().filter(sound) {
            let Some(process) = &node.process else {
                return Some(format!("node {} is down", node.id));
            };
            let registered = metadata.node(node.id).map(|known| known.boot);
            let boot = process.brain.registration.boot;
            if registered != Some(boot) {
                let metadata = process.describe(Incarnation::METADATA);
                let known = format!("known as {registered:?}, {metadata}");
                return Some(format!("node {} is {boot:?}, {known}", node.id));
            }
            let others = self.nodes.iter().filter(sound);
            let mut others = others.map(|other| other.id);
            if let Some(other) = others.find(|other| !process.brain.node.lives(*other)) {
                let (from, to) = (self.place_of(other)?, self.place_of(node.id)?);
                let (link, back) = (self.describe_link(from, to), self.describe_link(to, from));
                return Some(format!("node {} takes {other} for dead: {link}; {back}", node.id));
            }
        }
        None
    }

    /// A node that would send clients to somebody who does not lead.
    fn misled(&self) -> Option<String> {
        for (log, _) in self.placed().ok()? {
            let leads = |n: &NodeAt| {
                let process = self.nodes[*n].process.as_ref();
                process.and_then(|process| process.seen.get(&log)?.leads).is_some()
            };
            let Some(leader) = (0..self.nodes.len()).find(leads) else {
                return Some(format!("nobody leads {log:?}"));
            };
            let sound = |node: &&Node| !node.is_corrupted && !node.is_out;
            for node in self.nodes.iter().filter(sound) {
                let known = node.process.as_ref().and_then(|process| process.leader_of(log));
                if known != Some(leader) {
                    let (id, leader) = (node.id, leader + 1);
                    return Some(format!("node {id} takes {known:?} for {log:?}'s, not {leader}"));
                }
            }
        }
        None
    }

    fn unfinished(&self) -> Option<String> {
        self.clients.iter().flatten().find_map(|client| match client {
            Client::Producer(producer) if !producer.is_done() => Some(producer.describe()),
            _ => None,
        })
    }

    pub(crate) fn unequal(&self) -> Option<String> {
        let placed = match self.placed() {
            Ok(placed) => placed,
            Err(error) => return Some(error),
        };
        for (log, nodes) in placed {
            let history = self.checker.logs.get(&log);
            let last = history.map_or(LogIndex::ZERO, |history| history.last_index());
            let sound = nodes.iter().copied().filter(|n| !self.is_silenced(*n, log));
            let sound: Vec<NodeAt> = sound.collect();
            for n in sound.iter().copied() {
                let Some(process) = &self.nodes[n].process else {
                    let (member, out) = (self.member_in_words(n), self.nodes[n].is_out);
                    return Some(format!("node {} is down (out {out}): {member}", n + 1));
                };
                let commit = process.seen.get(&log).map_or(LogIndex::ZERO, |seen| seen.commit);
                let end = process.readers.get(&log).map(|reader| reader.bounds().last_index);
                if commit != last || end != Some(last) {
                    let found = format!("commit {commit}, end {end:?} of {last}");
                    let why = process.isolated.get(&log);
                    return Some(format!("{log:?} on node {}: {found}, {why:?}", n + 1));
                }
            }
            if let Some(unequal) = self.unequal_states(log, &sound) {
                return Some(unequal);
            }
        }
        None
    }

    /// I7: what was acknowledged is in the history, where it was said to be.
    fn check_acked(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let mut lost = None;
        let logs = self.checker.logs.iter().filter(|(_, history)| !history.is_deleted);
        for (log, history) in logs {
            for (offset, crc) in &history.acked {
                if history.batches.get(offset) != Some(crc) {
                    lost = Some(format!("I7: {log:?} has lost what was acked at {offset}"));
                }
            }
        }
        if let Some(lost) = lost {
            self.fail(lost);
        }
    }
}
