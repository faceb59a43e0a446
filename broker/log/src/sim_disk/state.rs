//! The two stores behind a simulated disk, and what a crash does to them.
//!
//! Absent on purpose: the calls that a log makes (`sim_disk`).

use super::{SECTOR_BYTES, SimRandom};
use crate::sim_disk::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};

/// The root directory's inode.
pub(super) const ROOT: u64 = 0;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) random: SimRandom,
    pub(super) inodes: BTreeMap<u64, Inode>,
    /// Inodes made so far; a number is never used again.
    pub(super) inodes_count: u64,
    pub(super) changes: Vec<NameChange>,
    pub(super) capacity: u64,
    pub(super) calls: u64,
    pub(super) fault: Option<(u64, Fault)>,
    pub(super) powered: bool,
    pub(super) power_off_at: Option<u64>,
    pub(super) flushes_lie: bool,
    /// What the device's cache holds: by file, the sector.
    pub(super) in_device_cache: Vec<(u64, usize)>,
    pub(super) locks: BTreeMap<String, u32>,
    pub(super) lent: Vec<(Weak<()>, u64, u64, u64)>,
}

#[derive(Clone, Debug)]
pub(super) enum Inode {
    Dir { now: BTreeMap<String, u64>, stable: BTreeMap<String, u64> },
    File(FileState),
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    /// The page cache; zeros follow up to `bytes`.
    pub(super) content: Arc<Vec<u8>>,
    pub(super) bytes: u64,
    pub(super) stable_bytes: u64,
    /// What the stable store holds where it differs.
    pub(super) changed: BTreeMap<usize, Changed>,
    /// Sectors that were flushed once, a bit each: to write over one changes nothing else.
    settled: Arc<Vec<u64>>,
    pub(super) unreadable: BTreeSet<usize>,
    /// Shared with everybody who has the file open, mapped, or holds bytes of it.
    pub(super) users: Arc<()>,
}

#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) stable: [u8; SECTOR_BYTES],
    /// A failed flush has made the page look clean: only a crash or a dropped cache shows it.
    pub(super) lost: bool,
    /// It is in the device's cache.
    pub(super) is_out: bool,
}

/// Names that change together.
pub(super) type NameChange = Vec<(u64, String, Option<u64>)>;

pub(super) fn error(kind: io::ErrorKind, message: &str) -> io::Error {
    io::Error::new(kind, message.to_owned())
}

pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl State {
    pub(super) fn directory(&mut self, id: u64) -> io::Result<&mut BTreeMap<String, u64>> {
        match self.inodes.get_mut(&id) {
            Some(Inode::Dir { now, .. }) => Ok(now),
            _ => Err(error(io::ErrorKind::NotFound, "no such directory")),
        }
    }

    pub(super) fn file(&mut self, id: u64) -> io::Result<&mut FileState> {
        match self.inodes.get_mut(&id) {
            Some(Inode::File(file)) => Ok(file),
            _ => Err(error(io::ErrorKind::NotFound, "no such file")),
        }
    }

    pub(super) fn find(&mut self, path: &str) -> io::Result<u64> {
        let mut id = ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let found = self.directory(id)?.get(part).copied();
            id =
                found.ok_or_else(|| error(io::ErrorKind::NotFound, "no such file or directory"))?;
        }
        Ok(id)
    }

    /// Gives a new file or directory its number.
    pub(super) fn add(&mut self, inode: Inode) -> u64 {
        self.inodes_count += 1;
        self.inodes.insert(self.inodes_count, inode);
        self.inodes_count
    }

    /// Frees files that have no name and no user any more, on neither store.
    pub(super) fn free_nameless(&mut self) {
        let mut named = BTreeSet::new();
        for inode in self.inodes.values() {
            if let Inode::Dir { now, stable } = inode {
                named.extend(now.values().chain(stable.values()).copied());
            }
        }
        named.extend(self.changes.iter().flatten().filter_map(|(_, _, target)| *target));
        self.inodes.retain(|id, inode| match inode {
            Inode::Dir { .. } => true,
            Inode::File(file) => named.contains(id) || Arc::strong_count(&file.users) > 1,
        });
    }

    /// Changes names in the cache, and notes what a flush of their directory has to do.
    pub(super) fn rename_all(&mut self, change: NameChange) -> io::Result<()> {
        for (dir, name, target) in &change {
            let entries = self.directory(*dir)?;
            match target {
                Some(id) => entries.insert(name.clone(), *id),
                None => entries.remove(name),
            };
        }
        self.changes.push(change);
        Ok(())
    }

    pub(super) fn make_stable(&mut self, change: NameChange) {
        for (dir, name, target) in change {
            if let Some(Inode::Dir { stable, .. }) = self.inodes.get_mut(&dir) {
                match target {
                    Some(id) => stable.insert(name, id),
                    None => stable.remove(&name),
                };
            }
        }
    }

    pub(super) fn power_on(&mut self) {
        self.powered = true;
        self.power_off_at = None;
        self.fault = None;
    }

    /// Flushes the cache of the device.
    pub(super) fn flush_device(&mut self) {
        for (id, sector) in std::mem::take(&mut self.in_device_cache) {
            if let Some(Inode::File(file)) = self.inodes.get_mut(&id) {
                file.settle(sector);
            }
        }
    }

    pub(super) fn flush_directory(&mut self, id: u64) {
        let changes = std::mem::take(&mut self.changes);
        let mut takes_names = false;
        for change in changes {
            if change.iter().any(|(dir, ..)| *dir == id) {
                takes_names |= change.iter().any(|(_, _, target)| target.is_none());
                self.make_stable(change);
            } else {
                self.changes.push(change);
            }
        }
        if takes_names {
            self.free_nameless();
        }
    }

    pub(super) fn visit(&self, dir: u64, prefix: &str, visitor: &mut dyn FnMut(&str, &FileState)) {
        let Some(Inode::Dir { now, .. }) = self.inodes.get(&dir) else { return };
        for (name, id) in now {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            match self.inodes.get(id) {
                Some(Inode::File(file)) => visitor(&path, file),
                _ => self.visit(*id, &path, visitor),
            }
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used_in(ROOT)
    }

    fn used_in(&self, dir: u64) -> u64 {
        let Some(Inode::Dir { now, .. }) = self.inodes.get(&dir) else { return 0 };
        let used = |id: &u64| match self.inodes.get(id) {
            Some(Inode::File(file)) => file.bytes.div_ceil(4096) * 4096,
            _ => self.used_in(*id),
        };
        now.values().map(used).sum()
    }

    pub(super) fn make_room(&self, bytes: u64) -> io::Result<()> {
        // What is allocated is written without asking.
        if bytes > 0 && self.used() + bytes > self.capacity {
            return Err(error(io::ErrorKind::StorageFull, "no space left on the simulated disk"));
        }
        Ok(())
    }

    pub(super) fn lose_what_was_not_flushed(&mut self, mut random: SimRandom) {
        self.power_on();
        self.in_device_cache.clear();
        // Besides a coin for everything, crashes that keep nearly all or nearly nothing.
        let keep = [5, 50, 50, 95][size(random.below(4))];
        for change in std::mem::take(&mut self.changes) {
            if random.chance(keep) {
                self.make_stable(change);
            }
        }
        let mut reachable = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if let Some(Inode::Dir { now, stable }) = self.inodes.get_mut(&id) {
                now.clone_from(stable);
                open.extend(now.values().copied().filter(|id| reachable.insert(*id)));
            }
        }
        self.inodes.retain(|id, _| reachable.contains(id));
        for inode in self.inodes.values_mut() {
            if let Inode::File(file) = inode {
                file.crash(&mut random, keep);
            }
        }
        self.random = random;
    }

    pub(super) fn assert_not_lent(&mut self, inode: u64, start: u64, end: u64) {
        self.lent.retain(|(token, ..)| token.strong_count() > 0);
        let clash =
            self.lent.iter().any(|(_, id, from, to)| *id == inode && start < *to && *from < end);
        assert!(!clash, "I-LOG-3: bytes {start}..{end} change while they are lent");
    }
}

