//! Where a reader is, as one opaque value that another process can resume from.
//!
//! ```text
//!   c1. base64url( topics varint | per topic: id 16 bytes, partitions varint,
//!                  per partition: number delta varint, next offset varint | CRC-32C, big-endian )
//! ```
//!
//! Invariants
//! - It is text (letters, digits, `.`, `-`, `_`), so that it goes through headers, URLs and shells
//!   as it is; and it is the same value there and in `bytes`.
//! - Equal positions give equal cursors: topics and partitions are sorted.
//! - A topic is named by its id: the cursor of a deleted topic never continues in a new one of the
//!   same name.
//! - No input makes a reader panic or reserve memory that it has no bytes for.
//!
//! Upgrade rule: a change of the body takes the next number in front; old numbers stay readable.
//!
//! Absent on purpose: secrecy. A cursor is checked against accidents, not against its holder.

use std::collections::BTreeMap;
use std::fmt;

use bateau_protocol::ids::{Offset, TopicId};
use bateau_protocol::record::varint::{read_i64, read_unsigned, write_i64, write_unsigned};

/// Partitions of all topics in one cursor.
pub const CURSOR_PARTITIONS_MAX: usize = 10_000;

/// Bytes of the longest cursor that is read.
pub const CURSOR_BYTES_MAX: usize = 512 * 1024;

/// What the version that we write begins with.
const PREFIX: &str = "c1.";

/// Why a cursor was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CursorError {
    /// It does not begin like a cursor.
    #[error("this is no cursor: a cursor begins with {PREFIX:?}; use one as it was given to you")]
    NotACursor,
    /// A newer Bateau wrote it.
    #[error("the cursor has version {found}, this client reads 1; use a newer client")]
    Version {
        /// The number in front.
        found: u32,
    },
    /// Characters are missing or changed.
    #[error("the cursor is damaged; use it exactly as it was given to you")]
    Damaged,
    /// More than a limit allows.
    #[error("the cursor has {found} {what}, the limit is {max}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        found: usize,
        /// The limit.
        max: usize,
    },
}

/// The next offset to read, for every partition that was read from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    topics: BTreeMap<TopicId, BTreeMap<u32, Offset>>,
}

impl Cursor {
    /// The cursor of a reader that has not read anything.
    #[must_use]
    pub const fn new() -> Self {
        Self { topics: BTreeMap::new() }
    }

    /// Notes that everything before `next` was read in this partition.
    ///
    /// - `partition`: not negative; a negative number is no partition and is not noted.
    ///
    /// Errors: [`CursorError::TooLarge`] beyond [`CURSOR_PARTITIONS_MAX`]; nothing is noted.
    pub fn set(&mut self, topic: TopicId, partition: i32, next: Offset) -> Result<(), CursorError> {
        let Ok(partition) = u32::try_from(partition) else { return Ok(()) };
        let known = self.topics.get(&topic).is_some_and(|topic| topic.contains_key(&partition));
        let found = self.partition_count() + usize::from(!known);
        if found > CURSOR_PARTITIONS_MAX {
            return Err(CursorError::TooLarge {
                what: "partitions",
                found,
                max: CURSOR_PARTITIONS_MAX,
            });
        }
        self.topics.entry(topic).or_default().insert(partition, next);
        Ok(())
    }

    /// The next offset to read; `None` for a partition that it does not know.
    #[must_use]
    pub fn next_offset(&self, topic: TopicId, partition: i32) -> Option<Offset> {
        let partition = u32::try_from(partition).ok()?;
        self.topics.get(&topic)?.get(&partition).copied()
    }

