//! What a flush has to name, and how it is flushed at the least cost.
//!
//! Invariants
//! - A file counts as written over only if all that was written of it since its last flush was.
//! - Files are flushed in the order in which they were named: the same calls, the same disk.
//!
//! Absent on purpose: when to flush, and what rests on it (`cycle`).

use crate::disk::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// What the next flush has to name.
#[derive(Debug, Default)]
pub(crate) struct FlushSet {
    files: Vec<Dirty>,
    /// Where in `files` one is, by its address.
    places: BTreeMap<usize, usize>,
    dirs: BTreeSet<String>,
}

/// What has happened to a file since its last flush.
#[derive(Debug)]
struct Dirty {
    file: Arc<dyn DiskFile>,
    /// Nothing was written but over bytes that had been flushed before.
    is_overwritten: bool,
}

impl FlushSet {
    pub(crate) fn add_file(&mut self, file: &Arc<dyn DiskFile>) {
        self.add(file, false);
    }

    /// Names a file of which nothing was written but over bytes that had been flushed before.
    pub(crate) fn add_overwritten(&mut self, file: &Arc<dyn DiskFile>) {
        self.add(file, true);
    }

    fn add(&mut self, file: &Arc<dyn DiskFile>, is_overwritten: bool) {
        let address = Arc::as_ptr(file).cast::<()>().addr();
        let place = *self.places.entry(address).or_insert(self.files.len());
        match self.files.get_mut(place) {
            Some(dirty) => dirty.is_overwritten &= is_overwritten,
            None => self.files.push(Dirty { file: Arc::clone(file), is_overwritten }),
        }
    }

    /// Names everything that `other` names.
    pub(crate) fn extend(&mut self, other: Self) {
        other.files.iter().for_each(|dirty| self.add(&dirty.file, dirty.is_overwritten));
        self.dirs.extend(other.dirs);
    }

    pub(crate) fn add_dir(&mut self, dir: &str) {
        self.dirs.insert(dir.to_owned());
    }

    /// A directory is gone: its entries need no flush.
    pub(crate) fn forget_dir(&mut self, dir: &str) {
        self.dirs.remove(dir);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.dirs.is_empty()
    }

    /// Whether the filesystem has to store more than bytes of files.
    pub(crate) fn has_dirs(&self) -> bool {
        !self.dirs.is_empty()
    }

    /// Makes everything durable that was named. Errors: those of [`Disk::flush`].
    pub(crate) fn flush(&self, disk: &dyn Disk) -> io::Result<()> {
        let named = |is_chosen: &dyn Fn(&Dirty) -> bool| {
            let chosen = self.files.iter().filter(|dirty| is_chosen(dirty));
            chosen.map(|dirty| Arc::clone(&dirty.file)).collect::<Vec<_>>()
        };
        let overwritten = named(&|dirty| dirty.is_overwritten);
        if overwritten.is_empty() || self.has_dirs() {
            let dirs: Vec<String> = self.dirs.iter().cloned().collect();
            return disk.flush(&named(&|_| true), &dirs);
        }
        disk.flush_overwritten(&overwritten, &named(&|dirty| !dirty.is_overwritten))
    }
}
