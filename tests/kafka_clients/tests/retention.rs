//! What goes: segments by size and age, and whole logs with their topics. What stays: everything
//! else, also for a reader in the middle of it, and the same after `kill -9`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_clients_tests::broker::{Broker, Subject};
use kafka_clients_tests::data_dir::{logs, logs_made_by};
use kafka_clients_tests::program::wait_until;
use kafka_clients_tests::raw::batch::{Batch, stored};
use kafka_clients_tests::raw::bytes::Reader;
use kafka_clients_tests::raw::calls::{self, EARLIEST, LATEST, Produced};
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::{ANSWER_TIMEOUT, Connection, Outcome};
use kafka_clients_tests::raw::groups::{self, Member};
use kafka_clients_tests::raw::requests::{FETCH, Request, api};

const MIB: u64 = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of the batches that fill segments of 1 MiB.
const BATCH_BYTES: usize = 250_000;
/// Retention is looked at all the time.
const SETTINGS: [&str; 1] = ["limits.retention_check_ms=100"];

/// Whether the subject keeps its data in files that these tests know.
fn knows_files() -> bool {
    Subject::of_this_run() == Subject::Bateau
}

/// A topic with these configs and the directory of its log.
fn topic_with(broker: &Broker, topic: &str, configs: &[(&str, &str)]) -> PathBuf {
    let mut connection = Connection::open(broker.bootstrap());
    let made = logs_made_by(broker.data(), || {
        assert_eq!(calls::create_topic_with(&mut connection, topic, 1, configs), code::NONE);
    });
    let [log] = made.as_slice() else { panic!("one partition, one log: {made:?}") };
    log.clone()
}

/// The batch at `offset`: it can be told from every other one.
fn batch_at(offset: i64) -> Vec<u8> {
    let value = [format!("{offset} ").into_bytes(), vec![b'v'; BATCH_BYTES]].concat();
    Batch::of(&[&value]).encode()
}

/// Appends batches until the end is `end`, and returns all of them.
fn fill(connection: &mut Connection, topic: &str, batches: &mut Vec<Vec<u8>>, end: usize) {
    while batches.len() < end {
        let offset = i64::try_from(batches.len()).expect("tests are finite");
        let batch = batch_at(offset);
        let produced = calls::produce(connection, topic, 0, &batch);
        assert_eq!(produced, Produced { code: code::NONE, base_offset: offset });
        batches.push(batch);
    }
}

fn earliest(connection: &mut Connection, topic: &str) -> i64 {
    let (error, offset) = calls::list_offset(connection, topic, EARLIEST);
    assert_eq!(error, code::NONE);
    offset
}

/// Everything from the log's start on is there, and nothing before it.
fn assert_starts_at(connection: &mut Connection, topic: &str, start: i64, batches: &[Vec<u8>]) {
    let below = calls::fetch(connection, topic, 0, start - 1, Duration::from_secs(15));
    assert_eq!((below.code, below.records.len()), (code::OFFSET_OUT_OF_RANGE, 0));
    let kept = calls::fetch_all(connection, topic, start);
    let expected = &batches[usize::try_from(start).expect("it is positive")..];
    assert_eq!(kept.len(), expected.len());
    assert!(kept.iter().zip(expected).all(|(kept, batch)| kept.is(batch)));
}

fn file_bytes(log: &Path) -> u64 {
    let entries = fs::read_dir(log).expect("a log has a directory");
    let bytes = |entry: std::io::Result<fs::DirEntry>| Some(entry.ok()?.metadata().ok()?.len());
    entries.filter_map(bytes).sum()
}

/// Files that are on their way out, which those wait with that somebody reads.
fn removed_but_held(log: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(log).expect("a log has a directory");
    let paths = entries.map(|entry| entry.expect("it can be read to its end").path());
    paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "del")).collect()
}

