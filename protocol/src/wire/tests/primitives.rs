//! The bounded primitives, one by one.

use super::super::reader::Reader;
use super::super::value::{At, Wire};
use super::super::writer::Writer;
use super::super::{Chain, DecodeFault, EncodeFault, Text};
use crate::limits::{NESTING_DEPTH_MAX, REQUEST_ELEMENTS_MAX};
use bytes::Bytes;

const CLASSIC: At = At { version: 0, flexible: false };
const COMPACT: At = At { version: 0, flexible: true };

fn reader(bytes: &[u8], at: At) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes), at)
}

fn fault<T: Wire>(bytes: &[u8], at: At) -> DecodeFault {
    let Err(error) = T::read(&mut reader(bytes, at)) else { panic!("{bytes:?} was read") };
    error.fault
}

#[test]
fn varints_hold_32_bits_and_no_more() {
    for (bytes, value) in [
        (&[0_u8][..], 0),
        (&[0x7f], 127),
        (&[0x80, 0x01], 128),
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], u32::MAX),
    ] {
        assert_eq!(reader(bytes, COMPACT).varint(), Ok(value));
        let mut writer = Writer::new(COMPACT);
        writer.varint(value);
        assert_eq!(writer.finish().to_bytes(), bytes);
    }
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x10][..], &[0x80; 6]] {
        let error = reader(bytes, COMPACT).varint().expect_err("it is too long");
        assert_eq!(error.fault, DecodeFault::Varint);
    }
}

#[test]
fn counts_of_gigabytes_in_front_of_eight_bytes_are_refused() {
    let rest = [0; 8];
    let classic = |count: i32| [&count.to_be_bytes()[..], &rest].concat();
    let found = i64::from(i32::MAX);
    assert_eq!(
        fault::<Vec<i32>>(&classic(i32::MAX), CLASSIC),
        DecodeFault::Count { found, elements_max: 2 }
    );
    assert_eq!(fault::<Vec<i32>>(&classic(-2), CLASSIC), DecodeFault::Length { found: -2 });
    assert_eq!(fault::<Vec<i32>>(&classic(-1), CLASSIC), DecodeFault::Null);
    // Compact counts are one higher: 2^31 says 2^31 − 1 elements.
    let compact = |varint: &[u8]| [varint, &rest].concat();
    assert_eq!(
        fault::<Vec<Text>>(&compact(&[0x80, 0x80, 0x80, 0x80, 0x08]), COMPACT),
        DecodeFault::Count { found, elements_max: 8 }
    );
    assert_eq!(
        fault::<Vec<Text>>(&compact(&[0xff, 0xff, 0xff, 0xff, 0x0f]), COMPACT),
        DecodeFault::Length { found: i64::from(u32::MAX) - 1 }
    );
}

#[test]
fn a_request_has_a_limit_of_elements_over_all_of_its_arrays() {
    let bytes = Bytes::from(vec![0; 2 * REQUEST_ELEMENTS_MAX + 16]);
    let mut reader = Reader::new(bytes, CLASSIC);
    for _ in 0..2 {
        // A count of zero elements costs nothing.
        assert_eq!(reader.count(1), Ok(Some(0)));
    }
    let half = (REQUEST_ELEMENTS_MAX as i32 / 2).to_be_bytes();
    let more = (REQUEST_ELEMENTS_MAX as i32 / 2 + 1).to_be_bytes();
    let bytes = [&half[..], &more, &[0; REQUEST_ELEMENTS_MAX]].concat();
    let mut reader = Reader::new(bytes.into(), CLASSIC);
    assert_eq!(reader.count(1), Ok(Some(REQUEST_ELEMENTS_MAX / 2)));
    let error = reader.count(1).expect_err("one element too many");
    assert_eq!(error.fault, DecodeFault::Elements { found: REQUEST_ELEMENTS_MAX + 1 });
}

#[test]
fn decoded_memory_is_bounded_by_what_arrived() {
    // Empty compact strings: one byte each here, 32 in memory, and twice that while they move.
    let count = 150_000_u32;
    let mut writer = Writer::new(COMPACT);
    writer.varint(count + 1);
    writer.put(&vec![1; count as usize]);
    let mut reader = Reader::new(writer.finish().to_bytes(), COMPACT);
    let error = Vec::<Text>::read(&mut reader).expect_err("too much memory");
    let bytes_max = reader.memory_max();
    assert!(
        matches!(error.fault, DecodeFault::Memory { bytes_max: found, .. } if found == bytes_max)
    );
    assert!(reader.memory() <= bytes_max);
}

#[test]
fn text_is_checked_where_it_enters() {
    let bytes = b"\x00\x04ab\xff\xfe";
    assert_eq!(fault::<Text>(bytes, CLASSIC), DecodeFault::Utf8 { valid_bytes: 2 });
    assert_eq!(
        fault::<Text>(b"\x00\x04abc", CLASSIC),
        DecodeFault::Truncated { expected: 4, found: 3 }
    );
    assert_eq!(fault::<Text>(b"\xff\xff", CLASSIC), DecodeFault::Null);
    assert_eq!(fault::<Text>(b"\xff\xfe", CLASSIC), DecodeFault::Length { found: -2 });
    assert_eq!(fault::<Text>(b"\x00", COMPACT), DecodeFault::Null);
    assert_eq!(Option::<Text>::read(&mut reader(b"\x00", COMPACT)), Ok(None));
}

#[test]
fn structures_nest_to_a_limit() {
    let mut reader = reader(b"", CLASSIC);
    for _ in 0..NESTING_DEPTH_MAX {
        assert_eq!(reader.enter(), Ok(()));
    }
    assert_eq!(reader.enter().map_err(|error| error.fault), Err(DecodeFault::Depth));
}

#[test]
fn a_text_beyond_the_classic_length_cannot_be_written() {
    let text = Text::from("x".repeat(40_000));
    let classic = Writer::new(CLASSIC).string(Some(&text)).expect_err("16 bits are too few");
    assert_eq!(classic.fault, EncodeFault::Length { found: 40_000, length_max: 32_767 });
    assert_eq!(Writer::new(COMPACT).string(Some(&text)), Ok(()));
}

#[test]
fn a_chain_is_cut_into_the_slices_that_were_lent() {
    let (first, second) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 50]));
    let records: Chain = [first.clone(), Bytes::new(), second.clone()].into_iter().collect();
    let mut writer = Writer::new(CLASSIC);
    writer.put(b"head");
    writer.chain(Some(&records)).expect("it is short");
    writer.put(b"tail");
    assert_eq!(writer.len(), 4 + 4 + 150 + 4);
    let message = writer.finish();
    assert_eq!(message.len(), 162);
    let parts: Vec<&[u8]> = message.parts().iter().map(|part| &part[..]).collect();
    assert_eq!(parts, [&b"head\0\0\0\x96"[..], &first, &second, b"tail"]);
    assert_eq!(message.parts()[1].as_ptr(), first.as_ptr());
    assert_eq!(message.parts()[2].as_ptr(), second.as_ptr());
}
