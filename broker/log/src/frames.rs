//! Frames of a segment file, read from the file and not through the map: one behind the other, or
//! wherever any can be found.
//!
//! Absent on purpose: judgement. What a bad frame means is recovery's to say.

use crate::bytes_io::{length, size};
use crate::disk::DiskFile;
use crate::index::{TIMESTAMP_PREFIX_BYTES, payload_timestamp};
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FRAME_MAGIC, FRAME_VERSION, FrameHeader};
use std::io;
use std::ops::ControlFlow;

/// Bytes that a walk over whole frames reads at once.
pub(crate) const WALK_BYTES: usize = 256 * 1024;

/// Bytes that a walk over headers alone reads at once.
pub(crate) const SKIP_BYTES: usize = 4096;

/// What a medium loses at once, in bytes, at the least.
const SECTOR_BYTES: u64 = 512;

/// A part of a file in memory, moved along as it is asked for.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    file_bytes: u64,
    chunk_bytes: usize,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, chunk_bytes: usize) -> io::Result<Self> {
        let file_bytes = file.bytes()?;
        Ok(Self { file, file_bytes, chunk_bytes, start: 0, buffer: Vec::new() })
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The bytes from `position` on, `wanted` of them; `None` where the file ends before.
    pub(crate) fn get(&mut self, position: u64, wanted: usize) -> io::Result<Option<&[u8]>> {
        let end = position.saturating_add(length(wanted));
        if end > self.file_bytes {
            return Ok(None);
        }
        let held = self.start..self.start + length(self.buffer.len());
        if position < held.start || end > held.end {
            let bytes = length(wanted.max(self.chunk_bytes)).min(self.file_bytes - position);
            self.buffer.resize(size(bytes), 0);
            self.start = position;
            let mut read = self.file.read_at(position, &mut self.buffer);
            if read.is_err() && self.buffer.len() > wanted {
                // What cannot be read may lie behind what is wanted.
                self.buffer.truncate(wanted);
                read = self.file.read_at(position, &mut self.buffer);
            }
            if let Err(error) = read {
                self.buffer.clear();
                return Err(error);
            }
        }
        let from = size(position - self.start);
        Ok(self.buffer.get(from..from + wanted))
    }
}

/// What is at one place of a segment file.
#[derive(Debug)]
pub(crate) enum Place {
    /// A frame with a valid header, and a valid payload where that was asked for.
    Frame {
        /// Its header.
        header: FrameHeader,
        /// Largest timestamp of its batch header.
        timestamp: i64,
    },
    /// Zeros, or no room for a header: what is behind the last frame.
    Empty,
    /// Neither.
    Bad {
        /// In words.
        reason: String,
        /// The header, where that is valid.
        header: Option<Box<FrameHeader>>,
        /// The medium could not be read.
        unreadable: bool,
    },
}

/// Reads the place at `position`.
///
/// - `whole`: check the payload's CRC too.
pub(crate) fn read_place(window: &mut Window<'_>, position: u64, whole: bool) -> Place {
    let bad = |reason: String| Place::Bad { reason, header: None, unreadable: false };
    let unreadable =
        |error: io::Error| Place::Bad { reason: error.to_string(), header: None, unreadable: true };
    let header = match window.get(position, FRAME_HEADER_BYTES) {
        Err(error) => return unreadable(error),
        Ok(None) => return Place::Empty,
        Ok(Some(bytes)) if bytes.iter().all(|byte| *byte == 0) => return Place::Empty,
        Ok(Some(bytes)) => match bytes.first_chunk().map(FrameHeader::decode) {
            Some(Ok(header)) => header,
            Some(Err(error)) => return bad(error.to_string()),
            None => return Place::Empty,
        },
    };
    let payload_bytes = size(u64::from(header.payload_bytes));
    let wanted = if whole { payload_bytes } else { payload_bytes.min(TIMESTAMP_PREFIX_BYTES) };
    let reason = match window.get(position + length(FRAME_HEADER_BYTES), wanted) {
        Err(error) => return unreadable(error),
        Ok(None) => "the file ends within the payload".to_owned(),
        Ok(Some(payload)) => {
            let computed = if whole { crc32fast::hash(payload) } else { header.payload_crc };
            if computed == header.payload_crc {
                return Place::Frame { timestamp: payload_timestamp(header.kind, payload), header };
            }
            format!("payload CRC is {:#010x}, computed {computed:#010x}", header.payload_crc)
        }
    };
    Place::Bad { reason, header: Some(Box::new(header)), unreadable: false }
}

