//! A block device of the test's own, which can lose what was not flushed, be slow, or refuse reads.
//!
//! ```text
//!   write ──> unflushed, in order ──flush──> image
//!                 └ power cut: none, the first of them or some are kept, the last one torn
//! ```
//!
//! # Invariants
//!
//! - What a flush has answered for is in the image. What was taken later may be lost, each sector
//!   for itself, as of a disk with a cache and no capacitor.
//! - After a power cut everything is EIO until the power is back.
//! - Each fault is counted where it happens.
//!
//! # Absent on purpose
//!
//! Damage to what is stored: that is done to files.

use crate::fuse::{Medium, Mounted};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// What the device holds back at most before it writes the oldest by itself, as disks do.
const UNFLUSHED_BYTES_MAX: usize = 32 << 20;
const EIO: i32 = 5;

/// What became of writes and reads.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Sectors that a power cut threw away.
    pub sectors_lost: u64,
    /// Sectors that had not been flushed when the power went, and were kept all the same.
    pub sectors_kept: u64,
    /// Writes and flushes that came when there was no power.
    pub refused: u64,
    /// Writes that were late.
    pub delayed: u64,
    /// Reads that failed.
    pub unreadable: u64,
}

/// What a power cut keeps of what was not flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Writes up to one, and a part of that one.
    Beginning,
    /// Some writes and not others, whatever their order, and parts of some.
    Scattered,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::Beginning, Self::Scattered];
}

#[derive(Debug, Default)]
struct State {
    unflushed: VecDeque<(u64, Vec<u8>)>,
    unflushed_bytes: usize,
    has_no_power: bool,
    is_unreadable: bool,
    write_delay: Duration,
    flush_delay: Duration,
    counts: Counts,
}

/// The device, as a file from which a loop device can be made.
#[derive(Debug)]
pub struct Device {
    cache: Cache,
    mounted: Mounted,
}

impl Device {
    /// Stands before this image, by a file in this directory.
    ///
    /// # Errors
    /// The system allows no filesystem of ours.
    pub fn new(image: &Path, directory: &Path) -> io::Result<Self> {
        let cache = Cache::of(File::options().read(true).write(true).open(image)?)?;
        let mounted = Mounted::new(directory, cache.clone())?;
        Ok(Self { cache, mounted })
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.mounted.file()
    }

    /// What became of writes and reads so far.
    pub fn counts(&self) -> Counts {
        self.cache.state().counts
    }

    /// From now on every write takes so much longer.
    pub fn delay_writes(&self, delay: Duration) {
        self.cache.state().write_delay = delay;
    }

    /// From now on every flush takes so much longer, and what is being flushed can be lost so long.
    pub fn delay_flushes(&self, delay: Duration) {
        self.cache.state().flush_delay = delay;
    }

    /// From now on every read fails, or no read does.
    pub fn refuse_reads(&self, refused: bool) {
        self.cache.state().is_unreadable = refused;
    }

    /// The power goes. What was not flushed is lost but for what `kept` says.
    pub fn cut(&self, kept: Kept, random: &mut fastrand::Rng) {
        self.cache.cut(kept, random);
    }

    /// The power is back.
    pub fn restore(&self) {
        self.cache.state().has_no_power = false;
    }
}

/// What is behind the file: the image, and writes that it does not have yet.
#[derive(Clone, Debug)]
struct Cache {
    state: Arc<Mutex<State>>,
    image: Arc<File>,
    size_bytes: u64,
}

