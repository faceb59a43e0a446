//! What a simulated disk would still have after the harshest crash.
//!
//! Absent on purpose: the crash itself; this asks and changes nothing.

use super::state::{FileState, Inode};
use super::{SECTOR_BYTES, SimDisk};

impl SimDisk {
    /// Whether a segment of this directory has `bytes` in one piece on the stable store, under a
    /// name that is stable, too. For checks of what was promised against what is there.
    ///
    /// - `bytes`: at least 8.
    ///
    /// Cost: a search from the end of each file; little where the bytes were written lately.
    #[must_use]
    pub fn has_stable(&self, dir: &str, bytes: &[u8]) -> bool {
        let mut state = self.state();
        let Ok(id) = state.find(dir) else { return false };
        let Some(Inode::Dir { now, stable }) = state.inodes.get(&id) else { return false };
        let files = now
            .iter()
            .rev()
            .filter(|(name, id)| name.ends_with(".log") && stable.get(*name) == Some(*id));
        let files = files.filter_map(|(_, id)| match state.inodes.get(id) {
            Some(Inode::File(file)) => Some(file),
            _ => None,
        });
        files.into_iter().any(|file| file.has_stable(bytes))
    }
}

impl FileState {
    fn has_stable(&self, bytes: &[u8]) -> bool {
        let (Some(first), content) = (bytes.first_chunk::<8>(), &*self.content) else {
            return false;
        };
        let mut end = content.len();
        while let Some(at) = content[..end].windows(8).rposition(|window| window == first) {
            if content[at..].starts_with(bytes) && self.is_stable(at, at + bytes.len()) {
                return true;
            }
            end = at + 7;
        }
        false
    }

    fn is_stable(&self, from: usize, to: usize) -> bool {
        let sectors = from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES);
        self.changed.range(sectors).all(|(sector, changed)| {
            let start = sector * SECTOR_BYTES;
            let (from, to) = (from.max(start), to.min(start + SECTOR_BYTES));
            changed.stable[from - start..to - start] == self.content[from..to]
        })
    }
}
