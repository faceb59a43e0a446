//! The flushes of the commit cycle, and their order.
//!
//! What nobody waits for, the side files of closed segments and the names of recycled files, rides
//! along with a flush that costs much in any case, because it names a directory.
//!
//! Absent on purpose: what an answer needs flushed (`cycle`), and how files are flushed at the
//! least cost (`flush_set`).

use super::{CommitCycle, failure};
use crate::flush_set::FlushSet;
use crate::meta::Record;
use crate::work::DiskFailed;
use bateau_protocol::ids::FlushSequence;
use std::io;

impl CommitCycle {
    /// Flushes what waits for company.
    pub(super) fn flush_riders(&mut self) -> Result<(), DiskFailed> {
        let riders = std::mem::take(&mut self.riders);
        if !riders.is_empty() {
            riders.flush(&*self.disk).map_err(failure("flush what is closed"))?;
            self.recycled.flushed();
        }
        Ok(())
    }

    pub(super) fn append_meta(
        &mut self,
        records: impl IntoIterator<Item = Record>,
        sequence: FlushSequence,
    ) -> Result<(), DiskFailed> {
        let records = records.into_iter().collect();
        match self.meta.append(records, sequence) {
            Err(mut error) => {
                while error.kind() == io::ErrorKind::StorageFull && self.make_room(true) {
                    // The state has the batch already, and a switch stores the state.
                    match self.meta.switch() {
                        Ok(()) => return Ok(()),
                        Err(again) => error = again,
                    }
                }
                Err(failure("write the meta log")(error))
            }
            Ok(()) => Ok(()),
        }
    }

    /// The flush with number `sequence`, of the meta log alone.
    pub(super) fn flush_meta(&mut self, sequence: FlushSequence) -> Result<(), DiskFailed> {
        let mut set = FlushSet::default();
        set.add_file(&self.meta.file());
        self.flush_named(set, sequence)
    }

    /// The flush with number `sequence`.
    pub(super) fn flush_set(
        &mut self,
        set: FlushSet,
        sequence: FlushSequence,
    ) -> Result<(), DiskFailed> {
        #[cfg(any(test, feature = "sim"))]
        if let Some(postponed) = &mut self.postponed {
            let before = postponed.replace(set).unwrap_or_default();
            return self.flush_named(before, sequence);
        }
        self.flush_named(set, sequence)
    }

    fn flush_named(
        &mut self,
        mut set: FlushSet,
        sequence: FlushSequence,
    ) -> Result<(), DiskFailed> {
        assert!(
            sequence > self.returned,
            "I-LOG-7: flush {sequence} after flush {} has returned",
            self.returned
        );
        self.flush_sequence = sequence;
        let takes_riders = set.has_dirs();
        if takes_riders {
            set.extend(std::mem::take(&mut self.riders));
        }
        set.flush(&*self.disk).map_err(failure("flush"))?;
        if takes_riders {
            self.recycled.flushed();
        }
        self.returned = sequence;
        self.meta.note_flushed();
        Ok(())
    }
}
