//! A disk in memory that loses, tears and breaks what a real one may, by the seed.
//!
//! ```text
//!   write ──> page cache ──flush(file)──> stable store      crash(): what the cache held alone is
//!   rename ─> names      ──flush(dir)───> stable names      kept, lost or torn, sector by sector
//! ```
//!
//! - Bytes are durable once their file was flushed, names once their directory was. A crash keeps
//!   any subset of the rest, in any order; one unflushed sector in ten is torn inside.
//! - A failed flush leaves pages that look clean and may be lost, as real kernels do.
//! - [`SimDisk::on_change`] sees the disk before every change: a crash at every boundary from one
//!   run of the workload.
//! - Maps lend copies. Writing to bytes that are lent, or shortening a file under them, panics: it
//!   would break I-LOG-3 or D5 on a real disk.
//!
//! - A file without a name goes when nobody has it open, mapped or lent any more.
//!
//! Same seed and same calls, same bytes.
//!
//! Absent on purpose: time, and threads of its own.

mod random;
mod stable;
mod state;

use crate::disk::{DirEntry, Disk, DiskFile, DiskSpace, FileMap, LockError, LockGuard};
use bytes::Bytes;
pub use random::SimRandom;
use state::{FileState, Inode, ROOT, State, error, size};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Unit of what a crash keeps or loses, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// An error to inject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// EIO. A flush that fails with it leaves pages that look clean.
    Io,
    /// ENOSPC, for calls that may need room; others succeed.
    NoSpace,
}

/// A handle on a simulated disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    hook: Arc<Mutex<Option<Hook>>>,
}

