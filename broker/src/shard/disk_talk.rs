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
        Done::Damaged { incarnation, segment } => {
            let (incarnation, segment) = (incarnation.get(), segment.get());
            tracing::error!(incarnation, segment, "a segment is damaged");
        }
        Done::MendWants { incarnation, segment, hole, is_rest, refused } => {
            let (incarnation, segment) = (incarnation.get(), segment.get());
            let (first, last) = (hole.first.get(), hole.last.get());
            match refused {
                Some(reason) => tracing::warn!(
                    incarnation,
                    segment,
                    first,
                    last,
                    reason,
                    "entries of a peer do not fit"
                ),
                // A segment's worth comes in a thousand pieces.
                None if *is_rest => {}
                None => tracing::warn!(
                    incarnation,
                    segment,
                    first,
                    last,
                    "damaged entries are asked of others"
                ),
            }
        }
        Done::Mended { incarnation, segment, frames, .. } => {
            let (incarnation, segment) = (incarnation.get(), segment.get());
            tracing::info!(incarnation, segment, frames, "a segment is mended");
        }
        Done::MendFailed { incarnation, segment, error } => {
            let (incarnation, segment) = (incarnation.get(), segment.get());
            tracing::error!(incarnation, segment, %error, "a segment is not mended");
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
        | Work::Quarantine { .. }
        | Work::Mend(_) => true,
        Work::Commit { .. }
        | Work::Roll { .. }
        | Work::Configure { .. }
        | Work::NotePeer { .. }
        | Work::EmptyTrash { .. }
        | Work::EmptyQuarantine { .. }
        | Work::StopMending { .. } => false,
    }
}