#[test]
fn segments_beyond_the_size_go_and_stay_gone_after_kill_9() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&SETTINGS);
    let log = topic_with(
        &broker,
        "sized",
        &[("segment.bytes", "1048576"), ("retention.bytes", "3000000")],
    );
    let mut connection = Connection::open(broker.bootstrap());
    let mut batches = Vec::new();
    fill(&mut connection, "sized", &mut batches, 4);
    let member = Member::new("behind");
    assert_eq!(groups::commit(&mut connection, &member, "sized", 2), code::NONE);
    fill(&mut connection, "sized", &mut batches, 60);
    // A segment holds four batches, and twelve of them have the bytes that are kept: of sixteen
    // the oldest four still go, of fifteen nothing does.
    wait_until("all trims", TIMEOUT, || earliest(&mut connection, "sized") > 60 - 16);
    let start = earliest(&mut connection, "sized");
    assert!(start <= 60 - 12, "the log starts at {start} of 60");
    assert_starts_at(&mut connection, "sized", start, &batches);
    let committed = groups::committed(&mut connection, "behind", "sized");
    assert_eq!(committed, (code::NONE, 2), "a committed offset is answered as it is");
    broker.kill();
    broker.restart();
    // Besides the kept ones there is the one that is prepared.
    wait_until("the files went", TIMEOUT, || file_bytes(&log) <= 6 * MIB);
    let mut connection = Connection::open(broker.bootstrap());
    assert_eq!(earliest(&mut connection, "sized"), start);
    assert_starts_at(&mut connection, "sized", start, &batches);
    assert_eq!(groups::committed(&mut connection, "behind", "sized"), (code::NONE, 2));
    // It goes on where it was.
    fill(&mut connection, "sized", &mut batches, 80);
    wait_until("more went", TIMEOUT, || earliest(&mut connection, "sized") > start);
}

#[test]
fn a_trim_that_was_told_is_kept_though_its_files_were_not_removed_yet() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&SETTINGS);
    topic_with(&broker, "told", &[("segment.bytes", "1048576"), ("retention.bytes", "2000000")]);
    let mut batches = Vec::new();
    for round in 1..=4 {
        let mut connection = Connection::open(broker.bootstrap());
        let before = earliest(&mut connection, "told");
        fill(&mut connection, "told", &mut batches, round * 20);
        wait_until("a trim", TIMEOUT, || earliest(&mut connection, "told") > before);
        let told = earliest(&mut connection, "told");
        broker.kill();
        broker.restart();
        let mut connection = Connection::open(broker.bootstrap());
        let start = earliest(&mut connection, "told");
        assert!(start >= told, "the log started at {told} and starts at {start} again");
        assert_eq!(calls::list_offset(&mut connection, "told", LATEST).1, round as i64 * 20);
    }
}

#[test]
fn segments_beyond_the_age_go_but_not_the_one_being_written() {
    if !knows_files() {
        return;
    }
    let broker = Broker::start_with(&SETTINGS);
    topic_with(&broker, "aged", &[("segment.bytes", "1048576"), ("retention.ms", "1500")]);
    topic_with(&broker, "ageless", &[("segment.bytes", "1048576"), ("retention.ms", "-1")]);
    let mut connection = Connection::open(broker.bootstrap());
    let (mut aged, mut ageless) = (Vec::new(), Vec::new());
    fill(&mut connection, "aged", &mut aged, 30);
    fill(&mut connection, "ageless", &mut ageless, 30);
    wait_until("the old ones went", TIMEOUT, || earliest(&mut connection, "aged") >= 20);
    let start = earliest(&mut connection, "aged");
    assert!(start < 30, "the segment being written went too");
    assert_starts_at(&mut connection, "aged", start, &aged);
    assert_eq!(earliest(&mut connection, "ageless"), 0);
    assert_eq!(calls::fetch_all(&mut connection, "ageless", 0).len(), 30);
}

/// A Fetch of up to 7 MiB.
fn large_fetch(topic: &str, offset: i64) -> Request {
    api(FETCH).request_with(11, |writer| {
        writer.int32(-1).int32(0).int32(1).int32(7 << 20).int8(0).int32(0).int32(-1);
        writer.array(1).string(topic).array(1).int32(0).int32(-1).int64(offset);
        writer.int64(-1).int32(7 << 20).array(0).string("");
    })
}

/// Error code and records of its answer.
fn records_of(answer: &[u8]) -> (i16, &[u8]) {
    let mut reader = Reader::new(answer);
    let (_throttle, error, _session) = (reader.int32(), reader.int16(), reader.int32());
    assert_eq!(error, code::NONE);
    let _topic = (reader.count(), reader.string(), reader.count(), reader.int32());
    let code = reader.int16();
    let _ends = (reader.int64(), reader.int64(), reader.int64());
    let _aborted_and_preferred = (reader.count(), reader.int32());
    (code, reader.byte_string())
}

