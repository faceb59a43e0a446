//! The disk as the log sees it, and the real one.
//!
//! ```text
//!   Disk ──create/open──> DiskFile ──map──> FileMap ──slice──> Bytes, lent to readers
//! ```
//!
//! Appends are positional writes, reads go through read-only maps: a full disk is an error and
//! not a SIGBUS, and a flush costs a third (D4). All paths are relative to the data directory.
//!
//! Invariants
//! - A directory's entries are durable once [`Disk::flush`] named the directory, a file's bytes
//!   once it named the file.
//! - A mapped file is never shortened (D5): [`FileMap::is_lent`] says whether bytes of it live.
//!
//! Absent on purpose: retries of a flush (D7), asynchronous I/O.

#![allow(unsafe_code, reason = "memory maps")]

use crate::sys;
use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};
use rustix::fs::{FallocateFlags, FlockOperation};
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Dirty files from which on one `syncfs` is cheaper than a flush each.
pub const SYNCFS_FILES_MIN: usize = 3;

/// An entry of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    /// Its name, without the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub bytes: u64,
}

/// Room on a filesystem, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    /// What an unprivileged process may still use.
    pub free: u64,
    /// Everything.
    pub total: u64,
}

/// Why a lock is not to be had.
#[derive(Debug)]
pub enum LockError {
    /// Another process holds it.
    Held {
        /// Its id; 0 where it did not say.
        pid: u32,
    },
    /// The system refused.
    Io(io::Error),
}

/// Holds a lock until dropped.
pub trait LockGuard: Debug + Send + Sync {}

/// A data directory. Methods take `&self` and may be called from any thread.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file for reading and writing, and makes it empty or new.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file or directory, over an existing file too.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name. Its bytes go with the last descriptor and map.
    fn unlink(&self, path: &str) -> io::Result<()>;

    /// Makes a directory whose parent exists. No error where it exists already.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// The entries of a directory, ordered by name; empty where there is no such directory.
    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>>;

    /// Makes the bytes of `files` and the entries of `dirs` durable. After an error nothing is
    /// known about any of them, and asking again proves nothing (D7).
    fn flush(&self, files: &[Arc<dyn DiskFile>], dirs: &[String]) -> io::Result<()>;

    /// Makes the bytes of files durable, as [`Disk::flush`] does, where of the files in
    /// `overwritten` nothing was written since their last flush but over bytes that had been
    /// flushed before. All that a filesystem that writes in place knows of such a file stays as it
    /// was, but for its times: its journal may be left out, and one flush of the device is for all.
    fn flush_overwritten(
        &self,
        overwritten: &[Arc<dyn DiskFile>],
        files: &[Arc<dyn DiskFile>],
    ) -> io::Result<()>;

    /// Room on the filesystem.
    fn space(&self) -> io::Result<DiskSpace>;

    /// Takes the lock that the file `path` stands for, and writes `pid` into it.
    fn lock(&self, path: &str, pid: u32) -> Result<Box<dyn LockGuard>, LockError>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Makes sure that writes up to `bytes` need no more room, and that the file is that long.
    /// Never shortens.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Writes all of `slices`, one behind the other, from `position` on.
    fn write_at(&self, position: u64, slices: &[&[u8]]) -> io::Result<()>;

    /// Fills `buffer` from `position` on.
    ///
    /// Errors: [`io::ErrorKind::UnexpectedEof`] where the file ends before.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// The next range at or behind `position` that was ever written, as (start, end); what lies
    /// outside of such ranges reads as zeros. May report more than was written.
    fn next_data(&self, position: u64) -> io::Result<Option<(u64, u64)>>;

    /// Shortens or lengthens. Never while mapped bytes of the file are alive (D5).
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;

    /// Starts to write dirty pages out, without waiting. A hint.
    fn start_flush(&self);

    /// Writes dirty pages out and waits until the device has them, if only in its cache. Says
    /// nothing about the file's length and blocks.
    fn write_out(&self) -> io::Result<()>;

    /// Makes the file's bytes durable.
    fn flush(&self) -> io::Result<()>;

    /// Drops cached clean pages from `position` on, so that the next read shows what the medium
    /// holds.
    fn drop_cache(&self, position: u64) -> io::Result<()>;

    /// From now on reads take what they ask for from the medium, and nothing behind it: what is
    /// read ahead by megabytes is what everybody else's flush waits for. A hint; maps go on as
    /// they did.
    fn read_no_further(&self) -> io::Result<()>;

    /// Drops cached clean pages of a range that nobody has mapped. A hint.
    fn forget(&self, position: u64, bytes: u64) -> io::Result<()>;

    /// Maps the whole file read-only, at its present length.
    fn map(&self) -> io::Result<Box<dyn FileMap>>;
}

