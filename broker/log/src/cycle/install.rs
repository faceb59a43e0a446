//! A log gives way to a snapshot.
//!
//! ```text
//!   partitions/LOG-INDEX: state file, empty segment ─flush─> mark in the meta log ─flush─┐
//!   partitions/LOG ──> trash      partitions/LOG-INDEX ──> partitions/LOG  <──────────────┘
//! ```
//!
//! Invariants
//! - The flush of the mark decides: before it a start finds the old log, behind it the new one, and
//!   carries the change of the directories to its end.
//! - What cannot be made before the mark changes nothing.
//!
//! Absent on purpose: copying anything of the old log. What the two have in common comes again.

use super::{CommitCycle, TRASH, failure, trash_name};
use crate::bytes_io::from_hex;
use crate::disk::Disk;
use crate::flush_set::FlushSet;
use crate::meta::{MetaLog, Record};
use crate::segment::{Segment, log_dir};
use crate::state_file::{self, StoreError};
use crate::work::{DiskFailed, Done, Install, WriteError};
use crate::writer::{install_dir, write_error};
use bateau_protocol::ids::{Incarnation, LogIndex};
use std::io;

/// Where the names of logs are.
const PARTITIONS: &str = "partitions";

impl CommitCycle {
    /// Replaces a log by a snapshot. The answer is durable.
    pub(super) fn install(&mut self, request: &Install) -> Result<Done, DiskFailed> {
        let (incarnation, index) = (request.incarnation, request.index());
        let failed = |error| Ok(Done::InstallFailed { incarnation, index, error });
        let dir = install_dir(incarnation, index);
        let mut built = self.build(request, &dir);
        let is_vital = self.logs.get(&incarnation).is_some_and(|log| log.options.vital);
        while matches!(&built, Err(StoreError::Write(error)) if is_full(error))
            && self.make_room(is_vital)
        {
            built = self.build(request, &dir);
        }
        let first = match built {
            Ok(Some(first)) => first,
            Ok(None) => return failed(self.unknown(incarnation)),
            Err(StoreError::Write(error)) => {
                // What stays is taken away by the next start.
                let _ = remove(&*self.disk, &dir);
                return failed(write_error("write a snapshot", &error));
            }
            Err(StoreError::Flush(error)) => return Err(failure("flush a snapshot")(error)),
        };
        let Some(log) = self.logs.get_mut(&incarnation) else {
            return failed(WriteError::Unknown(incarnation));
        };
        let prepared = log.prepared.take();
        let old = log.restart(request, first);
        prepared.into_iter().for_each(|prepared| self.recycled.give_back(prepared));
        let sequence = self.flush_sequence.next();
        let record = Record::Replica(incarnation, Box::new(log.to_meta()));
        self.append_meta(vec![record], sequence)?;
        self.flush_meta(sequence)?;
        self.note_stored(&[incarnation].into());
        self.take_over(request)?;
        let dir = log_dir(incarnation);
        self.forget_dir(&dir);
        self.background.note_trashed(&dir, trash_name(incarnation, index.get()), old);
        // It was no deletion: it goes now, or with a later look at the trash if it is still read.
        self.background.empty_trash(index.next().get());
        if let Some(log) = self.logs.get(&incarnation) {
            log.show_restart();
        }
        Ok(Done::Installed { incarnation, index })
    }

    /// Makes and flushes the new log beside the old one; `None` where there is no such log.
    fn build(&self, request: &Install, dir: &str) -> Result<Option<Segment>, StoreError> {
        let incarnation = request.incarnation;
        let Some(log) = self.logs.get(&incarnation) else { return Ok(None) };
        let disk = &*self.disk;
        remove(disk, dir).map_err(StoreError::Write)?;
        disk.create_dir(dir).map_err(StoreError::Write)?;
        let mut flush = FlushSet::default();
        let first = log.first_segment_of(request, dir, self.flush_sequence, &mut flush);
        let first = first.map_err(StoreError::Write)?;
        flush.flush(disk).map_err(StoreError::Flush)?;
        state_file::store(disk, dir, incarnation, request.applied, &request.state)?;
        disk.flush(&[], &[PARTITIONS.to_owned()]).map_err(StoreError::Flush)?;
        Ok(Some(first))
    }

    /// Changes the directories, with the help of the ballast where there is no room for a name.
    fn take_over(&mut self, request: &Install) -> Result<(), DiskFailed> {
        let (incarnation, index) = (request.incarnation, request.index());
        let mut done = exchange(&*self.disk, incarnation, index);
        while matches!(&done, Err(error) if is_full(error)) && self.make_room(true) {
            done = exchange(&*self.disk, incarnation, index);
        }
        done.map_err(failure("put a snapshot in the place of a log"))
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
}

/// Puts the directory of a snapshot in the place of the log's. What has been done of it stays done.
fn exchange(disk: &dyn Disk, incarnation: Incarnation, index: LogIndex) -> io::Result<()> {
    let (dir, from) = (log_dir(incarnation), install_dir(incarnation, index));
    disk.create_dir(TRASH)?;
    match disk.rename(&dir, &format!("{TRASH}/{}", trash_name(incarnation, index.get()))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result?,
    }
    match disk.rename(&from, &dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result?,
    }
    disk.flush(&[], &[String::new(), PARTITIONS.to_owned(), TRASH.to_owned()])
}

/// Carries to its end what the meta log says has happened, and takes away what has not.
pub(crate) fn finish_installs(disk: &dyn Disk, meta: &MetaLog) -> io::Result<()> {
    for entry in disk.list(PARTITIONS)? {
        let Some((log, index)) = parse(&entry.name) else { continue };
        let mark = meta.state.replicas.get(&log).and_then(|replica| replica.snapshot);
        if mark.is_some_and(|mark| mark.index == index) {
            exchange(disk, log, index)?;
        } else {
            remove(disk, &install_dir(log, index))?;
        }
    }
    Ok(())
}

/// The log and the index that a snapshot's directory is named by.
fn parse(name: &str) -> Option<(Incarnation, LogIndex)> {
    let (log, index) = name.split_once('-')?;
    Some((Incarnation::new(from_hex(log)?), LogIndex::new(from_hex(index)?)))
}

fn remove(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    for entry in disk.list(dir)? {
        disk.unlink(&format!("{dir}/{}", entry.name))?;
    }
    match disk.remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
