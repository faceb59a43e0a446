//! What was built is walked, and what was broken is refused: with random records and random bytes.

use bytes::Bytes;
use proptest::prelude::*;

use super::{NOW, parsed};
use crate::record::*;

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, PartialEq, Debug)]
struct OwnedRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

fn bytes_strategy() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 60..300),
    ]
}

fn record_strategy() -> impl Strategy<Value = OwnedRecord> {
    (
        prop_oneof![-1..4_000_000_000_000_i64, Just(0), Just(1_700_000_000_000)],
        prop::option::of(bytes_strategy()),
        prop::option::of(bytes_strategy()),
        prop::collection::vec((bytes_strategy(), prop::option::of(bytes_strategy())), 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord {
            timestamp,
            key,
            value,
            headers,
        })
}

fn built(records: &[OwnedRecord]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers: Vec<_> =
            record.headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        builder
            .push(&NewRecord {
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            })
            .unwrap();
    }
    builder.build().unwrap()
}

const ANY_TIME: ValidationLimits = ValidationLimits {
    batch_bytes_max: usize::MAX,
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: i64::MAX,
    zstd_allowed: true,
    keys_required: false,
};

proptest! {
    #[test]
    fn what_was_built_is_walked(records in prop::collection::vec(record_strategy(), 1..40)) {
        let bytes = built(&records);
        let valid = validate(&bytes, &ANY_TIME, ValidationLevel::Walk, NOW).unwrap();
        prop_assert!(!valid.rewritten);
        prop_assert_eq!(valid.record_count as usize, records.len());
        let walked: Vec<OwnedRecord> = parsed(&bytes)
            .records()
            .unwrap()
            .enumerate()
            .map(|(index, record)| {
                let record = record.unwrap();
                assert_eq!(record.offset, i64::try_from(index).unwrap());
                assert_eq!(record.headers.len(), record.headers.fold(0, |sum, _| sum + 1));
                OwnedRecord {
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record
                        .headers
                        .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                        .collect(),
                }
            })
            .collect();
        prop_assert_eq!(walked, records);
    }

    /// The checksum is right and the records are not: what `check_records` lets pass, the iterator
    /// reads to the end, and what it refuses for its structure, the iterator refuses too.
    #[test]
    fn changed_records_are_refused_or_read_to_the_end(
        records in prop::collection::vec(record_strategy(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let batch = parsed(&built(&records));
        let mut payload = batch.payload().to_vec();
        for (place, byte) in changes {
            let at = place.index(payload.len());
            payload[at] = byte;
        }
        let bytes = seal(batch.header(), &payload).unwrap();
        let walked: Vec<_> = Records::new(batch.header(), &payload).collect();
        prop_assert!(walked.iter().rev().skip(1).all(Result::is_ok), "ends after its first error");
        let read = walked.iter().all(Result::is_ok);
        match validate(&bytes, &ANY_TIME, ValidationLevel::Walk, NOW) {
            Ok(valid) => {
                prop_assert!(read);
                prop_assert_eq!(walked.len(), records.len());
                let latest = walked.iter().map(|record| record.unwrap().timestamp).max();
                prop_assert_eq!(Some(valid.max_timestamp()), latest.map(|it| it.max(-1)));
            }
            Err(BatchError::Record(RecordError {
                fault: RecordFault::OffsetDelta { .. }, ..
            }) | BatchError::Timestamp { .. }) => {}
            Err(error) => prop_assert!(!read, "{error}"),
        }
    }

    #[test]
    fn no_bytes_make_the_readers_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        like_a_batch in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if like_a_batch && bytes.len() > BATCH_HEADER_BYTES {
            let length = i32::try_from(bytes.len() - BATCH_PREFIX_BYTES).unwrap();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let bytes = Bytes::from(bytes);
        for level in [ValidationLevel::Header, ValidationLevel::Walk] {
            let _ = validate(&bytes, &ANY_TIME, level, NOW);
        }
        for batch in Batches::new(bytes).flatten() {
            let walked = Records::new(batch.header(), batch.payload()).count();
            prop_assert!(walked <= batch.payload().len() + 1);
        }
    }
}
