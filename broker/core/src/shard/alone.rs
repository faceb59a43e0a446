//! An operator's last resort: the majority of a cluster is gone for ever, and one node goes on with
//! what it has (`bateau node unsafe-recover`).
//!
//! ```text
//!   every log:  … │ uncommitted │ configuration: this replica alone, in a new term
//!   metadata:   … │ uncommitted │ the same │ every other member has another directory now
//! ```
//!
//! Invariants
//! - Nothing is cut off: what others may have acknowledged behind a log's end is what is lost.
//! - It may be interrupted and done again.
//! - Directories of the others that turn up later are strangers to this node: it neither hears nor
//!   tells them anything, for together they might be a majority of what has been.
//!
//! Absent on purpose: a node that runs, the question whether somebody means it, and damaged logs,
//! which stay as they are.

use super::RecoveredLog;
use crate::codec::DecodeError;
use crate::command_frame::CommandError;
use crate::controller::{Metadata, encode_commands};
use crate::replica::membership::{Member, Membership};
use crate::replica::{Vote, stored_membership, stored_metadata};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, Term};
use thiserror::Error;

/// Why a directory cannot go on alone.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AloneError {
    /// There is no metadata.
    #[error("the metadata partition is missing")]
    MetadataMissing,
    /// It cannot be read to its end.
    #[error("the metadata partition is damaged behind index {last_index}")]
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

/// What is done to a directory so that its node goes on alone.
#[derive(Debug)]
pub struct Survival {
    /// The metadata, with all that is in its log.
    pub metadata: Metadata,
    /// Members that are given up.
    pub given_up: Vec<NodeId>,
    /// Logs that go on; the metadata's own last.
    pub logs: Vec<Alone>,
    /// Logs that do not.
    pub left: Vec<Left>,
}

impl Survival {
    /// Plans it for the node with these logs. Nothing is changed.
    ///
    /// - `directory`: draws a random founding id for each member that is given up.
    ///
    /// Errors: [`AloneError`]. Cost: a pass over the frames behind the state files.
    pub fn plan(
        node: NodeId,
        recovered: &[RecoveredLog],
        mut directory: impl FnMut() -> [u8; 16],
    ) -> Result<Self, AloneError> {
        let metadata_log = recovered.iter().find(|log| log.incarnation == Incarnation::METADATA);
        let metadata_log = metadata_log.ok_or(AloneError::MetadataMissing)?;
        if metadata_log.is_damaged {
            return Err(AloneError::MetadataDamaged { last_index: metadata_log.last_index });
        }
        let metadata = whole_metadata(metadata_log)?;
        let (mut logs, mut left) = (Vec::new(), Vec::new());
        for log in recovered.iter().filter(|log| log.incarnation != Incarnation::METADATA) {
            match alone(log, node)? {
                Fate::GoesOn(alone) => logs.push(*alone),
                Fate::NeedsNobody => {}
                Fate::Stays(reason) => left.push(Left { incarnation: log.incarnation, reason }),
            }
        }
        let mut given_up = Vec::new();
        match alone(metadata_log, node)? {
            Fate::GoesOn(mut alone) => {
                let others = metadata.members().map(|member| member.founder.node);
                given_up = others.filter(|other| *other != node).collect();
                let commands = metadata.give_up(&given_up, &mut directory);
                if let Some(last) = alone.frames.last().filter(|_| !commands.is_empty()) {
                    let entry = (last.term, last.index.next());
                    let payload = encode_commands(&commands);
                    let offset = alone.end_offset;
                    alone.frames.push(Frame::new(FrameKind::Command, entry, offset, 0, payload));
                }
                logs.push(*alone);
            }
            Fate::NeedsNobody if logs.is_empty() => return Err(AloneError::NothingToDo { node }),
            Fate::NeedsNobody => {}
            Fate::Stays(_) => return Err(AloneError::NoVote { node }),
        }
        Ok(Self { metadata, given_up, logs, left })
    }
}

/// What becomes of a log.
enum Fate {
    GoesOn(Box<Alone>),
    NeedsNobody,
    Stays(String),
}

fn alone(log: &RecoveredLog, node: NodeId) -> Result<Fate, AloneError> {
    if log.is_damaged {
        return Ok(Fate::Stays(format!("it is damaged behind index {}", log.last_index)));
    }
    let (before, since) = newest_membership(log)?;
    if before.is_sole_voter(log.replica_id) && since <= log.commit {
        return Ok(Fate::NeedsNobody);
    }
    if !before.is_voter(log.replica_id) {
        return Ok(Fate::Stays(
            "the replica here has no vote: it may lack committed entries".into(),
        ));
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