/// A read-only map of a whole file.
pub trait FileMap: Debug + Send + Sync {
    /// Lends a range, which must lie within the mapped length and hold nothing that may still
    /// change (I-LOG-3). Shared with the page cache; no copy.
    fn slice(&self, position: u64, bytes: usize) -> Bytes;

    /// Copies from the map, under the same condition. Cheaper than lending for a few bytes.
    ///
    /// Errors: [`io::ErrorKind::UnexpectedEof`] beyond the mapped length.
    fn copy(&self, position: u64, into: &mut [u8]) -> io::Result<()>;

    /// Whether every page of a range is in memory.
    fn is_resident(&self, position: u64, bytes: usize) -> bool;

    /// Reads a range in. Blocks.
    ///
    /// Errors: the medium cannot be read, or the file was shortened.
    fn populate(&self, position: u64, bytes: usize) -> io::Result<()>;

    /// Whether lent bytes are alive.
    fn is_lent(&self) -> bool;
}

/// Settings of a real data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RealDiskOptions {
    /// The filesystem is ours alone (`node.data_dir_exclusive`), so that one `syncfs` may flush
    /// it.
    pub exclusive: bool,
    /// Flushes return at once: `--ephemeral`, where nothing survives the process.
    pub ephemeral: bool,
}

/// Files or directories from which on a flush uses several threads.
const PARALLEL_FLUSHES_MIN: usize = 16;
/// How many.
const FLUSH_THREADS: usize = 8;

/// A directory of the operating system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    options: RealDiskOptions,
    /// Opened at the start and kept, so that `syncfs` sees every write-back error since then.
    root_handle: File,
    /// The filesystem writes over a block where that lies, and nobody shares its blocks.
    writes_in_place: bool,
}

impl RealDisk {
    /// Opens a data directory; makes it, with mode 0700, where it does not exist.
    pub fn open(root: &Path, options: RealDiskOptions) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root_handle = File::open(root)?;
        let writes_in_place = sys::writes_in_place(root_handle.as_fd());
        Ok(Self { root: root.to_owned(), options, root_handle, writes_in_place })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn open_with(&self, path: &str, truncate: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(truncate)
            .truncate(truncate)
            .mode(0o600)
            .open(self.path(path))?;
        Ok(Arc::new(RealFile { file, ephemeral: self.options.ephemeral }))
    }
}

/// Flushes items one by one; many, as a first start or one after a crash has them, on several
/// threads, because the device merges flushes that wait for it together.
fn flush_each<T: Sync>(
    items: &[T],
    flush: impl Fn(&T) -> io::Result<()> + Copy + Send,
) -> io::Result<()> {
    if items.len() < PARALLEL_FLUSHES_MIN {
        return items.iter().try_for_each(flush);
    }
    let share = items.len().div_ceil(FLUSH_THREADS);
    std::thread::scope(|scope| {
        let shares = items.chunks(share);
        let threads: Vec<_> =
            shares.map(|items| scope.spawn(move || items.iter().try_for_each(flush))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a flushing thread panicked")))
        })
    })
}

