//! `bateau log dump SEGMENT`: the frames of one segment file, in order, each checked.
//!
//! Reads the file and nothing else: no data directory, no lock, so it works on a copy and beside
//! a running node. It ends at zeros, at the end of the file and at frames of an earlier life of a
//! recycled file, which may lie behind its tail: those of another partition, and those that were
//! flushed before the segment was born. Anything else that is no frame ends it with
//! exit code 1 and its place: the rest of a torn write, or damage.
//!
//! Absent on purpose: telling those two apart, which takes the meta log (recovery does it), and
//! repair.

use super::fault::Fault;
use super::output::{Output, print};
use crate::exit::Exit;
use bateau_log::SegmentHeader;
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader, FrameKind};
use bateau_protocol::gap;
use bateau_protocol::ids::LogIndex;
use serde_json::json;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau log dump 0000000000000001.log
  bateau log dump 0000000000000001.log -o table";

/// Bytes of the segment's own header, before its first frame (`docs/formats/segment.md`).
const SEGMENT_HEADER_BYTES: u64 = 4096;

pub(super) fn run(path: &Path, output: Output) -> Result<(), Fault> {
    let place = path.display();
    let failed = |error: io::Error| {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NotFoundOrHeld,
            _ => Exit::Failed,
        };
        Fault::plain(exit, format!("{place}: {error}"))
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let segment = segment_header(&mut file).map_err(failed)?;
    let mut frames = Frames { file, position: SEGMENT_HEADER_BYTES, segment, previous: None };
    if output == Output::Table {
        print(HEADINGS)?;
    }
    loop {
        match frames.next().map_err(failed)? {
            Next::Frame(frame) => print(&frame.line(output))?,
            Next::End => return Ok(()),
            Next::Broken { position, reason } => {
                let message = format!("{place}: at byte {position}: {reason}");
                return Err(Fault::plain(Exit::Failed, message));
            }
        }
    }
}

const HEADINGS: &str =
    "  POSITION     INDEX   TERM       OFFSET  RECORDS KIND          BYTES FLUSH\n";

/// What the file holds next.
enum Next {
    /// A whole frame whose checksums match.
    Frame(Found),
    /// Zeros, the end of the file or a frame of an earlier life: nothing was written here.
    End,
    /// The rest of a torn write, or damage.
    Broken {
        /// Byte of the file.
        position: u64,
        /// What was found and expected.
        reason: String,
    },
}

struct Found {
    position: u64,
    header: FrameHeader,
    /// Of a gap: the last index of the run of lost entries that it is of.
    lost_to: Option<LogIndex>,
}

impl Found {
    fn line(&self, output: Output) -> String {
        let Self { position, header, lost_to } = self;
        let kind = format!("{:?}", header.kind).to_lowercase();
        let (index, term, offset) = (header.index, header.term, header.base_offset);
        let (records, bytes, flush) =
            (header.record_count, header.payload_bytes, header.flush_sequence);
        match output {
            Output::Json => {
                let mut object = json!({
                    "position": position, "index": index.get(), "term": term.get(),
                    "base_offset": offset.get(), "record_count": records, "kind": kind,
                    "payload_bytes": bytes, "payload_crc": header.payload_crc,
                    "incarnation": format!("{:016x}", header.incarnation.get()),
                    "flush_sequence": flush.get(),
                });
                if let Some(lost_to) = lost_to {
                    object["lost_to"] = lost_to.get().into();
                }
                format!("{object}\n")
            }
            Output::Table => {
                let lost = lost_to.map(|last| format!("  lost up to index {last}"));
                let lost = lost.unwrap_or_default();
                format!(
                    "{position:>10} {index:>9} {term:>6} {offset:>12} {records:>8} {kind:<10} \
                     {bytes:>8} {flush:>5}{lost}\n"
                )
            }
        }
    }
}

struct Frames<R> {
    file: R,
    position: u64,
    /// The segment's own header, where it is one.
    segment: Option<SegmentHeader>,
    previous: Option<FrameHeader>,
}

