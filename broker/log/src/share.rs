//! How much of what has gathered one cycle takes: of a log that wants much, a share, so that nobody
//! waits for the flush of all that another one copies.
//!
//! ```text
//!   gathered   a1 a2 B1 B2 B3 a3 B4 c1      b: 1 MiB each, a share is 2 MiB
//!   cycle      a1 a2 B1 B2 a3 c1
//!   waiting    B3 B4
//! ```
//!
//! Invariant: the work of one log keeps its order.
//!
//! Absent on purpose: an order among logs. Their work has nothing to do with each other, and who
//! asks for two things of two logs waits for both answers.

use crate::bytes_io::length;
use crate::work::Work;
use bateau_protocol::ids::Incarnation;
use std::collections::BTreeMap;

/// Payload bytes of one log that a cycle takes: a flush of a few milliseconds.
pub const SHARE_BYTES: u64 = 4 * 1024 * 1024;

/// Moves the next cycle's work from `waiting` to `work`, behind what is there. Something is moved
/// where anything waits. Cost: a look at each.
///
/// - `share_bytes`: payload bytes of a log behind which the rest of its work waits on; a single
///   request may go beyond.
pub fn take_share(waiting: &mut Vec<Work>, work: &mut Vec<Work>, share_bytes: u64) {
    let mut taken: BTreeMap<Incarnation, u64> = BTreeMap::new();
    for item in std::mem::take(waiting) {
        let bytes = payload_bytes(&item);
        let so_far = log_of(&item).map(|log| taken.entry(log).or_default());
        match so_far {
            Some(so_far) if *so_far >= share_bytes => waiting.push(item),
            Some(so_far) => {
                *so_far += bytes;
                work.push(item);
            }
            None => work.push(item),
        }
    }
}

/// The log that a request is about; `None` where it is about none alone.
fn log_of(work: &Work) -> Option<Incarnation> {
    match work {
        Work::Create(request) => Some(request.incarnation),
        Work::Persist(request) => Some(request.incarnation),
        Work::Install(request) => Some(request.incarnation),
        Work::Mend(request) => Some(request.incarnation),
        Work::Commit { incarnation, .. }
        | Work::Trim { incarnation, .. }
        | Work::StoreState { incarnation, .. }
        | Work::StopMending { incarnation }
        | Work::Roll { incarnation }
        | Work::Configure { incarnation, .. }
        | Work::Delete { incarnation, .. }
        | Work::Remove { incarnation }
        | Work::Quarantine { incarnation, .. } => Some(*incarnation),
        Work::NotePeer { .. } | Work::EmptyTrash { .. } | Work::EmptyQuarantine { .. } => None,
    }
}

fn payload_bytes(work: &Work) -> u64 {
    match work {
        Work::Persist(request) => {
            request.frames.iter().map(|frame| length(frame.payload.len())).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Persist;
    use bateau_protocol::frame::{Frame, FrameKind};
    use bateau_protocol::ids::{LogIndex, NodeId, Offset, Term};
    use bytes::Bytes;

    fn persist(log: u64, ready: u64, bytes: usize) -> Work {
        let entry = (Term::new(1), LogIndex::new(ready));
        let payload = Bytes::from(vec![0; bytes]);
        let frames = vec![Frame::new(FrameKind::Command, entry, Offset::ZERO, 0, payload)];
        let (incarnation, hard_state, truncate_from) = (Incarnation::new(log), None, None);
        Work::Persist(Persist { incarnation, ready, hard_state, truncate_from, frames })
    }

    fn names(work: &[Work]) -> Vec<(u64, u64)> {
        let name = |work: &Work| match work {
            Work::Persist(persist) => (persist.incarnation.get(), persist.ready),
            _ => (0, 0),
        };
        work.iter().map(name).collect()
    }

    #[test]
    fn a_log_that_wants_much_gets_a_share_and_keeps_its_order() {
        let start = crate::NodeStart::default();
        let mut waiting = vec![
            persist(1, 1, 10),
            persist(2, 1, 60),
            persist(2, 2, 60),
            persist(2, 3, 60),
            Work::NotePeer { node: NodeId::new(1), start },
            persist(1, 2, 10),
            persist(2, 4, 1),
        ];
        let mut work = Vec::new();
        take_share(&mut waiting, &mut work, 100);
        assert_eq!(names(&work), [(1, 1), (2, 1), (2, 2), (0, 0), (1, 2)]);
        assert_eq!(names(&waiting), [(2, 3), (2, 4)], "also what is small, behind what waits");
        work.clear();
        take_share(&mut waiting, &mut work, 100);
        assert_eq!((names(&work), names(&waiting)), (vec![(2, 3), (2, 4)], vec![]));
    }

    #[test]
    fn one_request_is_never_too_large() {
        let mut waiting = vec![persist(1, 1, 1_000), persist(1, 2, 1)];
        let mut work = Vec::new();
        take_share(&mut waiting, &mut work, 100);
        assert_eq!((names(&work), names(&waiting)), (vec![(1, 1)], vec![(1, 2)]));
    }
}
