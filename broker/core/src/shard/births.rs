//! When a log that is not there may be made.
//!
//! A start replays the metadata up to the commit that was stored, and that is stored lazily: a
//! placement that is replayed may have been taken back by an entry that lies behind it in the log,
//! flushed and not known to be committed. The log is missing then because it was deleted. Made anew
//! it would begin again in term 1, could vote twice and acknowledge what nobody keeps.
//!
//! ```text
//!   replayed placement, no log ──> deferred ──(the metadata is where it was)──> made, or not
//!                                     └──(its tombstone comes)──> forgotten     placed any more
//! ```
//!
//! Invariants
//! - A missing log is made once everything that the metadata's log held at the start is settled:
//!   applied, or overruled by an entry of a later term.
//! - It is made as the metadata places it then: what has waited may have been placed anew since.
//!
//! Absent on purpose: logs that are there; they open at once.

use bateau_protocol::ids::{Incarnation, LogIndex, Term};
use std::collections::BTreeSet;

/// Logs that are placed here and missing, and what they wait for.
#[derive(Debug, Default)]
pub(super) struct Births {
    /// Last index and term of the metadata's log at the start; `None` once it is settled.
    behind: Option<(LogIndex, Term)>,
    deferred: BTreeSet<Incarnation>,
}

impl Births {
    /// Nothing is made before the metadata's log, which ended here at the start, is settled.
    pub fn behind(last: LogIndex, term: Term) -> Self {
        Self { behind: Some((last, term)), deferred: BTreeSet::new() }
    }

    pub fn note_applied(&mut self, applied: LogIndex, term: Term) {
        let is_settled =
            |(last, last_term): &(LogIndex, Term)| applied >= *last || term > *last_term;
        if self.behind.as_ref().is_some_and(is_settled) {
            self.behind = None;
        }
    }

    pub fn may_happen(&self) -> bool {
        self.behind.is_none()
    }

    pub fn defer(&mut self, incarnation: Incarnation) {
        self.deferred.insert(incarnation);
    }

    /// A tombstone has come.
    pub fn forget(&mut self, incarnation: Incarnation) {
        self.deferred.remove(&incarnation);
    }

    /// What may be made now.
    pub fn take_due(&mut self) -> BTreeSet<Incarnation> {
        match self.may_happen() {
            true => std::mem::take(&mut self.deferred),
            false => BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn births() -> Births {
        Births::behind(LogIndex::new(10), Term::new(3))
    }

    #[test]
    fn nothing_is_made_before_the_old_end_is_applied() {
        let mut births = births();
        births.note_applied(LogIndex::new(9), Term::new(3));
        assert!(!births.may_happen());
        births.note_applied(LogIndex::new(10), Term::new(3));
        assert!(births.may_happen());
    }

    #[test]
    fn a_later_term_settles_what_it_has_overruled() {
        let mut births = births();
        births.note_applied(LogIndex::new(8), Term::new(4));
        assert!(births.may_happen());
    }
}
