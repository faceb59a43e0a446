//! A node that goes on without the others, on its disk.
//!
//! Invariant: a commit is stored behind the flush of what it names, or recovery would take it for
//! proof of a loss.
//!
//! Absent on purpose: what is appended, which the brain has planned, and what a gap is made of.

use crate::work::hard_state;
use bateau_core::shard::Alone;
use bateau_log::{CommitCycle, Done, Mend, MendError, OpenError, Persist, RecoveredLog, Work};
use bateau_protocol::ids::{Incarnation, LogIndex};
use std::io;

/// Appends what was planned, flushed, and closes the directory.
///
/// Errors: the disk refuses; some logs may go on alone then, and the rest when it is done again.
pub fn go_on_alone(mut cycle: CommitCycle, logs: &[Alone]) -> Result<(), OpenError> {
    for is_committed in [false, true] {
        let mut work = logs.iter().map(|log| Work::Persist(persist(log, is_committed))).collect();
        let mut done = Vec::new();
        cycle.run(&mut work, &mut done).map_err(refused)?;
        for answer in done {
            if let Done::PersistFailed { error, .. } = answer {
                return Err(refused(error));
            }
        }
    }
    cycle.close().map_err(refused)
}

/// Closes the holes of damaged logs with gap frames, one log after the other, each to its end.
///
/// - `logs`: as they were found; those that were closed are as a start would find them now.
/// - `chosen`: which of them.
/// - `wall_ms`: now, in Unix milliseconds; names the damaged files in the quarantine.
///
/// Errors: the disk refuses. What was closed stays closed, and the rest may be done again.
pub fn close_gaps(
    cycle: &mut CommitCycle,
    logs: &mut [RecoveredLog],
    chosen: &[Incarnation],
    wall_ms: u64,
) -> Result<(), OpenError> {
    for log in logs.iter_mut().filter(|log| chosen.contains(&log.incarnation)) {
        while let Some(damage) = log.corrupt.clone() {
            *log = close_one(cycle, log, wall_ms)?;
            if log.corrupt.as_ref().is_some_and(|next| next.first_index <= damage.first_index) {
                return Err(refused(MendError::Unclosable { reason: damage.reason }));
            }
        }
    }
    Ok(())
}

/// Closes what begins in one segment.
fn close_one(
    cycle: &mut CommitCycle,
    log: &RecoveredLog,
    wall_ms: u64,
) -> Result<RecoveredLog, OpenError> {
    let closable = log.loss.as_ref().map(|loss| loss.closable.clone());
    let unknown = || Err("nothing is known of what is lost".to_owned());
    let segment = closable.unwrap_or_else(unknown);
    let segment = segment.map_err(|reason| refused(MendError::Unclosable { reason }))?;
    let mut work = vec![Work::Mend(Mend {
        incarnation: log.incarnation,
        segment,
        frames: Vec::new(),
        reopens: true,
        accepts_loss: true,
        wall_ms,
    })];
    let mut done = Vec::new();
    cycle.run(&mut work, &mut done).map_err(refused)?;
    while cycle.background_step(&mut done).map_err(refused)? {}
    for answer in done {
        match answer {
            Done::Mended { log: Some(closed), .. } => return Ok(*closed),
            Done::MendFailed { error, .. } => return Err(refused(error)),
            _ => {}
        }
    }
    Err(refused(MendError::Unclosable { reason: "the log gave no answer".to_owned() }))
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> OpenError {
    let operation = "unsafe-recover".to_owned();
    OpenError::Io { operation, source: io::Error::other(error) }
}

fn persist(log: &Alone, is_committed: bool) -> Persist {
    let last = log.frames.last().map_or(log.commit, |frame| frame.index);
    let commit: LogIndex = if is_committed { last } else { log.commit };
    Persist {
        incarnation: log.incarnation,
        ready: 0,
        hard_state: Some(hard_state(log.vote, commit)),
        truncate_from: None,
        frames: if is_committed { Vec::new() } else { log.frames.clone() },
    }
}