#[test]
fn a_reader_in_the_middle_of_a_fetch_finishes_while_its_segments_go() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&SETTINGS);
    let log = topic_with(
        &broker,
        "lent",
        &[("segment.bytes", "4194304"), ("retention.bytes", "24000000")],
    );
    let mut producer = Connection::open(broker.bootstrap());
    let mut batches = Vec::new();
    fill(&mut producer, "lent", &mut batches, 90);
    assert_eq!(earliest(&mut producer, "lent"), 0);
    // More than sockets hold: what was asked for is lent and waits for its reader, who does not
    // read a byte before it is gone.
    let requests: Vec<Request> = (0..4).map(|_| large_fetch("lent", 4)).collect();
    let mut readers: Vec<Connection> =
        (0..4).map(|_| Connection::open(broker.bootstrap())).collect();
    for reader in &mut readers {
        requests.iter().for_each(|request| reader.send_frame(&request.frame));
    }
    // The first answers have begun to come.
    readers.iter_mut().for_each(|reader| reader.wait_for_bytes(ANSWER_TIMEOUT));
    fill(&mut producer, "lent", &mut batches, 250);
    wait_until("a trim", TIMEOUT, || earliest(&mut producer, "lent") > 90);
    // Each of these gives the disk thread a moment to remove what nobody holds.
    fill(&mut producer, "lent", &mut batches, 290);
    assert!(!removed_but_held(&log).is_empty(), "nothing was lent");
    let mut unharmed = 0;
    for reader in &mut readers {
        for request in &requests {
            let Outcome::Answer(frame) = reader.receive(ANSWER_TIMEOUT) else {
                panic!("{}: the connection has ended", request.name);
            };
            let (code, records) = records_of(request.body_of_answer(&frame));
            if code == code::OFFSET_OUT_OF_RANGE {
                // Looked up after the trim, as requests of one connection are one by one.
                assert!(records.is_empty());
                continue;
            }
            assert_eq!(code, code::NONE);
            let found = stored(records);
            assert!(found.len() >= 20, "{} batches of 7 MiB", found.len());
            for (found, offset) in found.iter().zip(4..) {
                assert_eq!(found.base_offset, offset);
                assert!(found.is(&batches[usize::try_from(offset).expect("it is positive")]));
            }
            unharmed += 1;
        }
    }
    assert!(unharmed >= 4, "each reader had begun");
    assert!(broker.running());
    drop(readers);
    wait_until("the files went", TIMEOUT, || removed_but_held(&log).is_empty());
    assert!(file_bytes(&log) <= 48 * MIB);
}

fn trash(broker: &Broker) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(broker.data().join("trash")) else { return Vec::new() };
    entries.map(|entry| entry.expect("it can be read to its end").path()).collect()
}

#[test]
fn a_deleted_topic_goes_to_the_trash_and_its_name_is_free() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&SETTINGS);
    let log = topic_with(&broker, "renewed", &[]);
    let mut connection = Connection::open(broker.bootstrap());
    let mut batches = Vec::new();
    fill(&mut connection, "renewed", &mut batches, 5);
    let (_, old_id) = calls::topic_id(&mut connection, "renewed");
    assert_eq!(groups::commit(&mut connection, &Member::new("of-old"), "renewed", 5), code::NONE);
    assert_eq!(calls::delete_topic(&mut connection, "renewed"), code::NONE);
    let gone = calls::fetch(&mut connection, "renewed", 0, 0, Duration::ZERO);
    assert_eq!(gone.code, code::UNKNOWN_TOPIC_OR_PARTITION);
    let unknown = code::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(calls::topic_id(&mut connection, "renewed"), (unknown, [0; 16]));
    assert_eq!(calls::delete_topic(&mut connection, "renewed"), unknown);
    wait_until("the files went", TIMEOUT, || !log.exists());
    assert_eq!(trash(&broker).len(), 1);
    let renewed = topic_with(&broker, "renewed", &[]);
    assert_ne!(renewed, log);
    let (error, new_id) = calls::topic_id(&mut connection, "renewed");
    assert!(error == code::NONE && new_id != old_id && new_id != [0; 16]);
    // The offsets of the old one went with it.
    assert_eq!(groups::committed(&mut connection, "of-old", "renewed"), (code::NONE, -1));
    let mut batches = Vec::new();
    fill(&mut connection, "renewed", &mut batches, 2);
    let before = logs(broker.data());
    broker.kill();
    broker.restart();
    assert_eq!(logs(broker.data()), before);
    let mut connection = Connection::open(broker.bootstrap());
    assert_eq!(calls::topic_id(&mut connection, "renewed"), (code::NONE, new_id));
    assert_eq!(calls::fetch_all(&mut connection, "renewed", 0).len(), 2);
    assert_eq!(groups::committed(&mut connection, "of-old", "renewed"), (code::NONE, -1));
}

