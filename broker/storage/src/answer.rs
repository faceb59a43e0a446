//! The disk's answers as inputs of the brain.
//!
//! Absent on purpose: what an answer means to readers and to operators.

use bateau_core::shard::Input;
use bateau_log::{Done, SpaceState};

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
        Done::Trimmed { .. } | Done::Deleted { .. } | Done::PeerNoted { .. } => return None,
    })
}
