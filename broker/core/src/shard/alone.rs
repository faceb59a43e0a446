//! An operator's last resort: the majority of a cluster is gone for ever, or what is damaged has no
//! other copy, and one node goes on with what it has (`bateau node unsafe-recover`).
//!
//! ```text
//!   every log:  … │ uncommitted │ configuration: this replica alone, in a new term
//!   a damaged:  … │ gap │ … │ the same: the gap may have swallowed another configuration
//!   metadata:   … │ uncommitted │ the same │ every other member has another directory now
//! ```
//!
//! A damaged log is closed first, on the disk, and then all of this is planned once more. A topic's
//! log that ends in a gap gets a batch without records behind it: readers know of an end by what
//! lies before it.
//!
//! Invariants
//! - Nothing is cut off: what others may have acknowledged behind a log's end is what is lost.
//! - What is damaged is lost where it is damaged, and nowhere else; commands of the metadata never.
//! - It may be interrupted and done again.
//! - Directories of the others that turn up later are strangers to this node: it neither hears nor
//!   tells them anything, for together they might be a majority of what has been.
//!
//! Absent on purpose: a node that runs, the question whether somebody means it, and files.

use super::RecoveredLog;
use crate::codec::DecodeError;
use crate::command_frame::CommandError;
use crate::controller::{Metadata, encode_commands};
use crate::replica::membership::{Member, Membership};
use crate::replica::{Vote, stored_membership, stored_metadata};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, Term};
use bateau_protocol::record::BatchHeader;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Why a directory cannot go on alone.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AloneError {
    /// There is no metadata.
    #[error("the metadata partition is missing")]
    MetadataMissing,
    /// It cannot be read to its end.
    #[error(
        "the metadata partition is damaged behind index {last_index}, and lost commands cannot be \
         passed over: choose another node; if there is none, restore a copy of this directory, or \
         begin anew with an empty one"
    )]
    MetadataDamaged {
        /// The last index before the damage.
        last_index: LogIndex,
    },
    /// The node has no vote on the metadata, so its copy may lack what was committed long ago.
    #[error("node {node} has no vote on the metadata, its copy may be far behind: choose another")]
    NoVote {
        /// This node.
        node: NodeId,
    },
    /// Nobody else is needed.
    #[error("node {node} needs nobody else: nothing is to be recovered")]
    NothingToDo {
        /// This node.
        node: NodeId,
    },
    /// Stored state or a committed command does not decode under a valid checksum.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// A command of the metadata is none that this build knows.
    #[error("the metadata: {0}")]
    Command(#[from] CommandError),
}

/// One log that goes on alone.
#[derive(Clone, Debug)]
pub struct Alone {
    /// The log.
    pub incarnation: Incarnation,
    /// Who was of its group.
    pub before: Membership,
    /// What is known to have been committed.
    pub commit: LogIndex,
    /// The offset behind its last record, which stays: what others hold from here on is lost.
    pub end_offset: Offset,
    /// Term and vote from now on.
    pub vote: Vote,
    /// What is appended. When it is flushed, all of it is committed.
    pub frames: Vec<Frame>,
}

/// A log that stays as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// The log.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: String,
}

/// What is wanted, and what can be done about damage.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Damaged logs that cannot go on without what is missing, and why.
    pub unclosable: &'a BTreeMap<Incarnation, String>,
    /// Logs behind whose last gap there are no records.
    pub ends_in_gap: &'a BTreeSet<Incarnation>,
    /// Nobody is given up: only damaged logs whose one copy is here go on.
    pub only_damaged: bool,
}

/// What is done to a directory so that its node goes on alone.
#[derive(Debug)]
pub struct Survival {
    /// The metadata, with all that is in its log.
    pub metadata: Metadata,
    /// Members that are given up.
    pub given_up: Vec<NodeId>,
    /// Damaged logs that are to be closed. What becomes of them then, another plan says.
    pub closes: Vec<Incarnation>,
    /// Logs that go on; the metadata's own last.
    pub logs: Vec<Alone>,
    /// Logs that do not.
    pub left: Vec<Left>,
}

