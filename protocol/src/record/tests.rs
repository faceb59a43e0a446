//! Batches of real clients, broken batches, and batches that lie.
//!
//! The files under `golden/` are batches as kafka-python 2.0.2 encoded them, and as kafkajs 2.2.4,
//! librdkafka 2.16.0 and the Java client 4.3.1 sent them to a Kafka 4.3.1, taken from its segments.

use std::fmt::Write;

use bytes::Bytes;

use super::*;

mod random;

/// Later than every golden batch.
const NOW: u64 = 1_800_000_000_000;

macro_rules! golden {
    ($name:literal) => {
        ($name, from_hex(include_str!(concat!("golden/", $name, ".hex"))))
    };
}

fn from_hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn all_golden() -> Vec<(&'static str, Bytes)> {
    vec![
        golden!("java-lz4"),
        golden!("java-snappy"),
        golden!("java-zstd"),
        golden!("kafka-python-gzip"),
        golden!("kafka-python-none"),
        golden!("kafkajs-gzip"),
        golden!("kafkajs-none"),
        golden!("kafkajs-snappy"),
        golden!("librdkafka-gzip"),
        golden!("librdkafka-lz4"),
        golden!("librdkafka-none"),
        golden!("librdkafka-snappy"),
        golden!("librdkafka-zstd"),
    ]
}

fn record<'a>(timestamp: i64, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> NewRecord<'a> {
    NewRecord { timestamp, key, value, headers: &[] }
}

fn builder() -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    builder.push(&record(1_000, Some(b"k"), Some(b"first"))).unwrap();
    let headers: &[(&[u8], Option<&[u8]>)] =
        &[(b"h", Some(b"1")), (b"h", Some(b"2")), (b"n", None)];
    builder.push(&NewRecord { headers, ..record(1_007, None, Some(b"second")) }).unwrap();
    builder.push(&record(1_003, Some(b""), None)).unwrap();
    builder
}

fn good() -> Bytes {
    builder().build().unwrap()
}

fn parsed(bytes: &Bytes) -> Batch {
    Batch::split_first(bytes).unwrap().0
}

/// The good batch with another header, its checksum right again.
fn with_header(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let batch = parsed(&good());
    let mut header = *batch.header();
    change(&mut header);
    seal(&header, batch.payload()).unwrap()
}

fn walk(bytes: &Bytes) -> Result<ValidBatch, BatchError> {
    validate(bytes, &ValidationLimits::default(), ValidationLevel::Walk, NOW)
}

fn check(bytes: &Bytes, limits: ValidationLimits) -> Result<ValidBatch, BatchError> {
    validate(bytes, &limits, ValidationLevel::Walk, 2_000)
}

/// One record per line, everything in it.
fn render(batch: &Batch) -> String {
    fn text(bytes: Option<&[u8]>) -> std::borrow::Cow<'_, str> {
        bytes.map_or("null".into(), String::from_utf8_lossy)
    }
    let mut out = String::new();
    for record in batch.records().unwrap() {
        let record = record.unwrap();
        let (key, value) = (text(record.key), text(record.value));
        write!(out, "{} @{} {key} = {value}", record.offset, record.timestamp).unwrap();
        for header in record.headers {
            write!(out, " [{}: {}]", text(Some(header.key)), text(header.value)).unwrap();
        }
        out.push('\n');
    }
    out
}

