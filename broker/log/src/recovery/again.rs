//! A log is read once more after it was mended, as the start has read it.
//!
//! Absent on purpose: other logs. What the start knew of all of them still holds.

use super::files::LogFiles;
use super::scan::LogScan;
use super::verdict::{Verdict, settled_by};
use super::{Reading, Recovered, RecoveryProgress, RecoveryReport, failed};
use crate::data_dir::OpenError;
use crate::disk::{Disk, DiskFile};
use crate::flush_set::FlushSet;
use crate::meta::{MetaLog, ReplicaMeta};
use crate::shared::LogShared;
use crate::work::LogOptions;
use bateau_protocol::ids::{FlushSequence, Incarnation};
use std::sync::Arc;

/// A log that was read once more.
pub(crate) struct ReadAgain {
    scan: LogScan,
    verdict: Verdict,
    highest: FlushSequence,
}

impl ReadAgain {
    /// Reads a log that nobody writes to. What is read is durable when this returns.
    ///
    /// - `highest`: M, as the start found it. Nothing was written to the log since but what was
    ///   mended.
    /// - `keeps_all`: nothing that is intact is taken for torn: somebody has just said that what is
    ///   missing before it is to be missing.
    pub(crate) fn read(
        disk: &dyn Disk,
        incarnation: Incarnation,
        replica: &ReplicaMeta,
        (highest, keeps_all): (FlushSequence, bool),
        reading: Reading,
    ) -> Result<Self, OpenError> {
        let files = LogFiles::list(disk, incarnation, replica);
        let files = files.map_err(failed("list a mended log"))?;
        let opened: Vec<Arc<dyn DiskFile>> = files.opened().map(|(file, _)| file).collect();
        disk.flush(&opened, std::slice::from_ref(&files.dir))
            .map_err(failed("flush a mended log"))?;
        let progress = RecoveryProgress::default();
        let scan = LogScan::run(disk, files, replica.clone(), reading, &progress)
            .map_err(failed("read a mended log"))?;
        let settled = if keeps_all { FlushSequence::new(u64::MAX) } else { settled_by(highest) };
        let verdict = Verdict::of(&scan, settled);
        Ok(Self { scan, verdict, highest })
    }

    /// What the meta log has to hold of it from now on, if that has changed.
    pub(crate) fn marks(&self) -> Option<ReplicaMeta> {
        self.verdict.marks(&self.scan, self.highest)
    }

    /// Makes reader and writer of it, once its marks are durable.
    pub(crate) fn open(
        self,
        disk: &Arc<dyn Disk>,
        meta: &MetaLog,
        options: LogOptions,
        shared: Arc<LogShared>,
    ) -> Result<Recovered, OpenError> {
        let (highest, node) = (self.highest, Arc::clone(&shared.node));
        let mut recovered = Recovered::new(RecoveryReport::default(), highest, highest, node);
        let mut flush = FlushSet::default();
        let found = (self.scan, self.verdict, Some(shared));
        recovered.take(disk, meta, options, found, &mut flush)?;
        if !flush.is_empty() {
            flush.flush(&**disk).map_err(failed("flush a truncated tail"))?;
        }
        Ok(recovered)
    }
}