impl<R: Read> Frames<R> {
    fn next(&mut self) -> io::Result<Next> {
        let position = self.position;
        let mut bytes = [0; FRAME_HEADER_BYTES];
        if !fill(&mut self.file, &mut bytes)? {
            return Ok(Next::End);
        }
        let broken = |reason: String| Ok(Next::Broken { position, reason });
        let header = match FrameHeader::decode(&bytes) {
            Ok(header) => header,
            Err(FrameError::Magic { .. }) if bytes.iter().all(|byte| *byte == 0) => {
                return Ok(Next::End);
            }
            Err(error) => return broken(error.to_string()),
        };
        if self.is_of_before(&header) {
            return Ok(Next::End);
        }
        let mut payload = vec![0; header.payload_bytes as usize];
        if !fill(&mut self.file, &mut payload)? {
            return broken(format!("the file ends inside a payload of {} bytes", payload.len()));
        }
        let computed = crc32fast::hash(&payload);
        if computed != header.payload_crc {
            let found = header.payload_crc;
            return broken(format!("payload CRC is {found:#010x}, computed {computed:#010x}"));
        }
        if let Some(reason) = self.previous.and_then(|previous| broken_link(&previous, &header)) {
            return broken(reason);
        }
        self.previous = Some(header);
        self.position += header.frame_bytes();
        let is_gap = header.kind == FrameKind::Gap;
        let lost_to = is_gap.then(|| gap::lost_to(&payload)).flatten();
        Ok(Next::Frame(Found { position, header, lost_to }))
    }

    /// Whether a frame is of what the file was before.
    fn is_of_before(&self, header: &FrameHeader) -> bool {
        let is_foreign = |incarnation| incarnation != header.incarnation;
        self.previous.is_some_and(|previous| is_foreign(previous.incarnation))
            || self.segment.is_some_and(|segment| {
                is_foreign(segment.incarnation)
                    || header.flush_sequence <= segment.birth_flush_sequence
            })
    }
}

/// Why `header` cannot follow `previous` (`I-LOG-1`, `I-LOG-2`).
fn broken_link(previous: &FrameHeader, header: &FrameHeader) -> Option<String> {
    let (index, offset) = previous.next_coordinates();
    let chain = previous.chain_crc();
    if header.previous_crc != chain {
        let found = header.previous_crc;
        return Some(format!("chain CRC is {found:#010x}, expected {chain:#010x}"));
    }
    if header.index != index && header.kind != FrameKind::Gap {
        return Some(format!("index is {}, expected {index}", header.index));
    }
    (header.base_offset != offset)
        .then(|| format!("base offset is {}, expected {offset}", header.base_offset))
}