#[test]
fn batches_of_real_clients_are_valid_and_pass_unchanged() {
    for (name, bytes) in all_golden() {
        let valid = walk(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(valid.bytes.as_ptr(), bytes.as_ptr(), "{name} was copied");
        assert_eq!(valid.bytes.len(), bytes.len(), "{name}");
        assert!(!valid.rewritten, "{name}");
        let codec = format!("{:?}", valid.compression).to_lowercase();
        assert!(name.ends_with(&codec), "{name} is {codec}");
        // kafkajs sends epoch 0 and sequence 0 without an id; kafka-python sends no id at all.
        let idempotent = name.starts_with("java") || name.starts_with("librdkafka");
        assert_eq!(valid.producer.is_some(), idempotent, "{name}");
        assert_eq!(parsed(&bytes).header().encode()[..], bytes[..BATCH_HEADER_BYTES], "{name}");
    }
}

#[test]
fn the_records_of_kafka_python_are_what_was_given_to_it() {
    let (_, bytes) = golden!("kafka-python-none");
    assert_eq!(
        render(&parsed(&bytes)),
        "0 @1700000000000 null = value0\n\
         1 @1700000000050 key1 = value1 [h: x] [h: null]\n\
         2 @1700000000014 key2 = null\n"
    );
}

#[test]
fn the_records_of_kafkajs_are_what_was_given_to_it() {
    let (_, bytes) = golden!("kafkajs-none");
    let text = render(&parsed(&bytes));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(
        lines[3],
        "3 @1700000000009 null = \
         {\"orderId\":3,\"customerId\":\"c3\",\"items\":[\"a\",\"b\"]} [h: 1] [h: 2] [z: ]"
    );
    assert_eq!(lines[5], "5 @1700000000015 k5 = null [h: 1] [h: 2] [z: ]");
}

#[test]
fn the_builder_makes_the_bytes_that_real_clients_make() {
    for (name, bytes) in
        [golden!("kafka-python-none"), golden!("kafkajs-none"), golden!("librdkafka-none")]
    {
        let batch = parsed(&bytes);
        let header = *batch.header();
        let mut builder = BatchBuilder::new()
            .base_offset(header.base_offset)
            .leader_epoch(header.leader_epoch)
            .producer(header.producer_id, header.producer_epoch, header.base_sequence);
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            let headers: Vec<_> = record.headers.map(|it| (it.key, it.value)).collect();
            builder
                .push(&NewRecord {
                    timestamp: record.timestamp,
                    key: record.key,
                    value: record.value,
                    headers: &headers,
                })
                .unwrap();
        }
        assert_eq!(builder.build().unwrap(), bytes, "{name}");
    }
}

#[test]
fn a_batch_is_a_slice_of_the_field_it_came_in() {
    let one = good();
    let field: Bytes = [one.clone(), one.clone(), one.slice(..20)].concat().into();
    let batches: Vec<_> = Batches::new(field.clone()).collect();
    assert_eq!(batches.len(), 3);
    let second = batches[1].as_ref().unwrap();
    assert_eq!(second.bytes().as_ptr(), field[one.len()..].as_ptr());
    assert_eq!(second.bytes(), &one);
    let needed = BATCH_HEADER_BYTES;
    assert_eq!(batches[2], Err(BatchError::Truncated { needed, found: 20 }));
    assert_eq!(Batches::new(Bytes::new()).count(), 0);
}

