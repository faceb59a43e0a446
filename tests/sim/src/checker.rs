//! What must hold of the whole cluster, whoever fails.
//!
//! ```text
//!   Committed on any node ──> its frames ──> the one history of that log, or a contradiction
//!   Leads ──> one per term, with all of it        ack ──> on stable storage of a majority, there
//! ```
//!
//! The history of a log is what some node has published as committed, frame by frame, in the order
//! of its indexes. Every node, in every life, is compared with it.
//!
//! Invariants: I1 to I7, I9 to I11, I14 and I16; with `membership` I17.
//!
//! Absent on purpose: what a replica can say of itself, which `check_invariants` does.

use crate::clients::Asked;
use crate::event::NodeAt;
use crate::membership::GroupHistory;
use crate::plan::FaultClass;
use crate::process::Process;
use crate::world::World;
use bateau_core::controller::{ClusterId, ControllerResponse};
use bateau_core::replica::ProduceAck;
use bateau_core::shard::Reply;
use bateau_protocol::frame::{FrameHeader, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, Term};
use bateau_protocol::record::BatchHeader;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What was seen of a log in one life of a node.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Its term.
    pub term: Term,
    /// What it has published as committed.
    pub commit: LogIndex,
    /// The offset behind it.
    pub high_watermark: Offset,
    /// The term that the node's replica leads.
    pub leads: Option<Term>,
    /// Who leads, as the replica has said.
    pub leader: Option<NodeAt>,
}

/// One committed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    kind: FrameKind,
    term: Term,
    payload_crc: u32,
    base_offset: Offset,
    record_count: u32,
    chain_crc: u32,
}

impl Entry {
    /// What is the same of a frame on all replicas.
    pub fn of(header: &FrameHeader) -> Self {
        Self {
            kind: header.kind,
            term: header.term,
            payload_crc: header.payload_crc,
            base_offset: header.base_offset,
            record_count: header.record_count,
            chain_crc: header.chain_crc(),
        }
    }
}

/// What is known of one log.
#[derive(Debug, Default)]
pub struct History {
    /// The committed frames, from index 1 on.
    pub entries: Vec<Entry>,
    /// Batches by their offset: the CRC that their producer gave them.
    pub batches: BTreeMap<u64, u32>,
    /// What was acknowledged, by offset.
    pub acked: BTreeMap<u64, u32>,
    /// Next sequence of each producer.
    sequences: BTreeMap<(i64, i16), i32>,
    /// Where the log starts on a node, at most: what lies before may be gone.
    pub start: Offset,
    /// A node has deleted it, for a committed tombstone. One that hears of that later, or again
    /// after a restart, may have it, and even make it anew, until it does: nothing is judged then.
    pub is_deleted: bool,
    /// Who has led in which term.
    leaders: BTreeMap<Term, NodeAt>,
    /// Its configurations.
    pub groups: GroupHistory,
}

impl History {
    /// Offset behind the last committed frame.
    pub fn end(&self) -> Offset {
        self.entries.last().map_or(Offset::ZERO, |last| last.base_offset.plus(counted(last)))
    }

    /// The last committed index.
    pub fn last_index(&self) -> LogIndex {
        LogIndex::new(self.entries.len() as u64)
    }

    /// The newest term that somebody has led.
    pub fn newest_term(&self) -> Option<Term> {
        self.leaders.last_key_value().map(|(term, _)| *term)
    }

    /// Offset behind an entry, its term and its chain CRC.
    pub fn end_and_chain(&self, index: LogIndex) -> Option<(Offset, Term, u32)> {
        let entry = self.entries.get(place(index)?)?;
        Some((entry.base_offset.plus(counted(entry)), entry.term, entry.chain_crc))
    }

    fn end_at(&self, index: LogIndex) -> Option<Offset> {
        let entry = self.entries.get(place(index)?)?;
        Some(entry.base_offset.plus(counted(entry)))
    }

    fn add(&mut self, entry: Entry, payload: &Bytes) -> Result<(), String> {
        if entry.base_offset != self.end() {
            return Err(format!("I9: offsets are not dense: {entry:?} behind {}", self.end()));
        }
        if self.entries.last().is_some_and(|last| last.term > entry.term) {
            return Err(format!("I2: a term falls at {entry:?}"));
        }
        if entry.kind == FrameKind::Records {
            let header = BatchHeader::parse(payload).map_err(|error| error.to_string())?;
            self.batches.insert(entry.base_offset.get(), header.crc);
            if header.producer_id >= 0 {
                let next = header.base_sequence + header.last_offset_delta + 1;
                let key = (header.producer_id, header.producer_epoch);
                let expected = self.sequences.insert(key, next).unwrap_or(0);
                if header.base_sequence != expected {
                    let found = header.base_sequence;
                    let place = entry.base_offset;
                    return Err(format!(
                        "I10, I11: producer {key:?} has sequence {found} at offset {place}, \
                         expected {expected}"
                    ));
                }
            }
            if let Some(acked) = self.acked.get(&entry.base_offset.get())
                && *acked != header.crc
            {
                return Err(format!("I7: another batch stands where one was acked: {entry:?}"));
            }
        }
        self.entries.push(entry);
        Ok(())
    }
}

