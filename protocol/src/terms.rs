//! Where each term of a log starts, in both coordinates.
//!
//! Answers Raft's `term(index)` and Kafka's `OffsetForLeaderEpoch` (KIP-101, KIP-320) without
//! touching a segment. The table is a pure function of the log prefix.
//!
//! Invariants: terms, first indexes and first offsets rise (offsets may stay) from entry to entry.
//!
//! Absent on purpose: the log's end, which belongs to whoever holds the log.

use crate::ids::{LogIndex, Offset, Term};

/// The first entry of one term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TermStart {
    /// The term.
    pub term: Term,
    /// Index of its first entry.
    pub first_index: LogIndex,
    /// Offset that its first entry carries: the first record of the term has it or a later one.
    pub first_offset: Offset,
}

/// All terms of one log, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TermTable {
    starts: Vec<TermStart>,
}

impl TermTable {
    /// A table from stored starts; `None` where they do not rise as the module's invariant wants.
    #[must_use]
    pub fn from_starts(starts: Vec<TermStart>) -> Option<Self> {
        let mut table = Self::default();
        for start in starts {
            let rises = table.starts.last().is_none_or(|last| {
                last.term < start.term
                    && last.first_index < start.first_index
                    && last.first_offset <= start.first_offset
            });
            if !rises {
                return None;
            }
            table.starts.push(start);
        }
        Some(table)
    }

    /// All starts, oldest first.
    #[must_use]
    pub fn starts(&self) -> &[TermStart] {
        &self.starts
    }

    /// Notes an appended entry. Entries arrive in index order.
    pub fn note(&mut self, term: Term, index: LogIndex, base_offset: Offset) {
        if self.starts.last().is_none_or(|last| last.term < term) {
            self.starts.push(TermStart { term, first_index: index, first_offset: base_offset });
        }
    }

    /// Term of the entry at `index`, which must not lie behind the log's end. `None` before the
    /// first known entry.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        let after = self.starts.partition_point(|start| start.first_index <= index);
        after.checked_sub(1).and_then(|at| self.starts.get(at)).map(|start| start.term)
    }

    /// The latest term and where it starts.
    #[must_use]
    pub fn last(&self) -> Option<TermStart> {
        self.starts.last().copied()
    }

    /// The largest known term at or below `term` and the offset where it ends (KIP-101): the start
    /// of the next known term, or `log_end` for the latest. `None` where no such term is known.
    #[must_use]
    pub fn end_offset_for(&self, term: Term, log_end: Offset) -> Option<(Term, Offset)> {
        let after = self.starts.partition_point(|start| start.term <= term);
        let found = after.checked_sub(1).and_then(|at| self.starts.get(at))?;
        let end = self.starts.get(after).map_or(log_end, |next| next.first_offset);
        Some((found.term, end))
    }

    /// Forgets everything at or above `index`.
    pub fn truncate_from(&mut self, index: LogIndex) {
        let keep = self.starts.partition_point(|start| start.first_index < index);
        self.starts.truncate(keep);
    }

    /// Forgets terms that end before `index`; the term that holds `index` stays, starting there.
    pub fn trim_to(&mut self, index: LogIndex, offset: Offset) {
        let after = self.starts.partition_point(|start| start.first_index <= index);
        self.starts.drain(..after.saturating_sub(1));
        if let Some(first) = self.starts.first_mut()
            && first.first_index < index
        {
            first.first_index = index;
            first.first_offset = first.first_offset.max(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TermTable {
        let mut table = TermTable::default();
        for (term, index, offset) in [(1, 1, 0), (3, 2, 0), (3, 3, 0), (3, 4, 10), (5, 5, 15)] {
            table.note(Term::new(term), LogIndex::new(index), Offset::new(offset));
        }
        table
    }

    #[test]
    fn an_index_belongs_to_the_term_that_started_last_before_it() {
        let table = table();
        assert_eq!(table.term_at(LogIndex::ZERO), None);
        assert_eq!(table.term_at(LogIndex::new(1)), Some(Term::new(1)));
        assert_eq!(table.term_at(LogIndex::new(4)), Some(Term::new(3)));
        assert_eq!(table.term_at(LogIndex::new(9)), Some(Term::new(5)));
    }

    #[test]
    fn a_term_ends_where_the_next_one_starts() {
        let table = table();
        let end = Offset::new(20);
        assert_eq!(table.end_offset_for(Term::new(0), end), None);
        assert_eq!(table.end_offset_for(Term::new(3), end), Some((Term::new(3), Offset::new(15))));
        assert_eq!(table.end_offset_for(Term::new(4), end), Some((Term::new(3), Offset::new(15))));
        assert_eq!(table.end_offset_for(Term::new(5), end), Some((Term::new(5), end)));
    }

    #[test]
    fn truncation_and_trim_cut_both_ends() {
        let mut table = table();
        table.truncate_from(LogIndex::new(5));
        assert_eq!(table.last().unwrap().term, Term::new(3));
        table.trim_to(LogIndex::new(4), Offset::new(10));
        assert_eq!(table.starts().len(), 1);
        assert_eq!(table.term_at(LogIndex::new(3)), None);
        assert_eq!(table.term_at(LogIndex::new(4)), Some(Term::new(3)));
    }

    #[test]
    fn stored_starts_that_do_not_rise_are_refused() {
        let start = table().starts()[0];
        assert!(TermTable::from_starts(vec![start, start]).is_none());
        assert_eq!(TermTable::from_starts(table().starts().to_vec()), Some(table()));
    }
}
