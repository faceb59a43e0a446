//! Segment files that hold nothing any more and become segments again.
//!
//! ```text
//!   partitions/<log>/<base>.log ──rename──> recycled/<number>  held: bytes of it may be lent
//!                                               │ map gone, header zeroed: cleared
//!                                               │ flushed with both names, along with others
//!                                               v
//!   partitions/<other>/<base>.log <──rename── ready ──room is short──> leaving: 4 MiB a step
//! ```
//!
//! To write over blocks that a file has costs less than to have new ones made, and nothing has to
//! be unlinked. What a file held stays in it behind the tail of what it becomes: recovery tells
//! those frames from live ones.
//!
//! Invariants
//! - A file that is handed out has one name, which is here and durable, no map, no lent bytes, and
//!   a durable header place of zeros: a segment file whose header says anything was given that
//!   header for what it is now.
//! - The flushes of all frames in it had returned before it was handed out, so their flush
//!   sequences are at or below the birth sequence of the segment that it becomes.
//! - A prepared file keeps its name here until it is a segment's, so that one rename decides.
//!
//! How much is kept: at most [`FILES_PER_SIZE_MAX`] files of one size, [`BYTES_MAX`] in all, and
//! [`ROOM_SHARE`] of what is free above the soft limit. A log in its steady state takes a segment
//! for each one that it drops, so a few of a size serve many logs; where room is short, all go.
//!
//! Absent on purpose: files of deleted logs, which are shortened: what was deleted goes. Files
//! after a crash: a rename that was lost may have left frames in one that no flush covered.

use crate::bytes_io::{from_hex, hex, length, size};
use crate::disk::{Disk, DiskFile};
use crate::flush_set::FlushSet;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::writer::Prepared;
use bateau_protocol::frame::FRAME_HEADER_BYTES;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Directory of the files that wait.
pub(crate) const RECYCLED: &str = "recycled";

/// Bytes that one step takes off a file on its way out.
pub(crate) const SHRINK_BYTES: u64 = 4 * 1024 * 1024;

/// Most files of one size.
const FILES_PER_SIZE_MAX: usize = 16;

/// Most bytes of all files: four segments of the default size.
const BYTES_MAX: u64 = 4 << 30;

/// The files take at most one part in so many of what is free above the soft limit.
const ROOM_SHARE: u64 = 4;

/// Files that one step clears.
const CLEARED_PER_STEP: usize = 16;

/// Segment files that wait to be used again, as of now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecycledSegments {
    /// Files that wait, those included of which bytes are lent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments that were made of one, since the directory was opened.
    pub used: u64,
}

/// The files that wait, oldest first.
#[derive(Debug)]
pub(crate) struct RecycledFiles {
    disk: Arc<dyn Disk>,
    files: Vec<Waiting>,
    /// The number that was given last, by any process.
    number: u64,
    used: u64,
    /// Free bytes above the soft limit as of the last look.
    room_bytes: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    bytes: u64,
    /// At its front, written and flushed before; 0 where an earlier process left the file.
    settled_bytes: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Bytes may be lent; its former name was in the directory `from`.
    Held { segment: Arc<Segment>, from: Option<String> },
    /// Nobody looks at it; its header still says what it was.
    Loose { from: Option<String> },
    /// Its header is zeroed; that and its names are named to be flushed.
    Cleared,
    /// To be handed out.
    Ready,
    /// To be shortened and unlinked.
    Leaving,
}

impl Waiting {
    fn path(&self) -> String {
        path(self.number)
    }

    fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving)
    }

    fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held { .. })
    }

    /// Gives the map up once nobody else has the segment. Nothing is written before.
    fn let_go(&mut self) {
        if let Stage::Held { segment, from } = &mut self.stage
            && !Segment::is_lent(segment)
        {
            self.stage = Stage::Loose { from: from.take() };
        }
    }
}

fn path(number: u64) -> String {
    format!("{RECYCLED}/{}", hex(number))
}

