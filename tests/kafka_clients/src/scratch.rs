//! Directories that are removed with their owner.
//!
//! Invariant: a directory was made by its owner and is nobody else's.
//! Absent on purpose: clean-up after a test process that was killed with -9.

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A directory under the system's temporary directory, removed on drop with all it holds.
#[derive(Debug)]
pub struct ScratchDirectory {
    path: PathBuf,
}

impl ScratchDirectory {
    /// Makes an empty directory whose name starts with `bateau-` and `purpose`.
    pub fn new(purpose: &str) -> Self {
        // Process ids do not tell test processes apart: each PID namespace has a process 1.
        loop {
            let number = RandomState::new().hash_one(purpose);
            let path = std::env::temp_dir().join(format!("bateau-{purpose}-{number:016x}"));
            match std::fs::create_dir(&path) {
                Ok(()) => return Self { path },
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{}: not removed: {error}", self.path.display());
        }
    }
}