    /// All positions, by topic and then by partition.
    pub fn positions(&self) -> impl Iterator<Item = (TopicId, i32, Offset)> + '_ {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|(partition, next)| (*topic, partition.cast_signed(), *next))
        })
    }

    /// Partitions in it.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    /// Reads a cursor.
    ///
    /// Errors: [`CursorError`].
    /// Cost: proportional to the bytes.
    pub fn parse(cursor: &[u8]) -> Result<Self, CursorError> {
        if cursor.len() > CURSOR_BYTES_MAX {
            let (found, max) = (cursor.len(), CURSOR_BYTES_MAX);
            return Err(CursorError::TooLarge { what: "bytes", found, max });
        }
        let text = cursor.strip_prefix(PREFIX.as_bytes()).ok_or_else(|| not_ours(cursor))?;
        let bytes = base64::decode(text).ok_or(CursorError::Damaged)?;
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(CursorError::Damaged)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
            return Err(CursorError::Damaged);
        }
        Self::parse_body(body).ok_or(CursorError::Damaged)
    }

    /// `None` for what no writer makes: unsorted, too much, or too little.
    fn parse_body(mut body: &[u8]) -> Option<Self> {
        let mut cursor = Self::new();
        let mut partitions_left = CURSOR_PARTITIONS_MAX;
        let mut last_topic = None;
        for _ in 0..read_unsigned(&mut body).ok()? {
            let (id, behind) = body.split_first_chunk::<16>()?;
            body = behind;
            let topic = TopicId(*id);
            if last_topic.is_some_and(|last| last >= topic) {
                return None;
            }
            last_topic = Some(topic);
            let partitions = cursor.topics.entry(topic).or_default();
            let mut number = 0_u32;
            for index in 0..read_unsigned(&mut body).ok()? {
                let delta = read_unsigned(&mut body).ok()?;
                // The first number counts from 0, the others from behind their predecessor.
                let step = if index == 0 { delta } else { delta.checked_add(1)? };
                number = number.checked_add(step)?;
                let next = u64::try_from(read_i64(&mut body).ok()?).ok()?;
                partitions_left = partitions_left.checked_sub(1)?;
                i32::try_from(number).ok()?;
                partitions.insert(number, Offset::new(next));
            }
        }
        body.is_empty().then_some(cursor)
    }
}

/// The text to keep. [`Cursor::parse`] takes its bytes.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = Vec::new();
        write_unsigned(&mut body, count(self.topics.len()));
        for (topic, partitions) in &self.topics {
            body.extend_from_slice(&topic.0);
            write_unsigned(&mut body, count(partitions.len()));
            let mut least = 0_u32;
            for (number, next) in partitions {
                write_unsigned(&mut body, number.saturating_sub(least));
                // Offsets fit an i64: no log reaches its end.
                write_i64(&mut body, i64::try_from(next.get()).unwrap_or(i64::MAX));
                least = number.saturating_add(1);
            }
        }
        let checksum = crc32c::crc32c(&body);
        body.extend_from_slice(&checksum.to_be_bytes());
        f.write_str(PREFIX)?;
        f.write_str(&base64::encode(&body))
    }
}

/// Counts are bounded by [`CURSOR_PARTITIONS_MAX`].
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A later version says its number; anything else is no cursor.
fn not_ours(cursor: &[u8]) -> CursorError {
    let number = std::str::from_utf8(cursor)
        .ok()
        .and_then(|text| text.strip_prefix('c'))
        .and_then(|text| text.split_once('.'))
        .and_then(|(number, _)| number.parse().ok());
    match number {
        Some(found) => CursorError::Version { found },
        None => CursorError::NotACursor,
    }
}

