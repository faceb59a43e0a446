//! A long history is judged in time, and one fault in it is found.

use checker::{History, Kind, Operation, Outcome, Record, What, check};
use std::time::{Duration, Instant};

const SENDS: u64 = 900_000;
const PARTITIONS: u64 = 12;
const RECORDS_PER_POLL: usize = 16;
const TIME_MAX: Duration = Duration::from_secs(60);

/// A good history of more than a million operations.
fn long() -> History {
    let mut operations = Vec::new();
    let mut logs: Vec<Vec<u64>> =
        vec![Vec::new(); usize::try_from(PARTITIONS).expect("it is small")];
    for value in 0..SENDS {
        let partition = u32::try_from(value % PARTITIONS).expect("it is small");
        let log = &mut logs[partition as usize];
        let offset = i64::try_from(log.len()).expect("it is small");
        log.push(value);
        let outcome = if value % 97 == 0 { Outcome::Unknown } else { Outcome::Acked(offset) };
        let what = What::Send { partition, value, outcome, ordered: true };
        let (invoked, returned) = (value * 10, value * 10 + 500);
        operations.push(Operation { client: partition, invoked, returned, what });
        if value % 10 == 0 {
            let what = What::Latest { partition, end: offset + 1 };
            let (invoked, returned) = (value * 10 + 501, value * 10 + 502);
            operations.push(Operation { client: 90, invoked, returned, what });
        }
    }
    for (partition, log) in (0_u32..).zip(&logs) {
        let mut at = SENDS * 10 + 1_000;
        let records: Vec<Record> =
            (0_i64..).zip(log).map(|(offset, value)| Record { offset, value: *value }).collect();
        for chunk in records.chunks(RECORDS_PER_POLL) {
            let start = (chunk[0].offset == 0).then_some(0);
            let what = What::Poll { partition, start, records: chunk.to_vec() };
            operations.push(Operation { client: 100, invoked: at, returned: at + 1, what });
            at += 2;
        }
        let end = i64::try_from(log.len()).expect("it is small");
        let what = What::Drained { partition, end };
        operations.push(Operation { client: 100, invoked: at, returned: at, what });
    }
    History { operations }
}

#[test]
fn a_million_operations_are_judged_within_a_minute_and_one_lost_write_is_found() {
    let mut history = long();
    assert!(history.operations.len() >= 1_000_000, "{}", history.operations.len());
    let begun = Instant::now();
    let report = check(&history);
    let took = begun.elapsed();
    println!("{took:?}: {report}");
    assert!(report.is_good(), "{report}");
    assert!(took < TIME_MAX, "{took:?}");
    let polls = history.operations.iter_mut().filter_map(|operation| match &mut operation.what {
        What::Poll { records, .. } => Some(records),
        _ => None,
    });
    polls.last().expect("there are polls").remove(2);
    let report = check(&history);
    let found: Vec<(Kind, u64)> =
        report.anomalies.iter().map(|(kind, found)| (*kind, found.count)).collect();
    assert_eq!(found, [(Kind::LostWrite, 1), (Kind::GapWithinPoll, 1)], "{report}");
}
