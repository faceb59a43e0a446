//! Logs with plain, compressed, unordered, lying and broken batches. The plain cases were asked of
//! a Kafka 4.3.1 with the same records.

use bateau_protocol::record::compression;
use bateau_protocol::record::{BatchBuilder, BatchHeader, NewRecord, seal};
use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
    compression::compress(compression, plain).unwrap()
}

fn builder(base_offset: i64, timestamps: &[i64]) -> BatchBuilder {
    let mut builder = BatchBuilder::new().base_offset(base_offset).leader_epoch(3);
    for timestamp in timestamps {
        let value = Some(&b"value"[..]);
        builder.push(&NewRecord { timestamp: *timestamp, value, ..NewRecord::default() }).unwrap();
    }
    builder
}

fn batch(base_offset: i64, timestamps: &[i64], compression: Compression) -> Bytes {
    let builder = builder(base_offset, timestamps);
    builder.build_compressed(compression, &compress(compression, builder.payload())).unwrap()
}

/// The same batch with another maximum in its header.
fn claiming(bytes: &Bytes, max_timestamp: i64) -> Bytes {
    let batch = Batch::split_first(bytes).unwrap().0;
    seal(&BatchHeader { max_timestamp, ..*batch.header() }, batch.payload()).unwrap()
}

/// Four batches of three records, as they were given to Kafka.
fn log(compression: Compression) -> Vec<Bytes> {
    [(0, [0, 5, 5]), (3, [9, 3, 9]), (6, [9, 1, 2]), (9, [4, 4, 4])]
        .map(|(base, timestamps)| batch(base, &timestamps, compression))
        .to_vec()
}

fn by_time(log: &[Bytes], timestamp: i64) -> Option<(u64, i64)> {
    let found = first_at_or_after(log.to_vec(), timestamp, Offset::ZERO)?;
    assert!(found.exact);
    assert_eq!(found.leader_epoch, 3);
    Some((found.offset.get(), found.timestamp))
}

fn last_by_time(log: &[Bytes]) -> Option<(u64, i64)> {
    let found = latest(log.to_vec(), Offset::ZERO)?;
    assert!(found.exact);
    Some((found.offset.get(), found.timestamp))
}

#[test]
fn the_first_record_at_or_after_a_time_is_found_inside_its_batch() {
    for compression in CODECS {
        let log = log(compression);
        for (timestamp, expected) in [
            (0, Some((0, 0))),
            (1, Some((1, 5))),
            (5, Some((1, 5))),
            (6, Some((3, 9))),
            (9, Some((3, 9))),
            (10, None),
        ] {
            assert_eq!(by_time(&log, timestamp), expected, "{timestamp} in {compression:?}");
        }
    }
}

#[test]
fn the_latest_record_is_the_first_of_those_with_the_largest_time() {
    for compression in CODECS {
        assert_eq!(last_by_time(&log(compression)), Some((3, 9)), "{compression:?}");
    }
    assert_eq!(last_by_time(&[]), None);
    let without_times =
        [batch(0, &[-1, -1], Compression::None), batch(2, &[-1], Compression::None)];
    assert_eq!(last_by_time(&without_times), Some((0, -1)));
    assert_eq!(by_time(&without_times, 0), None);
}

#[test]
fn under_log_append_time_the_first_record_of_a_batch_speaks_for_it() {
    let log: Vec<Bytes> = [(0, 100), (2, 200), (4, 300)]
        .map(|(base, wall_ms)| {
            let mut builder = BatchBuilder::new().base_offset(base).leader_epoch(3);
            builder = builder.log_append_time(wall_ms);
            for timestamp in [1, 900] {
                builder.push(&NewRecord { timestamp, ..NewRecord::default() }).unwrap();
            }
            builder.build().unwrap()
        })
        .to_vec();
    assert_eq!(by_time(&log, 101), Some((2, 200)));
    assert_eq!(by_time(&log, 301), None);
    assert_eq!(last_by_time(&log), Some((4, 300)));
}

#[test]
fn records_before_the_log_start_do_not_count() {
    let log = log(Compression::Zstd);
    let from = |log_start| {
        let found = first_at_or_after(log.clone(), 4, Offset::new(log_start))?;
        Some((found.offset.get(), found.timestamp))
    };
    assert_eq!(from(2), Some((2, 5)));
    assert_eq!(from(3), Some((3, 9)));
    assert_eq!(from(7), Some((9, 4)));
    assert_eq!(from(12), None);
    assert_eq!(latest(log.clone(), Offset::new(4)).unwrap().offset, Offset::new(5));
    assert_eq!(latest(log, Offset::new(7)).unwrap().offset, Offset::new(9));
}

#[test]
fn a_batch_that_claims_too_much_is_passed_over() {
    for compression in CODECS {
        let mut log = log(compression);
        log[0] = claiming(&log[0], 1_000);
        log[3] = claiming(&log[3], i64::MAX);
        assert_eq!(by_time(&log, 7), Some((3, 9)), "{compression:?}");
        assert_eq!(by_time(&log, 10), None, "{compression:?}");
        assert_eq!(last_by_time(&log), Some((3, 9)), "{compression:?}");
    }
}