/// RFC 4648, section 5, without padding.
mod base64 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub(super) fn encode(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
            let group = group << (8 * (3 - chunk.len()));
            for place in 0..=chunk.len() {
                let digit = group >> (18 - 6 * place) & 63;
                let digit = DIGITS.get(digit as usize).copied().unwrap_or(b'A');
                text.push(char::from(digit));
            }
        }
        text
    }

    /// `None` for other characters, and for text that [`encode`] does not make.
    pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
        for chunk in text.chunks(4) {
            let mut group = 0_u32;
            for character in chunk {
                group = group << 6 | u32::from(value(*character)?);
            }
            let [_, first, second, third] = (group << (6 * (4 - chunk.len()))).to_be_bytes();
            match chunk.len() {
                4 => bytes.extend_from_slice(&[first, second, third]),
                3 if third == 0 => bytes.extend_from_slice(&[first, second]),
                2 if second == 0 && third == 0 => bytes.push(first),
                _ => return None,
            }
        }
        Some(bytes)
    }

    const fn value(character: u8) -> Option<u8> {
        match character {
            b'A'..=b'Z' => Some(character - b'A'),
            b'a'..=b'z' => Some(character - b'a' + 26),
            b'0'..=b'9' => Some(character - b'0' + 52),
            b'-' => Some(62),
            b'_' => Some(63),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor() -> Cursor {
        let mut cursor = Cursor::new();
        for (topic, partition, next) in
            [(7, 2, 1_000), (7, 0, 0), (3, 5, u64::try_from(i64::MAX).unwrap())]
        {
            cursor.set(TopicId([topic; 16]), partition, Offset::new(next)).unwrap();
        }
        cursor
    }

    #[test]
    fn the_text_of_version_1_is_golden() {
        let text = "c1.AgMDAwMDAwMDAwMDAwMDAwMBBf7__________wEHBwcHBwcHBwcHBwcHBwcHAgAAAdAPDO_FdA";
        assert_eq!(cursor().to_string(), text);
        assert_eq!(Cursor::parse(text.as_bytes()), Ok(cursor()));
        assert_eq!(Cursor::new().to_string(), "c1.AFJ9U1E");
    }

    #[test]
    fn a_position_is_found_by_topic_id_and_partition() {
        let cursor = cursor();
        assert_eq!(cursor.next_offset(TopicId([7; 16]), 2), Some(Offset::new(1_000)));
        assert_eq!(cursor.next_offset(TopicId([7; 16]), 1), None);
        assert_eq!(cursor.next_offset(TopicId([8; 16]), 2), None);
        let topics: Vec<_> = cursor.positions().map(|(topic, number, _)| (topic, number)).collect();
        assert_eq!(topics, [(TopicId([3; 16]), 5), (TopicId([7; 16]), 0), (TopicId([7; 16]), 2)]);
    }

    #[test]
    fn every_changed_or_missing_character_is_noticed() {
        let text = cursor().to_string();
        for place in 0..text.len() {
            assert!(Cursor::parse(&text.as_bytes()[..place]).is_err(), "cut at {place}");
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'x' { b'y' } else { b'x' };
            assert!(Cursor::parse(&changed).is_err(), "changed at {place}");
        }
    }

    #[test]
    fn what_is_no_cursor_and_what_is_a_later_one_are_told_apart() {
        for text in ["", "latest", "c.x", "cx.y", "C1.AFJ9U1E", "c-1.x"] {
            assert_eq!(Cursor::parse(text.as_bytes()), Err(CursorError::NotACursor), "{text}");
        }
        assert_eq!(Cursor::parse(b"c2.AFJ9U1E"), Err(CursorError::Version { found: 2 }));
        assert_eq!(Cursor::parse(b"c1.AFJ9U1E="), Err(CursorError::Damaged));
    }

    #[test]
    fn limits_hold_for_writers_and_readers() {
        let mut cursor = Cursor::new();
        for partition in 0..i32::try_from(CURSOR_PARTITIONS_MAX).unwrap() {
            cursor.set(TopicId([1; 16]), partition, Offset::new(u64::MAX >> 1)).unwrap();
        }
        let text = cursor.to_string();
        assert!(text.len() <= CURSOR_BYTES_MAX);
        assert_eq!(Cursor::parse(text.as_bytes()).as_ref(), Ok(&cursor));
        cursor.set(TopicId([1; 16]), 0, Offset::new(1)).unwrap();
        let refused = cursor.set(TopicId([2; 16]), 0, Offset::ZERO).unwrap_err();
        assert!(matches!(refused, CursorError::TooLarge { found: 10_001, .. }));
        let long = [b'c'; CURSOR_BYTES_MAX + 1];
        assert!(matches!(Cursor::parse(&long), Err(CursorError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            positions in prop::collection::vec((any::<[u8; 2]>(), 0..i32::MAX, 0..i64::MAX), 0..40)
        ) {
            let mut cursor = Cursor::new();
            for ([first, last], partition, next) in positions {
                let mut id = [first; 16];
                id[15] = last;
                let next = Offset::new(u64::try_from(next).unwrap());
                cursor.set(TopicId(id), partition, next).unwrap();
            }
            prop_assert_eq!(Cursor::parse(cursor.to_string().as_bytes()), Ok(cursor));
        }

        #[test]
        fn any_body_with_a_right_checksum_is_read_or_refused(
            body in prop::collection::vec(any::<u8>(), 0..60)
        ) {
            let mut bytes = body.clone();
            bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
            let text = format!("c1.{}", base64::encode(&bytes));
            if let Ok(cursor) = Cursor::parse(text.as_bytes()) {
                prop_assert_eq!(Cursor::parse(cursor.to_string().as_bytes()), Ok(cursor));
            }
        }
    }
}
