//! Damaged data: what was durable is never truncated, served wrong or passed over in silence;
//! what a crash tore is, and nothing else suffers (decision 24).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_clients_tests::broker::{Broker, Subject};
use kafka_clients_tests::bystander::Bystander;
use kafka_clients_tests::data_dir::{
    self, Frame, all_frames, assert_refused, flip, frames, log_written_by, logs_made_by,
    metadata_log, segments,
};
use kafka_clients_tests::raw::batch::{Batch, stored};
use kafka_clients_tests::raw::calls::{self, Produced};
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::Connection;
use kafka_clients_tests::raw::groups::{self, Member};

/// Whether the subject keeps its data in files that these tests know.
fn knows_files() -> bool {
    Subject::of_this_run() == Subject::Bateau
}

/// A new topic with one partition, and the directory of its log.
fn topic_and_log(broker: &Broker, purpose: &str) -> (String, PathBuf) {
    let mut connection = Connection::open(broker.bootstrap());
    let mut topic = String::new();
    let made = logs_made_by(broker.data(), || topic = calls::new_topic(&mut connection, purpose));
    let [log] = made.as_slice() else { panic!("one partition, one log: {made:?}") };
    (topic, log.clone())
}

/// Produces batches of one record each, all acknowledged, and returns them.
fn produce_all(broker: &Broker, topic: &str, values: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut connection = Connection::open(broker.bootstrap());
    let batches = values.iter().map(|value| Batch::of(&[value]).encode());
    batches
        .inspect(|batch| {
            assert_eq!(calls::produce(&mut connection, topic, 0, batch).code, code::NONE);
        })
        .collect()
}

fn values(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| [format!("{n} ").into_bytes(), vec![b'v'; bytes]].concat()).collect()
}

/// The segment and the frame that hold `offset`.
fn place_of(log: &Path, offset: u64) -> (PathBuf, Frame) {
    let places = segments(log).into_iter().flat_map(|segment| {
        frames(&segment).into_iter().map(move |frame| (segment.clone(), frame))
    });
    let mut found = places.filter(|(_, frame)| {
        frame.kind == "records"
            && (frame.base_offset..frame.base_offset + frame.record_count).contains(&offset)
    });
    found.next().expect("the offset was produced")
}

fn name(log: &Path) -> String {
    log.file_name().expect("a log has a name").to_string_lossy().into_owned()
}

/// Everything about the hole that clients see: `good` batches before it, none of it, no appends.
fn assert_prefix_is_served(broker: &Broker, topic: &str, batches: &[Vec<u8>], good: usize) {
    let mut connection = Connection::open(broker.bootstrap());
    let hole = i64::try_from(good).expect("tests are finite");
    let mut offset = 0;
    while offset < hole {
        let fetched = calls::fetch(&mut connection, topic, 0, offset, Duration::ZERO);
        assert_eq!(fetched.code, code::NONE, "offset {offset}");
        let found = stored(&fetched.records);
        assert!(!found.is_empty(), "nothing comes from offset {offset}");
        for batch in found {
            assert_eq!(batch.base_offset, offset);
            assert!(offset < hole, "a batch from behind the hole follows without an error");
            assert!(batch.is(&batches[usize::try_from(offset).expect("it is positive")]));
            offset += 1;
        }
    }
    // At once, whatever the client would wait for.
    let fetched = calls::fetch(&mut connection, topic, 0, hole, Duration::from_secs(15));
    assert_eq!(fetched.code, code::KAFKA_STORAGE_ERROR);
    assert!(fetched.records.is_empty());
    let batch = Batch::of(&[b"refused"]).encode();
    let produced = calls::produce(&mut connection, topic, 0, &batch);
    assert_eq!(produced.code, code::KAFKA_STORAGE_ERROR);
}

fn assert_works(broker: &Broker, topic: &str, expected: i64) {
    let mut connection = Connection::open(broker.bootstrap());
    let batch = Batch::of(&[b"works"]).encode();
    let produced = calls::produce(&mut connection, topic, 0, &batch);
    assert_eq!(produced, Produced { code: code::NONE, base_offset: expected });
    assert!(calls::fetch_all(&mut connection, topic, expected)[0].is(&batch));
}

#[test]
fn a_flipped_byte_below_the_durable_mark_costs_its_partition_alone() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&[]);
    let (topic, log) = topic_and_log(&broker, "flipped");
    let (other, _) = topic_and_log(&broker, "whole");
    let batches = produce_all(&broker, &topic, &values(40, 2_000));
    broker.terminate();
    let (segment, frame) = place_of(&log, 17);
    flip(&segment, frame.position + data_dir::FRAME_HEADER_BYTES + 100);
    for start in 0..2 {
        broker.restart();
        let recovery = broker.recovery();
        let range = recovery["corrupt"].as_str().unwrap_or_else(|| panic!("{recovery}"));
        let expected = format!("{} index {} to {}", name(&log), frame.index, frame.index);
        assert!(range.starts_with(&expected), "{expected}: {range}");
        assert_prefix_is_served(&broker, &topic, &batches, 17);
        assert_works(&broker, &other, start);
        Bystander::start(broker.bootstrap()).finish();
        broker.terminate();
    }
}

