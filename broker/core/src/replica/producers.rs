//! Idempotence: what each producer has written, so that a retry is found and a gap is refused.
//!
//! ```text
//!   committed   id -> epoch, last five batches      a pure function of the committed log
//!   overlay     id -> batches that are appended and not committed yet, each with its index
//! ```
//!
//! The rules are Kafka's (`ProducerAppendInfo`, KIP-98, KIP-360): the last five batches are known;
//! an exact match is a duplicate and keeps its first offset; an unknown id starts with any
//! sequence; a new epoch starts at 0; sequences wrap from 2^31 - 1 to 0.
//!
//! Invariants
//! - `I10` At most one append per (producer id, epoch, sequence).
//! - Truncating the log at an index drops the overlay from there on, and nothing else.
//! - At most [`PRODUCERS_MAX`] ids per partition; the least recently used goes first.
//!
//! Absent on purpose: transactions, and any difference between an expired and a never seen id.

use crate::codec::{DecodeError, Reader, Writer};
use bateau_protocol::ids::{LogIndex, Offset};
use bateau_protocol::record::ProducerSequence;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use thiserror::Error;

/// Producer ids that one partition remembers.
pub const PRODUCERS_MAX: usize = 10_000;

/// Time after which an unused producer id is forgotten: seven days, in milliseconds.
pub const PRODUCER_EXPIRY_MS: u64 = 7 * 24 * 3_600_000;

/// Batches per producer that a retry is recognised in; idempotent clients keep as many in flight.
const WINDOW_BATCHES: usize = 5;

/// Why a batch of an idempotent producer is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SequenceError {
    /// Batches before this one are missing (Kafka's OUT_OF_ORDER_SEQUENCE_NUMBER).
    #[error("producer {producer_id} continues with sequence {found}, expected {expected}")]
    Gap {
        /// Whose batch.
        producer_id: i64,
        /// The sequence that continues the log.
        expected: i32,
        /// The batch's first sequence.
        found: i32,
    },
    /// A producer with a newer epoch has taken over (Kafka's INVALID_PRODUCER_EPOCH).
    #[error("producer {producer_id} has epoch {found}, the partition knows epoch {current}")]
    Fenced {
        /// Whose batch.
        producer_id: i64,
        /// The epoch that is known.
        current: i16,
        /// The batch's epoch.
        found: i16,
    },
}

