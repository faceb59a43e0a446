//! A new log start, and when the leader proposes one (frame kind 4).
//!
//! ```text
//! offset u64 | index u64 | term u64 | chain CRC u32      term and CRC of the frame before `index`
//! ```
//!
//! Retention is a committed frame: every replica drops the same prefix, and only whole segments
//! that end at or below its own newest durable state file. Group offsets are never asked.
//!
//! Invariants: a trim never moves the log start back, and never beyond the state file of the
//! replica that proposes it.
//!
//! Absent on purpose: the deletion itself, which belongs to the log.

use crate::codec::{DecodeError, Reader, Writer};
use bateau_protocol::ids::{LogIndex, Offset, Term};
use bytes::Bytes;

/// Where a log starts: exactly what a follower needs to check the first frame that it receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogStart {
    /// First offset that may be read.
    pub offset: Offset,
    /// First index that is kept.
    pub index: LogIndex,
    /// Term of the entry before `index`.
    pub previous_term: Term,
    /// Chain CRC of the frame before `index`.
    pub previous_crc: u32,
}

impl LogStart {
    /// Behind frame 1, which is the log's base and never asked for: every replica that has it can
    /// begin another one with a snapshot that stands for it.
    ///
    /// - `chain_crc`: of frame 1.
    #[must_use]
    pub const fn behind_birth(chain_crc: u32) -> Self {
        let (offset, index, previous_term) = (Offset::ZERO, LogIndex::new(2), Term::new(1));
        Self { offset, index, previous_term, previous_crc: chain_crc }
    }

    /// The payload of a trim frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.into_bytes()
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u64(self.offset.get());
        writer.u64(self.index.get());
        writer.u64(self.previous_term.get());
        writer.u32(self.previous_crc);
    }

    /// Decodes a trim frame's payload.
    ///
    /// Errors: [`DecodeError`]; the partition cannot go on then.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let start = Self::read(&mut reader)?;
        reader.finish("trim")?;
        Ok(start)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            offset: Offset::new(reader.u64("log start offset")?),
            index: LogIndex::new(reader.u64("log start index")?),
            previous_term: Term::new(reader.u64("previous term")?),
            previous_crc: reader.u32("previous chain CRC")?,
        })
    }
}

/// A sealed segment, as the log describes it to the brain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedSegment {
    /// Where the log would start if everything up to this segment's end were dropped.
    pub next_start: LogStart,
    /// Bytes of its frames.
    pub size_bytes: u64,
    /// Largest record timestamp in milliseconds; `None` where it holds no record, and so nothing
    /// that would be worth keeping.
    pub timestamp_max_ms: Option<u64>,
}

/// The segment that is being written, as far as it holds records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActiveSegment {
    /// About when its first records were written, by their timestamps in milliseconds.
    pub timestamp_first_ms: u64,
    /// Largest record timestamp in milliseconds.
    pub timestamp_max_ms: u64,
}

/// What the log tells the brain about its segments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Segments {
    /// The closed ones, oldest first.
    pub sealed: Vec<SealedSegment>,
    /// The one that is being written; `None` while it holds no record.
    pub active: Option<ActiveSegment>,
    /// Bytes of the whole log.
    pub log_bytes: u64,
}

/// How much of a log is kept. Values below zero have become `None`: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Kafka's `retention.ms`.
    pub age_ms: Option<u64>,
    /// Kafka's `retention.bytes`.
    pub size_bytes: Option<u64>,
    /// Kafka's `segment.ms`; zero: segments are closed by size alone.
    pub segment_ms: u64,
}

/// Why a segment is closed before it is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Roll {
    /// Its records span `segment.ms`: the next append goes to a new one.
    WithTheNextAppend,
    /// All of its records are too old to be kept: it is closed now, so that it can go.
    Now,
}

impl Retention {
    /// Whether the segment that is being written is to be closed. As in Kafka, a log whose newest
    /// record is too old loses its last segment too; and a segment is as old as its records lie
    /// apart (KIP-33), so that a clock which is far ahead of them does not close one after another.
    #[must_use]
    pub fn roll(&self, active: &ActiveSegment, now_wall_ms: u64) -> Option<Roll> {
        let age_ms = |timestamp_ms| now_wall_ms.saturating_sub(timestamp_ms);
        if self.age_ms.is_some_and(|limit_ms| age_ms(active.timestamp_max_ms) > limit_ms) {
            return Some(Roll::Now);
        }
        let spans_ms = active.timestamp_max_ms.saturating_sub(active.timestamp_first_ms);
        let is_due = self.segment_ms > 0 && spans_ms > self.segment_ms;
        is_due.then_some(Roll::WithTheNextAppend)
    }