/// First and last index that the recovery line names for this log.
fn range_of(broker: &Broker, log: &Path) -> (u64, u64) {
    let recovery = broker.recovery();
    let ranges = recovery["corrupt"].as_str().unwrap_or_else(|| panic!("{recovery}"));
    let name = name(log);
    let range = ranges.split("; ").find_map(|range| range.strip_prefix(&name));
    let words: Vec<&str> = range.unwrap_or_else(|| panic!("{ranges}")).split(' ').collect();
    let number = |word: &str| word.trim_end_matches(':').parse().expect("an index");
    assert_eq!((words[1], words[3]), ("index", "to"), "{ranges}");
    (number(words[2]), number(words[4]))
}

#[test]
fn a_flipped_byte_behind_the_durable_mark_is_told_from_a_torn_tail() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&[]);
    let (other, _) = topic_and_log(&broker, "whole");
    // The mark is stored once the disk was idle for 50 ms. A machine that stalls for so long moves
    // it past the place; then the damage is found by other means, and this is tried again.
    for attempt in 0..5 {
        let (topic, log) = topic_and_log(&broker, "flipped");
        let batches = produce_all(&broker, &topic, &values(60, 500));
        broker.kill();
        let last = all_frames(&log).pop().expect("a log has frames").index;
        // Nine flushes lie behind it, and prove that it was durable.
        let (segment, frame) = place_of(&log, 50);
        flip(&segment, frame.position + data_dir::FRAME_HEADER_BYTES + 100);
        broker.restart();
        assert_eq!(broker.recovery()["torn_frames"], 0, "{}", broker.recovery());
        assert_prefix_is_served(&broker, &topic, &batches, 50);
        assert_works(&broker, &other, attempt);
        let (first, to) = range_of(&broker, &log);
        assert_eq!(first, frame.index);
        if to > first {
            assert!((last - 3..=last).contains(&to), "{to} of {last}");
            broker.kill();
            broker.restart();
            // What was behind the damage may be proven by now, what was before it is the same.
            let again = range_of(&broker, &log);
            assert!(again.0 == first && again.1 >= to, "{first} to {to}, then {again:?}");
            assert_prefix_is_served(&broker, &topic, &batches, 50);
            return;
        }
    }
    panic!("the durable mark was always there first");
}

#[test]
fn a_segment_that_is_gone_is_a_hole_and_not_the_end() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&[]);
    let (topic, log) = topic_and_log(&broker, "gone");
    let batches = produce_all(&broker, &topic, &values(30, 10_000));
    broker.terminate();
    let files = segments(&log);
    assert!(files.len() >= 3, "{files:?}");
    let missing = frames(&files[1]);
    fs::remove_file(&files[1]).expect("it is there");
    broker.restart();
    let last = missing.last().expect("it has frames").index;
    let (first, to) = range_of(&broker, &log);
    assert_eq!(first, missing[0].index);
    assert!(to >= last, "{to}: the frames to {last} are gone");
    let good = usize::try_from(missing[0].base_offset).expect("tests are finite");
    assert!(good > 0);
    assert_prefix_is_served(&broker, &topic, &batches, good);
    let topic = calls::new_topic(&mut Connection::open(broker.bootstrap()), "after");
    assert_works(&broker, &topic, 0);
}

#[test]
fn a_damaged_group_partition_costs_its_groups_alone() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&[]);
    let (topic, _) = topic_and_log(&broker, "grouped");
    let mut connection = Connection::open(broker.bootstrap());
    let damaged = Member::new("damaged");
    let log = log_written_by(broker.data(), || {
        for offset in 0..30 {
            assert_eq!(groups::commit(&mut connection, &damaged, &topic, offset), code::NONE);
        }
    });
    // One group in another of the partitions, found by where its commit goes.
    let whole = (0..64).map(|number| Member::new(&format!("whole-{number}"))).find(|member| {
        let written = log_written_by(broker.data(), || {
            assert_eq!(groups::commit(&mut connection, member, &topic, 7), code::NONE);
        });
        written != log
    });
    let whole = whole.expect("groups are spread over partitions");
    broker.terminate();
    let mut commands = all_frames(&log).into_iter().filter(|frame| frame.kind == "command");
    let frame = commands.nth(10).expect("thirty commits left commands");
    let (segment, _) = segments(&log)
        .into_iter()
        .map(|segment| (segment.clone(), frames(&segment)))
        .find(|(_, frames)| frames.contains(&frame))
        .expect("the frame lies in a segment");
    flip(&segment, frame.position + data_dir::FRAME_HEADER_BYTES);
    broker.restart();
    assert_eq!(range_of(&broker, &log).0, frame.index);
    let mut connection = Connection::open(broker.bootstrap());
    let refused = code::COORDINATOR_NOT_AVAILABLE;
    assert_eq!(groups::commit(&mut connection, &damaged, &topic, 31), refused);
    assert_eq!(groups::committed(&mut connection, "damaged", &topic), (refused, -1));
    assert_eq!(groups::join(&mut connection, &mut Member::new("damaged")).code, refused);
    assert_eq!(groups::heartbeat(&mut connection, &damaged), refused);
    let committed = groups::committed(&mut connection, &whole.group, &topic);
    assert_eq!(committed, (code::NONE, 7));
    assert_eq!(groups::commit(&mut connection, &whole, &topic, 8), code::NONE);
    assert_works(&broker, &topic, 0);
}

