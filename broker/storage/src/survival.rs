//! A node that goes on without the others, on its disk.
//!
//! Invariant: a commit is stored behind the flush of what it names, or recovery would take it for
//! proof of a loss.
//!
//! Absent on purpose: what is appended, which the brain has planned.

use crate::work::hard_state;
use bateau_core::shard::Alone;
use bateau_log::{CommitCycle, Done, OpenError, Persist, Work};
use bateau_protocol::ids::LogIndex;
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

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> OpenError {
    let operation = "go on alone".to_owned();
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
