//! A store whose node can be killed inside of a process that lives on.
//!
//! A killed process writes nothing more, and what it had written stays: the system has it. So a
//! life that has ended refuses everything that is asked of its disk, and the next start begins a
//! life of its own on the same data.
//!
//! Invariants: nothing of one life reaches the data after its end.
//!
//! Absent on purpose: losing what was not flushed, which is [`Store::cut_power`].

use super::Store;
use bateau_log::{DirEntry, Disk, DiskFile, DiskSpace, FileMap, LockError, LockGuard};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A store of a test, whose node may be killed.
#[derive(Debug)]
pub struct MortalStore {
    inner: Arc<dyn Store>,
    life: Mutex<Life>,
}

impl MortalStore {
    /// Over a store that need not know of it.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, life: Mutex::default() }
    }

    fn life(&self) -> std::sync::MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MortalStore {
    fn open(&self) -> Result<Arc<dyn Disk>, String> {
        let inner = self.inner.open()?;
        let life = Life::default();
        *self.life() = life.clone();
        Ok(Arc::new(MortalDisk { inner, life }))
    }

    fn cut_power(&self) -> Result<(), String> {
        self.inner.cut_power()
    }

    fn kill(&self) -> Result<(), String> {
        self.life().end();
        Ok(())
    }

    fn directory(&self) -> Option<&Path> {
        self.inner.directory()
    }
}

/// From one start to the next.
#[derive(Clone, Debug, Default)]
struct Life {
    is_over: Arc<AtomicBool>,
}

impl Life {
    fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.is_over.load(Ordering::SeqCst) {
            return Err(io::Error::other("the node was killed"));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct MortalDisk {
    inner: Arc<dyn Disk>,
    life: Life,
}

impl MortalDisk {
    fn file(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(MortalFile { inner, life: self.life.clone() })
    }
}

impl Disk for MortalDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.life.check()?;
        self.inner.create(path).map(|file| self.file(file))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.life.check()?;
        self.inner.open(path).map(|file| self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.life.check()?;
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.life.check()?;
        self.inner.unlink(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.life.check()?;
        self.inner.create_dir(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.life.check()?;
        self.inner.remove_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        self.life.check()?;
        self.inner.list(path)
    }

    fn flush(&self, files: &[Arc<dyn DiskFile>], dirs: &[String]) -> io::Result<()> {
        self.life.check()?;
        self.inner.flush(files, dirs)
    }

    fn flush_overwritten(
        &self,
        overwritten: &[Arc<dyn DiskFile>],
        files: &[Arc<dyn DiskFile>],
    ) -> io::Result<()> {
        self.life.check()?;
        self.inner.flush_overwritten(overwritten, files)
    }

    fn space(&self) -> io::Result<DiskSpace> {
        self.inner.space()
    }

    fn lock(&self, path: &str, pid: u32) -> Result<Box<dyn LockGuard>, LockError> {
        self.inner.lock(path, pid)
    }
}

#[derive(Debug)]
struct MortalFile {
    inner: Arc<dyn DiskFile>,
    life: Life,
}

impl DiskFile for MortalFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.life.check()?;
        self.inner.allocate(bytes)
    }

    fn write_at(&self, position: u64, slices: &[&[u8]]) -> io::Result<()> {
        self.life.check()?;
        self.inner.write_at(position, slices)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(position, buffer)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn next_data(&self, position: u64) -> io::Result<Option<(u64, u64)>> {
        self.inner.next_data(position)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.life.check()?;
        self.inner.set_bytes(bytes)
    }

    fn start_flush(&self) {
        if self.life.check().is_ok() {
            self.inner.start_flush();
        }
    }

    fn write_out(&self) -> io::Result<()> {
        self.life.check()?;
        self.inner.write_out()
    }

    fn flush(&self) -> io::Result<()> {
        self.life.check()?;
        self.inner.flush()
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        self.inner.drop_cache(position)
    }

    fn read_no_further(&self) -> io::Result<()> {
        self.inner.read_no_further()
    }

    fn forget(&self, position: u64, bytes: u64) -> io::Result<()> {
        self.inner.forget(position, bytes)
    }

    fn map(&self) -> io::Result<Box<dyn FileMap>> {
        self.inner.map()
    }
}

#[cfg(test)]
mod tests {
    use super::super::DirectoryStore;
    use super::*;
    use bateau_log::RealDiskOptions;

    #[test]
    fn what_was_written_stays_and_a_killed_life_adds_nothing_to_it() {
        let data = tempfile::tempdir().expect("there is a temporary directory");
        let options = RealDiskOptions::default();
        let inner = DirectoryStore { path: data.path().to_owned(), options };
        let store = MortalStore::new(Arc::new(inner));
        let first = store.open().expect("it opens");
        let file = first.create("log").expect("it is new");
        file.write_at(0, &[b"before"]).expect("it lives");
        store.kill().expect("a test may");
        assert!(file.write_at(6, &[b"after"]).is_err());
        assert!(file.flush().is_err() && first.unlink("log").is_err());
        let second = store.open().expect("it opens again");
        let mut found = [0; 6];
        let again = second.open("log").expect("it is there");
        again.read_at(0, &mut found).expect("it is that long");
        assert_eq!((&found, again.bytes().ok()), (b"before", Some(6)));
        again.write_at(6, &[b"later"]).expect("the new life");
        assert!(file.write_at(0, &[b"ghost"]).is_err(), "the old one stays over");
    }
}
