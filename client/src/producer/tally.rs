//! Counting what was not acknowledged, for whoever flushes or closes.
//!
//! Absent on purpose: which records those were. Their handles know.

use crate::error::{SendError, Unsent};

/// What failed since the last flush.
#[derive(Debug, Default)]
pub(super) struct Tally {
    not_written: u64,
    outcome_unknown: u64,
    first: Option<SendError>,
}

impl Tally {
    /// Counts records that failed.
    pub fn note(&mut self, records: u32, error: &SendError) {
        let count = if error.possibly_written() {
            &mut self.outcome_unknown
        } else {
            &mut self.not_written
        };
        *count += u64::from(records);
        if records > 0 {
            self.first.get_or_insert_with(|| error.clone());
        }
    }

    /// What a flush has to say; counting begins anew.
    pub fn take(&mut self) -> Result<(), Unsent> {
        let Self { not_written, outcome_unknown, first } = std::mem::take(self);
        match first {
            None => Ok(()),
            Some(first) => Err(Unsent { not_written, outcome_unknown, first }),
        }
    }
}