impl Survival {
    /// Plans it for the node with these logs. Nothing is changed.
    ///
    /// - `recovered`: of damaged logs with the frames before the damage.
    /// - `directory`: draws a random founding id for each member that is given up.
    ///
    /// Errors: [`AloneError`]. Cost: a pass over the frames behind the state files.
    pub fn plan(
        node: NodeId,
        recovered: &[RecoveredLog],
        wanted: Wanted<'_>,
        mut directory: impl FnMut() -> [u8; 16],
    ) -> Result<Self, AloneError> {
        let metadata_log = recovered.iter().find(|log| log.incarnation == Incarnation::METADATA);
        let metadata_log = metadata_log.ok_or(AloneError::MetadataMissing)?;
        if metadata_log.is_damaged {
            return Err(AloneError::MetadataDamaged { last_index: metadata_log.last_index });
        }
        let metadata = whole_metadata(metadata_log)?;
        let (given_up, closes) = (Vec::new(), Vec::new());
        let mut plan = Self { metadata, given_up, closes, logs: Vec::new(), left: Vec::new() };
        let mut left_damaged = 0;
        for log in recovered.iter().filter(|log| log.incarnation != Incarnation::METADATA) {
            match plan.fate(log, node, wanted)? {
                Fate::GoesOn(alone) => plan.logs.push(*alone),
                Fate::Closes => plan.closes.push(log.incarnation),
                Fate::NeedsNobody => {}
                Fate::Stays(reason) => {
                    left_damaged += usize::from(log.is_damaged);
                    plan.left.push(Left { incarnation: log.incarnation, reason });
                }
            }
        }
        let is_idle = plan.logs.is_empty() && plan.closes.is_empty() && left_damaged == 0;
        if wanted.only_damaged {
            let nothing = AloneError::NothingToDo { node };
            return if is_idle { Err(nothing) } else { Ok(plan) };
        }
        match alone(metadata_log, node, false)? {
            Fate::GoesOn(alone) => plan.give_up_others(*alone, node, &mut directory),
            Fate::NeedsNobody if is_idle => return Err(AloneError::NothingToDo { node }),
            Fate::NeedsNobody | Fate::Closes => {}
            Fate::Stays(_) => return Err(AloneError::NoVote { node }),
        }
        Ok(plan)
    }

    /// What becomes of a log that is not the metadata's.
    fn fate(
        &self,
        log: &RecoveredLog,
        node: NodeId,
        wanted: Wanted<'_>,
    ) -> Result<Fate, AloneError> {
        if wanted.only_damaged {
            let partition = self.metadata.partition(log.incarnation);
            let is_only_here = partition.is_some_and(|one| {
                one.reassignment.is_none() && one.replicas.iter().all(|one| one.node == node)
            });
            return Ok(match (is_only_here, log.is_damaged) {
                (false, true) => Fate::Stays("others may have what is missing here".to_owned()),
                (false, false) => Fate::NeedsNobody,
                (true, _) => self.closed_or_alone(log, node, wanted)?,
            });
        }
        self.closed_or_alone(log, node, wanted)
    }

    fn closed_or_alone(
        &self,
        log: &RecoveredLog,
        node: NodeId,
        wanted: Wanted<'_>,
    ) -> Result<Fate, AloneError> {
        if log.is_damaged {
            return closed(log, wanted);
        }
        let of_topic = |log: Incarnation| {
            let mut topics = self.metadata.topics();
            topics.any(|topic| topic.partitions.iter().any(|one| one.incarnation == log))
        };
        let is_open = wanted.ends_in_gap.contains(&log.incarnation) && of_topic(log.incarnation);
        let mut fate = alone(log, node, is_open)?;
        if let Fate::GoesOn(alone) = &mut fate
            && let Some(last) = alone.frames.last().filter(|_| is_open)
        {
            let entry = (last.term, last.index.next());
            let batch = Bytes::copy_from_slice(&BatchHeader::without_records().encode());
            let offset = alone.end_offset;
            alone.frames.push(Frame::new(FrameKind::Records, entry, offset, 1, batch));
        }
        Ok(fate)
    }

    /// The metadata goes on here, and no other member's directory is known any more.
    fn give_up_others(
        &mut self,
        mut alone: Alone,
        node: NodeId,
        directory: &mut impl FnMut() -> [u8; 16],
    ) {
        let others = self.metadata.members().map(|member| member.founder.node);
        self.given_up = others.filter(|other| *other != node).collect();
        let commands = self.metadata.give_up(&self.given_up, directory);
        if let Some(last) = alone.frames.last().filter(|_| !commands.is_empty()) {
            let entry = (last.term, last.index.next());
            let payload = encode_commands(&commands);
            let offset = alone.end_offset;
            alone.frames.push(Frame::new(FrameKind::Command, entry, offset, 0, payload));
        }
        self.logs.push(alone);
    }
}

