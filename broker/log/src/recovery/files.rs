//! The files of one log, by name.
//!
//! Absent on purpose: what is in them (`scan`).

use crate::cycle::{MENDING_SUFFIX, REMOVED_SUFFIX, finish_if_mended};
use crate::disk::{DirEntry, Disk, DiskFile};
use crate::meta::ReplicaMeta;
use crate::recovery::StoredState;
use crate::segment::{log_dir, parse_name, segment_name, side_name};
use crate::state_file::{self, is_temporary, parse_state_name};
use crate::writer::PREPARED_NAME;
use bateau_protocol::ids::{Incarnation, LogIndex};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// A log's files by name, before any is read.
#[derive(Debug)]
pub(super) struct LogFiles {
    pub(super) incarnation: Incarnation,
    pub(super) dir: String,
    pub(super) bases: Vec<LogIndex>,
    pub(super) states: Vec<LogIndex>,
    pub(super) has_side: Vec<LogIndex>,
    pub(super) leftovers: Vec<String>,
    pub(super) opened: BTreeMap<String, Arc<dyn DiskFile>>,
    /// Segment of the durable mark, and where in it.
    durable: Option<(LogIndex, u64)>,
}

impl LogFiles {
    /// Lists a log's directory, takes unfinished files away and opens what recovery walks: the
    /// segment of the durable mark and everything behind it.
    pub(super) fn list(
        disk: &dyn Disk,
        incarnation: Incarnation,
        meta: &ReplicaMeta,
    ) -> io::Result<Self> {
        let dir = log_dir(incarnation);
        let mut files = Self {
            incarnation,
            dir,
            bases: Vec::new(),
            states: Vec::new(),
            has_side: Vec::new(),
            leftovers: Vec::new(),
            opened: BTreeMap::new(),
            durable: meta.durable.map(|durable| (durable.segment, durable.position)),
        };
        for entry in Self::settled(disk, incarnation, &files.dir)? {
            let name = entry.name.as_str();
            if name == PREPARED_NAME || is_temporary(name) || name.ends_with(MENDING_SUFFIX) {
                // At once: the names are used again.
                disk.unlink(&format!("{}/{name}", files.dir))?;
            } else if name.ends_with(REMOVED_SUFFIX) {
                files.leftovers.push(format!("{}/{name}", files.dir));
            } else if let Some(base) = parse_name(name, ".log") {
                files.bases.push(base);
            } else if let Some(base) = parse_name(name, ".side") {
                files.has_side.push(base);
            } else if let Some(applied) = parse_state_name(name) {
                files.states.push(applied);
            }
        }
        let from = meta.durable.map_or(LogIndex::ZERO, |durable| durable.segment);
        let walked: Vec<String> = (files.bases.iter().map(|base| (*base, segment_name(*base))))
            .chain(files.has_side.iter().map(|base| (*base, side_name(*base))))
            .filter(|(base, _)| *base >= from)
            .map(|(_, name)| name)
            .collect();
        for name in walked {
            let file = disk.open(&format!("{}/{name}", files.dir))?;
            files.opened.insert(name, file);
        }
        Ok(files)
    }

    /// What a log's directory holds once mendings that were decided have come to their end.
    fn settled(disk: &dyn Disk, log: Incarnation, dir: &str) -> io::Result<Vec<DirEntry>> {
        let entries = disk.list(dir)?;
        let mut has_changed = false;
        for entry in &entries {
            has_changed |= finish_if_mended(disk, log, &entry.name)?;
        }
        if has_changed { disk.list(dir) } else { Ok(entries) }
    }

    /// What is to be flushed before the walk, and from where on dropped from the cache: what lies
    /// before the durable mark is not read now.
    pub(super) fn opened(&self) -> impl Iterator<Item = (Arc<dyn DiskFile>, u64)> + '_ {
        let durable = self.durable.map(|(base, position)| (segment_name(base), position));
        self.opened.iter().map(move |(name, file)| {
            let marked = durable.as_ref().filter(|(segment, _)| segment == name);
            (Arc::clone(file), marked.map_or(0, |(_, position)| *position))
        })
    }

    pub(super) fn open(&mut self, disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        match self.opened.remove(name) {
            Some(file) => Ok(file),
            None => disk.open(&format!("{}/{name}", self.dir)),
        }
    }

    /// The newest intact state file, and what is wrong with newer ones.
    pub(super) fn read_state(&mut self, disk: &dyn Disk) -> (Option<StoredState>, Option<String>) {
        let mut damaged = None;
        let mut newest = None;
        for applied in self.states.iter().rev() {
            if newest.is_some() {
                let name = state_file::state_name(*applied);
                self.leftovers.push(format!("{}/{name}", self.dir));
                continue;
            }
            match state_file::read(disk, &self.dir, self.incarnation, *applied) {
                Ok(state) => newest = Some(state),
                Err(reason) => {
                    damaged.get_or_insert(format!("state file of index {applied}: {reason}"));
                }
            }
        }
        (newest, damaged)
    }
}

impl LogFiles {
    /// Leaves out segments that end at or below `dead_up_to`: they were trimmed.
    pub(super) fn drop_dead(&mut self, dead_up_to: LogIndex) {
        let dead =
            self.bases.windows(2).take_while(|pair| pair[1].previous() <= dead_up_to).count();
        for base in self.bases.drain(..dead) {
            self.leftovers.push(format!("{}/{}", self.dir, segment_name(base)));
        }
        let first = self.bases.first().copied().unwrap_or(LogIndex::ZERO);
        let dir = &self.dir;
        let leftovers = &mut self.leftovers;
        self.has_side.retain(|base| {
            let stays = *base >= first;
            if !stays {
                leftovers.push(format!("{dir}/{}", side_name(*base)));
            }
            stays
        });
    }

    pub(super) fn reopen(&self, disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        disk.open(&format!("{}/{name}", self.dir))
    }
}
