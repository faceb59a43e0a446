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

use crate::codec::{DecodeError, Put, Reader};
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
    /// The payload of a trim frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(28);
        bytes.put(self.offset.get().to_le_bytes()).put(self.index.get().to_le_bytes());
        bytes.put(self.previous_term.get().to_le_bytes()).put(self.previous_crc.to_le_bytes());
        bytes.into()
    }

    /// Decodes a trim frame's payload.
    ///
    /// Errors: [`DecodeError`]; the partition cannot go on then.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("trim", payload);
        let start = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(start)
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            offset: Offset::new(reader.u64()?),
            index: LogIndex::new(reader.u64()?),
            previous_term: Term::new(reader.u64()?),
            previous_crc: reader.u32()?,
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

/// How much of a log is kept. Values below zero have become `None`: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Kafka's `retention.ms`.
    pub age_ms: Option<u64>,
    /// Kafka's `retention.bytes`.
    pub size_bytes: Option<u64>,
}

impl Retention {
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
    fn a_segment_goes_when_its_newest_record_is_too_old() {
        let retention = Retention { age_ms: Some(500), size_bytes: None };
        let at = |now| retention.log_start(&segments(), 4_000, ALL_STORED, now);
        assert_eq!(at(1_500), None);
        assert_eq!(at(1_501), Some(start(100)));
        assert_eq!(at(9_999), Some(start(300)));
    }

    #[test]
    fn a_segment_goes_when_the_rest_still_has_the_size() {
        let retention = Retention { age_ms: None, size_bytes: Some(2_500) };
        let at = |log_bytes| retention.log_start(&segments(), log_bytes, ALL_STORED, 0);
        assert_eq!(at(3_499), None);
        assert_eq!(at(3_500), Some(start(100)));
        assert_eq!(at(4_500), Some(start(200)));
    }

    #[test]
    fn an_old_segment_behind_a_young_one_stays() {
        let mut segments = segments();
        segments[0].timestamp_max_ms = Some(1_000_000);
        let retention = Retention { age_ms: Some(1), size_bytes: None };
        assert_eq!(retention.log_start(&segments, 0, ALL_STORED, 9_999), None);
    }

    #[test]
    fn nothing_beyond_the_stored_state_goes() {
        let retention = Retention { age_ms: Some(0), size_bytes: None };
        let at = |stored| retention.log_start(&segments(), 0, LogIndex::new(stored), 9_999);
        assert_eq!(at(98), None);
        assert_eq!(at(99), Some(start(100)));
        assert_eq!(at(250), Some(start(200)));
    }
}