/// What becomes of a log.
enum Fate {
    GoesOn(Box<Alone>),
    /// When it has been closed, it goes on.
    Closes,
    NeedsNobody,
    Stays(String),
}

fn closed(log: &RecoveredLog, wanted: Wanted<'_>) -> Result<Fate, AloneError> {
    let (last_index, reason) = (log.last_index, wanted.unclosable.get(&log.incarnation));
    if let Some(reason) = reason {
        return Ok(Fate::Stays(format!("it is damaged behind index {last_index}: {reason}")));
    }
    let (known, _) = newest_membership(log)?;
    // Where no configuration is left, the first frame is lost. Who was there from the birth on had
    // a vote; whoever came later has begun behind a snapshot, which holds one.
    let may_vote = known.voters.is_empty() || known.is_voter(log.replica_id);
    Ok(if may_vote { Fate::Closes } else { Fate::Stays(NO_VOTE.to_owned()) })
}

const NO_VOTE: &str = "the replica here has no vote: it may lack committed entries";

/// - `is_open`: the log's end is lost, and something is to be put behind it.
fn alone(log: &RecoveredLog, node: NodeId, is_open: bool) -> Result<Fate, AloneError> {
    let (before, since) = newest_membership(log)?;
    // A gap may have swallowed a later one.
    let gap = log.frames.iter().rev().find(|frame| frame.kind == FrameKind::Gap);
    let is_certain = gap.is_none_or(|gap| gap.index < since);
    if before.is_sole_voter(log.replica_id) && since <= log.commit && is_certain && !is_open {
        return Ok(Fate::NeedsNobody);
    }
    let is_lost = before.voters.is_empty() && !is_certain;
    if !before.is_voter(log.replica_id) && !is_lost {
        return Ok(Fate::Stays(NO_VOTE.to_owned()));
    }
    let last_term = log.terms.last().map_or(log.vote.term, |last| last.term);
    let term = Term::new(last_term.max(log.vote.term).get().saturating_add(1));
    let own = Member { replica_id: log.replica_id, node_id: node };
    let only = Membership { assignment: before.assignment, ..Membership::initial(vec![own]) };
    let entry = (term, log.last_index.next());
    let frame = Frame::new(FrameKind::Membership, entry, log.end_offset, 0, only.encode());
    Ok(Fate::GoesOn(Box::new(Alone {
        incarnation: log.incarnation,
        before,
        commit: log.commit.min(log.last_index),
        end_offset: log.end_offset,
        vote: Vote { term, voted_for: log.replica_id },
        frames: vec![frame],
    })))
}

/// The configuration that the log ends with, committed or not, and where it was found.
fn newest_membership(log: &RecoveredLog) -> Result<(Membership, LogIndex), DecodeError> {
    let stored = log.state.as_ref().map(|(index, bytes)| (*index, bytes));
    let behind = stored.map_or(LogIndex::ZERO, |(index, _)| index);
    let mut newest = match stored {
        Some((_, bytes)) => (stored_membership(bytes)?, behind),
        None => (Membership::default(), behind),
    };
    for frame in &log.frames {
        if frame.kind == FrameKind::Membership && frame.index > behind {
            newest = (Membership::decode(&frame.payload)?, frame.index);
        }
    }
    Ok(newest)
}

