//! A directory that goes with its owner.
//!
//! Absent on purpose: cleaning up after a killed process; the system's temporary directory is for
//! that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names of this process so far.
static NAMED: AtomicU64 = AtomicU64::new(0);
/// How often a free name is looked for.
const TRIES_MAX: u64 = 1_000;

/// A directory of the system's temporary one, only for this user; removed when dropped.
#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    /// Makes one.
    ///
    /// Errors: the directory cannot be made.
    pub fn create() -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let mut taken = io::ErrorKind::AlreadyExists.into();
        for _ in 0..TRIES_MAX {
            let number = NAMED.fetch_add(1, Ordering::Relaxed);
            // A process of the same id may have been killed here.
            let name = format!("bateau-test-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: temporary data stays behind: {error}", self.0.display());
        }
    }
}