type Hook = Box<dyn FnMut(SimDisk) + Send>;

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk(calls {})", self.state().calls)
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl SimDisk {
    /// An empty disk with room for `capacity` bytes.
    #[must_use]
    pub fn new(seed: u64, capacity: u64) -> Self {
        let root = Inode::Dir { now: BTreeMap::new(), stable: BTreeMap::new() };
        Self::with_state(State {
            random: SimRandom::new(seed),
            inodes: BTreeMap::from([(ROOT, root)]),
            inodes_count: ROOT,
            changes: Vec::new(),
            capacity,
            calls: 0,
            fault: None,
            powered: true,
            power_off_at: None,
            flushes_lie: false,
            in_device_cache: Vec::new(),
            locks: BTreeMap::new(),
            lent: Vec::new(),
        })
    }

    fn with_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)), hook: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a copy of the disk to `hook` before every change and flush. The copy has no hook.
    pub fn on_change(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// A copy of the disk as it is, the page cache included; nobody holds its locks.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.lent.clear();
        state.locks.clear();
        Self::with_state(state)
    }

    /// The disk after a power cut now: what had been flushed, and a random part of the rest.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let forked = self.fork();
        forked.state().lose_what_was_not_flushed(SimRandom::new(seed));
        forked
    }

    /// The disk after `kill -9` now: the page cache survives the process.
    #[must_use]
    pub fn kill(&self) -> Self {
        let forked = self.fork();
        forked.state().power_on();
        forked
    }

    /// Switches the power off: every later call fails and changes nothing, until a
    /// [`SimDisk::crash`] of the disk is started.
    pub fn cut_power(&self) {
        self.state().powered = false;
    }

    /// Switches the power off at the `nth` call from now on, counted from 0.
    pub fn cut_power_at(&self, nth: u64) {
        let mut state = self.state();
        state.power_off_at = Some(state.calls + nth);
    }

    /// From now on flushes return at once and make nothing durable: what a node over such a disk
    /// acknowledges, it acknowledges before the flush.
    pub fn lie_about_flushes(&self) {
        self.state().flushes_lie = true;
    }

    /// Injects `fault` at the `nth` call from now on, counted from 0; once.
    pub fn inject(&self, nth: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.calls + nth, fault));
    }

    /// Whether an injected fault has not been met yet.
    #[must_use]
    pub fn fault_is_pending(&self) -> bool {
        self.state().fault.is_some()
    }

    /// Calls made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Changes the room, in bytes.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// Flips one bit of a file, on the medium and in the cache.
    pub fn flip_bit(&self, path: &str, position: u64, bit: u8) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        let at = size(position);
        let file = state.file(id)?;
        if let Some(byte) = Arc::make_mut(&mut file.content).get_mut(at) {
            *byte ^= 1 << (bit % 8);
        }
        if let Some(changed) = file.changed.get_mut(&(at / SECTOR_BYTES)) {
            changed.stable[at % SECTOR_BYTES] ^= 1 << (bit % 8);
        }
        Ok(())
    }

    /// Makes the sector at `position` unreadable.
    pub fn damage_sector(&self, path: &str, position: u64) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        let sector = size(position) / SECTOR_BYTES;
        state.file(id)?.unreadable.insert(sector);
        Ok(())
    }

    /// Every file with what was ever written of it (zeros behind are left out), by path.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let mut found = BTreeMap::new();
        state.visit(ROOT, "", &mut |path, file| {
            found.insert(path.to_owned(), file.content.to_vec());
        });
        found
    }

    /// Calls the hook, counts the call and meets an injected fault. `needs_room` says whether
    /// ENOSPC may hit this call.
    fn call(&self, changes: bool, needs_room: bool) -> io::Result<MutexGuard<'_, State>> {
        if changes {
            let taken = self.hook.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(mut hook) = taken {
                hook(self.fork());
                let mut place = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
                place.get_or_insert(hook);
            }
        }
        let mut state = self.state();
        state.powered &= state.power_off_at.is_none_or(|at| state.calls < at);
        if !state.powered {
            return Err(error(io::ErrorKind::Other, "the power is off"));
        }
        let now = state.calls;
        state.calls += 1;
        match state.fault {
            Some((at, Fault::Io)) if at <= now => {
                state.fault = None;
                Err(error(io::ErrorKind::Other, "injected EIO"))
            }
            Some((at, Fault::NoSpace)) if at <= now && needs_room => {
                state.fault = None;
                Err(error(io::ErrorKind::StorageFull, "injected ENOSPC"))
            }
            _ => Ok(state),
        }
    }

    fn handle(&self, inode: u64, users: Arc<()>) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), inode, users })
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.call(true, true)?;
        let (dir, name) = split(path);
        let dir = state.find(dir)?;
        let file = FileState::default();
        let users = Arc::clone(&file.users);
        let id = state.add(Inode::File(file));
        state.rename_all(vec![(dir, name.to_owned(), Some(id))])?;
        Ok(self.handle(id, users))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.call(false, false)?;
        let id = state.find(path)?;
        let users = Arc::clone(&state.file(id)?.users);
        Ok(self.handle(id, users))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.call(true, true)?;
        let id = state.find(from)?;
        let (from_dir, from_name) = split(from);
        let (to_dir, to_name) = split(to);
        let (from_dir, to_dir) = (state.find(from_dir)?, state.find(to_dir)?);
        state.rename_all(vec![
            (from_dir, from_name.to_owned(), None),
            (to_dir, to_name.to_owned(), Some(id)),
        ])
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let mut state = self.call(true, false)?;
        let id = state.find(path)?;
        state.file(id)?;
        let (dir, name) = split(path);
        let dir = state.find(dir)?;
        state.rename_all(vec![(dir, name.to_owned(), None)])
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.call(true, true)?;
        if state.find(path).is_ok() {
            return Ok(());
        }
        let (dir, name) = split(path);
        let dir = state.find(dir)?;
        let id = state.add(Inode::Dir { now: BTreeMap::new(), stable: BTreeMap::new() });
        state.rename_all(vec![(dir, name.to_owned(), Some(id))])
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.call(true, false)?;
        let id = state.find(path)?;
        if !state.directory(id)?.is_empty() {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, "directory not empty"));
        }
        let (dir, name) = split(path);
        let dir = state.find(dir)?;
        state.rename_all(vec![(dir, name.to_owned(), None)])
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let mut state = self.call(false, false)?;
        let Ok(id) = state.find(path) else { return Ok(Vec::new()) };
        let entries = state.directory(id)?.clone();
        let entry = |(name, id): (String, u64)| match state.inodes.get(&id) {
            Some(Inode::File(file)) => DirEntry { name, is_dir: false, bytes: file.bytes },
            _ => DirEntry { name, is_dir: true, bytes: 0 },
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn flush(&self, files: &[Arc<dyn DiskFile>], dirs: &[String]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.flush())?;
        for dir in dirs {
            let mut state = self.call(true, false)?;
            let id = state.find(dir)?;
            if !state.flushes_lie {
                state.flush_directory(id);
            }
        }
        Ok(())
    }

    fn flush_overwritten(
        &self,
        overwritten: &[Arc<dyn DiskFile>],
        files: &[Arc<dyn DiskFile>],
    ) -> io::Result<()> {
        overwritten.iter().try_for_each(|file| file.write_out())?;
        let last = if files.is_empty() { &overwritten[..1] } else { files };
        last.iter().try_for_each(|file| file.flush())
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let state = self.call(false, false)?;
        Ok(DiskSpace { free: state.capacity.saturating_sub(state.used()), total: state.capacity })
    }

    fn lock(&self, path: &str, pid: u32) -> Result<Box<dyn LockGuard>, LockError> {
        let mut state = self.call(false, false).map_err(LockError::Io)?;
        if let Some(pid) = state.locks.get(path) {
            return Err(LockError::Held { pid: *pid });
        }
        state.locks.insert(path.to_owned(), pid);
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: String,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
    users: Arc<()>,
}