#[test]
fn a_topic_is_deleted_while_it_is_read_and_written() {
    let mut broker = Broker::start_with(&SETTINGS);
    let mut connection = Connection::open(broker.bootstrap());
    let topic = calls::new_topic(&mut connection, "busy");
    let mut batches = Vec::new();
    fill(&mut connection, &topic, &mut batches, 40);
    let mut parked = Connection::open(broker.bootstrap());
    let waits = api(FETCH).request_with(11, |writer| {
        writer.int32(-1).int32(15_000).int32(1).int32(7 << 20).int8(0).int32(0).int32(-1);
        writer.array(1).string(&topic).array(1).int32(0).int32(-1).int64(40);
        writer.int64(-1).int32(7 << 20).array(0).string("");
    });
    parked.send_frame(&waits.frame);
    let mut reader = Connection::open(broker.bootstrap());
    let large = large_fetch(&topic, 0);
    reader.send_frame(&large.frame);
    reader.wait_for_bytes(ANSWER_TIMEOUT);
    let mut producer = Connection::open(broker.bootstrap());
    let requests: Vec<Request> =
        (40..60).map(|offset| calls::produce_request(&topic, 0, -1, &batch_at(offset))).collect();
    requests.iter().for_each(|request| producer.send_frame(&request.frame));
    assert_eq!(calls::delete_topic(&mut connection, &topic), code::NONE);
    // Everybody is told, and what was lent stays what it was.
    let Outcome::Answer(frame) = parked.receive(Duration::from_secs(10)) else {
        panic!("a parked fetch is not told of the end of its topic");
    };
    let (parked_code, records) = records_of(waits.body_of_answer(&frame));
    let is_told = parked_code != code::NONE || !records.is_empty();
    assert!(is_told, "the parked fetch has neither an error nor one of the records");
    let Outcome::Answer(frame) = reader.receive(ANSWER_TIMEOUT) else { panic!("no answer") };
    let (code, records) = records_of(large.body_of_answer(&frame));
    assert_eq!(code, code::NONE);
    assert!(stored(records).iter().zip(&batches).all(|(found, batch)| found.is(batch)));
    for request in &requests {
        let Outcome::Answer(frame) = producer.receive(ANSWER_TIMEOUT) else { panic!("no answer") };
        assert!(!request.body_of_answer(&frame).is_empty());
    }
    assert!(broker.running(), "{}", broker.program().tail());
    broker.kill();
    broker.restart();
}

#[test]
fn trash_of_a_day_is_emptied_and_younger_trash_is_kept() {
    if !knows_files() {
        return;
    }
    let mut broker = Broker::start_with(&SETTINGS);
    let mut connection = Connection::open(broker.bootstrap());
    for name in ["old", "young"] {
        let log = topic_with(&broker, name, &[]);
        fill(&mut connection, name, &mut Vec::new(), 3);
        assert_eq!(calls::delete_topic(&mut connection, name), code::NONE);
        wait_until("the files went", TIMEOUT, || !log.exists());
    }
    let found = trash(&broker);
    let [old, young] = found.as_slice() else { panic!("two topics, two entries: {found:?}") };
    broker.terminate();
    // A name in the trash ends with the time of the deletion, in milliseconds.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set after 1970");
    let hours = |hours: u64| u64::try_from(now.as_millis()).expect("it fits") - hours * 3_600_000;
    let named = |path: &Path, time: u64| {
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        let (log, _) = name.split_once('-').expect("log and time");
        let renamed = path.with_file_name(format!("{log}-{time:016x}"));
        fs::rename(path, &renamed).expect("nobody else uses it");
        renamed
    };
    let (old, young) = (named(old, hours(25)), named(young, hours(23)));
    broker.restart();
    wait_until("old trash went", TIMEOUT, || !old.exists());
    assert!(young.exists());
}
