//! Looking into a segment file: what `bateau log dump` shows.
//!
//! Absent on purpose: a running node's log. This reads one file, and changes nothing.

use crate::bytes_io::{length, size};
use crate::disk::DiskFile;
use crate::frames::{Place, WALK_BYTES, Window, read_place};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::tail::Tail;
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use std::io;
use std::sync::Arc;

/// Bytes of a record batch's header.
const BATCH_HEADER_BYTES: usize = 61;

/// One line of a dump.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DumpedPlace {
    /// A frame.
    Frame(Box<DumpedFrame>),
    /// Bytes that are no frame. The dump ends here.
    Bad {
        /// Where in the file, in bytes.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
}

/// One frame of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DumpedFrame {
    /// Where its header begins, in bytes.
    pub position: u64,
    /// Its header, whose checksum is right.
    pub header: FrameHeader,
    /// What is wrong with its payload or its place in the log; `None` for a good frame.
    pub damage: Option<String>,
    /// The header of its record batch.
    pub batch: Option<DumpedBatch>,
}

/// The header fields of a record batch, unchecked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DumpedBatch {
    /// Base offset.
    pub base_offset: i64,
    /// Kafka's leader epoch.
    pub leader_epoch: i32,
    /// CRC-32C of attributes and everything behind.
    pub crc: u32,
    /// Compression, timestamp type, transactional, control.
    pub attributes: i16,
    /// Offset of the last record, from the base.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, in Unix milliseconds.
    pub timestamp_base: i64,
    /// Largest timestamp, in Unix milliseconds.
    pub timestamp_max: i64,
    /// Producer id; −1 without idempotence.
    pub producer_id: i64,
    /// Producer epoch.
    pub producer_epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
    /// Records.
    pub record_count: i32,
}

/// A segment file, read frame by frame, up to where what the file held before it was this segment's
/// begins. Frames that died by a truncation are not told apart from live ones: that takes the meta
/// log.
#[derive(Debug)]
pub struct SegmentDump {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    tail: Tail,
    is_done: bool,
}

impl SegmentDump {
    /// Reads the header of a segment file.
    ///
    /// Errors: the system's, or [`io::ErrorKind::InvalidData`] for a file that is no segment.
    pub fn open(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let mut bytes = vec![0; size(SEGMENT_HEADER_BYTES)];
        file.read_at(0, &mut bytes)?;
        let header = SegmentHeader::decode(&bytes)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?;
        Ok(Self { file, header, tail: Tail::before_segment(&header), is_done: false })
    }

    /// The segment's header.
    #[must_use]
    pub fn header(&self) -> SegmentHeader {
        self.header
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn is_of_before(&self, header: &FrameHeader) -> bool {
        header.incarnation != self.header.incarnation
            || header.flush_sequence <= self.header.birth_flush_sequence
    }

    fn read(&mut self) -> io::Result<Option<DumpedPlace>> {
        let position = self.tail.position;
        let file = Arc::clone(&self.file);
        // A dump is no hurry: a window for each frame keeps this borrow-free.
        let mut window = Window::new(&*file, FRAME_HEADER_BYTES.max(WALK_BYTES / 16))?;
        let (header, mut damage) = match read_place(&mut window, position, true) {
            Place::Empty => return Ok(None),
            Place::Frame { header, .. } if self.is_of_before(&header) => return Ok(None),
            Place::Bad { header: Some(header), .. } if self.is_of_before(&header) => {
                return Ok(None);
            }
            Place::Frame { header, .. } => (header, None),
            Place::Bad { reason, header: Some(header), .. } => (*header, Some(reason)),
            Place::Bad { reason, header: None, .. } => {
                self.is_done = true;
                return Ok(Some(DumpedPlace::Bad { position, reason }));
            }
        };
        if let Err(reason) = self.tail.check_follows(&header, self.header.incarnation) {
            damage.get_or_insert(reason);
        }
        let batch = if header.kind == FrameKind::Records {
            window
                .get(position + length(FRAME_HEADER_BYTES), BATCH_HEADER_BYTES)?
                .and_then(DumpedBatch::decode)
        } else {
            None
        };
        self.tail = self.tail.after(&header);
        let frame = DumpedFrame { position, header, damage, batch };
        Ok(Some(DumpedPlace::Frame(Box::new(frame))))
    }
}

impl Iterator for SegmentDump {
    type Item = io::Result<DumpedPlace>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let place = self.read().transpose();
        self.is_done |= !matches!(place, Some(Ok(_)));
        place
    }
}

impl DumpedBatch {
    fn decode(bytes: &[u8]) -> Option<Self> {
        fn at<const N: usize>(bytes: &[u8], position: usize) -> Option<[u8; N]> {
            bytes.get(position..)?.first_chunk().copied()
        }
        Some(Self {
            base_offset: i64::from_be_bytes(at(bytes, 0)?),
            leader_epoch: i32::from_be_bytes(at(bytes, 12)?),
            crc: u32::from_be_bytes(at(bytes, 17)?),
            attributes: i16::from_be_bytes(at(bytes, 21)?),
            last_offset_delta: i32::from_be_bytes(at(bytes, 23)?),
            timestamp_base: i64::from_be_bytes(at(bytes, 27)?),
            timestamp_max: i64::from_be_bytes(at(bytes, 35)?),
            producer_id: i64::from_be_bytes(at(bytes, 43)?),
            producer_epoch: i16::from_be_bytes(at(bytes, 51)?),
            base_sequence: i32::from_be_bytes(at(bytes, 53)?),
            record_count: i32::from_be_bytes(at(bytes, 57)?),
        })
    }
}