impl DiskFile for SimFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.call(true, true)?;
        let had = state.file(self.inode)?.bytes;
        if bytes > had {
            state.make_room(bytes.div_ceil(4096) * 4096 - had.div_ceil(4096) * 4096)?;
            state.file(self.inode)?.bytes = bytes;
        }
        Ok(())
    }

    fn write_at(&self, position: u64, slices: &[&[u8]]) -> io::Result<()> {
        let mut state = match self.disk.call(true, true) {
            Ok(state) => state,
            Err(failed) => {
                self.write_a_part(position, slices);
                return Err(failed);
            }
        };
        let bytes: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        state.assert_not_lent(self.inode, position, position + bytes);
        let had = state.file(self.inode)?.bytes;
        if position + bytes > had {
            state
                .make_room((position + bytes).div_ceil(4096) * 4096 - had.div_ceil(4096) * 4096)?;
        }
        let file = state.file(self.inode)?;
        let mut at = size(position);
        for slice in slices {
            file.write(at, slice);
            at += slice.len();
        }
        Ok(())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.call(false, false)?;
        let file = state.file(self.inode)?;
        let end = position + buffer.len() as u64;
        if end > file.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let start = size(position);
        let sectors = start / SECTOR_BYTES..(start + buffer.len()).div_ceil(SECTOR_BYTES);
        if !sectors.is_empty() && file.unreadable.range(sectors).next().is_some() {
            return Err(error(io::ErrorKind::Other, "unreadable sector"));
        }
        let have = file.content.len().saturating_sub(start).min(buffer.len());
        buffer.fill(0);
        if have > 0 {
            buffer[..have].copy_from_slice(&file.content[start..start + have]);
        }
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.call(false, false)?.file(self.inode)?.bytes)
    }

    fn next_data(&self, position: u64) -> io::Result<Option<(u64, u64)>> {
        let mut state = self.disk.call(false, false)?;
        let end = state.file(self.inode)?.content.len() as u64;
        Ok((position < end).then_some((position, end)))
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.call(true, true)?;
        state.assert_not_lent(self.inode, bytes, u64::MAX);
        let file = state.file(self.inode)?;
        let keep = size(bytes);
        if file.content.len() > keep {
            Arc::make_mut(&mut file.content).truncate(keep);
        }
        file.bytes = bytes;
        Ok(())
    }

    fn start_flush(&self) {}

    fn write_out(&self) -> io::Result<()> {
        let mut state = self.flushing()?;
        let out = state.file(self.inode)?.write_out();
        state.in_device_cache.extend(out.into_iter().map(|sector| (self.inode, sector)));
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.flushing()?;
        if !state.flushes_lie {
            state.file(self.inode)?.flush();
            state.flush_device();
        }
        Ok(())
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        let first = size(position) / SECTOR_BYTES;
        self.disk.call(false, false)?.file(self.inode)?.drop_cache(first);
        Ok(())
    }

    fn read_no_further(&self) -> io::Result<()> {
        Ok(())
    }

    fn forget(&self, _position: u64, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn map(&self) -> io::Result<Box<dyn FileMap>> {
        let mut state = self.disk.call(false, false)?;
        let bytes = state.file(self.inode)?.bytes;
        Ok(Box::new(SimMap {
            disk: self.disk.clone(),
            inode: self.inode,
            bytes,
            token: Arc::new(MapToken { _file: Arc::clone(&self.users) }),
        }))
    }
}