    /// The log start that this retention allows, or `None` where all segments stay.
    ///
    /// - `sealed`: oldest first; the segment being written is not among them and never goes.
    /// - `log_bytes`: bytes of the whole log, the unsealed segment included.
    /// - `stored`: nothing beyond this index may go: the newest durable state file's.
    ///
    /// As in Kafka, a segment goes by age when its newest record is older than the limit, and by
    /// size when what is left behind it still has the limit's bytes.
    #[must_use]
    pub fn log_start(
        &self,
        sealed: &[SealedSegment],
        log_bytes: u64,
        stored: LogIndex,
        now_wall_ms: u64,
    ) -> Option<LogStart> {
        let mut kept_bytes = log_bytes;
        let mut start = None;
        for segment in sealed {
            let age_ms = now_wall_ms.saturating_sub(segment.timestamp_max_ms.unwrap_or(0));
            let too_old = self.age_ms.is_some_and(|limit_ms| age_ms > limit_ms);
            let after_bytes = kept_bytes.saturating_sub(segment.size_bytes);
            let too_large = self.size_bytes.is_some_and(|limit_bytes| after_bytes >= limit_bytes);
            let is_stored = segment.next_start.index.previous() <= stored;
            if !is_stored || !(too_old || too_large) {
                break;
            }
            kept_bytes = after_bytes;
            start = Some(segment.next_start);
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(index: u64) -> LogStart {
        LogStart {
            offset: Offset::new(index * 10),
            index: LogIndex::new(index),
            previous_term: Term::new(3),
            previous_crc: 0xABCD,
        }
    }

    fn segments() -> Vec<SealedSegment> {
        (1..=3)
            .map(|number| SealedSegment {
                next_start: start(number * 100),
                size_bytes: 1_000,
                timestamp_max_ms: Some(number * 1_000),
            })
            .collect()
    }

    const ALL_STORED: LogIndex = LogIndex::new(10_000);

    #[test]
    fn the_four_values_survive_the_round_trip() {
        assert_eq!(LogStart::decode(&start(7).encode()), Ok(start(7)));
        assert!(LogStart::decode(&start(7).encode()[..27]).is_err());
    }

    #[test]
    fn the_bytes_of_a_trim_never_change() {
        let expected = [
            &[70, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0][..],
            &[3, 0, 0, 0, 0, 0, 0, 0, 0xCD, 0xAB, 0, 0],
        ];
        assert_eq!(start(7).encode(), expected.concat());
    }

    #[test]
    fn a_segment_goes_when_its_newest_record_is_too_old() {
        let retention = Retention { age_ms: Some(500), ..Retention::default() };
        let at = |now| retention.log_start(&segments(), 4_000, ALL_STORED, now);
        assert_eq!(at(1_500), None);
        assert_eq!(at(1_501), Some(start(100)));
        assert_eq!(at(9_999), Some(start(300)));
    }

    #[test]
    fn a_segment_goes_when_the_rest_still_has_the_size() {
        let retention = Retention { size_bytes: Some(2_500), ..Retention::default() };
        let at = |log_bytes| retention.log_start(&segments(), log_bytes, ALL_STORED, 0);
        assert_eq!(at(3_499), None);
        assert_eq!(at(3_500), Some(start(100)));
        assert_eq!(at(4_500), Some(start(200)));
    }

    #[test]
    fn an_old_segment_behind_a_young_one_stays() {
        let mut segments = segments();
        segments[0].timestamp_max_ms = Some(1_000_000);
        let retention = Retention { age_ms: Some(1), ..Retention::default() };
        assert_eq!(retention.log_start(&segments, 0, ALL_STORED, 9_999), None);
    }

    #[test]
    fn nothing_beyond_the_stored_state_goes() {
        let retention = Retention { age_ms: Some(0), ..Retention::default() };
        let at = |stored| retention.log_start(&segments(), 0, LogIndex::new(stored), 9_999);
        assert_eq!(at(98), None);
        assert_eq!(at(99), Some(start(100)));
        assert_eq!(at(250), Some(start(200)));
    }

    #[test]
    fn the_last_segment_is_closed_when_it_is_old_and_at_once_when_all_of_it_is_too_old() {
        let retention = Retention { age_ms: Some(500), size_bytes: None, segment_ms: 100 };
        let spanning = |span_ms: u64| ActiveSegment {
            timestamp_first_ms: 1_000,
            timestamp_max_ms: 1_000 + span_ms,
        };
        assert_eq!(retention.roll(&spanning(100), 1_100), None);
        assert_eq!(retention.roll(&spanning(101), 1_101), Some(Roll::WithTheNextAppend));
        assert_eq!(retention.roll(&spanning(101), 1_601), Some(Roll::WithTheNextAppend));
        assert_eq!(retention.roll(&spanning(101), 1_602), Some(Roll::Now));
        assert_eq!(Retention::default().roll(&spanning(0), u64::MAX), None);
    }

    #[test]
    fn a_clock_that_is_far_ahead_closes_no_segment_of_records_that_are_kept() {
        let retention = Retention { age_ms: None, size_bytes: None, segment_ms: 100 };
        let active = ActiveSegment { timestamp_first_ms: 1_000, timestamp_max_ms: 1_050 };
        assert_eq!(retention.roll(&active, 1_000_000_000), None);
    }
}