#[test]
fn a_batch_that_cannot_be_read_is_answered_by_its_first_offset() {
    let mut log = log(Compression::Lz4);
    let unreadable = builder(3, &[9, 3, 9]);
    for (codec, payload) in [
        (Compression::Lz4, &b"no frame at all"[..]),
        (Compression::Gzip, b""),
        (Compression::None, b"no records"),
    ] {
        log[1] = unreadable.build_compressed(codec, payload).unwrap();
        let found = first_at_or_after(log.clone(), 6, Offset::ZERO).unwrap();
        let expected =
            FoundRecord { offset: Offset::new(3), timestamp: 9, leader_epoch: 3, exact: false };
        assert_eq!(found, expected);
        // A look-up that does not need it does not notice it.
        assert_eq!(by_time(&log, 5), Some((1, 5)));
        // What can be read is preferred where the maximum is asked for.
        assert_eq!(last_by_time(&log), Some((6, 9)));
        assert_eq!(latest([log[1].clone()], Offset::ZERO), Some(expected));
        let inside = first_at_or_after(log.clone(), 6, Offset::new(4)).unwrap();
        assert_eq!(inside.offset, Offset::new(4));
    }
}

#[test]
fn an_answer_stays_inside_its_batch_whatever_the_records_say() {
    // Six records under a header that knows of three: the compressed rest is out of span.
    let many = builder(10, &[1, 2, 3, 4, 5, 6]);
    let sealed =
        many.build_compressed(Compression::Zstd, &compress(Compression::Zstd, many.payload()));
    let batch = Batch::split_first(&sealed.unwrap()).unwrap().0;
    let lying = seal(&BatchHeader { last_offset_delta: 2, ..*batch.header() }, batch.payload());
    assert_eq!(by_time(&[lying.unwrap()], 6), Some((12, 6)));
}

#[test]
fn a_log_full_of_lies_costs_a_bounded_amount_of_work() {
    // Each batch decompresses to 8 MiB without a record that is late enough.
    let value = vec![0_u8; 8 * 1024 * 1024];
    let mut one = BatchBuilder::new();
    one.push(&NewRecord { timestamp: 1, value: Some(&value), ..NewRecord::default() }).unwrap();
    // Zeros shrink more than a hundredfold, so bytes that hardly shrink go in front of them.
    let noise: Vec<u8> = (0..200_000_u32)
        .scan(7_u32, |state, _| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some(state.to_be_bytes()[0])
        })
        .collect();
    one.push(&NewRecord { timestamp: 1, value: Some(&noise), ..NewRecord::default() }).unwrap();
    let stream = compress(Compression::Zstd, one.payload());
    let bytes = one.build_compressed(Compression::Zstd, &stream).unwrap();
    let header = *Batch::split_first(&bytes).unwrap().0.header();
    let log = (0..1_000).map(|number| {
        let lie = BatchHeader { base_offset: number * 2, max_timestamp: i64::MAX, ..header };
        seal(&lie, &stream).unwrap()
    });
    let found = first_at_or_after(log, 5, Offset::ZERO).unwrap();
    assert!(!found.exact);
    let read = found.offset.get() / 2;
    let each = one.payload().len() as u64;
    assert_eq!(read, (LOOKUP_OUTPUT_BYTES_MAX as u64).div_ceil(each));
}

#[test]
fn empty_batches_of_compaction_and_broken_pieces_are_skipped() {
    let mut log = log(Compression::None);
    let first = Batch::split_first(&log[0]).unwrap().0;
    let emptied = BatchHeader { record_count: 0, max_timestamp: 50, ..*first.header() };
    log[0] = seal(&emptied, &[]).unwrap();
    log[2] = Bytes::from_static(b"no batch");
    assert_eq!(by_time(&log, 0), Some((3, 9)));
    assert_eq!(by_time(&log, 10), None);
    assert_eq!(last_by_time(&log), Some((3, 9)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against the definition, over a plain vector of timestamps.
    #[test]
    fn every_look_up_agrees_with_a_scan(
        sizes in prop::collection::vec((1_usize..6, 0_usize..5), 1..8),
        timestamps in prop::collection::vec(-1_i64..20, 40),
        wanted in 0_i64..21,
        log_start in 0_usize..30,
    ) {
        let mut log = Vec::new();
        let mut base = 0;
        for (size, codec) in sizes {
            let part = &timestamps[base..base + size];
            log.push(batch(i64::try_from(base).unwrap(), part, CODECS[codec]));
            base += size;
        }
        let all: Vec<(u64, i64)> = (0..).zip(timestamps[..base].iter().copied()).collect();
        let kept = &all[log_start.min(base)..];
        let start = Offset::new(log_start as u64);
        let plain = |found: FoundRecord| (found.offset.get(), found.timestamp);

        let first = kept.iter().find(|(_, timestamp)| *timestamp >= wanted).copied();
        prop_assert_eq!(first_at_or_after(log.clone(), wanted, start).map(plain), first);

        let last = kept.iter().rev().max_by_key(|(_, timestamp)| *timestamp).copied();
        prop_assert_eq!(latest(log, start).map(plain), last);
    }
}