impl Disk for RealDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(path, true)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_with(path, false)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(0o700).create(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir(self.path(path))
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let entries = match std::fs::read_dir(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // A name that is not UTF-8 is not one of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_dir = metadata.is_dir();
            found.push(DirEntry { name, is_dir, bytes: if is_dir { 0 } else { metadata.len() } });
        }
        found.sort();
        Ok(found)
    }

    fn flush(&self, files: &[Arc<dyn DiskFile>], dirs: &[String]) -> io::Result<()> {
        if self.options.ephemeral {
            return Ok(());
        }
        if self.options.exclusive && files.len() + dirs.len() >= SYNCFS_FILES_MIN {
            return Ok(rustix::fs::syncfs(&self.root_handle)?);
        }
        if files.len() > 1 {
            files.iter().for_each(|file| file.start_flush());
        }
        flush_each(files, |file| file.flush())?;
        flush_each(dirs, |dir| File::open(self.path(dir))?.sync_all())
    }

    fn flush_overwritten(
        &self,
        overwritten: &[Arc<dyn DiskFile>],
        files: &[Arc<dyn DiskFile>],
    ) -> io::Result<()> {
        let is_for_syncfs = self.options.exclusive && files.len() >= SYNCFS_FILES_MIN;
        if !self.writes_in_place || is_for_syncfs {
            return self.flush(&[overwritten, files].concat(), &[]);
        }
        if self.options.ephemeral {
            return Ok(());
        }
        overwritten.iter().chain(files).for_each(|file| file.start_flush());
        overwritten.iter().try_for_each(|file| file.write_out())?;
        // The flush of any file flushes the cache of the device, with all that it has by now.
        let last = if files.is_empty() { overwritten.get(..1).unwrap_or_default() } else { files };
        flush_each(last, |file| file.flush())
    }

    fn space(&self) -> io::Result<DiskSpace> {
        let found = rustix::fs::fstatvfs(&self.root_handle)?;
        Ok(DiskSpace {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    fn lock(&self, path: &str, pid: u32) -> Result<Box<dyn LockGuard>, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path(path))
            .map_err(LockError::Io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(LockError::Io)?;
                return Err(LockError::Held { pid: holder.trim().parse().unwrap_or(0) });
            }
            Err(errno) => return Err(LockError::Io(errno.into())),
        }
        file.set_len(0).map_err(LockError::Io)?;
        file.rewind().map_err(LockError::Io)?;
        writeln!(file, "{pid}").map_err(LockError::Io)?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

#[derive(Debug)]
struct RealLock {
    /// The kernel lets go of the lock when the last descriptor is closed, however we end.
    _file: File,
}

impl LockGuard for RealLock {}

#[derive(Debug)]
struct RealFile {
    file: File,
    ephemeral: bool,
}

impl DiskFile for RealFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            // A filesystem without it: writes may fail for want of room, which is handled too.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                if self.file.metadata()?.len() < bytes {
                    self.file.set_len(bytes)?;
                }
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn write_at(&self, position: u64, slices: &[&[u8]]) -> io::Result<()> {
        /// Vectors that one call may have (`UIO_MAXIOV`).
        const VECTORS_MAX: usize = 1024;
        let mut position = position;
        let mut vectors: Vec<IoSlice<'_>> = slices
            .iter()
            .filter(|slice| !slice.is_empty())
            .map(|slice| IoSlice::new(slice))
            .collect();
        let mut rest = vectors.as_mut_slice();
        while !rest.is_empty() {
            let now = &rest[..rest.len().min(VECTORS_MAX)];
            match rustix::io::pwritev(&self.file, now, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    position += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, position)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn next_data(&self, position: u64) -> io::Result<Option<(u64, u64)>> {
        let end = self.bytes()?;
        if position >= end {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            // A filesystem without holes: everything may be data.
            Err(_) => return Ok(Some((position, end))),
        };
        let hole = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(start)).unwrap_or(end);
        Ok(Some((start, hole)))
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn start_flush(&self) {
        if !self.ephemeral {
            sys::start_write_out(self.file.as_fd());
        }
    }

    fn write_out(&self) -> io::Result<()> {
        if self.ephemeral {
            return Ok(());
        }
        sys::write_out(self.file.as_fd())
    }

    fn flush(&self) -> io::Result<()> {
        if self.ephemeral {
            return Ok(());
        }
        // No retry, not even after EINTR: the kernel reports a write-back error once.
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, position, None, rustix::fs::Advice::DontNeed)?)
    }

    fn read_no_further(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::Random)?)
    }

    fn forget(&self, position: u64, bytes: u64) -> io::Result<()> {
        let bytes = std::num::NonZeroU64::new(bytes);
        Ok(rustix::fs::fadvise(&self.file, position, bytes, rustix::fs::Advice::DontNeed)?)
    }

    fn map(&self) -> io::Result<Box<dyn FileMap>> {
        // SAFETY: the bytes behind the map are changed by `write_at` alone, in this process, and
        // only at or above the commit, of which nothing is ever lent (I-LOG-3): no reference to
        // them exists while they change. A mapped file is never shortened (D5), and the directory
        // is locked against other processes and has mode 0700.
        let map = unsafe { MmapOptions::new().map(&self.file)? };
        Ok(Box::new(RealMap { map: Arc::new(map) }))
    }
}

/// A lent range: keeps the map alive.
struct Range {
    map: Arc<Mmap>,
    start: usize,
    bytes: usize,
}

impl AsRef<[u8]> for Range {
    fn as_ref(&self) -> &[u8] {
        &self.map[self.start..self.start + self.bytes]
    }
}

#[derive(Debug)]
struct RealMap {
    map: Arc<Mmap>,
}

impl FileMap for RealMap {
    fn slice(&self, position: u64, bytes: usize) -> Bytes {
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        Bytes::from_owner(Range { map: Arc::clone(&self.map), start, bytes })
    }

    fn copy(&self, position: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let range = self.map.get(start..start.saturating_add(into.len()));
        into.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn is_resident(&self, position: u64, bytes: usize) -> bool {
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let range = self.map.get(start..start.saturating_add(bytes).min(self.map.len()));
        range.is_some_and(|range| sys::is_resident(range).unwrap_or(false))
    }

    fn populate(&self, position: u64, bytes: usize) -> io::Result<()> {
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let bytes = bytes.min(self.map.len().saturating_sub(start));
        if bytes == 0 {
            return Ok(());
        }
        // What faults alone bring in is as much as the kernel cares to read around them: megabytes,
        // on some machines, for which everybody else's flush waits. A hint.
        let _ = self.map.advise_range(Advice::WillNeed, start, bytes);
        self.map.advise_range(Advice::PopulateRead, start, bytes)
    }

    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.map) > 1
    }
}
