//! Base-128 varints, little end first, as records use them: signed ones are zigzag encoded.
//!
//! Invariants
//! - A reader that fails leaves its cursor where it was, and never looks past the input.
//! - What does not fit its type is refused, never cut off. Padding with zero groups up to the
//!   type's longest form (5 or 10 bytes) is read, because Kafka reads it and it is harmless:
//!   the bytes are stored as they came.
//!
//! Absent on purpose: 64-bit unsigned varints, which no Kafka message has.

/// Bytes of the longest 32-bit varint.
pub const VARINT_BYTES_MAX: usize = 5;

/// Bytes of the longest 64-bit varint.
pub const VARLONG_BYTES_MAX: usize = 10;

/// Why a varint could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VarintError {
    /// The input ends inside the number.
    #[error("the input ends inside a varint")]
    Truncated,
    /// More bytes, or more bits in the last byte, than the type holds.
    #[error("a varint is longer than its type")]
    TooLong,
}

/// Reads an unsigned 32-bit varint and moves the cursor behind it.
///
/// Errors: [`VarintError`]; the cursor stays.
#[inline]
pub fn read_unsigned(cursor: &mut &[u8]) -> Result<u32, VarintError> {
    match *cursor {
        [first, rest @ ..] if *first < 0x80 => {
            *cursor = rest;
            Ok(u32::from(*first))
        }
        [first, second, rest @ ..] if *second < 0x80 => {
            *cursor = rest;
            Ok(u32::from(*first & 0x7f) | u32::from(*second) << 7)
        }
        _ => read_unsigned_slow(cursor),
    }
}

/// The general case, out of line so that the ordinary one and two bytes inline.
fn read_unsigned_slow(cursor: &mut &[u8]) -> Result<u32, VarintError> {
    let mut rest = *cursor;
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        let (&byte, behind) = rest.split_first().ok_or(VarintError::Truncated)?;
        rest = behind;
        let group = u32::from(byte & 0x7f);
        if shift == 28 && byte > 0x0f {
            return Err(VarintError::TooLong);
        }
        value |= group << shift;
        if byte < 0x80 {
            *cursor = rest;
            return Ok(value);
        }
    }
    Err(VarintError::TooLong)
}

/// Reads a zigzag 32-bit varint (Kafka's `VARINT`) and moves the cursor behind it.
///
/// Errors: [`VarintError`]; the cursor stays.
#[inline]
pub fn read_i32(cursor: &mut &[u8]) -> Result<i32, VarintError> {
    read_unsigned(cursor).map(|raw| (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Reads a zigzag 64-bit varint (Kafka's `VARLONG`) and moves the cursor behind it.
///
/// Errors: [`VarintError`]; the cursor stays.
#[inline]
pub fn read_i64(cursor: &mut &[u8]) -> Result<i64, VarintError> {
    let raw = match *cursor {
        [first, rest @ ..] if *first < 0x80 => {
            *cursor = rest;
            u64::from(*first)
        }
        [first, second, rest @ ..] if *second < 0x80 => {
            *cursor = rest;
            u64::from(*first & 0x7f) | u64::from(*second) << 7
        }
        _ => read_u64_slow(cursor)?,
    };
    Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

fn read_u64_slow(cursor: &mut &[u8]) -> Result<u64, VarintError> {
    let mut rest = *cursor;
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, behind) = rest.split_first().ok_or(VarintError::Truncated)?;
        rest = behind;
        if shift == 63 && byte > 1 {
            return Err(VarintError::TooLong);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            *cursor = rest;
            return Ok(value);
        }
    }
    Err(VarintError::TooLong)
}

/// Appends an unsigned varint in its shortest form.
pub fn write_unsigned(out: &mut Vec<u8>, value: u32) {
    write_u64(out, u64::from(value));
}

/// Appends a zigzag 32-bit varint in its shortest form.
pub fn write_i32(out: &mut Vec<u8>, value: i32) {
    // Sign extension keeps zigzag's result: the 64-bit form of an i32 is its 32-bit form.
    write_i64(out, i64::from(value));
}

/// Appends a zigzag 64-bit varint in its shortest form.
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_u64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [last, ..] = value.to_le_bytes();
    out.push(last);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn known_numbers_have_their_known_bytes() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ] {
            assert_eq!(encoded(|out| write_i32(out, value)), bytes);
            assert_eq!(read_i32(&mut &bytes[..]), Ok(value));
        }
        let least = encoded(|out| write_i64(out, i64::MIN));
        assert_eq!(least, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(read_i64(&mut least.as_slice()), Ok(i64::MIN));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_cursor_stays() {
        for bytes in [
            &[0x80, 0x80, 0x80, 0x80, 0x10][..],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00],
            &[0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            let mut cursor = bytes;
            assert_eq!(read_unsigned(&mut cursor), Err(VarintError::TooLong));
            assert_eq!(cursor, bytes);
        }
        let mut long = [0x80_u8; 10];
        long[9] = 2;
        assert_eq!(read_i64(&mut &long[..]), Err(VarintError::TooLong));
        long[9] = 0x80;
        assert_eq!(read_i64(&mut &long[..]), Err(VarintError::TooLong));
        assert_eq!(read_i32(&mut &[][..]), Err(VarintError::Truncated));
        assert_eq!(read_i64(&mut &[0x80][..]), Err(VarintError::Truncated));
    }

    #[test]
    fn zero_padding_within_the_types_length_is_read_as_kafka_reads_it() {
        let mut cursor = &[0x8e, 0x80, 0x80, 0x80, 0x00, 0x55][..];
        assert_eq!(read_i32(&mut cursor), Ok(7));
        assert_eq!(cursor, [0x55]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            a in any::<u32>(), b in any::<i32>(), c in any::<i64>(), small in -300_i32..300,
        ) {
            let bytes = encoded(|out| {
                write_unsigned(out, a);
                write_i32(out, b);
                write_i64(out, c);
                write_i32(out, small);
            });
            let mut cursor = bytes.as_slice();
            prop_assert_eq!(read_unsigned(&mut cursor), Ok(a));
            prop_assert_eq!(read_i32(&mut cursor), Ok(b));
            prop_assert_eq!(read_i64(&mut cursor), Ok(c));
            prop_assert_eq!(read_i32(&mut cursor), Ok(small));
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn no_input_makes_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            for read in [0, 1, 2] {
                let mut cursor = bytes.as_slice();
                let failed = match read {
                    0 => read_unsigned(&mut cursor).is_err(),
                    1 => read_i32(&mut cursor).is_err(),
                    _ => read_i64(&mut cursor).is_err(),
                };
                prop_assert_eq!(failed, cursor.len() == bytes.len());
            }
        }
    }
}
