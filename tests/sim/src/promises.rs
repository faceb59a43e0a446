//! What a node's log has said is durable: after any crash it must be there.
//!
//! ```text
//!   work of a cycle ──> what may be overwritten counts no more ──run──> what was answered counts
//!   start ──> recovered: at least that, and the same vote
//! ```
//!
//! Invariants: D2, D5 and I6, of one disk: an index that was answered as flushed is recovered, a
//! term never falls, and a vote in a term is remembered.
//!
//! Absent on purpose: disks that lie; nothing is promised of those.

use bateau_core::shard::RecoveredLog;
use bateau_log::{Done, Work};
use bateau_protocol::ids::{Incarnation, LogIndex, ReplicaId, Term};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is durable of one log.
#[derive(Clone, Copy, Default, Debug)]
struct Promise {
    last_index: LogIndex,
    term: Term,
    voted_for: ReplicaId,
}

/// What is durable of all logs of a disk.
#[derive(Clone, Default, Debug)]
pub struct Promises {
    logs: BTreeMap<Incarnation, Promise>,
    /// What snapshots that are on their way to the disk will promise.
    installs: BTreeMap<Incarnation, (LogIndex, Term, ReplicaId)>,
    /// Logs of which something has ever been durable here.
    had: BTreeSet<Incarnation>,
}

/// What a cycle will make durable, once it is answered.
#[derive(Debug, Default)]
pub struct Pending {
    votes: BTreeMap<Incarnation, (Term, ReplicaId)>,
    /// Where each write of a log, in order, cuts off what was there.
    truncations: BTreeMap<Incarnation, VecDeque<Option<LogIndex>>>,
}

impl Pending {
    /// The first write of a log that was not answered yet is answered.
    fn answered(&mut self, log: Incarnation) {
        if let Some(writes) = self.truncations.get_mut(&log) {
            writes.pop_front();
        }
    }

    /// What the writes that are not answered leave of a log that ends at `last_index`.
    fn left_of(&self, log: Incarnation, last_index: LogIndex) -> LogIndex {
        let cuts = self.truncations.get(&log).into_iter().flatten().flatten();
        cuts.map(|index| index.previous()).chain([last_index]).min().unwrap_or(last_index)
    }
}

impl Promises {
    /// Nobody keeps any of them.
    pub fn forget(&mut self) {
        self.logs.clear();
        self.installs.clear();
    }

    /// Whether something of a log has ever been durable on this disk.
    pub fn has_had(&self, log: Incarnation) -> bool {
        self.had.contains(&log)
    }

    /// A log was made, and its directory says that the cluster is founded.
    pub fn note_made(&mut self, log: &RecoveredLog) {
        self.logs.entry(log.incarnation).or_default().last_index = log.last_index;
    }

    /// A cycle begins with this work.
    pub fn begin(&mut self, work: &[Work]) -> Pending {
        let mut pending = Pending::default();
        for item in work {
            match item {
                Work::Persist(request) => {
                    let promise = self.logs.entry(request.incarnation).or_default();
                    let writes = pending.truncations.entry(request.incarnation).or_default();
                    writes.push_back(request.truncate_from);
                    if let Some(index) = request.truncate_from {
                        promise.last_index = promise.last_index.min(index.previous());
                    }
                    if let Some(state) = request.hard_state {
                        let vote = state.vote.unwrap_or(ReplicaId::ZERO);
                        pending.votes.insert(request.incarnation, (state.term, vote));
                    }
                }
                Work::Install(request) => {
                    // What was there and the snapshot does not reach is of no use any more.
                    let promise = self.logs.entry(request.incarnation).or_default();
                    promise.last_index = promise.last_index.min(request.index());
                    let state = request.hard_state;
                    let vote = state.vote.unwrap_or(ReplicaId::ZERO);
                    let new = (request.index(), state.term, vote);
                    self.installs.insert(request.incarnation, new);
                }
                Work::Delete { incarnation, .. }
                | Work::Remove { incarnation }
                | Work::Quarantine { incarnation, .. } => {
                    self.logs.remove(incarnation);
                }
                _ => {}
            }
        }
        pending
    }

    /// The cycle is over, and this is what it answered.
    pub fn end(&mut self, mut pending: Pending, done: &[Done]) {
        for answer in done {
            match answer {
                Done::Created { incarnation, last_index, .. } => {
                    self.logs.entry(*incarnation).or_default().last_index = *last_index;
                }
                Done::Persisted { incarnation, last_index, .. } => {
                    self.had.insert(*incarnation);
                    let promise = self.logs.entry(*incarnation).or_default();
                    pending.answered(*incarnation);
                    promise.last_index = pending.left_of(*incarnation, *last_index);
                    if let Some((term, vote)) = pending.votes.get(incarnation) {
                        (promise.term, promise.voted_for) = (*term, *vote);
                    }
                }
                Done::PersistFailed { request, .. } => {
                    pending.answered(request.incarnation);
                }
                Done::Installed { incarnation, .. } => {
                    if let Some((last_index, term, voted_for)) = self.installs.remove(incarnation) {
                        self.had.insert(*incarnation);
                        let new = Promise { last_index, term, voted_for };
                        self.logs.insert(*incarnation, new);
                    }
                }
                Done::Deleted { incarnation } => drop(self.logs.remove(incarnation)),
                _ => {}
            }
        }
    }

    /// What was durable, and was cut off as if it had not been, in words.
    pub fn truncated(&self, recovered: &[RecoveredLog]) -> Option<String> {
        let mut healthy = recovered.iter().filter(|log| !log.is_damaged);
        healthy.find_map(|log| {
            let promise = self.logs.get(&log.incarnation)?;
            let (name, last) = (log.incarnation, log.last_index);
            (last < promise.last_index)
                .then(|| format!("{name:?} ends at {last}, {promise:?} was durable"))
        })
    }

    /// What of it a start has not found, in words.
    pub fn missing(&self, recovered: &[RecoveredLog]) -> Option<String> {
        self.logs.iter().find_map(|(log, promise)| {
            let Some(found) = recovered.iter().find(|one| one.incarnation == *log) else {
                return Some(format!("{log:?} is gone, {promise:?} was durable"));
            };
            // The first frame of a term may have survived without the term: the log says it.
            let term = found.terms.last().map_or(found.vote.term, |last| last.term);
            let term = term.max(found.vote.term);
            let forgets = found.vote.term == promise.term
                && promise.voted_for != ReplicaId::ZERO
                && found.vote.voted_for != promise.voted_for;
            if found.last_index < promise.last_index || term < promise.term || forgets {
                let (vote, last) = (found.vote, found.last_index);
                return Some(format!("{log:?} has {vote:?} and {last}, {promise:?} was durable"));
            }
            None
        })
    }
}
