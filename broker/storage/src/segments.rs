//! What the log tells the brain about its segments.
//!
//! Absent on purpose: which of them may go.

use bateau_core::replica::trim::{ActiveSegment, LogStart, SealedSegment, Segments};
use bateau_log::LogReader;

/// The segments of a log, for retention.
#[must_use]
pub fn segments(reader: &LogReader) -> Segments {
    let milliseconds = |timestamp| u64::try_from(timestamp).unwrap_or(0);
    let active = reader.active().map(|active| ActiveSegment {
        timestamp_first_ms: milliseconds(active.timestamp_first),
        timestamp_max_ms: milliseconds(active.timestamp_max),
    });
    let sealed = reader.sealed().iter().map(sealed_segment).collect();
    Segments { sealed, active, log_bytes: reader.size_bytes() }
}

fn sealed_segment(segment: &bateau_log::SealedSegment) -> SealedSegment {
    SealedSegment {
        next_start: from_log_start(segment.next_start),
        size_bytes: segment.bytes,
        timestamp_max_ms: segment.timestamp_max.and_then(|max| u64::try_from(max).ok()),
    }
}

/// The log's start in the brain's words.
pub(crate) fn from_log_start(start: bateau_log::LogStart) -> LogStart {
    LogStart {
        offset: start.offset,
        index: start.index,
        previous_term: start.term,
        previous_crc: start.chain_crc,
    }
}
