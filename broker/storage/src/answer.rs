//! The disk's answers as inputs of the brain.
//!
//! Absent on purpose: what an answer means to readers and to operators.

use crate::recovered;
use bateau_core::shard::{Input, MendFailure, MendingInput, MissingRange};
use bateau_log::{Done, Hole, MendError, SpaceState};

/// What an answer tells the shard, if anything. The reader of a log that was made is not in it:
/// whoever serves readers takes it first.
#[must_use]
pub fn answer(done: &Done) -> Option<Input> {
    Some(match done {
        Done::Created { incarnation, .. } => Input::Created { incarnation: *incarnation },
        Done::CreateFailed { request, .. } => {
            Input::CreateFailed { incarnation: request.incarnation }
        }
        Done::Persisted { incarnation, ready, .. } => {
            Input::Persisted { incarnation: *incarnation, ready: *ready }
        }
        Done::PersistFailed { request, .. } => {
            Input::PersistFailed { incarnation: request.incarnation, ready: request.ready }
        }
        Done::StateStored { incarnation, applied } => {
            let (incarnation, applied) = (*incarnation, *applied);
            Input::StateStored { incarnation, applied, is_stored: true }
        }
        Done::StateFailed { incarnation, applied, .. } => {
            let (incarnation, applied) = (*incarnation, *applied);
            Input::StateStored { incarnation, applied, is_stored: false }
        }
        Done::Installed { incarnation, index } => {
            let (incarnation, index) = (*incarnation, *index);
            Input::Installed { incarnation, index, is_installed: true }
        }
        Done::InstallFailed { incarnation, index, .. } => {
            let (incarnation, index) = (*incarnation, *index);
            Input::Installed { incarnation, index, is_installed: false }
        }
        Done::Space(space) => Input::DiskFull(*space != SpaceState::Ok),
        Done::Damaged { .. }
        | Done::MendWants { .. }
        | Done::Mended { .. }
        | Done::MendFailed { .. } => Input::Mending(mending(done)?),
        Done::Trimmed { .. } | Done::Deleted { .. } | Done::PeerNoted { .. } => return None,
    })
}

fn mending(done: &Done) -> Option<MendingInput> {
    Some(match done {
        Done::Damaged { incarnation, segment } => {
            MendingInput::Damaged { incarnation: *incarnation, segment: *segment }
        }
        Done::MendWants { incarnation, segment, hole, refused, .. } => {
            let Hole { first, last, known, term, payload_crc } = *hole;
            let (incarnation, segment) = (*incarnation, *segment);
            let missing = MissingRange { first, last, known, term, payload_crc };
            MendingInput::Wants { incarnation, segment, missing, is_refused: refused.is_some() }
        }
        Done::Mended { incarnation, segment, log, .. } => {
            // Frames that are read for the first time now may turn out to be damaged, too.
            let log = log.as_ref().map(|log| Box::new(recovered(log).0));
            MendingInput::Mended { incarnation: *incarnation, segment: *segment, log }
        }
        Done::MendFailed { incarnation, segment, error } => {
            let failure = match error {
                MendError::Unmendable { .. } | MendError::Unclosable { .. } => MendFailure::Lost,
                MendError::Uncommitted { .. } => MendFailure::Uncommitted,
                MendError::Write(_) => MendFailure::Disk,
            };
            let (incarnation, segment) = (*incarnation, *segment);
            MendingInput::Failed { incarnation, segment, failure, reason: error.to_string() }
        }
        _ => return None,
    })
}
