//! Record batches, right by default and wrong in one chosen way.
//!
//! ```text
//!   Batch { fields } --encode()--> 61-byte header | records | CRC over the whole from byte 21
//! ```
//!
//! Invariant: whatever else is wrong, the CRC is right unless it is what was to be wrong.
//! Absent on purpose: compression, transactions.

use super::bytes::signed_varint;

/// The fields of a record batch whose values tests choose.
#[derive(Clone, Debug)]
pub struct Batch {
    /// 2 for batches. See [`old_message_set`] for 0 and 1.
    pub magic: i8,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// -1 without idempotence.
    pub producer_id: i64,
    /// -1 without idempotence.
    pub producer_epoch: i16,
    /// -1 without idempotence.
    pub base_sequence: i32,
    /// Values of the records; keys are null.
    pub values: Vec<Vec<u8>>,
    /// Added to the right record count.
    pub record_count_error: i32,
    /// Added to the right last offset delta.
    pub last_offset_delta_error: i32,
    /// Added to the right length.
    pub length_error: i32,
    /// Exclusive-or with the right CRC.
    pub crc_error: u32,
}

impl Batch {
    /// A right batch without idempotence, one record for each value.
    pub fn of(values: &[&[u8]]) -> Self {
        Self {
            magic: 2,
            attributes: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            values: values.iter().map(|value| value.to_vec()).collect(),
            record_count_error: 0,
            last_offset_delta_error: 0,
            length_error: 0,
            crc_error: 0,
        }
    }

    /// The same from an idempotent producer.
    pub fn sequenced(mut self, producer_id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = producer_id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let count = i32::try_from(self.values.len()).expect("tests write few records");
        let mut covered = Vec::new();
        covered.extend_from_slice(&self.attributes.to_be_bytes());
        let last = count - 1 + self.last_offset_delta_error;
        covered.extend_from_slice(&last.to_be_bytes());
        let now = unix_milliseconds();
        covered.extend_from_slice(&now.to_be_bytes());
        covered.extend_from_slice(&now.to_be_bytes());
        covered.extend_from_slice(&self.producer_id.to_be_bytes());
        covered.extend_from_slice(&self.producer_epoch.to_be_bytes());
        covered.extend_from_slice(&self.base_sequence.to_be_bytes());
        covered.extend_from_slice(&(count + self.record_count_error).to_be_bytes());
        for (delta, value) in self.values.iter().enumerate() {
            covered.extend_from_slice(&record(delta, value));
        }
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&0_i64.to_be_bytes());
        // From the leader epoch on: 4 bytes of it, 1 of magic, 4 of CRC.
        let length = i32::try_from(9 + covered.len()).expect("tests write no 2 GiB");
        bytes.extend_from_slice(&(length + self.length_error).to_be_bytes());
        bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        bytes.push(self.magic as u8);
        let crc = crc32c::crc32c(&covered) ^ self.crc_error;
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes.extend_from_slice(&covered);
        bytes
    }

    /// A right batch of one record that takes exactly `size` bytes.
    ///
    /// Panics for the few sizes that no value has, where a length takes a byte more.
    pub fn of_size(size: usize) -> Self {
        // Header, lengths and the rest of the record take 67 to 75 bytes.
        let values = (size.saturating_sub(75)..size).map(|length| vec![b'x'; length]);
        let mut batches = values.map(|value| Self::of(&[&value]));
        let found = batches.find(|batch| batch.encode().len() == size);
        found.unwrap_or_else(|| panic!("no batch of one record takes {size} bytes"))
    }
}

/// A batch as a Fetch brought it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Records in it.
    pub record_count: i32,
    /// Its bytes behind the leader epoch, which are its producer's.
    pub content: Vec<u8>,
}

impl Stored {
    /// Whether this is what the producer of `batch` sent.
    pub fn is(&self, batch: &[u8]) -> bool {
        batch.get(16..) == Some(&self.content)
    }
}

/// The whole batches among fetched bytes; the last one of a Fetch may be cut off.
pub fn stored(mut bytes: &[u8]) -> Vec<Stored> {
    let mut found = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<61>() {
        let (base_offset, length) = (&header[..8], &header[8..12]);
        let length = i32::from_be_bytes(length.try_into().expect("4 bytes"));
        let length = 12 + usize::try_from(length).expect("no batch has a negative length");
        let Some((batch, rest)) = bytes.split_at_checked(length) else { break };
        found.push(Stored {
            base_offset: i64::from_be_bytes(base_offset.try_into().expect("8 bytes")),
            record_count: i32::from_be_bytes(header[57..].try_into().expect("4 bytes")),
            content: batch[16..].to_vec(),
        });
        bytes = rest;
    }
    found
}

fn record(delta: usize, value: &[u8]) -> Vec<u8> {
    let length = |length: usize| signed_varint(i64::try_from(length).expect("it fits"));
    let mut body = vec![0]; // attributes
    body.extend_from_slice(&signed_varint(0)); // timestamp delta
    body.extend_from_slice(&length(delta));
    body.extend_from_slice(&signed_varint(-1)); // null key
    body.extend_from_slice(&length(value.len()));
    body.extend_from_slice(value);
    body.extend_from_slice(&signed_varint(0)); // no headers
    [length(body.len()), body].concat()
}

/// A right message set of one message in the format before batches: magic 0 or 1.
pub fn old_message_set(magic: i8, value: &[u8]) -> Vec<u8> {
    let length = |length: usize| i32::try_from(length).expect("it fits").to_be_bytes();
    let mut covered = vec![magic as u8, 0];
    if magic == 1 {
        covered.extend_from_slice(&unix_milliseconds().to_be_bytes());
    }
    covered.extend_from_slice(&(-1_i32).to_be_bytes()); // null key
    covered.extend_from_slice(&length(value.len()));
    covered.extend_from_slice(value);
    let mut bytes = 0_i64.to_be_bytes().to_vec();
    bytes.extend_from_slice(&length(4 + covered.len()));
    bytes.extend_from_slice(&crc32_ieee(&covered).to_be_bytes());
    bytes.extend_from_slice(&covered);
    bytes
}

/// The checksum of the old format, and of Bateau's own files, bit by bit: speed does not matter
/// here.
pub fn crc32_ieee(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

fn unix_milliseconds() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("the clock is set after 1970").as_millis();
    i64::try_from(now).expect("the clock is set before the year 292,278,994")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_checksum_is_the_well_known_one() {
        assert_eq!(crc32_ieee(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn stored_batches_are_told_apart_and_a_cut_one_is_left_out() {
        let batches = [Batch::of(&[b"a", b"b"]).encode(), Batch::of(&[b"c"]).encode()];
        let found = stored(&batches.concat());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].record_count, found[0].base_offset), (2, 0));
        assert!(found[0].is(&batches[0]) && found[1].is(&batches[1]) && !found[1].is(&batches[0]));
        let whole = batches.concat();
        assert_eq!(stored(&whole[..whole.len() - 1]).len(), 1);
    }

    #[test]
    fn a_batch_of_a_size_has_that_size() {
        for size in [100, 1_000, 1_048_588, 1_048_589] {
            assert_eq!(Batch::of_size(size).encode().len(), size);
        }
    }
}