/// What [`Producers::check`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sequencing {
    /// The batch continues its producer's sequence.
    New,
    /// The batch is in the log already.
    Duplicate {
        /// Where its first record is.
        base_offset: Offset,
        /// The entry to wait for; `None` once it is committed.
        index: Option<LogIndex>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Producer {
    epoch: i16,
    /// Oldest first, at most [`WINDOW_BATCHES`].
    window: VecDeque<Appended>,
    last_used_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    index: LogIndex,
    epoch: i16,
    batch: Appended,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    committed: BTreeMap<i64, Producer>,
    /// (last use in ms, id): the order of eviction.
    by_use: BTreeSet<(u64, i64)>,
    overlay: BTreeMap<i64, VecDeque<Pending>>,
}

impl PartialEq for Producers {
    fn eq(&self, other: &Self) -> bool {
        self.committed == other.committed
    }
}

impl Producers {
    /// Decides whether a batch may be appended.
    ///
    /// Errors: [`SequenceError`]. Cost: two look-ups by id and at most ten comparisons.
    pub fn check(&self, batch: &ProducerSequence) -> Result<Sequencing, SequenceError> {
        let known = self.latest(batch.id);
        let Some((epoch, last)) = known else { return Ok(Sequencing::New) };
        if batch.epoch < epoch {
            let producer_id = batch.id;
            return Err(SequenceError::Fenced { producer_id, current: epoch, found: batch.epoch });
        }
        if let Some(duplicate) = self.find_duplicate(batch) {
            return Ok(duplicate);
        }
        let expected = if batch.epoch == epoch { next_sequence(last.last_sequence) } else { 0 };
        if batch.first_sequence == expected {
            return Ok(Sequencing::New);
        }
        let (producer_id, found) = (batch.id, batch.first_sequence);
        Err(SequenceError::Gap { producer_id, expected, found })
    }

    /// Notes a batch that has been appended at `index` and is not committed yet.
    pub fn append(&mut self, index: LogIndex, batch: &ProducerSequence, base_offset: Offset) {
        debug_assert!(
            matches!(self.check(batch), Ok(Sequencing::New)),
            "I10: a sequence is appended once"
        );
        let pending = Pending { index, epoch: batch.epoch, batch: appended(batch, base_offset) };
        self.overlay.entry(batch.id).or_default().push_back(pending);
    }

    /// Notes a batch as committed at `index`; also what a replay and a follower do.
    ///
    /// `used_ms` is the wall clock when it was applied, in Unix milliseconds.
    pub fn commit(
        &mut self,
        index: LogIndex,
        batch: &ProducerSequence,
        base_offset: Offset,
        used_ms: u64,
    ) {
        if let Some(overlay) = self.overlay.get_mut(&batch.id) {
            while overlay.front().is_some_and(|pending| pending.index <= index) {
                overlay.pop_front();
            }
            if overlay.is_empty() {
                self.overlay.remove(&batch.id);
            }
        }
        let producer = self.committed.entry(batch.id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            window: VecDeque::with_capacity(WINDOW_BATCHES),
            last_used_ms: 0,
        });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.window.clear();
        }
        if producer.window.len() == WINDOW_BATCHES {
            producer.window.pop_front();
        }
        producer.window.push_back(appended(batch, base_offset));
        self.by_use.remove(&(producer.last_used_ms, batch.id));
        producer.last_used_ms = producer.last_used_ms.max(used_ms);
        self.by_use.insert((producer.last_used_ms, batch.id));
        while self.committed.len() > PRODUCERS_MAX {
            self.forget_oldest();
        }
    }

    /// Drops what was appended at or above `index`: the log has been truncated there.
    pub fn truncate_from(&mut self, index: LogIndex) {
        self.overlay.retain(|_, pending| {
            pending.retain(|pending| pending.index < index);
            !pending.is_empty()
        });
    }

    /// Whether nothing waits for its commit.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.overlay.is_empty()
    }

    /// Forgets ids that were last used more than [`PRODUCER_EXPIRY_MS`] before `now_wall_ms`.
    pub fn expire(&mut self, now_wall_ms: u64) {
        let oldest_ms = now_wall_ms.saturating_sub(PRODUCER_EXPIRY_MS);
        while self.by_use.first().is_some_and(|(used_ms, _)| *used_ms < oldest_ms) {
            self.forget_oldest();
        }
    }

    /// Ids that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    /// Whether no id is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty()
    }

    /// Whether every committed batch that `other` recognises is recognised here, with the same
    /// offset: two replicas of one log differ only in what has expired.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other.committed.iter().all(|(id, theirs)| {
            let ours = self.committed.get(id);
            let has = |batch| ours.is_some_and(|ours| ours.window.contains(batch));
            ours.is_some_and(|ours| ours.epoch == theirs.epoch) && theirs.window.iter().all(has)
        })
    }

    fn forget_oldest(&mut self) {
        if let Some((_, producer_id)) = self.by_use.pop_first() {
            self.committed.remove(&producer_id);
        }
    }

    /// The newest epoch and batch of an id, committed or not.
    fn latest(&self, producer_id: i64) -> Option<(i16, Appended)> {
        if let Some(pending) = self.overlay.get(&producer_id).and_then(VecDeque::back) {
            return Some((pending.epoch, pending.batch));
        }
        let producer = self.committed.get(&producer_id)?;
        producer.window.back().map(|last| (producer.epoch, *last))
    }

    /// Looks for the batch among the last five of its producer, uncommitted ones included.
    fn find_duplicate(&self, batch: &ProducerSequence) -> Option<Sequencing> {
        let overlay = self.overlay.get(&batch.id);
        let pending = overlay.into_iter().flat_map(|pending| pending.iter().rev());
        let committed = self.committed.get(&batch.id);
        let window = committed
            .into_iter()
            .flat_map(|producer| producer.window.iter().rev().map(|known| (producer.epoch, known)));
        pending
            .map(|known| (known.epoch, &known.batch, Some(known.index)))
            .chain(window.map(|(epoch, known)| (epoch, known, None)))
            .take(WINDOW_BATCHES)
            .find(|(epoch, known, _)| {
                *epoch == batch.epoch
                    && known.first_sequence == batch.first_sequence
                    && known.last_sequence == batch.last_sequence
            })
            .map(|(_, known, index)| Sequencing::Duplicate {
                base_offset: known.base_offset,
                index,
            })
    }

    /// Appends the committed table to a state file.
    ///
    /// ```text
    /// count u32, then per id: id i64 | epoch i16 | last use u64 | batches u32, then of each
    ///                         first i32 | last i32 | offset u64
    /// ```
    pub fn encode(&self, writer: &mut Writer) {
        writer.list(self.committed.iter(), |writer, (producer_id, producer)| {
            writer.i64(*producer_id);
            writer.i16(producer.epoch);
            writer.u64(producer.last_used_ms);
            writer.list(producer.window.iter(), |writer, batch| {
                writer.i32(batch.first_sequence);
                writer.i32(batch.last_sequence);
                writer.u64(batch.base_offset.get());
            });
        });
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// Errors: [`DecodeError`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let committed: BTreeMap<i64, Producer> =
            reader.list("producers", 22, Producer::decode)?.into_iter().collect();
        let by_use = committed.iter().map(|(id, producer)| (producer.last_used_ms, *id)).collect();
        Ok(Self { committed, by_use, ..Self::default() })
    }
}