fn counted(entry: &Entry) -> u32 {
    if entry.kind.counts_offsets() { entry.record_count } else { 0 }
}

fn place(index: LogIndex) -> Option<usize> {
    usize::try_from(index.get().checked_sub(1)?).ok()
}

/// Everything that has been seen.
#[derive(Debug, Default)]
pub struct Checker {
    /// The histories of all logs.
    pub logs: BTreeMap<Incarnation, History>,
    /// First ids of the blocks of producer ids that were given away.
    id_blocks: BTreeSet<u64>,
    /// The cluster that everybody is of.
    pub cluster_id: Option<ClusterId>,
}

impl World {
    pub(crate) fn check_committed(
        &mut self,
        n: NodeAt,
        process: &mut Process,
        log: Incarnation,
        commit: LogIndex,
        high_watermark: Offset,
    ) {
        let seen = process.seen.entry(log).or_default();
        let before = *seen;
        if commit < before.commit || high_watermark < before.high_watermark {
            let found = (commit, high_watermark);
            return self.fail(format!("I5: {log:?} on node {}: {before:?}, then {found:?}", n + 1));
        }
        (seen.commit, seen.high_watermark) = (commit, high_watermark);
        if self.is_deleted(log) {
            return;
        }
        let Some(reader) = process.readers.get(&log) else { return };
        // What retention has taken, or a snapshot has skipped, was looked at with the log's start.
        let start = reader.bounds().start.index;
        let from = if self.has_retention() || self.plan.has(FaultClass::Membership) {
            before.commit.next().max(start)
        } else {
            before.commit.next()
        };
        match reader.frames(from, commit, commit, usize::MAX) {
            Ok(frames) => {
                let before = from.previous();
                if frames.last().map_or(before, |last| last.header.index) != commit.max(before) {
                    self.fail(format!("D2: {log:?} on node {}: {commit} is not here", n + 1));
                }
                for frame in frames {
                    let header = &frame.header;
                    let entry = Entry::of(header);
                    self.compare(n, log, header.index, entry, &frame.payload);
                }
            }
            Err(error) if self.nodes[n].is_corrupted || self.plan.has(FaultClass::FlushErrors) => {
                self.trace.add(error.to_string().len() as u64);
                self.count("damaged frames not served");
            }
            Err(error) => {
                self.fail(format!("I7: {log:?} on node {}, from {from}: {error}", n + 1));
            }
        }
        let end = self.checker.logs.get(&log).and_then(|history| history.end_at(commit));
        if end.is_some_and(|end| end != high_watermark) {
            let name = n + 1;
            self.fail(format!(
                "I8: {log:?} on node {name} shows {high_watermark} at commit {commit}: {end:?}"
            ));
        }
    }

    fn compare(
        &mut self,
        n: NodeAt,
        log: Incarnation,
        index: LogIndex,
        entry: Entry,
        payload: &Bytes,
    ) {
        let history = self.checker.logs.entry(log).or_default();
        if entry.kind == FrameKind::Command && index == history.last_index().next() {
            self.groups.note_commands(payload);
        }
        let known = place(index).and_then(|place| history.entries.get(place));
        let is_next = known.is_none() && index == history.last_index().next();
        if is_next && entry.kind == FrameKind::Membership {
            self.note_membership(log, index, payload);
        }
        let history = self.checker.logs.entry(log).or_default();
        let known = place(index).and_then(|place| history.entries.get(place));
        let result = match known {
            Some(known) if *known == entry => Ok(()),
            Some(known) => Err(format!("I4: index {index} is {entry:?}, and was {known:?}")),
            None if index == history.last_index().next() => history.add(entry, payload),
            // Below it a damaged node has frames that could not be read.
            None if self.nodes[n].is_corrupted => Ok(()),
            None => Err(format!("I4: index {index} came before those below it")),
        };
        if let Err(error) = result {
            self.fail(format!("{error}; {log:?} on node {}", n + 1));
        }
    }

