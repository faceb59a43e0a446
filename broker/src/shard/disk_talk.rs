//! What the disk is asked and answers, as far as others want to know of it.
//!
//! Absent on purpose: asking and carrying out.

use bateau_log::{Done, Work};

/// Tells the operator what the disk refused.
pub(super) fn report_refusal(done: &Done) {
    match done {
        Done::CreateFailed { request, error } => {
            let incarnation = request.incarnation.get();
            tracing::warn!(incarnation, %error, "a log could not be made");
        }
        Done::PersistFailed { request, error } => {
            let incarnation = request.incarnation.get();
            tracing::warn!(incarnation, %error, "an append was refused");
        }
        Done::Installed { incarnation, index } => {
            let (incarnation, index) = (incarnation.get(), index.get());
            tracing::info!(incarnation, index, "a log begins anew behind a snapshot");
        }
        Done::InstallFailed { incarnation, error, .. } => {
            let incarnation = incarnation.get();
            tracing::warn!(incarnation, %error, "no snapshot was written");
        }
        Done::StateFailed { incarnation, error, .. } => {
            let incarnation = incarnation.get();
            tracing::warn!(incarnation, %error, "no state file was written");
        }
        _ => {}
    }
}

/// Whether this work changes what a log or a state file holds.
pub(super) fn changes_a_log(work: &Work) -> bool {
    match work {
        Work::Create(_)
        | Work::Persist(_)
        | Work::StoreState { .. }
        | Work::Install(_)
        | Work::Trim { .. }
        | Work::Delete { .. }
        | Work::Remove { .. }
        | Work::Quarantine { .. } => true,
        Work::Commit { .. }
        | Work::Roll { .. }
        | Work::Configure { .. }
        | Work::NotePeer { .. }
        | Work::EmptyTrash { .. } => false,
    }
}
