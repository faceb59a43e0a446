//! Finds records by time, for Kafka's ListOffsets (G42).
//!
//! ```text
//!   batches ── maximum below t? skip ──> decompress if need be ──> first record at or after t
//! ```
//!
//! Invariants
//! - The answer is a record, not its batch: also inside a compressed batch, and where timestamps do
//!   not rise.
//! - A batch whose header claims more than its records hold is passed over. One that cannot be
//!   read, or comes after [`LOOKUP_OUTPUT_BYTES_MAX`] were spent, is answered by its first offset:
//!   too early by less than a batch, and nothing that was asked for is skipped.
//! - An answer lies in the offset span of its batch, whatever the records say.
//!
//! Absent on purpose: where to start (the log's time index knows), and the thread: this
//! decompresses, so it runs on none that serves a connection.

use std::borrow::Cow;
use std::ops::ControlFlow;

use bateau_protocol::ids::Offset;
use bateau_protocol::record::compression::{DecompressError, decompress};
use bateau_protocol::record::{Batch, Batches, Compression, Records};
use bytes::Bytes;

/// Most bytes of records that one look-up reads: a log full of lies costs no more than this.
pub const LOOKUP_OUTPUT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a look-up has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundRecord {
    /// The record's offset; the first of its batch where `exact` is not set.
    pub offset: Offset,
    /// Its timestamp in Unix milliseconds; -1 for a record that has none.
    pub timestamp: i64,
    /// The leader epoch that its batch carries.
    pub leader_epoch: i32,
    /// Whether the record was seen. If not, its batch could not be read and `timestamp` is what
    /// the batch's header claims.
    pub exact: bool,
}

/// The first record whose timestamp is `timestamp` or later; `None` where there is none.
///
/// - `batches`: in offset order, each one or more whole batches as they are stored. Taken one by
///   one, so that the caller need not have the rest at hand.
/// - `timestamp`: Unix milliseconds.
/// - `log_start`: records before it do not count; a trim may fall into the middle of a batch.
///
/// Cost: a header per batch, and the decompression of each whose header claims enough: one batch,
/// unless producers lie.
pub fn first_at_or_after(
    batches: impl IntoIterator<Item = Bytes>,
    timestamp: i64,
    log_start: Offset,
) -> Option<FoundRecord> {
    let mut budget = LOOKUP_OUTPUT_BYTES_MAX;
    for batch in whole_batches(batches, log_start) {
        if batch.header().max_timestamp < timestamp {
            continue;
        }
        let mut first = None;
        let walked = walk(&batch, log_start, &mut budget, |record| {
            if record.timestamp < timestamp {
                return ControlFlow::Continue(());
            }
            first = Some(record);
            ControlFlow::Break(())
        });
        match walked {
            Ok(()) if first.is_none() => {}
            Ok(()) => return first,
            Err(Unreadable) => return Some(unread(&batch, log_start)),
        }
    }
    None
}

/// The first record that has the largest timestamp (ListOffsets' -3, KIP-734); `None` in an empty
/// log. In a log without timestamps it is the first record, with -1, as in Kafka.
///
/// - `batches`: in offset order, as for [`first_at_or_after`]. All are held (not copied) until the
///   answer is known, so the caller leaves out what its time index excludes.
/// - `log_start`: records before it do not count.
///
/// Cost: a header per batch; decompression goes by falling claims and stops when what was found
/// equals the next claim: one batch, unless producers lie.
pub fn latest(batches: impl IntoIterator<Item = Bytes>, log_start: Offset) -> Option<FoundRecord> {
    let mut claims: Vec<Batch> = whole_batches(batches, log_start).collect();
    // Stable: of equal claims the earliest batch comes first.
    claims.sort_by_key(|batch| std::cmp::Reverse(batch.header().max_timestamp));
    let mut budget = LOOKUP_OUTPUT_BYTES_MAX;
    let mut best: Option<FoundRecord> = None;
    let mut fallback = None;
    for batch in claims {
        // Equal claims come in the order of the log, so behind this batch none can do better.
        if best.is_some_and(|best| !may_beat(&batch, &best)) {
            break;
        }
        let mut largest: Option<FoundRecord> = None;
        let walked = walk(&batch, log_start, &mut budget, |record| {
            if largest.is_none_or(|largest| record.timestamp > largest.timestamp) {
                largest = Some(record);
            }
            ControlFlow::Continue(())
        });
        match (walked, largest, best) {
            (Err(Unreadable), ..) => {
                fallback = fallback.or_else(|| Some(unread(&batch, log_start)));
            }
            (Ok(()), Some(found), Some(known)) if !comes_before(&found, &known) => {}
            (Ok(()), Some(found), _) => best = Some(found),
            (Ok(()), None, _) => {}
        }
    }
    best.or(fallback)
}