impl RecycledFiles {
    /// What an earlier process left: kept where it stopped cleanly, else on its way out.
    ///
    /// - `number`: above every number that an earlier process gave.
    pub(crate) fn open(disk: Arc<dyn Disk>, number: u64, is_clean: bool) -> io::Result<Self> {
        // Where there is no room for it, nothing is recycled.
        let _ = disk.create_dir(RECYCLED);
        let mut files = Vec::new();
        for entry in disk.list(RECYCLED)? {
            let Some(number) = from_hex(&entry.name) else { continue };
            let is_segment = entry.bytes > SEGMENT_HEADER_BYTES && entry.bytes.is_multiple_of(4096);
            let stage =
                if is_clean && is_segment { Stage::Loose { from: None } } else { Stage::Leaving };
            files.push(Waiting { number, bytes: entry.bytes, settled_bytes: 0, stage });
        }
        Ok(Self { disk, files, number, used: 0, room_bytes: 0 })
    }

    pub(crate) fn as_of_now(&self) -> RecycledSegments {
        let waiting = self.files.iter().filter(|file| !file.is_leaving());
        RecycledSegments {
            files: length(waiting.clone().count()),
            bytes: waiting.map(|file| file.bytes).sum(),
            used: self.used,
        }
    }

    /// Bytes that come free when they are wanted.
    pub(crate) fn freeable_bytes(&self) -> u64 {
        self.files.iter().filter(|file| !file.is_held()).map(|file| file.bytes).sum()
    }

    /// Takes note of the free bytes above the soft limit, without those of the files here. Where
    /// there are none, everything goes that nobody holds.
    pub(crate) fn note_room(&mut self, room_bytes: u64) {
        self.room_bytes = room_bytes;
        if room_bytes == 0 {
            self.files.iter_mut().filter(|file| !file.is_held()).for_each(|file| {
                file.stage = Stage::Leaving;
            });
        }
    }

    /// Whether a file of `bytes` may come, once those have gone whose size nobody wants next.
    ///
    /// - `is_wanted`: whether some log wants a file of so many bytes next. Asked once of a size.
    pub(crate) fn has_room(&mut self, bytes: u64, is_wanted: impl Fn(u64) -> bool) -> bool {
        if !is_wanted(bytes) {
            return false;
        }
        let mut asked = BTreeMap::from([(bytes, true)]);
        for file in self.files.iter_mut().filter(|file| file.is_ready()) {
            if !*asked.entry(file.bytes).or_insert_with(|| is_wanted(file.bytes)) {
                file.stage = Stage::Leaving;
            }
        }
        let alike = self.files.iter().filter(|file| file.bytes == bytes).count();
        let all = bytes.saturating_add(self.files.iter().map(|file| file.bytes).sum());
        alike < FILES_PER_SIZE_MAX && all <= BYTES_MAX.min(self.room_bytes / ROOM_SHARE)
    }

    /// Takes the file of a segment that holds nothing any more: by its name at once, for use when
    /// nobody looks at it.
    pub(crate) fn put(&mut self, segment: &Arc<Segment>) -> io::Result<()> {
        let from = segment.path();
        let number = self.number + 1;
        self.disk.rename(&from, &path(number))?;
        self.number = number;
        segment.set_path(path(number));
        let from = from.rsplit_once('/').map(|(dir, _)| dir.to_owned());
        let stage = Stage::Held { segment: Arc::clone(segment), from };
        let settled_bytes = segment.settled_bytes();
        self.files.push(Waiting { number, bytes: segment.capacity, settled_bytes, stage });
        Ok(())
    }

    /// The directory `dir` is gone or another one, durably: nothing has to be flushed there.
    pub(crate) fn forget_dir(&mut self, dir: &str) {
        for file in &mut self.files {
            if let Stage::Held { from, .. } | Stage::Loose { from } = &mut file.stage
                && from.as_deref() == Some(dir)
            {
                *from = None;
            }
        }
    }

    /// Clears some files that nobody looks at any more, and names what has to be flushed before
    /// they are of use: see [`RecycledFiles::flushed`]. Returns whether there was any.
    pub(crate) fn clear(&mut self, flush: &mut FlushSet) -> bool {
        self.files.iter_mut().for_each(Waiting::let_go);
        let loose = self.files.iter_mut().filter_map(|file| match &mut file.stage {
            Stage::Loose { from } => Some((from.take(), file)),
            _ => None,
        });
        let mut any = false;
        for (from, file) in loose.take(CLEARED_PER_STEP) {
            any = true;
            match clear_header(&*self.disk, &file.path()) {
                Ok(handle) => {
                    flush.add_file(&handle);
                    flush.add_dir(RECYCLED);
                    from.iter().for_each(|dir| flush.add_dir(dir));
                    file.stage = Stage::Cleared;
                }
                Err(_) => file.stage = Stage::Leaving,
            }
        }
        any
    }

