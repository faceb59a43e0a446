//! How far the runs came: one that never gets where it should proves nothing.

/// How often what the runs are about has happened.
#[derive(Clone, Copy, Default, Debug)]
pub struct Reach {
    pub duplicates: usize,
    pub timeouts: usize,
    pub storage_errors: usize,
    pub gaps: usize,
    pub trimmed_logs: usize,
    pub starts_from_state_files: usize,
    pub committed_offsets: usize,
    pub topics_gone_under_producers: usize,
}

impl Reach {
    pub fn add(&mut self, other: &Self) {
        self.duplicates += other.duplicates;
        self.timeouts += other.timeouts;
        self.storage_errors += other.storage_errors;
        self.gaps += other.gaps;
        self.trimmed_logs += other.trimmed_logs;
        self.starts_from_state_files += other.starts_from_state_files;
        self.committed_offsets += other.committed_offsets;
        self.topics_gone_under_producers += other.topics_gone_under_producers;
    }

    /// A run that never gets where it should proves nothing.
    pub fn check(&self) {
        println!("{self:?}");
        assert!(self.duplicates > 100 && self.timeouts > 100, "{self:?}");
        assert!(self.storage_errors > 100 && self.gaps > 10, "{self:?}");
        assert!(self.trimmed_logs > 10 && self.starts_from_state_files > 10, "{self:?}");
        assert!(self.committed_offsets > 100 && self.topics_gone_under_producers > 10, "{self:?}");
    }
}