/// Whether the batch claims to hold a later record, or one as late and earlier in the log.
fn may_beat(batch: &Batch, best: &FoundRecord) -> bool {
    let header = batch.header();
    header.max_timestamp > best.timestamp
        || (header.max_timestamp == best.timestamp && offset(header.base_offset) < best.offset)
}

/// Later in time, or as late and earlier in the log.
fn comes_before(found: &FoundRecord, known: &FoundRecord) -> bool {
    found.timestamp > known.timestamp
        || (found.timestamp == known.timestamp && found.offset < known.offset)
}

/// All whole batches that reach beyond the log start. What is no batch ends its own piece only.
fn whole_batches(
    batches: impl IntoIterator<Item = Bytes>,
    log_start: Offset,
) -> impl Iterator<Item = Batch> {
    batches.into_iter().flat_map(|bytes| Batches::new(bytes).map_while(Result::ok)).filter(
        move |batch| {
            batch.header().record_count > 0 && offset(batch.header().last_offset()) >= log_start
        },
    )
}

/// A batch that cannot be decompressed or walked, or for which the budget is spent.
struct Unreadable;

/// Shows every record at or behind the log start to `visit`, until it has seen enough. What lies
/// behind that is not looked at.
fn walk(
    batch: &Batch,
    log_start: Offset,
    budget: &mut usize,
    mut visit: impl FnMut(FoundRecord) -> ControlFlow<()>,
) -> Result<(), Unreadable> {
    let header = batch.header();
    let plain = payload(batch, budget)?;
    let first = offset(header.base_offset).max(log_start);
    let last = offset(header.last_offset());
    for record in Records::new(header, &plain) {
        let record = record.map_err(|_| Unreadable)?;
        if offset(record.offset) < log_start {
            continue;
        }
        let found = FoundRecord {
            offset: offset(record.offset).clamp(first, last),
            timestamp: record.timestamp,
            leader_epoch: header.leader_epoch,
            exact: true,
        };
        if visit(found).is_break() {
            break;
        }
    }
    Ok(())
}

/// The uncompressed records: the stored bytes themselves, or what a codec gives.
fn payload<'a>(batch: &'a Batch, budget: &mut usize) -> Result<Cow<'a, [u8]>, Unreadable> {
    let stored = batch.payload();
    let compression = batch.header().attributes.compression().ok_or(Unreadable)?;
    if *budget == 0 {
        return Err(Unreadable);
    }
    let plain = match compression {
        Compression::None => Ok(Cow::Borrowed(stored)),
        _ => decompress(compression, stored).map(Cow::Owned),
    };
    // A refused bomb has cost as much as its limit.
    let spent = match &plain {
        Ok(plain) => plain.len(),
        Err(DecompressError::TooLarge { bytes_max, .. }) => *bytes_max,
        Err(DecompressError::Corrupt { .. }) => stored.len(),
    };
    *budget = budget.saturating_sub(spent);
    plain.map_err(|_| Unreadable)
}

/// What can be said of a batch without reading its records.
fn unread(batch: &Batch, log_start: Offset) -> FoundRecord {
    let header = batch.header();
    FoundRecord {
        offset: offset(header.base_offset).max(log_start),
        timestamp: header.max_timestamp,
        leader_epoch: header.leader_epoch,
        exact: false,
    }
}

/// Stored offsets are never negative; a broken one counts as 0.
fn offset(stored: i64) -> Offset {
    Offset::new(u64::try_from(stored).unwrap_or(0))
}

#[cfg(test)]
mod tests;