#[test]
fn damaged_metadata_ends_the_start_with_4_and_the_exact_range() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&[]);
    let mut connection = Connection::open(broker.bootstrap());
    for _ in 0..5 {
        calls::new_topic(&mut connection, "known");
    }
    broker.terminate();
    let log = metadata_log(broker.data());
    let (segment, frame) = (segments(&log)[0].clone(), frames(&segments(&log)[0])[4].clone());
    let place = frame.position + data_dir::FRAME_HEADER_BYTES + 10;
    flip(&segment, place);
    let range = format!("metadata partition is damaged from index {0} to {0}", frame.index);
    for _ in 0..2 {
        let ended = assert_refused(&log, &range, || broker.refused_restart());
        let recovery = ended.recovery().expect("recovery says what it found");
        let range = format!("{} index {1} to {1}", name(&log), frame.index);
        assert!(recovery["corrupt"].as_str().is_some_and(|all| all.starts_with(&range)));
    }
    flip(&segment, place);
    broker.restart();
}

#[test]
fn a_damaged_identity_ends_the_start_with_4() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&[]);
    broker.terminate();
    flip(&broker.data().join("IDENTITY"), 20);
    assert_refused(broker.data(), "IDENTITY", || broker.refused_restart());
}

#[test]
fn a_torn_tail_is_truncated_and_counted_and_every_ack_is_kept() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&[]);
    let (topic, log) = topic_and_log(&broker, "torn");
    let mut batches = Vec::new();
    for is_frame in [true, false] {
        batches.extend(produce_all(&broker, &topic, &values(20, 300)));
        broker.kill();
        let segment = segments(&log).pop().expect("a log has a segment");
        let last = frames(&segment).pop().expect("it has frames");
        // What a crash leaves of a write: a header without its payload, or nothing to be read.
        let bytes = fs::read(&segment).expect("a file of ours can be read");
        let place = usize::try_from(last.position).expect("segments are small here");
        let garbage = if is_frame { &bytes[place..place + 80] } else { &[0xA5; 300][..] };
        data_dir::write(&segment, last.end(), garbage);
        broker.restart();
        let recovery = broker.recovery();
        assert_eq!((&recovery["torn_frames"], recovery.get("corrupt")), (&1.into(), None));
        // Bytes that are no header say nothing of their number.
        let counted = recovery["torn_bytes"].as_u64().is_some_and(|bytes| bytes >= 80);
        assert!(counted || !is_frame, "{recovery}");
        let torn = recovery["torn"].as_str().expect("torn tails are listed");
        assert!(torn.starts_with(&name(&log)), "{torn}");
        let kept = calls::fetch_all(&mut Connection::open(broker.bootstrap()), &topic, 0);
        assert_eq!(kept.len(), batches.len());
        assert!(kept.iter().zip(&batches).all(|(kept, batch)| kept.is(batch)));
    }
    // A second start finds nothing more.
    broker.kill();
    broker.restart();
    assert_eq!(broker.recovery()["torn_frames"], 0);
    assert_works(&broker, &topic, i64::try_from(batches.len()).expect("tests are finite"));
}

#[test]
fn a_frame_that_a_crash_cut_in_half_is_truncated() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&[]);
    let (topic, log) = topic_and_log(&broker, "torn");
    let mut batches = produce_all(&broker, &topic, &values(10, 5_000));
    broker.kill();
    // The last frame was never acknowledged, as far as this start can know: only its first half
    // reached the disk, and the one after it never did.
    let (segment, frame) = place_of(&log, 9);
    data_dir::write(&segment, frame.position + 2_000, &[0; 3_500]);
    broker.restart();
    let recovery = broker.recovery();
    let good = batches.len() - 1;
    if recovery["torn_frames"] == 1 {
        // Not proven durable: gone without a trace, and its offset is free again.
        batches.truncate(good);
        let kept = calls::fetch_all(&mut Connection::open(broker.bootstrap()), &topic, 0);
        assert_eq!(kept.len(), good);
        assert_works(&broker, &topic, i64::try_from(good).expect("tests are finite"));
    } else {
        // The durable mark had been stored: it is a loss, and said to be one.
        assert_eq!(range_of(&broker, &log).0, frame.index);
        assert_prefix_is_served(&broker, &topic, &batches, good);
    }
}
