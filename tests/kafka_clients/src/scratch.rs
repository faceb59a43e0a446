//! Directories that are removed with their owner.
//!
//! Invariant: a name is used once per process, and carries the process id.
//! Absent on purpose: clean-up after a test process that was killed with -9.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory under the system's temporary directory, removed on drop with all it holds.
#[derive(Debug)]
pub struct ScratchDirectory {
    path: PathBuf,
}

impl ScratchDirectory {
    /// Makes an empty directory whose name starts with `bateau-` and `purpose`.
    pub fn new(purpose: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bateau-{purpose}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Process ids repeat (each PID namespace has a process 1): never adopt another's files.
        if path.exists() {
            std::fs::remove_dir_all(&path).expect("a left-over scratch directory can be removed");
        }
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self { path }
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