#[test]
fn every_truncation_is_refused() {
    let mut inputs = all_golden();
    inputs.push(("good", good()));
    for (name, bytes) in inputs {
        for end in 0..bytes.len() {
            let cut = bytes.slice(..end);
            for level in [ValidationLevel::Header, ValidationLevel::Walk] {
                let result = validate(&cut, &ValidationLimits::default(), level, NOW);
                assert!(matches!(result, Err(BatchError::Truncated { .. })), "{name} at {end}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_but_in_the_leader_epoch() {
    let mut inputs = all_golden();
    inputs.push(("good", good()));
    for (name, bytes) in inputs {
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let result = validate(
                &changed.into(),
                &ValidationLimits::default(),
                ValidationLevel::Header,
                NOW,
            );
            let stamped = (12..16).contains(&(bit / 8));
            assert_eq!(result.is_ok(), stamped, "{name}, bit {bit}");
        }
    }
}

#[test]
fn a_cut_inside_the_records_is_refused_although_length_and_crc_are_right() {
    let batch = parsed(&good());
    let payload = batch.payload();
    for end in 0..payload.len() {
        let sealed = seal(batch.header(), &payload[..end]).unwrap();
        let result = walk(&sealed);
        assert!(matches!(result, Err(BatchError::Record(_))), "at {end}: {result:?}");
        let trusted = validate(&sealed, &ValidationLimits::default(), ValidationLevel::Header, NOW);
        assert!(trusted.is_ok(), "the header level looks at no record");
    }
}

#[test]
fn legacy_and_unknown_formats_are_named() {
    for magic in [0_u8, 1] {
        let mut legacy = vec![0; 34];
        legacy[16] = magic;
        let found = magic.cast_signed();
        assert_eq!(walk(&legacy.into()), Err(BatchError::LegacyMagic { found }));
    }
    for magic in [3_u8, 0xff] {
        let mut bytes = good().to_vec();
        bytes[16] = magic;
        let found = magic.cast_signed();
        assert_eq!(walk(&bytes.into()), Err(BatchError::UnknownMagic { found }));
    }
}

#[test]
fn a_length_that_lies_is_refused() {
    for (length, expected) in [
        (-1, BatchError::Length { found: -1 }),
        (0, BatchError::Length { found: 0 }),
        (48, BatchError::Length { found: 48 }),
        (i32::MIN, BatchError::Length { found: i32::MIN }),
        (49, BatchError::NotOneBatch { found: good().len() - 61 }),
        (i32::MAX, BatchError::Truncated { needed: (1 << 31) + 11, found: good().len() }),
    ] {
        let mut bytes = good().to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert_eq!(walk(&bytes.into()), Err(expected));
    }
}

#[test]
fn anything_but_one_batch_is_refused() {
    let one = good();
    assert_eq!(
        walk(&Bytes::new()),
        Err(BatchError::Truncated { needed: BATCH_HEADER_BYTES, found: 0 })
    );
    let two = [one.clone(), one.clone()].concat().into();
    assert_eq!(walk(&two), Err(BatchError::NotOneBatch { found: one.len() }));
    let trailing = [one, Bytes::from_static(&[0])].concat().into();
    assert_eq!(walk(&trailing), Err(BatchError::NotOneBatch { found: 1 }));
}

#[test]
fn the_size_limit_comes_before_the_checksum_and_counts_the_whole_batch() {
    let bytes = good();
    let exact = ValidationLimits { batch_bytes_max: bytes.len(), ..Default::default() };
    assert!(check(&bytes, exact).is_ok());
    let bytes_max = bytes.len() - 1;
    let tight = ValidationLimits { batch_bytes_max: bytes_max, ..exact };
    let mut broken = bytes.to_vec();
    broken[70] ^= 1;
    let expected = BatchError::TooLarge { found: bytes.len(), bytes_max };
    assert_eq!(check(&bytes, tight), Err(expected));
    assert_eq!(check(&broken.clone().into(), tight), Err(expected));
    assert!(matches!(check(&broken.into(), exact), Err(BatchError::Crc { .. })));
}

#[test]
fn headers_that_no_producer_may_send_are_refused() {
    let count = |record_count, last_offset_delta| {
        walk(&with_header(|header| {
            header.record_count = record_count;
            header.last_offset_delta = last_offset_delta;
        }))
        .unwrap_err()
    };
    assert_eq!(count(0, -1), BatchError::RecordCount { found: 0 });
    assert_eq!(count(0, 2), BatchError::RecordCount { found: 0 });
    assert_eq!(count(-1, -2), BatchError::RecordCount { found: -1 });
    assert_eq!(count(i32::MIN, i32::MAX), BatchError::RecordCount { found: i32::MIN });
    assert_eq!(count(3, 5), BatchError::LastOffsetDelta { expected: 2, found: 5 });
    assert_eq!(count(4, 2), BatchError::LastOffsetDelta { expected: 3, found: 2 });
    // Span and count agree, the payload does not.
    let fault = |index, fault| BatchError::Record(RecordError { index, fault });
    assert_eq!(count(4, 3), fault(3, RecordFault::Truncated));
    assert_eq!(count(i32::MAX, i32::MAX - 1), fault(3, RecordFault::Truncated));
    assert_eq!(count(2, 1), fault(2, RecordFault::Uncounted { found: 7 }));

    for base_offset in [5, -1, i64::MIN] {
        let bytes = with_header(|header| header.base_offset = base_offset);
        assert_eq!(walk(&bytes), Err(BatchError::BaseOffset { found: base_offset }));
    }
    let bytes = with_header(|header| header.attributes = header.attributes.with_control(true));
    assert_eq!(walk(&bytes), Err(BatchError::Control));
    for found in 5..8 {
        let bits = Attributes::from_bits(i16::from(found));
        let bytes = with_header(|header| header.attributes = bits);
        assert_eq!(walk(&bytes), Err(BatchError::UnknownCompression { found }));
    }
}

#[test]
fn zstd_waits_for_its_version_of_the_request() {
    let (_, bytes) = golden!("librdkafka-zstd");
    let old = ValidationLimits { zstd_allowed: false, ..Default::default() };
    let result = validate(&bytes, &old, ValidationLevel::Walk, NOW);
    assert_eq!(result, Err(BatchError::ZstdNotAllowed));
}

#[test]
fn a_producer_id_needs_epoch_and_sequence_and_its_absence_needs_nothing() {
    let producer = |id, epoch, sequence| {
        let bytes = with_header(|header| {
            header.producer_id = id;
            header.producer_epoch = epoch;
            header.base_sequence = sequence;
        });
        walk(&bytes).map(|valid| valid.producer)
    };
    assert_eq!(producer(7, 0, -1), Err(BatchError::Sequence { producer_id: 7, found: -1 }));
    assert_eq!(producer(7, -1, 0), Err(BatchError::ProducerEpoch { producer_id: 7, found: -1 }));
    assert_eq!(producer(-1, 0, 0), Ok(None));
    assert_eq!(producer(-2, -1, 5), Ok(None));
    let sequences = |first_sequence, last_sequence| {
        Ok(Some(ProducerSequence { id: 7, epoch: 3, first_sequence, last_sequence }))
    };
    assert_eq!(producer(7, 3, 10), sequences(10, 12));
    assert_eq!(producer(7, 3, i32::MAX - 2), sequences(i32::MAX - 2, i32::MAX));
    assert_eq!(producer(7, 3, i32::MAX - 1), sequences(i32::MAX - 1, 0));
    assert_eq!(producer(7, 3, i32::MAX), sequences(i32::MAX, 1));
}

#[test]
fn records_outside_of_the_time_bounds_are_refused_by_index() {
    // Now is 2,000; the records say 1,000, 1,007 and 1,003.
    let limits = |before, after| ValidationLimits {
        timestamp_before_max_ms: before,
        timestamp_after_max_ms: after,
        ..Default::default()
    };
    assert!(check(&good(), limits(1_000, 0)).is_ok());
    let refused = |index, found, earliest, latest| {
        Err(BatchError::Timestamp { index, found, earliest, latest })
    };
    assert_eq!(check(&good(), limits(999, 0)), refused(0, 1_000, 1_001, 2_000));
    // A producer whose clock runs ahead: header honest, then header lying.
    let ahead = with_header(|header| header.base_timestamp = 2_000);
    assert_eq!(check(&ahead, limits(0, 5)), refused(1, 2_007, 2_000, 2_005));
    // The header's own maximum is not looked at where the records are.
    let lying = with_header(|header| header.max_timestamp = i64::MAX);
    assert!(check(&lying, limits(1_000, 0)).is_ok());
    let header_only = validate(&lying, &limits(1_000, 0), ValidationLevel::Header, 2_000);
    assert_eq!(header_only, refused(0, i64::MAX, 1_000, 2_000));
    // An overflowing sum stays outside.
    let far = with_header(|header| header.base_timestamp = i64::MAX - 2);
    assert_eq!(check(&far, limits(0, 5)), refused(0, i64::MAX - 2, 2_000, 2_005));
}

#[test]
fn records_without_a_time_are_always_in_bounds() {
    let mut builder = BatchBuilder::new();
    builder.push(&record(-1, None, None)).unwrap();
    let strict = ValidationLimits {
        timestamp_before_max_ms: 0,
        timestamp_after_max_ms: 0,
        ..Default::default()
    };
    let valid = check(&builder.build().unwrap(), strict).unwrap();
    assert_eq!(valid.max_timestamp(), -1);
    assert!(!valid.rewritten);
}

#[test]
fn a_wrong_maximum_is_repaired_and_nothing_else_changes() {
    for wrong in [-1, 0, 1_006, 1_008, i64::MAX] {
        let bytes = with_header(|header| header.max_timestamp = wrong);
        let valid = walk(&bytes).unwrap();
        assert!(valid.rewritten);
        assert_eq!(valid.bytes, good(), "claimed {wrong}");
        assert_eq!(valid.header, *parsed(&good()).header());
    }
}

#[test]
fn a_compressed_batch_is_trusted_but_its_maximum_never_falls_below_its_base() {
    let absent = |max_timestamp| {
        let batch = parsed(&builder().build_compressed(Compression::Lz4, b"whatever").unwrap());
        let header = BatchHeader { max_timestamp, ..*batch.header() };
        walk(&seal(&header, batch.payload()).unwrap()).unwrap()
    };
    assert_eq!(absent(-1).max_timestamp(), 1_000);
    assert!(!absent(5_000).rewritten);
    let walked = absent(5_000).with_max_timestamp(1_007);
    assert_eq!(walked.max_timestamp(), 1_007);
    assert!(walked.rewritten);
    parsed(&walked.bytes).verify_crc().unwrap();
    assert_eq!(walked.payload(), b"whatever");
}

#[test]
fn log_append_time_stamps_the_batch_and_ignores_the_producers_clock() {
    let limits = ValidationLimits {
        timestamp_type: TimestampType::LogAppendTime,
        timestamp_before_max_ms: 0,
        timestamp_after_max_ms: 0,
        ..Default::default()
    };
    let valid = check(&good(), limits).unwrap();
    assert!(valid.rewritten);
    let batch = parsed(&valid.bytes);
    batch.verify_crc().unwrap();
    assert_eq!(batch.header().attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert!(batch.records().unwrap().all(|record| record.unwrap().timestamp == 2_000));
    assert_eq!(batch.payload(), parsed(&good()).payload());
    // The client may not say so itself; on a topic with create time the claim is taken back.
    let claimed = with_header(|header| {
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
    });
    assert_eq!(check(&claimed, limits), Err(BatchError::TimestampType));
    assert_eq!(walk(&claimed).unwrap().bytes, good());
}

#[test]
fn a_client_cannot_set_a_delete_horizon_and_unknown_bits_stay() {
    let bytes = with_header(|header| header.attributes = Attributes::from_bits(0x40));
    assert!(parsed(&bytes).header().attributes.has_delete_horizon());
    assert_eq!(walk(&bytes).unwrap().bytes, good());
    let reserved = with_header(|header| header.attributes = Attributes::from_bits(-0x8000 | 0x80));
    let valid = walk(&reserved).unwrap();
    assert_eq!(valid.bytes.as_ptr(), reserved.as_ptr());
}

#[test]
fn a_compacted_topic_names_the_first_record_without_a_key() {
    let limits = ValidationLimits { keys_required: true, ..Default::default() };
    assert_eq!(check(&good(), limits), Err(BatchError::KeyMissing { index: 1 }));
    let mut keyed = BatchBuilder::new();
    keyed.push(&record(1_000, Some(b""), None)).unwrap();
    assert!(check(&keyed.build().unwrap(), limits).is_ok());
}

/// A batch of two hand-made records: what `first` holds, and a good one.
fn hand_made(first: &[u8]) -> Result<ValidBatch, BatchError> {
    let header = BatchHeader {
        record_count: 2,
        last_offset_delta: 1,
        max_timestamp: 1_000,
        ..*parsed(&good()).header()
    };
    let second = [0x0c, 0, 0, 2, 1, 1, 0];
    walk(&seal(&header, &[first, &second[..]].concat()).unwrap())
}

#[test]
fn records_that_do_not_hold_what_they_say_are_refused() {
    assert!(hand_made(&[0x0e, 0, 0, 0, 1, 2, b'v', 0]).is_ok());
    for (bytes, fault) in [
        (&[0x00][..], RecordFault::Truncated),
        (&[0x01], RecordFault::Length { found: -1 }),
        (&[0x10, 0, 0, 0, 1, 2, b'v', 0, 9], RecordFault::Unfilled { found: 1 }),
        (&[0x0c, 0, 0, 0, 1, 2, b'v', 0], RecordFault::Truncated),
        (&[0x0e, 0, 0, 0, 3, 2, b'v', 0], RecordFault::Length { found: -2 }),
        (&[0x0e, 0, 0, 0, 1, 2, b'v', 1], RecordFault::HeaderCount { found: -1 }),
        (&[0x0e, 0, 0, 0, 1, 2, b'v', 2], RecordFault::Truncated),
        (&[0x12, 0, 0, 0, 1, 2, b'v', 2, 1, 1], RecordFault::HeaderKey),
        (&[0x0e, 0, 0, 2, 1, 2, b'v', 0], RecordFault::OffsetDelta { found: 1 }),
        (&[0x0e, 0, 0, 1, 1, 2, b'v', 0], RecordFault::OffsetDelta { found: -1 }),
        (&[0x8e, 0x80, 0x80, 0x80, 0x80, 0], RecordFault::VarintTooLong),
        (&[0x18, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0], RecordFault::Truncated),
    ] {
        let expected = RecordError { index: 0, fault };
        assert_eq!(hand_made(bytes), Err(BatchError::Record(expected)), "{bytes:02x?}");
    }
}

#[test]
fn nobody_builds_a_batch_that_is_empty_or_too_large() {
    assert_eq!(BatchBuilder::new().build(), Err(BuildError::Empty));
    let value = vec![0; crate::limits::BATCH_BYTES_MAX - 200];
    let mut builder = BatchBuilder::new();
    builder.push(&record(0, None, Some(&value))).unwrap();
    let refused = builder.push(&record(0, None, Some(&value[..200])));
    assert!(matches!(refused, Err(BuildError::TooLarge { .. })));
    assert_eq!(builder.record_count(), 1);
    let limits =
        ValidationLimits { batch_bytes_max: crate::limits::BATCH_BYTES_MAX, ..Default::default() };
    assert!(check(&builder.build().unwrap(), limits).is_ok());
}

#[test]
fn a_batch_without_records_is_of_one_offset_and_whole() {
    let header = BatchHeader { base_offset: 7, ..BatchHeader::without_records() };
    let bytes = header.encode();
    assert_eq!(BatchHeader::parse(&bytes), Ok(header));
    assert_eq!((header.next_offset(), header.batch_bytes()), (8, bytes.len()));
    assert_eq!(header.crc, header.computed_crc(&[]));
    assert!(!header.has_producer());
}
