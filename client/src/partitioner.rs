//! Which partition a record goes to: the same one that the Java client and kafkajs choose.
//!
//! ```text
//!   key ── murmur2 ── sign bit cleared ── modulo the topic's partitions
//!   no key ── KeylessChooser: one partition for a while (sticky), or one after the other
//! ```
//!
//! Invariants
//! - A key has one partition as long as the topic's count of partitions stays, through both doors
//!   and from every client that hashes as Java does.
//! - Chance comes from outside.
//!
//! Absent on purpose: partitioners of one's own (a producer takes an explicit partition), and
//! librdkafka's default, which hashes with CRC-32.

use std::num::NonZeroU32;

use fastrand::Rng;

/// Bytes of records without a key that go to one partition before the next is drawn: Java's
/// default `batch.size`, and its rule (KIP-794).
pub const STICKY_BYTES: usize = 16 * 1024;

/// Where Java's hash begins.
const SEED: u32 = 0x9747_b28c;

/// The multiplier of murmur2.
const MULTIPLIER: u32 = 0x5bd1_e995;

/// Murmur2 with 32 bits and Kafka's seed, as `org.apache.kafka.common.utils.Utils.murmur2` has it.
/// Java shows the same bits as a signed number.
///
/// Cost: about 1 ns per 4 bytes.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> u32 {
    // Java counts in 32 bits too: only the low ones of a length take part.
    let [b0, b1, b2, b3, ..] = bytes.len().to_le_bytes();
    let mut hash = SEED ^ u32::from_le_bytes([b0, b1, b2, b3]);
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> 15
}

/// The partition of `key` in a topic of `partition_count` partitions. An empty key is a key.
#[must_use]
pub fn partition_for_key(key: &[u8], partition_count: NonZeroU32) -> i32 {
    // Java clears the sign bit instead of taking the absolute value.
    let positive = murmur2(key) & i32::MAX.cast_unsigned();
    (positive % partition_count).cast_signed()
}

/// How records without a key are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keyless {
    /// [`STICKY_BYTES`] to one partition, then another drawn at random: few, full batches
    /// (KIP-480, KIP-794).
    #[default]
    Sticky,
    /// Every record to the next partition, from a random start: even counts, small batches.
    RoundRobin,
}

/// Chooses partitions of one topic for records without a key.
#[derive(Clone, Debug)]
pub struct KeylessChooser {
    rule: Keyless,
    current: Option<i32>,
    bytes: usize,
}

impl KeylessChooser {
    /// Nothing is chosen yet.
    #[must_use]
    pub const fn new(rule: Keyless) -> Self {
        Self { rule, current: None, bytes: 0 }
    }

    /// The partition for a record of `record_bytes`; `None` without any available one.
    ///
    /// - `available`: partitions that have a leader, ascending. One that is missing is left at
    ///   once.
    ///
    /// Cost: one binary search.
    pub fn choose(
        &mut self,
        record_bytes: usize,
        available: &[i32],
        random: &mut Rng,
    ) -> Option<i32> {
        let chosen = match (self.rule, self.current) {
            (Keyless::Sticky, Some(current))
                if self.bytes < STICKY_BYTES && available.binary_search(&current).is_ok() =>
            {
                current
            }
            (Keyless::Sticky, current) => {
                self.bytes = 0;
                draw(available, current, random)?
            }
            (Keyless::RoundRobin, None) => draw(available, None, random)?,
            (Keyless::RoundRobin, Some(last)) => {
                let behind = available.partition_point(|partition| *partition <= last);
                *available.get(behind).or_else(|| available.first())?
            }
        };
        self.current = Some(chosen);
        self.bytes = self.bytes.saturating_add(record_bytes);
        Some(chosen)
    }
}

/// Any available partition, another than `last` where there is a choice.
fn draw(available: &[i32], last: Option<i32>, random: &mut Rng) -> Option<i32> {
    let last = last.and_then(|last| available.binary_search(&last).ok());
    let choices = match last {
        Some(_) if available.len() > 1 => available.len() - 1,
        _ => available.len(),
    };
    if choices == 0 {
        return None;
    }
    let drawn = random.usize(..choices);
    // With one partition left out, those behind it move up by one.
    let shifted = match last {
        Some(last) if choices < available.len() && drawn >= last => drawn + 1,
        _ => drawn,
    };
    available.get(shifted).copied()
}

#[cfg(test)]
mod tests;