impl Producer {
    fn decode(reader: &mut Reader<'_>) -> Result<(i64, Self), DecodeError> {
        let producer_id = reader.i64("producer id")?;
        let epoch = reader.i16("producer epoch")?;
        let last_used_ms = reader.u64("last use")?;
        let window = reader.list("batches", 16, Appended::decode)?;
        if window.len() > WINDOW_BATCHES {
            return Err(reader.invalid("batches", window.len() as u64, "at most 5 batches"));
        }
        Ok((producer_id, Self { epoch, window: window.into(), last_used_ms }))
    }
}

impl Appended {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            first_sequence: reader.i32("first sequence")?,
            last_sequence: reader.i32("last sequence")?,
            base_offset: Offset::new(reader.u64("base offset")?),
        })
    }
}

const fn appended(batch: &ProducerSequence, base_offset: Offset) -> Appended {
    let (first_sequence, last_sequence) = (batch.first_sequence, batch.last_sequence);
    Appended { first_sequence, last_sequence, base_offset }
}

const fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first_sequence: i32, last_sequence: i32) -> ProducerSequence {
        ProducerSequence { id: 7, epoch, first_sequence, last_sequence }
    }

    /// Ten one-record batches with sequence = offset = index, the first `committed` committed.
    fn producers(committed: u64) -> Producers {
        let mut producers = Producers::default();
        for number in 0..10_u64 {
            let sequence = i32::try_from(number).unwrap();
            let one = batch(0, sequence, sequence);
            producers.append(LogIndex::new(number), &one, Offset::new(number));
            if number < committed {
                producers.commit(LogIndex::new(number), &one, Offset::new(number), number);
            }
        }
        producers
    }

    fn gap(expected: i32, found: i32) -> Result<Sequencing, SequenceError> {
        Err(SequenceError::Gap { producer_id: 7, expected, found })
    }

    #[test]
    fn an_unknown_id_starts_with_any_sequence() {
        assert_eq!(Producers::default().check(&batch(3, 99, 99)), Ok(Sequencing::New));
    }

    #[test]
    fn a_sequence_continues_or_is_a_gap() {
        for committed in [0, 7, 10] {
            let producers = producers(committed);
            assert_eq!(producers.check(&batch(0, 10, 12)), Ok(Sequencing::New));
            assert_eq!(producers.check(&batch(0, 11, 11)), gap(10, 11));
        }
    }

    #[test]
    fn the_last_five_batches_are_known_wherever_they_are() {
        for committed in [0, 7, 10] {
            let producers = producers(committed);
            for sequence in 5..10_i32 {
                let number = u64::try_from(sequence).unwrap();
                let index = (number >= committed).then(|| LogIndex::new(number));
                let found = Sequencing::Duplicate { base_offset: Offset::new(number), index };
                assert_eq!(producers.check(&batch(0, sequence, sequence)), Ok(found));
            }
            assert_eq!(producers.check(&batch(0, 4, 4)), gap(10, 4));
            assert_eq!(producers.check(&batch(0, 9, 10)), gap(10, 9));
        }
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = producers(10);
        assert_eq!(producers.check(&batch(1, 10, 10)), gap(0, 10));
        assert_eq!(producers.check(&batch(1, 0, 0)), Ok(Sequencing::New));
        producers.append(LogIndex::new(10), &batch(1, 0, 0), Offset::new(10));
        let fenced = SequenceError::Fenced { producer_id: 7, current: 1, found: 0 };
        assert_eq!(producers.check(&batch(0, 10, 10)), Err(fenced));
        producers.truncate_from(LogIndex::new(10));
        assert_eq!(producers.check(&batch(0, 10, 10)), Ok(Sequencing::New));
    }

    #[test]
    fn sequences_wrap() {
        let mut producers = Producers::default();
        producers.append(LogIndex::new(1), &batch(0, i32::MAX - 1, i32::MAX), Offset::ZERO);
        assert_eq!(producers.check(&batch(0, 0, 0)), Ok(Sequencing::New));
        let mut across = Producers::default();
        across.append(LogIndex::new(1), &batch(0, i32::MAX, 1), Offset::ZERO);
        assert_eq!(across.check(&batch(0, 2, 2)), Ok(Sequencing::New));
    }

    #[test]
    fn truncation_drops_the_overlay_from_the_index_on() {
        let mut producers = producers(4);
        producers.truncate_from(LogIndex::new(6));
        assert_eq!(producers.check(&batch(0, 6, 6)), Ok(Sequencing::New));
        producers.truncate_from(LogIndex::ZERO);
        assert_eq!(producers.check(&batch(0, 4, 4)), Ok(Sequencing::New));
        assert_eq!(producers.check(&batch(0, 5, 5)), gap(4, 5));
    }

    #[test]
    fn the_least_recently_used_id_is_forgotten_first() {
        let mut producers = Producers::default();
        for number in 0..=PRODUCERS_MAX as i64 {
            let one = ProducerSequence { id: number, ..batch(0, 5, 5) };
            producers.commit(LogIndex::new(1), &one, Offset::ZERO, 1_000 - number as u64 % 1_000);
        }
        assert_eq!(producers.len(), PRODUCERS_MAX);
        let forgotten = ProducerSequence { id: 999, ..batch(0, 50, 50) };
        assert_eq!(producers.check(&forgotten), Ok(Sequencing::New));
    }

    #[test]
    fn an_id_unused_for_seven_days_is_forgotten() {
        let mut producers = producers(10);
        producers.expire(9 + PRODUCER_EXPIRY_MS);
        assert_eq!(producers.len(), 1);
        producers.expire(10 + PRODUCER_EXPIRY_MS);
        assert!(producers.is_empty());
    }

    fn encoded(producers: &Producers) -> bytes::Bytes {
        let mut writer = Writer::default();
        producers.encode(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn the_bytes_of_the_committed_table_never_change() {
        let mut producers = Producers::default();
        producers.commit(LogIndex::new(1), &batch(3, 0, 9), Offset::new(100), 5);
        producers.commit(LogIndex::new(1), &batch(3, 10, 19), Offset::new(110), 5);
        let expected = [
            &[1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 5, 0, 0, 0, 0, 0, 0, 0][..],
            &[2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0],
            &[10, 0, 0, 0, 19, 0, 0, 0, 110, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(encoded(&producers), expected.concat());
    }

    #[test]
    fn the_committed_table_survives_the_round_trip() {
        let bytes = encoded(&producers(10));
        let mut reader = Reader::new(&bytes);
        assert_eq!(Producers::decode(&mut reader).unwrap(), producers(10));
        assert!(reader.is_empty());
        for end in 0..bytes.len() {
            assert!(Producers::decode(&mut Reader::new(&bytes[..end])).is_err());
        }
    }
}