impl Cache {
    fn of(image: File) -> io::Result<Self> {
        let size_bytes = image.metadata()?.len();
        Ok(Self { state: Arc::default(), image: Arc::new(image), size_bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn cut(&self, kept: Kept, random: &mut fastrand::Rng) {
        let mut state = self.state();
        state.has_no_power = true;
        state.unflushed_bytes = 0;
        let unflushed = std::mem::take(&mut state.unflushed);
        let last = random.usize(..=unflushed.len());
        for (number, (at, bytes)) in unflushed.into_iter().enumerate() {
            let sectors = bytes.len().div_ceil(SECTOR_BYTES);
            let torn = random.usize(..=sectors);
            let whole = match kept {
                Kept::Nothing => 0,
                Kept::Beginning if number < last => sectors,
                Kept::Beginning if number > last => 0,
                Kept::Beginning => torn,
                Kept::Scattered => [0, torn, sectors][random.usize(..3)],
            };
            let kept = bytes.get(..whole * SECTOR_BYTES).unwrap_or(&bytes);
            self.image.write_all_at(kept, at).expect("the machine's own disk takes it");
            state.counts.sectors_kept += whole as u64;
            state.counts.sectors_lost += (sectors - whole) as u64;
        }
    }

    fn powered(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.has_no_power {
            state.counts.refused += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(state)
    }

    /// Writes the oldest until so much is left.
    fn write_back(&self, state: &mut State, left_bytes: usize) -> io::Result<()> {
        while state.unflushed_bytes > left_bytes {
            let Some((at, bytes)) = state.unflushed.pop_front() else { break };
            state.unflushed_bytes -= bytes.len();
            self.image.write_all_at(&bytes, at)?;
        }
        Ok(())
    }
}

impl Medium for Cache {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&mut self, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut state = self.powered()?;
        if state.is_unreadable {
            state.counts.unreadable += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let left = usize::try_from(self.size_bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut read = vec![0; bytes.min(left)];
        self.image.read_exact_at(&mut read, at)?;
        for (from, written) in &state.unflushed {
            lay_over(&mut read, at, written, *from);
        }
        Ok(read)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let delay = self.state().write_delay;
        if !delay.is_zero() {
            thread::sleep(delay);
            self.state().counts.delayed += 1;
        }
        let mut state = self.powered()?;
        state.unflushed_bytes += bytes.len();
        state.unflushed.push_back((at, bytes.to_vec()));
        if state.unflushed_bytes > UNFLUSHED_BYTES_MAX {
            self.write_back(&mut state, UNFLUSHED_BYTES_MAX / 2)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let delay = self.state().flush_delay;
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        let mut state = self.powered()?;
        self.write_back(&mut state, 0)
    }
}

/// Copies what of `over`, which begins at `over_at`, lies within `under`, which begins at
/// `under_at`.
fn lay_over(under: &mut [u8], under_at: u64, over: &[u8], over_at: u64) {
    let begin = under_at.max(over_at);
    let end = (under_at + under.len() as u64).min(over_at + over.len() as u64);
    let within = |at: u64, of: u64| usize::try_from(at - of).expect("it lies within a slice");
    if begin < end {
        let over = &over[within(begin, over_at)..within(end, over_at)];
        under[within(begin, under_at)..within(end, under_at)].copy_from_slice(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_clients_tests::scratch::ScratchDirectory;

    fn cache(directory: &ScratchDirectory) -> Cache {
        let path = directory.path().join("image");
        let file = File::options().create_new(true).read(true).write(true).open(path);
        let file = file.expect("the directory is new");
        file.set_len(1 << 20).expect("it takes no room");
        Cache::of(file).expect("an open file has a length")
    }

    #[test]
    fn what_was_flushed_outlives_a_power_cut_and_nothing_is_served_meanwhile() {
        let directory = ScratchDirectory::new("device");
        let mut cache = cache(&directory);
        cache.write(0, &[1; 1_024]).expect("there is power");
        cache.flush().expect("there is power");
        cache.write(0, &[2; 1_024]).expect("there is power");
        assert_eq!(cache.read(0, 4).expect("there is power"), [2; 4]);
        cache.cut(Kept::Nothing, &mut fastrand::Rng::with_seed(7));
        assert!(cache.read(0, 4).is_err() && cache.write(0, &[3]).is_err());
        assert!(cache.flush().is_err());
        cache.state().has_no_power = false;
        assert_eq!(cache.read(0, 1_024).expect("there is power"), [1; 1_024]);
        let counts = cache.state().counts;
        assert_eq!((counts.sectors_lost, counts.sectors_kept, counts.refused), (2, 0, 3));
    }

    #[test]
    fn a_power_cut_keeps_whole_sectors_of_a_beginning_and_none_of_the_rest() {
        let directory = ScratchDirectory::new("device");
        let mut cache = cache(&directory);
        for at in 0..8_u8 {
            cache.write(u64::from(at) * 2_048, &[at + 1; 2_048]).expect("there is power");
        }
        cache.cut(Kept::Beginning, &mut fastrand::Rng::with_seed(7));
        cache.state().has_no_power = false;
        let read = cache.read(0, 16_384).expect("there is power");
        let kept = read.iter().take_while(|byte| **byte > 0).count();
        assert!(kept % SECTOR_BYTES == 0 && kept < read.len(), "{kept}");
        assert!(read.iter().skip(kept).all(|byte| *byte == 0));
        let counts = cache.state().counts;
        assert_eq!(counts.sectors_kept, (kept / SECTOR_BYTES) as u64);
        assert_eq!(counts.sectors_kept + counts.sectors_lost, 32);
    }

    #[test]
    fn what_was_written_last_lies_over_what_was_there() {
        let mut under = *b"..........";
        lay_over(&mut under, 100, b"abcd", 98);
        lay_over(&mut under, 100, b"efgh", 108);
        lay_over(&mut under, 100, b"no", 110);
        lay_over(&mut under, 100, b"no", 98);
        assert_eq!(&under, b"cd......ef");
    }
}
