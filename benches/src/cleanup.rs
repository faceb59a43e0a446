//! Nothing is left behind: child processes and scratch directories, however the command ends.
//!
//! Each goes when its owner is dropped. A signal does not unwind, so what lives is registered, and
//! a thread that waits for signals ends and removes it. Should this process be killed with -9,
//! its children notice the end of their stdin.
//!
//! Absent on purpose: removal of directories after a kill -9. They lie under `target/`.

use crate::failure::{Failure, Tried};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What has to be ended and removed when a signal comes.
#[derive(Default)]
struct Registry {
    children: Vec<Pid>,
    directories: Vec<PathBuf>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { children: vec![], directories: vec![] });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers a child until [`forget_child`], which comes before its id is reaped.
pub fn remember_child(pid: Pid) {
    registry().children.push(pid);
}

/// Forgets a child that is about to be reaped.
pub fn forget_child(pid: Pid) {
    registry().children.retain(|child| *child != pid);
}

/// Ends by SIGINT, SIGTERM and SIGHUP take the children and directories along.
///
/// # Errors
/// Signals cannot be waited for.
pub fn on_signals() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let what = || "waiting for signals".to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().tried(what)?;
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let guard = runtime.enter();
    let [mut interrupt, mut terminate, mut hangup] = {
        let made: Result<Vec<_>, _> = kinds.into_iter().map(signal).collect();
        let made: [_; 3] = made
            .tried(what)?
            .try_into()
            .map_err(|_| Failure::unexpected("signals", "another count", 3))?;
        made
    };
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        let registry = registry();
        for child in &registry.children {
            let _ = kill_process(*child, Signal::KILL);
            // It writes to its directory until it is gone.
            let _ = waitpid(Some(*child), WaitOptions::empty());
        }
        for directory in &registry.directories {
            let _ = std::fs::remove_dir_all(directory);
        }
        std::process::exit(130);
    });
    Ok(())
}

/// A directory that goes with its owner.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a new directory with this name under `parent`, which is made if need be.
    ///
    /// # Errors
    /// It exists, or the system refuses.
    pub fn create(parent: &Path, name: &str) -> Result<Self, Failure> {
        let path = parent.join(name);
        std::fs::create_dir_all(parent).tried(|| parent.display().to_string())?;
        std::fs::create_dir(&path).tried(|| path.display().to_string())?;
        registry().directories.push(path.clone());
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        registry().directories.retain(|directory| *directory != self.0);
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: stays behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_goes_with_what_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(parent.path(), "a").unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        assert!(Scratch::create(parent.path(), "a").is_err(), "names are not shared");
        drop(scratch);
        assert!(!path.exists() && parent.path().exists());
    }
}