    pub(crate) fn check_leads(
        &mut self,
        n: NodeAt,
        process: &mut Process,
        log: Incarnation,
        term: Term,
    ) {
        self.count("elections");
        process.seen.entry(log).or_default().leads = Some(term);
        if self.is_deleted(log) {
            return self.count("mark: a deleted log is led");
        }
        let history = self.checker.logs.entry(log).or_default();
        let other = *history.leaders.entry(term).or_insert(n);
        let earlier = history.entries.partition_point(|entry| entry.term < term);
        let applied = process
            .shard()
            .and_then(|shard| shard.replica(log))
            .map_or(LogIndex::ZERO, |one| one.applied());
        let is_settling = applied.get() > history.entries.len() as u64 + 1;
        if is_settling {
            self.count("mark: a leader settles what an earlier one has left");
        }
        if other != n {
            let names = (other + 1, n + 1);
            self.fail(format!("I1: {log:?} has two leaders in term {term}: nodes {names:?}"));
        } else if applied.get() < earlier as u64 {
            let name = n + 1;
            self.fail(format!(
                "I3: node {name} leads {log:?} in term {term} with {applied} of {earlier}"
            ));
        }
    }

    fn is_deleted(&self, log: Incarnation) -> bool {
        self.checker.logs.get(&log).is_some_and(|history| history.is_deleted)
    }

    pub(crate) fn check_delete(&mut self, n: NodeAt, process: &mut Process, log: Incarnation) {
        self.count("logs deleted");
        process.readers.remove(&log);
        process.seen.remove(&log);
        let is_deleted = &mut self.checker.logs.entry(log).or_default().is_deleted;
        let was_deleted = std::mem::replace(is_deleted, true);
        let is_tombstone = process
            .shard()
            .and_then(|shard| shard.metadata())
            .is_some_and(|one| one.is_tombstone(log));
        // A node that starts hears of it again, when all have confirmed it.
        if !is_tombstone && !was_deleted {
            self.fail(format!("I16: {log:?} on node {} goes without a tombstone", n + 1));
        }
    }

    pub(crate) fn check_reply(
        &mut self,
        n: NodeAt,
        process: &Process,
        asked: &Asked,
        reply: &Reply,
    ) {
        match (asked, reply) {
            (Asked::Produce { log, batch, crc }, Reply::Produce(Ok(ack))) => {
                self.check_ack(n, *log, batch, *crc, *ack);
            }
            (Asked::Confirm { log, end }, Reply::Confirmed(Ok(()))) => {
                let shown = process.seen.get(log).map_or(Offset::ZERO, |seen| seen.high_watermark);
                self.count("confirmed reads");
                if shown < *end {
                    let name = n + 1;
                    self.fail(format!(
                        "I14: {log:?} on node {name} is confirmed at {shown}, {end} was committed"
                    ));
                }
            }
            (_, Reply::Controller(Ok(ControllerResponse::ProducerIdsAllocated(Ok(block))))) => {
                self.count("blocks of producer ids");
                if !self.checker.id_blocks.insert(block.first) {
                    self.fail(format!("I14: producer ids from {} are given twice", block.first));
                }
            }
            (Asked::Group(asked), Reply::Group(response)) => {
                self.check_group(n, process, asked, response);
            }
            _ => {}
        }
    }

    fn check_ack(&mut self, n: NodeAt, log: Incarnation, batch: &Bytes, crc: u32, ack: ProduceAck) {
        self.count("acks");
        if ack.is_duplicate {
            self.count("mark: an ack of a duplicate");
        }
        let offset = ack.base_offset.get();
        if self.is_deleted(log) {
            return;
        }
        let history = self.checker.logs.entry(log).or_default();
        let known = history.batches.get(&offset).copied();
        let joins = ack.is_duplicate && known.is_none();
        let acked = *history.acked.entry(offset).or_insert(crc);
        if acked != crc || known.is_some_and(|known| known != crc) {
            return self.fail(format!("I7: {log:?} acked {crc:#x} at {offset}, there was another"));
        }
        if joins {
            self.count("mark: a duplicate joins its original in flight");
        }
        let is_looked_at = self.counts.get("acks").is_some_and(|count| count.is_multiple_of(4));
        if self.plan.has(FaultClass::Corruption) || !is_looked_at {
            return;
        }
        if self.checker.logs.get(&log).is_some_and(|one| one.start > ack.base_offset) {
            return self.count("mark: an ack of what retention has taken");
        }
        let dir = format!("partitions/{:016x}", log.get());
        // What the log stamps on a batch lies before its attributes.
        let needle = batch.get(17..).unwrap_or_default();
        let Some(history) = self.checker.logs.get(&log) else { return };
        let holds = |node: NodeId| {
            let place = self.place_of(node).map(|place| &self.nodes[place]);
            // What was there when it was acknowledged may have been lost since, on one node.
            place.is_some_and(|one| one.is_wiped || one.disk.has_stable(&dir, needle))
        };
        if !history.groups.have_majority(holds) {
            let (name, groups) = (n + 1, history.groups.newest());
            self.fail(format!(
                "I6: node {name} acked offset {offset} of {log:?}, which no majority of {groups:?} \
                 has on its disks"
            ));
        }
    }
}