    /// Takes note that all that was named by [`RecycledFiles::clear`] has been flushed.
    pub(crate) fn flushed(&mut self) {
        for file in &mut self.files {
            if matches!(file.stage, Stage::Cleared) {
                file.stage = Stage::Ready;
            }
        }
    }

    /// Whether a flush is all that keeps a file of `bytes` from being handed out, and no other is.
    pub(crate) fn waits_for_flush(&self, bytes: u64) -> bool {
        let mut alike = self.files.iter().filter(|file| file.bytes == bytes);
        !alike.clone().any(Waiting::is_ready)
            && alike.any(|file| matches!(file.stage, Stage::Cleared))
    }

    /// A file of exactly `bytes`, the one that came last: most of it is still in memory. It keeps
    /// its name until it gets a segment's.
    pub(crate) fn take(&mut self, bytes: u64) -> Option<Prepared> {
        loop {
            let is_it = |file: &Waiting| file.bytes == bytes && file.is_ready();
            let at = self.files.iter().rposition(is_it)?;
            let waiting = self.files.remove(at);
            let path = waiting.path();
            let open = || {
                let file = self.disk.open(&path)?;
                // It has its room; a file that has lost some of it gets it again, or stays.
                file.allocate(bytes)?;
                let map = file.map()?;
                Ok::<_, io::Error>((file, map))
            };
            if let Ok((file, map)) = open() {
                let (recycled, settled_bytes) = (Some(waiting.number), waiting.settled_bytes);
                let capacity = bytes;
                return Some(Prepared { file, map, capacity, path, recycled, settled_bytes });
            }
            self.files.push(Waiting { stage: Stage::Leaving, ..waiting });
        }
    }

    /// Notes that a file that was taken has become a segment.
    pub(crate) fn note_used(&mut self) {
        self.used += 1;
    }

    /// Takes back what was taken and not used.
    pub(crate) fn give_back(&mut self, prepared: Prepared) {
        if let Some(number) = prepared.recycled {
            let stage = if self.room_bytes == 0 { Stage::Leaving } else { Stage::Ready };
            let (bytes, settled_bytes) = (prepared.capacity, prepared.settled_bytes);
            self.files.push(Waiting { number, bytes, settled_bytes, stage });
        }
    }

    /// Gives up the names of files of which bytes are still lent: the next owner of the directory
    /// could not know of that.
    pub(crate) fn drop_held(&mut self) {
        for file in self.files.extract_if(.., |file| file.is_held()) {
            // What cannot be removed now is as a crash would leave it.
            let _ = self.disk.unlink(&file.path());
        }
    }

    /// Gives one file up at once, whatever stall that is: its room is needed now. Returns whether
    /// there was one.
    pub(crate) fn release(&mut self) -> bool {
        while let Some(at) = self.files.iter().position(|file| !file.is_held()) {
            // What cannot be removed now, the next start removes.
            if self.disk.unlink(&self.files.remove(at).path()).is_ok() {
                return true;
            }
        }
        false
    }

    /// Takes a slice off a file on its way out, or unlinks it. Returns whether there was one.
    pub(crate) fn shrink(&mut self) -> bool {
        let Some(at) = self.files.iter().position(Waiting::is_leaving) else { return false };
        let Some(file) = self.files.get_mut(at) else { return false };
        let left = file.bytes.saturating_sub(SHRINK_BYTES);
        let path = file.path();
        if left > 0 && self.disk.open(&path).and_then(|file| file.set_bytes(left)).is_ok() {
            file.bytes = left;
            return true;
        }
        self.files.remove(at);
        // What cannot be removed now, the next start removes.
        let _ = self.disk.unlink(&path);
        true
    }
}

/// Zeroes a file's header place and the first frame's.
fn clear_header(disk: &dyn Disk, path: &str) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(path)?;
    file.write_at(0, &[&vec![0; size(SEGMENT_HEADER_BYTES) + FRAME_HEADER_BYTES]])?;
    Ok(file)
}