impl SimFile {
    /// One call that flushes. Where it fails, the pages of the file look clean and may be lost.
    fn flushing(&self) -> io::Result<MutexGuard<'_, State>> {
        let failed = match self.disk.call(true, false) {
            Ok(state) => return Ok(state),
            Err(failed) => failed,
        };
        let mut state = self.disk.state();
        if state.powered {
            let mut random = state.random.clone();
            state.file(self.inode)?.fail_flush(&mut random);
            state.random = random;
        }
        Err(failed)
    }

    /// What a failed write leaves: any number of its first bytes, within the file.
    fn write_a_part(&self, position: u64, slices: &[&[u8]]) {
        let mut state = self.disk.state();
        if !state.powered {
            return;
        }
        let bytes: Vec<u8> = slices.concat();
        let keep = state.random.below(bytes.len() as u64 + 1);
        let Ok(file) = state.file(self.inode) else { return };
        let keep = keep.min(file.bytes.saturating_sub(position));
        file.write(size(position), &bytes[..size(keep)]);
    }
}

#[derive(Debug)]
struct SimMap {
    disk: SimDisk,
    inode: u64,
    bytes: u64,
    /// Shared with what is lent.
    token: Arc<MapToken>,
}

/// A map is a user of its file, and so is what was lent from it.
#[derive(Debug)]
struct MapToken {
    _file: Arc<()>,
}

struct Lent {
    bytes: Vec<u8>,
    _map: Arc<MapToken>,
    _range: Arc<()>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl FileMap for SimMap {
    fn slice(&self, position: u64, bytes: usize) -> Bytes {
        let end = position + bytes as u64;
        assert!(end <= self.bytes, "a slice up to {end} of a map of {} bytes", self.bytes);
        let mut copy = vec![0; bytes];
        // It cannot fail: the length was checked.
        let _ = self.copy(position, &mut copy);
        let range = Arc::new(());
        self.disk.state().lent.push((Arc::downgrade(&range), self.inode, position, end));
        Bytes::from_owner(Lent { bytes: copy, _map: Arc::clone(&self.token), _range: range })
    }

    fn copy(&self, position: u64, into: &mut [u8]) -> io::Result<()> {
        if position + into.len() as u64 > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        into.fill(0);
        let state = self.disk.state();
        let start = size(position);
        if let Some(Inode::File(file)) = state.inodes.get(&self.inode) {
            let have = file.content.len().saturating_sub(start).min(into.len());
            if have > 0 {
                into[..have].copy_from_slice(&file.content[start..start + have]);
            }
        }
        Ok(())
    }

    fn is_resident(&self, _position: u64, _bytes: usize) -> bool {
        true
    }

    fn populate(&self, position: u64, bytes: usize) -> io::Result<()> {
        let mut state = self.disk.call(false, false)?;
        let start = size(position);
        let sectors = start / SECTOR_BYTES..start.saturating_add(bytes).div_ceil(SECTOR_BYTES);
        let file = state.file(self.inode)?;
        if !sectors.is_empty() && file.unreadable.range(sectors).next().is_some() {
            return Err(error(io::ErrorKind::Other, "unreadable sector"));
        }
        Ok(())
    }

    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.token) > 1
    }
}

#[cfg(test)]
mod tests;