/// The metadata with all that its log holds: as the sole voter commits it.
fn whole_metadata(log: &RecoveredLog) -> Result<Metadata, AloneError> {
    let mut metadata = match &log.state {
        Some((_, bytes)) => stored_metadata(bytes)?,
        None => Metadata::new(),
    };
    for frame in log.frames.iter().filter(|frame| frame.kind == FrameKind::Command) {
        metadata.apply(frame.index, &frame.payload, &mut Vec::new())?;
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::LogBirth;
    use bateau_protocol::gap::Gap;
    use bateau_protocol::ids::ReplicaId;

    const NODE: NodeId = NodeId::new(1);
    const LOG: Incarnation = Incarnation::new(77);

    /// The metadata of a node that is alone, and a partition of it.
    fn logs(voters: &[u64]) -> Vec<RecoveredLog> {
        let member = |id: &u64| {
            let (replica_id, node_id) = (ReplicaId::new(*id), NodeId::new(*id));
            Member { replica_id, node_id }
        };
        let voters = voters.iter().map(member).collect();
        let log = LogBirth::new(LOG, ReplicaId::new(1), voters).into_recovered();
        vec![LogBirth::of_metadata(NODE, &[NODE]).into_recovered(), log]
    }

    fn plan(
        logs: &[RecoveredLog],
        unclosable: &BTreeMap<Incarnation, String>,
    ) -> Result<Survival, AloneError> {
        let wanted = Wanted { unclosable, ends_in_gap: &BTreeSet::new(), only_damaged: false };
        Survival::plan(NODE, logs, wanted, || [9; 16])
    }

    #[test]
    fn a_node_that_needs_nobody_closes_what_is_damaged() {
        let none = BTreeMap::new();
        let mut logs = logs(&[1]);
        let nothing = plan(&logs, &none).unwrap_err();
        assert_eq!(nothing, AloneError::NothingToDo { node: NODE });
        logs[1].is_damaged = true;
        let closing = plan(&logs, &none).unwrap();
        assert_eq!((closing.closes, closing.given_up), (vec![LOG], vec![]));
        assert!(closing.logs.is_empty() && closing.left.is_empty());
        let unclosable = BTreeMap::from([(LOG, "its beginning is lost".to_owned())]);
        let stays = plan(&logs, &unclosable).unwrap();
        assert!(stays.closes.is_empty() && stays.left[0].reason.ends_with("beginning is lost"));
        logs[0].is_damaged = true;
        let said = plan(&logs, &none).unwrap_err().to_string();
        assert!(said.contains("cannot be passed over"), "{said}");
    }

    #[test]
    fn a_gap_may_have_swallowed_a_configuration_and_is_followed_by_one() {
        let none = BTreeMap::new();
        let mut logs = logs(&[1]);
        let gap = |index| {
            let (term, lost_to) = (Term::new(1), LogIndex::new(index));
            let index = lost_to;
            Gap { index, term, base_offset: Offset::ZERO, offset_count: 0, lost_to }.frame()
        };
        logs[1].frames.push(gap(2));
        logs[1].last_index = LogIndex::new(2);
        let survival = plan(&logs, &none).unwrap();
        let [alone] = &survival.logs[..] else { panic!("{survival:?}") };
        assert_eq!(alone.vote.term, Term::new(2));
        let own = Membership::decode(&alone.frames[0].payload).unwrap();
        assert!(own.is_sole_voter(ReplicaId::new(1)));
        // Done again, nothing is left to be done.
        logs[1].frames.extend(alone.frames.clone());
        (logs[1].last_index, logs[1].commit) = (LogIndex::new(3), LogIndex::new(3));
        assert!(plan(&logs, &none).is_err());
        // Also where the first frame is lost, and with it who voted at all.
        logs[1].frames = vec![gap(1)];
        (logs[1].last_index, logs[1].commit) = (LogIndex::new(1), LogIndex::new(1));
        assert_eq!(plan(&logs, &none).unwrap().logs.len(), 1);
    }

    #[test]
    fn a_replica_without_a_vote_is_not_closed() {
        let mut logs = logs(&[2, 3]);
        logs[1].is_damaged = true;
        let survival = plan(&logs, &BTreeMap::new()).unwrap();
        assert!(survival.closes.is_empty());
        assert_eq!(survival.left[0].reason, NO_VOTE);
    }

    #[test]
    fn only_what_is_nowhere_else_is_closed_where_nobody_is_given_up() {
        let mut logs = logs(&[1]);
        logs[1].is_damaged = true;
        let (unclosable, ends_in_gap) = (&BTreeMap::new(), &BTreeSet::new());
        let wanted = Wanted { unclosable, ends_in_gap, only_damaged: true };
        let survival = Survival::plan(NODE, &logs, wanted, || [9; 16]).unwrap();
        // The metadata says of no partition that it is here alone.
        assert!(survival.closes.is_empty() && survival.logs.is_empty());
        assert_eq!(survival.left.len(), 1);
    }
}
