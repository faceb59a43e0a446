//! Where a node keeps what is durable, over all of its starts.
//!
//! Absent on purpose: what is kept there.

use bateau_log::{Disk, RealDisk, RealDiskOptions};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a node keeps what is durable, over all of its restarts.
pub trait Store: Debug + Send + Sync {
    /// Opens it, for a start; after [`cut_power`](Self::cut_power) with what survived.
    ///
    /// Errors: text for the operator, with the place's name.
    fn open(&self) -> Result<Arc<dyn Disk>, String>;

    /// Switches the disk off under a running node: what was not flushed is lost.
    ///
    /// Errors: why this store cannot do that.
    fn cut_power(&self) -> Result<(), String>;

    /// Ends what is open, as a process ends by `kill -9`: nothing more is written, and what was
    /// written stays.
    ///
    /// Errors: why this store cannot do that.
    fn kill(&self) -> Result<(), String> {
        Err("only a node under test control can be killed".to_owned())
    }

    /// The directory, where it is one of the operating system's.
    fn directory(&self) -> Option<&Path> {
        None
    }
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    /// Where.
    pub path: PathBuf,
    /// How.
    pub options: RealDiskOptions,
}

impl Store for DirectoryStore {
    fn open(&self) -> Result<Arc<dyn Disk>, String> {
        let disk = RealDisk::open(&self.path, self.options);
        let disk =
            disk.map_err(|error| format!("{}: cannot be opened: {error}", self.path.display()))?;
        Ok(Arc::new(disk))
    }

    fn cut_power(&self) -> Result<(), String> {
        let place = self.path.display();
        Err(format!(
            "a crash needs the memory store, which knows what was flushed; this node keeps its \
             data in {place}"
        ))
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.path)
    }
}