/// Calls `visit` with every intact frame in a file from `position` on, wherever it begins, payload
/// checked: bytes inside a payload never pass for a frame that way. Ranges that were never written
/// or cannot be read are passed over. Ends where `visit` says so.
pub(crate) fn find_frames(
    file: &dyn DiskFile,
    position: u64,
    visit: &mut dyn FnMut(FrameHeader, u64) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut window = Window::new(file, WALK_BYTES)?;
    let mut at = position;
    for (start, end) in data_ranges(file, position)? {
        at = start.max(at);
        while at < end {
            match next_magic(&mut window, at, end) {
                Some(found) => at = found,
                None => {
                    at = end;
                    break;
                }
            }
            match read_place(&mut window, at, true) {
                Place::Frame { header, .. } => {
                    if visit(header, at).is_break() {
                        return Ok(());
                    }
                    at += header.frame_bytes();
                }
                _ => at += 1,
            }
        }
        at = at.max(end);
    }
    Ok(())
}

/// The ranges of a file from `position` on that were ever written.
///
/// They are listed before anything is read: the system reads ahead, and pages of allocated space
/// that it has read ahead count as data from then on, so that a search that reads as it goes walks
/// through all of a preallocated segment.
fn data_ranges(file: &dyn DiskFile, position: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut ranges = Vec::new();
    let mut at = position;
    while let Some((start, end)) = file.next_data(at)? {
        ranges.push((start, end));
        at = end;
    }
    Ok(ranges)
}

/// The first place in `from..end` whose bytes begin like a frame.
fn next_magic(window: &mut Window<'_>, from: u64, end: u64) -> Option<u64> {
    let [low, high] = FRAME_MAGIC.to_le_bytes();
    let magic = [low, high, FRAME_VERSION];
    let mut at = from;
    let end = end.min(window.file_bytes());
    while at + length(FRAME_HEADER_BYTES) <= end {
        let most = size((end - at).min(length(WALK_BYTES)));
        // Near an unreadable range by little, and over it a sector at a time.
        let wanted = match window.get(at, most) {
            Ok(Some(_)) => most,
            _ => most.min(FRAME_HEADER_BYTES),
        };
        let Ok(Some(bytes)) = window.get(at, wanted) else {
            at = (at + 1).next_multiple_of(SECTOR_BYTES);
            continue;
        };
        let mut within = 0;
        while let Some(next) = bytes.get(within..).and_then(|rest| first(rest, low)) {
            within += next;
            if bytes.get(within..).is_some_and(|rest| rest.starts_with(&magic)) {
                return Some(at + length(within));
            }
            within += 1;
        }
        // The magic may lie across the end of what was looked at.
        at += length(wanted.saturating_sub(magic.len() - 1).max(1));
    }
    None
}

fn first(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::sim_disk::SimDisk;
    use bateau_protocol::frame::{Frame, FrameKind};
    use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, Offset, Term};
    use bytes::Bytes;

    fn frame(index: u64, payload: &[u8]) -> Vec<u8> {
        let entry = (Term::new(1), LogIndex::new(index));
        let payload = Bytes::copy_from_slice(payload);
        let frame = Frame::new(FrameKind::Command, entry, Offset::ZERO, 0, payload.clone());
        let header = frame.header(Incarnation::new(5), 0, FlushSequence::new(1));
        [header.encode().as_slice(), &payload].concat()
    }

    fn found(file: &dyn DiskFile) -> Vec<u64> {
        let mut found = Vec::new();
        let mut visit = |header: FrameHeader, _| {
            found.push(header.index.get());
            if header.index.get() == 99 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        find_frames(file, 0, &mut visit).unwrap();
        found
    }

    #[test]
    fn frames_are_found_behind_garbage_and_at_any_byte() {
        let disk = SimDisk::new(1, 1 << 30);
        let file = disk.create("x").unwrap();
        let bytes =
            [&b"garbage"[..], &frame(1, b"abc"), b"\x7e\xba\x01", &frame(2, b""), &frame(3, b"z")];
        file.write_at(0, &bytes).unwrap();
        assert_eq!(found(&*file), [1, 2, 3]);
        file.write_at(WALK_BYTES as u64 - 1, &[&frame(4, &vec![7; 300_000])]).unwrap();
        assert_eq!(found(&*file), [1, 2, 3, 4]);
        file.write_at(0, &[&frame(99, b"the last that is asked for")]).unwrap();
        assert_eq!(found(&*file), [99]);
    }

    #[test]
    fn a_frame_inside_a_payload_is_not_found_while_its_own_frame_is_intact() {
        let disk = SimDisk::new(1, 1 << 30);
        let file = disk.create("x").unwrap();
        file.write_at(0, &[&frame(1, &frame(77, b"inner")), &frame(2, b"")]).unwrap();
        assert_eq!(found(&*file), [1, 2]);
    }
}
