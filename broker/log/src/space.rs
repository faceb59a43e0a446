//! Room on the disk: the limits of D20 and the ballast.
//!
//! Absent on purpose: refusing anything. The state is reported, and who proposes acts on it.

use crate::disk::Disk;
use crate::work::SpaceState;
use std::io;
use std::sync::Arc;

const BALLAST: &str = "ballast";

/// Free space as of the last look, and what is set aside.
#[derive(Debug)]
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    soft_free_bytes: u64,
    hard_free_bytes: u64,
    ballast_bytes: u64,
    has_ballast: bool,
    pub(crate) state: SpaceState,
    /// Free bytes above the soft limit, without what could come free.
    pub(crate) above_soft_bytes: u64,
}

impl Space {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        soft_free_bytes: u64,
        hard_free_bytes: u64,
        ballast_bytes: u64,
    ) -> Self {
        let has_ballast =
            disk.list("").is_ok_and(|list| list.iter().any(|entry| entry.name == BALLAST));
        Self {
            disk,
            soft_free_bytes,
            hard_free_bytes,
            ballast_bytes,
            has_ballast,
            state: SpaceState::Ok,
            above_soft_bytes: 0,
        }
    }

    /// Looks at the free space, and sets the ballast aside again where there is room for it.
    ///
    /// - `freeable_bytes`: what comes free by itself when the rest is used up; it counts as free.
    pub(crate) fn look(&mut self, freeable_bytes: u64) -> io::Result<SpaceState> {
        let free = self.disk.space()?.free;
        self.above_soft_bytes = free.saturating_sub(self.soft_free_bytes);
        let usable = free.saturating_add(freeable_bytes);
        self.state = if usable < self.hard_free_bytes {
            SpaceState::Hard
        } else if usable < self.soft_free_bytes {
            SpaceState::Soft
        } else {
            SpaceState::Ok
        };
        let room = self.soft_free_bytes.saturating_add(self.ballast_bytes);
        if !self.has_ballast && self.ballast_bytes > 0 && free > room {
            // Tried again at the next look where it does not work now.
            if let Ok(file) = self.disk.create(BALLAST) {
                self.has_ballast = true;
                if file.allocate(self.ballast_bytes).is_err() {
                    self.release();
                }
            }
        }
        Ok(self.state)
    }

    /// Gives the ballast up. Returns whether there was one.
    pub(crate) fn release(&mut self) -> bool {
        std::mem::take(&mut self.has_ballast) && self.disk.unlink(BALLAST).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimDisk;

    #[test]
    fn the_limits_are_told_apart_and_the_ballast_comes_back() {
        let disk = SimDisk::new(1, 1 << 20);
        let mut space = Space::new(Arc::new(disk.clone()), 400 << 10, 100 << 10, 64 << 10);
        assert_eq!(space.look(0).unwrap(), SpaceState::Ok);
        assert_eq!(disk.space().unwrap().free, (1 << 20) - (64 << 10));
        let filler = disk.create("filler").unwrap();
        filler.allocate(600 << 10).unwrap();
        assert_eq!(space.look(0).unwrap(), SpaceState::Soft);
        assert_eq!(space.look(100 << 10).unwrap(), SpaceState::Ok, "what can give way is free");
        assert_eq!(space.above_soft_bytes, 0);
        filler.allocate(900 << 10).unwrap();
        assert_eq!(space.look(0).unwrap(), SpaceState::Hard);
        assert!(space.release());
        assert!(!space.release());
        assert_eq!(space.look(0).unwrap(), SpaceState::Soft);
        disk.unlink("filler").unwrap();
        assert_eq!(space.look(0).unwrap(), SpaceState::Ok);
        assert!(space.release());
    }
}
