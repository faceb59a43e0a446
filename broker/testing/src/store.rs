//! The in-memory store: the simulator's disk, which knows what was flushed.
//!
//! Invariants: at most [`MEMORY_BYTES_MAX`]; a restart finds everything, a crash what was flushed
//! and of the rest what the seed says.
//!
//! Absent on purpose: injected disk errors.

use bateau::node::Store;
use bateau_log::Disk;
use bateau_log::sim_disk::SimDisk;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that the in-memory store holds, preallocated segments included.
pub const MEMORY_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    disk: SimDisk,
    /// What the next crash leaves of what was not flushed.
    crash_seed: u64,
    is_cut: bool,
}

impl MemoryStore {
    pub fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed, MEMORY_BYTES_MAX);
        Self { state: Mutex::new(State { disk, crash_seed: seed, is_cut: false }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        self.state().disk.space().map_or(0, |space| space.free)
    }
}

impl Store for MemoryStore {
    fn open(&self) -> Result<Arc<dyn Disk>, String> {
        let mut state = self.state();
        if std::mem::take(&mut state.is_cut) {
            state.crash_seed = state.crash_seed.wrapping_add(1);
            state.disk = state.disk.crash(state.crash_seed);
        }
        Ok(Arc::new(state.disk.clone()))
    }

    fn cut_power(&self) -> Result<(), String> {
        let mut state = self.state();
        state.disk.cut_power();
        state.is_cut = true;
        Ok(())
    }
}