impl FileState {
    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        self.bytes = self.bytes.max(end as u64);
        for sector in position / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let stable = self.sector(sector);
            let changed = self.changed.entry(sector).or_insert(Changed {
                stable,
                lost: false,
                is_out: false,
            });
            (changed.lost, changed.is_out) = (false, false);
        }
        let content = Arc::make_mut(&mut self.content);
        if content.len() < end {
            content.resize(end, 0);
        }
        content[position..end].copy_from_slice(bytes);
    }

    pub(super) fn sector(&self, sector: usize) -> [u8; SECTOR_BYTES] {
        let mut bytes = [0; SECTOR_BYTES];
        let start = (sector * SECTOR_BYTES).min(self.content.len());
        let end = (start + SECTOR_BYTES).min(self.content.len());
        bytes[..end - start].copy_from_slice(&self.content[start..end]);
        bytes
    }

    pub(super) fn put_sector(&mut self, sector: usize, bytes: &[u8; SECTOR_BYTES]) {
        let start = sector * SECTOR_BYTES;
        let content = Arc::make_mut(&mut self.content);
        if content.len() < start + SECTOR_BYTES {
            content.resize(start + SECTOR_BYTES, 0);
        }
        content[start..start + SECTOR_BYTES].copy_from_slice(bytes);
    }

    pub(super) fn flush(&mut self) {
        let settled = Arc::make_mut(&mut self.settled);
        self.changed.retain(|sector, changed| {
            let word = sector / 64;
            if settled.len() <= word {
                settled.resize(word + 1, 0);
            }
            settled[word] |= 1 << (sector % 64);
            changed.lost
        });
        self.stable_bytes = self.bytes;
    }

    /// Gives the device what changes nothing but the bytes of settled sectors, and returns which.
    /// Of the rest it gets the bytes, too, but not where they belong.
    pub(super) fn write_out(&mut self) -> Vec<usize> {
        let settled = &self.settled;
        let is_settled = |sector: usize| {
            settled.get(sector / 64).is_some_and(|word| word >> (sector % 64) & 1 == 1)
        };
        let mut out = Vec::new();
        for (sector, changed) in self.changed.iter_mut() {
            if !changed.lost && is_settled(*sector) {
                changed.is_out = true;
                out.push(*sector);
            }
        }
        out
    }

    /// The device has flushed its cache, this sector with it.
    pub(super) fn settle(&mut self, sector: usize) {
        if self.changed.get(&sector).is_some_and(|changed| changed.is_out) {
            self.changed.remove(&sector);
        }
    }

    pub(super) fn fail_flush(&mut self, random: &mut SimRandom) {
        self.changed.retain(|_, changed| {
            changed.lost |= random.chance(50);
            changed.lost
        });
        self.stable_bytes = self.bytes;
    }

    pub(super) fn drop_cache(&mut self, first: usize) {
        let behind = self.changed.range(first..);
        let lost: Vec<usize> =
            behind.filter(|(_, changed)| changed.lost).map(|(at, _)| *at).collect();
        for sector in lost {
            if let Some(changed) = self.changed.remove(&sector) {
                self.put_sector(sector, &changed.stable);
            }
        }
    }

    pub(super) fn crash(&mut self, random: &mut SimRandom, keep: u64) {
        for (sector, changed) in std::mem::take(&mut self.changed) {
            if !changed.lost && random.chance(10) {
                let new = self.sector(sector);
                let cut = size(random.below(SECTOR_BYTES as u64));
                let (head, tail) = if random.chance(50) {
                    (&new, &changed.stable)
                } else {
                    (&changed.stable, &new)
                };
                let mut torn = *head;
                torn[cut..].copy_from_slice(&tail[cut..]);
                self.put_sector(sector, &torn);
            } else if changed.lost || !random.chance(keep) {
                self.put_sector(sector, &changed.stable);
            }
        }
        if self.bytes != self.stable_bytes && !random.chance(keep) {
            self.bytes = self.stable_bytes;
        }
        self.stable_bytes = self.bytes;
        let bytes = size(self.bytes);
        if self.content.len() > bytes {
            Arc::make_mut(&mut self.content).truncate(bytes);
        }
    }
}