/// Fills `bytes`; false when the file ends before.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads past the segment's header; `None` where it is damaged, which keeps no frame from being
/// shown.
fn segment_header(file: &mut impl Read) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = Vec::new();
    file.take(SEGMENT_HEADER_BYTES).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != SEGMENT_HEADER_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, "shorter than a segment's header"));
    }
    Ok(SegmentHeader::decode(&bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::frame::Frame;
    use bateau_protocol::ids::{FlushSequence, Incarnation, Offset, Term};
    use bytes::Bytes;

    /// Three frames and the zeros of a preallocated file.
    fn segment() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut previous_crc = 0;
        for index in 1..=3 {
            let entry = (Term::new(1), LogIndex::new(index));
            let payload = Bytes::from(vec![index as u8; 20]);
            let frame = Frame::new(FrameKind::Command, entry, Offset::ZERO, 0, payload);
            let header = frame.header(Incarnation::new(9), previous_crc, FlushSequence::new(4));
            previous_crc = header.chain_crc();
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(&frame.stamped_payload());
        }
        bytes.extend_from_slice(&[0; 100]);
        bytes
    }

    fn walk(bytes: &[u8]) -> (Vec<u64>, Option<(u64, String)>) {
        walk_segment(bytes, None)
    }

    fn walk_segment(
        bytes: &[u8],
        segment: Option<SegmentHeader>,
    ) -> (Vec<u64>, Option<(u64, String)>) {
        let mut frames = Frames { file: bytes, position: 0, segment, previous: None };
        let mut indexes = Vec::new();
        loop {
            match frames.next().unwrap() {
                Next::Frame(found) => indexes.push(found.header.index.get()),
                Next::End => return (indexes, None),
                Next::Broken { position, reason } => return (indexes, Some((position, reason))),
            }
        }
    }

    #[test]
    fn whole_frames_are_listed_up_to_the_zeros_behind_them() {
        assert_eq!(walk(&segment()), (vec![1, 2, 3], None));
    }

    #[test]
    fn a_flipped_payload_bit_is_reported_with_its_place() {
        let mut bytes = segment();
        bytes[84 + 64] ^= 1;
        let (indexes, broken) = walk(&bytes);
        let (position, reason) = broken.unwrap();
        assert_eq!((indexes, position), (vec![1], 84));
        assert!(reason.starts_with("payload CRC"), "{reason}");
    }

    #[test]
    fn a_recycled_file_ends_where_the_frames_of_its_former_partition_begin() {
        let entry = (Term::new(1), LogIndex::new(8));
        let frame = Frame::new(FrameKind::Noop, entry, Offset::ZERO, 0, Bytes::new());
        let foreign = frame.header(Incarnation::new(5), 0, FlushSequence::new(1));
        let mut bytes = segment();
        bytes.truncate(3 * 84);
        bytes.extend_from_slice(&foreign.encode());
        assert_eq!(walk(&bytes), (vec![1, 2, 3], None));
    }

    #[test]
    fn a_recycled_file_ends_where_the_frames_of_an_earlier_flush_begin() {
        let segment = |birth| SegmentHeader {
            incarnation: Incarnation::new(9),
            base_index: LogIndex::new(1),
            base_offset: Offset::ZERO,
            previous_term: Term::ZERO,
            birth_flush_sequence: FlushSequence::new(birth),
            previous_crc: 0,
        };
        let bytes = super::tests::segment();
        assert_eq!(walk_segment(&bytes, Some(segment(3))), (vec![1, 2, 3], None));
        assert_eq!(walk_segment(&bytes, Some(segment(4))), (vec![], None), "its first is older");
        let header = segment(4).encode();
        assert_eq!(segment_header(&mut &header[..]).unwrap(), Some(segment(4)));
        assert_eq!(segment_header(&mut &[7; 4096][..]).unwrap(), None);
        assert!(segment_header(&mut &header[..100]).is_err());
    }

    #[test]
    fn a_gap_says_how_far_the_loss_reaches() {
        let lost = gap::Gap {
            index: LogIndex::new(1),
            term: Term::new(1),
            base_offset: Offset::ZERO,
            offset_count: 5,
            lost_to: LogIndex::new(7),
        };
        let frame = lost.frame();
        let header = frame.header(Incarnation::new(9), 0, FlushSequence::new(4));
        let bytes = [&header.encode()[..], &frame.payload].concat();
        let mut frames = Frames { file: &bytes[..], position: 0, segment: None, previous: None };
        let Next::Frame(found) = frames.next().unwrap() else { panic!("it is one") };
        let line = found.line(Output::Table);
        assert!(line.contains(" gap ") && line.ends_with("lost up to index 7\n"), "{line}");
        assert!(found.line(Output::Json).contains(r#""lost_to":7"#));
    }

    #[test]
    fn a_missing_frame_breaks_the_chain() {
        let mut bytes = segment();
        bytes.drain(84..168);
        let (indexes, broken) = walk(&bytes);
        assert_eq!(indexes, [1]);
        assert!(broken.unwrap().1.starts_with("chain CRC"));
    }

    #[test]
    fn a_file_that_ends_inside_a_frame_is_reported() {
        let (indexes, broken) = walk(&segment()[..160]);
        assert_eq!(indexes, [1]);
        assert!(broken.unwrap().1.contains("ends inside a payload"));
    }
}
