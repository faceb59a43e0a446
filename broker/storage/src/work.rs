//! Effects as work for the disk.
//!
//! Absent on purpose: effects that are not the disk's; they come back as they were.

use bateau_core::controller::TopicConfig;
use bateau_core::replica::Vote;
use bateau_core::replica::trim::LogStart;
use bateau_core::shard::{Effect, LogBirth};
use bateau_log::{Create, HardState, Install, LogOptions, Mend, Persist, Work};
use bateau_protocol::ids::{LogIndex, ReplicaId};

/// Whose business an effect is.
#[derive(Debug)]
pub enum Business {
    /// The disk's.
    Disk(Work),
    /// Somebody else's: the effect as it was.
    Other(Effect),
}

/// What an effect asks of the disk, if anything.
///
/// - `wall_ms`: now, in Unix milliseconds; names what is deleted.
#[must_use]
pub fn work(effect: Effect, wall_ms: u64) -> Business {
    Business::Disk(match effect {
        Effect::Create(log) => Work::Create(birth(log)),
        Effect::Persist { incarnation, ready, vote, truncate_from, frames } => {
            let hard_state = vote.map(|vote| hard_state(vote, LogIndex::ZERO));
            Work::Persist(Persist { incarnation, ready, hard_state, truncate_from, frames })
        }
        Effect::StoreState { incarnation, applied, state } => {
            Work::StoreState { incarnation, applied, state }
        }
        Effect::Install { incarnation, vote, start, applied, state } => {
            let hard_state = hard_state(vote, start.index.previous());
            let start = to_log_start(start);
            Work::Install(Box::new(Install { incarnation, hard_state, start, applied, state }))
        }
        Effect::Trim { incarnation, start } => {
            Work::Trim { incarnation, start: to_log_start(start) }
        }
        Effect::Roll { incarnation } => Work::Roll { incarnation },
        Effect::Delete { incarnation, lives_on: false } => Work::Delete { incarnation, wall_ms },
        Effect::Delete { incarnation, lives_on: true } => Work::Remove { incarnation },
        Effect::Quarantine { incarnation } => Work::Quarantine { incarnation, wall_ms },
        Effect::Mend { incarnation, segment, frames, reopens } => {
            let accepts_loss = false;
            Work::Mend(Mend { incarnation, segment, frames, reopens, accepts_loss, wall_ms })
        }
        Effect::StopMending { incarnation } => Work::StopMending { incarnation },
        Effect::Configure { incarnation, config } => {
            Work::Configure { incarnation, options: log_options(Some(&config)) }
        }
        Effect::Committed { incarnation, commit, .. } => Work::Commit { incarnation, commit },
        other @ (Effect::Send { .. }
        | Effect::SendSnapshot(_)
        | Effect::ReadFrames { .. }
        | Effect::AskRange { .. }
        | Effect::AnswerRange { .. }
        | Effect::Assigned { .. }
        | Effect::NothingLeft { .. }
        | Effect::Leads { .. }
        | Effect::Deposed { .. }
        | Effect::LeaderChanged { .. }
        | Effect::GivesWay(_)
        | Effect::Isolated { .. }
        | Effect::Metadata(_)
        | Effect::Reply(..)) => return Business::Other(other),
    })
}

/// A log's birth in the log's words.
#[must_use]
pub fn birth(log: LogBirth) -> Create {
    Create {
        incarnation: log.incarnation,
        replica: log.replica_id,
        options: log_options(log.config.as_ref()),
        hard_state: hard_state(
            log.vote,
            log.first.as_ref().map_or(LogIndex::ZERO, |one| one.index),
        ),
        frames: log.first.into_iter().collect(),
    }
}

pub(crate) fn hard_state(vote: Vote, commit: LogIndex) -> HardState {
    let voted_for = Some(vote.voted_for).filter(|replica| *replica != ReplicaId::ZERO);
    HardState { term: vote.term, vote: voted_for, commit }
}

fn log_options(config: Option<&TopicConfig>) -> LogOptions {
    config.map_or(LogOptions { vital: true, ..LogOptions::default() }, |config| LogOptions {
        segment_bytes: config.segment_bytes,
        index_interval_bytes: config.index_interval_bytes,
        vital: false,
    })
}

fn to_log_start(start: LogStart) -> bateau_log::LogStart {
    bateau_log::LogStart {
        offset: start.offset,
        index: start.index,
        term: start.previous_term,
        chain_crc: start.previous_crc,
    }
}
