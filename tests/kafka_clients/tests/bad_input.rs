//! Bad input: the connection or the request fails with the right code, and nobody else notices.
//!
//! Each test has a bystander that produces and consumes on a connection of its own meanwhile,
//! and ends by making sure that the broker's process still runs. Expected codes are Kafka's
//! (checked against Apache Kafka 4.3.1); where Bateau decides otherwise, `Subject` tells.

use std::sync::Arc;
use std::time::Duration;

use kafka_clients_tests::broker::{SharedBroker, Subject};
use kafka_clients_tests::bystander::Bystander;
use kafka_clients_tests::raw::batch::{Batch, old_message_set};
use kafka_clients_tests::raw::bytes::{ArrayCount, Writer, unsigned_varint};
use kafka_clients_tests::raw::calls::{self, Fetched, Produced};
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::{ANSWER_TIMEOUT, Connection, Outcome};
use kafka_clients_tests::raw::requests::{self, APIS, Context, Request};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `max.message.bytes` unless a topic says otherwise.
const MESSAGE_BYTES_MAX: usize = 1_048_588;

/// A broker, and a bystander on it.
struct Scene {
    broker: Arc<SharedBroker>,
    bystander: Bystander,
}

impl Scene {
    fn start() -> Self {
        let broker = SharedBroker::join_process();
        let bystander = Bystander::start(broker.bootstrap());
        Self { broker, bystander }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.broker.bootstrap())
    }

    /// Sends one frame on a connection of its own.
    fn outcome(&self, frame: &[u8]) -> Outcome {
        let mut connection = self.connect();
        connection.send_frame(frame);
        connection.receive(ANSWER_TIMEOUT)
    }

    fn assert_closed(&self, what: &str, frame: &[u8]) {
        assert_eq!(self.outcome(frame), Outcome::Closed, "{what}");
    }

    fn new_topic(&self, purpose: &str) -> String {
        calls::new_topic(&mut self.connect(), purpose)
    }

    fn finish(self) {
        self.broker.assert_alive();
        let rounds = self.bystander.finish();
        assert!(rounds >= 2, "the bystander worked before and after: {rounds} rounds");
        self.broker.assert_alive();
    }
}

#[test]
fn an_unknown_api_closes_the_connection() {
    let scene = Scene::start();
    for key in [-1, 4, 52, 999, i16::MAX, i16::MIN] {
        let mut frame = Writer::default();
        frame.int16(key).int16(0).int32(1).classic_string(Some("raw"));
        scene.assert_closed(&format!("API {key}"), &frame.bytes);
    }
    scene.finish();
}

#[test]
fn an_unknown_version_closes_the_connection() {
    let scene = Scene::start();
    for api in APIS.iter().filter(|api| api.key != requests::API_VERSIONS) {
        let valid = api.request(api.highest, &Context::new("unknown-version"));
        for version in [-1, api.lowest - 1, api.highest + 1, i16::MAX] {
            let frame = with_version(&valid, version);
            scene.assert_closed(&format!("{} v{version}", api.name), &frame);
        }
    }
    scene.finish();
}

#[test]
fn produce_below_version_3_is_advertised_and_closes_the_connection() {
    let scene = Scene::start();
    let topic = scene.new_topic("old-produce");
    let records = old_message_set(1, b"old");
    for version in 0..=2 {
        let request = requests::api(requests::PRODUCE).request_with(version, |writer| {
            writer.int16(-1).int32(1_000).array(1).string(&topic);
            writer.array(1).int32(0).byte_string(&records);
        });
        scene.assert_closed(&request.name, &request.frame);
    }
    scene.finish();
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let scene = Scene::start();
    let api = requests::api(requests::API_VERSIONS);
    let valid = api.request(api.highest, &Context::new(""));
    for version in [api.highest + 1, 99, i16::MAX] {
        let mut connection = scene.connect();
        connection.send_frame(&with_version(&valid, version));
        let outcome = connection.receive(ANSWER_TIMEOUT);
        let Outcome::Answer(frame) = outcome else { panic!("v{version}: {outcome:?}") };
        let (error, ranges) = calls::decode_api_versions(valid.body_of_answer(&frame));
        assert_eq!(error, code::UNSUPPORTED_VERSION);
        assert!(ranges.contains(&(api.key, api.lowest, api.highest)), "{ranges:?}");
        // The client goes on with a version that it was offered, on the same connection.
        assert!(!connection.call(&api.request(api.highest, &Context::new(""))).is_empty());
    }
    scene.finish();
}

#[test]
fn a_frame_above_the_limit_or_of_negative_length_closes_the_connection() {
    let scene = Scene::start();
    let over_100_mib = (100 << 20) + 1;
    for length in [i32::MAX, over_100_mib, -1, i32::MIN] {
        let mut connection = scene.connect();
        // Closed because of the length alone: nothing follows it.
        connection.send(&length.to_be_bytes());
        assert_eq!(connection.receive(ANSWER_TIMEOUT), Outcome::Closed, "length {length}");
    }
    let mut connection = scene.connect();
    connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.receive(ANSWER_TIMEOUT), Outcome::Closed, "another protocol");
    scene.finish();
}

#[test]
fn a_length_that_lies_closes_the_connection() {
    let scene = Scene::start();
    let topic = scene.new_topic("lies");
    let produce = calls::produce_request(&topic, 0, -1, &Batch::of(&[b"never"]).encode());
    let length = i32::try_from(produce.frame.len()).expect("it is a small frame");
    // Too long: the client has nothing more to send.
    let mut connection = scene.connect();
    connection.send(&(length + 10).to_be_bytes());
    connection.send(&produce.frame);
    connection.end_sending();
    assert_eq!(connection.receive(ANSWER_TIMEOUT), Outcome::Closed, "too long");
    // Too short: what is left over is taken for the next frame.
    for missing in [1, 20] {
        let mut connection = scene.connect();
        connection.send(&(length - missing).to_be_bytes());
        connection.send(&produce.frame);
        connection.end_sending();
        assert_eq!(connection.receive(ANSWER_TIMEOUT), Outcome::Closed, "short by {missing}");
    }
    let fetched = calls::fetch(&mut scene.connect(), &topic, 0, 0, Duration::ZERO);
    assert_eq!((fetched.code, fetched.high_watermark), (code::NONE, 0), "nothing was written");
    scene.finish();
}

#[test]
fn every_truncation_of_every_request_closes_the_connection() {
    let scene = Scene::start();
    let topic = scene.new_topic("truncated");
    for api in &APIS {
        for version in api.telling_versions() {
            let request = api.request(version, &Context::new(&topic));
            for end in 0..request.frame.len() {
                let what = format!("{} cut at {end}", request.name);
                scene.assert_closed(&what, &request.frame[..end]);
            }
        }
    }
    let fetched = calls::fetch(&mut scene.connect(), &topic, 0, 0, Duration::ZERO);
    assert_eq!(fetched.high_watermark, 0, "no truncated Produce was taken for a whole one");
    scene.finish();
}

#[test]
fn an_impossible_array_count_costs_a_connection_and_no_memory() {
    let scene = Scene::start();
    let topic = scene.new_topic("counts");
    let before = scene.broker.address_space_peak_bytes();
    let (mut tried, mut answered) = (0, 0);
    for api in &APIS {
        for version in api.telling_versions() {
            let request = api.request(version, &Context::new(&topic));
            for count in &request.counts {
                let what = format!("{}, array at {}", request.name, count.position);
                scene.assert_closed(&what, &with_count(&request, *count, i32::MAX));
                // Kafka takes any negative count of a nullable array for null and answers.
                let outcome = scene.outcome(&with_count(&request, *count, -2));
                assert_ne!(outcome, Outcome::Silence, "{what}, count -2");
                answered += usize::from(outcome != Outcome::Closed);
                tried += 1;
            }
        }
    }
    println!("{tried} arrays; of those of -2 elements {answered} were answered");
    assert!(tried > 80, "most requests have arrays: {tried}");
    if let (Some(before), Some(after)) = (before, scene.broker.address_space_peak_bytes()) {
        // A reservation for 2^31 - 1 elements asks for 2 GiB at least, used or not.
        let grown = after.saturating_sub(before);
        assert!(grown < 1 << 30, "the broker asked for {grown} bytes more");
    }
    scene.finish();
}

#[test]
fn a_batch_that_is_wrong_is_refused_with_its_code_and_leaves_no_offset() {
    let scene = Scene::start();
    let topic = scene.new_topic("wrong-batch");
    let right = Batch::of(&[b"one", b"two", b"three"]);
    let with = |change: fn(&mut Batch)| {
        let mut batch = right.clone();
        change(&mut batch);
        batch.encode()
    };
    let twice = [right.encode(), right.encode()].concat();
    let cases: [(&str, Vec<u8>, i16); 12] = [
        ("a bad CRC", with(|batch| batch.crc_error = 1), code::CORRUPT_MESSAGE),
        ("a record too few", with(|batch| more_records(batch, -1)), code::INVALID_RECORD),
        ("a record too many", with(|batch| more_records(batch, 1)), code::INVALID_RECORD),
        ("a count unlike its delta", with(|b| b.record_count_error = 1), code::INVALID_RECORD),
        ("a delta unlike its count", with(|b| b.last_offset_delta_error = 1), code::INVALID_RECORD),
        ("no records", with(|batch| more_records(batch, -3)), code::INVALID_RECORD),
        ("a control batch", with(|batch| batch.attributes = 1 << 5), code::INVALID_RECORD),
        ("two batches", twice, code::INVALID_RECORD),
        ("magic 0", old_message_set(0, b"old"), code::INVALID_RECORD),
        ("magic 1", old_message_set(1, b"old"), code::INVALID_RECORD),
        ("magic 0 in a batch", with(|batch| batch.magic = 0), code::INVALID_RECORD),
        ("magic 1 in a batch", with(|batch| batch.magic = 1), code::INVALID_RECORD),
    ];
    let mut connection = scene.connect();
    for (what, records, expected) in cases {
        let produced = calls::produce(&mut connection, &topic, 0, &records);
        assert_eq!((produced.code, produced.base_offset), (expected, -1), "{what}");
    }
    let produced = calls::produce(&mut connection, &topic, 0, &right.encode());
    assert_eq!(produced, Produced { code: code::NONE, base_offset: 0 }, "the right one");
    scene.finish();
}

#[test]
fn a_batch_above_max_message_bytes_is_too_large() {
    let scene = Scene::start();
    let topic = scene.new_topic("large");
    let mut connection = scene.connect();
    let at_limit = Batch::of_size(MESSAGE_BYTES_MAX).encode();
    let above = Batch::of_size(MESSAGE_BYTES_MAX + 1).encode();
    let refused = calls::produce(&mut connection, &topic, 0, &above);
    assert_eq!(refused.code, code::MESSAGE_TOO_LARGE);
    let accepted = calls::produce(&mut connection, &topic, 0, &at_limit);
    assert_eq!(accepted, Produced { code: code::NONE, base_offset: 0 });
    scene.finish();
}

#[test]
fn acks_that_nobody_defined_are_refused() {
    let scene = Scene::start();
    let topic = scene.new_topic("acks");
    let records = Batch::of(&[b"value"]).encode();
    for acks in [2, -2, i16::MAX] {
        let request = calls::produce_request(&topic, 0, acks, &records);
        let answer = scene.connect().call(&request);
        // One topic, its name, one partition, its index; then the error.
        let error = &answer[4 + 2 + topic.len() + 4 + 4..][..2];
        assert_eq!(error, code::INVALID_REQUIRED_ACKS.to_be_bytes(), "acks {acks}");
    }
    scene.finish();
}

#[test]
fn an_invalid_topic_name_is_refused_and_never_created() {
    let scene = Scene::start();
    let too_long = "x".repeat(250);
    let mut connection = scene.connect();
    for name in ["with space", "sl/ash", "ünï", ".", "..", "", &too_long] {
        let (error, _) = calls::metadata(&mut connection, name);
        assert_eq!(error, code::INVALID_TOPIC_EXCEPTION, "Metadata of {name:?}");
        let error = calls::create_topic(&mut connection, name);
        assert_eq!(error, code::INVALID_TOPIC_EXCEPTION, "CreateTopics of {name:?}");
    }
    calls::create_by_metadata(&mut connection, &requests::unique(&"y".repeat(230)));
    scene.finish();
}

#[test]
fn a_sequence_gap_is_refused_until_the_missing_batch_comes() {
    let scene = Scene::start();
    let topic = scene.new_topic("gap");
    let mut connection = scene.connect();
    let (producer, epoch) = calls::new_producer(&mut connection);
    let mut send = |sequence| {
        let batch = Batch::of(&[b"value"]).sequenced(producer, epoch, sequence);
        let produced = calls::produce(&mut connection, &topic, 0, &batch.encode());
        (produced.code, produced.base_offset)
    };
    assert_eq!(send(0), (code::NONE, 0));
    assert_eq!(send(2), (code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1), "1 is missing");
    assert_eq!(send(1), (code::NONE, 1));
    assert_eq!(send(2), (code::NONE, 2));
    assert_eq!(send(1), (code::NONE, 1), "a retry is answered with its first offset");
    assert_eq!(send(i32::MAX), (code::OUT_OF_ORDER_SEQUENCE_NUMBER, -1));
    assert_eq!(send(3), (code::NONE, 3));
    scene.finish();
}

#[test]
fn an_old_producer_epoch_is_refused() {
    let scene = Scene::start();
    let topic = scene.new_topic("epoch");
    let mut connection = scene.connect();
    let (producer, epoch) = calls::new_producer(&mut connection);
    let mut send = |epoch, sequence| {
        let batch = Batch::of(&[b"value"]).sequenced(producer, epoch, sequence);
        calls::produce(&mut connection, &topic, 0, &batch.encode()).code
    };
    assert_eq!(send(epoch, 0), code::NONE);
    assert_eq!(send(epoch + 1, 0), code::NONE, "a new epoch starts at 0");
    assert_eq!(send(epoch, 1), code::INVALID_PRODUCER_EPOCH);
    assert_eq!(send(epoch + 1, 1), code::NONE);
    assert_eq!(send(epoch + 2, 7), code::OUT_OF_ORDER_SEQUENCE_NUMBER, "it starts at 0");
    scene.finish();
}

#[test]
fn an_offset_out_of_range_is_told_at_once() {
    let scene = Scene::start();
    let topic = scene.new_topic("range");
    let mut connection = scene.connect();
    calls::produce(&mut connection, &topic, 0, &Batch::of(&[b"a", b"b"]).encode());
    let long = Duration::from_secs(15);
    for offset in [3, i64::MAX, -1] {
        let fetched = calls::fetch(&mut connection, &topic, 0, offset, long);
        assert_eq!(fetched.code, code::OFFSET_OUT_OF_RANGE, "offset {offset}");
        let Fetched { high_watermark, last_stable_offset, log_start_offset, .. } = fetched;
        assert_eq!((high_watermark, last_stable_offset, log_start_offset), (-1, -1, -1));
        assert!(fetched.records.is_empty());
    }
    let at_end = calls::fetch(&mut connection, &topic, 0, 2, Duration::ZERO);
    assert_eq!((at_end.code, at_end.high_watermark), (code::NONE, 2), "the end is in range");
    let inside = calls::fetch(&mut connection, &topic, 0, 1, Duration::ZERO);
    assert_eq!(inside.records[..8], 0_i64.to_be_bytes(), "the whole batch around it");
    let fetched = calls::fetch(&mut connection, &topic, 99, 0, long);
    assert_eq!(fetched.code, code::UNKNOWN_TOPIC_OR_PARTITION);
    scene.finish();
}

#[test]
fn a_session_timeout_out_of_range_is_refused() {
    let scene = Scene::start();
    let group = requests::unique("sessions");
    let mut connection = scene.connect();
    calls::find_coordinator(&mut connection, &group);
    for timeout_ms in [5_999, 1_800_001, 0, -1, i32::MAX] {
        let error = calls::join_group(&mut connection, &group, timeout_ms);
        assert_eq!(error, code::INVALID_SESSION_TIMEOUT, "{timeout_ms} ms");
    }
    for timeout_ms in [6_000, 1_800_000] {
        let error = calls::join_group(&mut connection, &group, timeout_ms);
        assert_eq!(error, code::MEMBER_ID_REQUIRED, "{timeout_ms} ms");
    }
    scene.finish();
}

#[test]
fn a_client_that_stalls_inside_a_frame_is_cut_off() {
    let scene = Scene::start();
    let valid = requests::api(requests::METADATA).request(1, &Context::new("stalled"));
    let mut connections: Vec<Connection> = (0..5).map(|_| scene.connect()).collect();
    for (sent, connection) in connections.iter_mut().enumerate() {
        // From half a length to all but a few bytes of the request.
        let length = i32::try_from(valid.frame.len()).expect("it is a small frame");
        let whole = [&length.to_be_bytes(), &valid.frame[..]].concat();
        connection.send(&whole[..2 + sent * 5]);
    }
    // Kafka waits for 600 s; Bateau cuts off what sends less than 1 KiB/s over 30 s.
    if Subject::of_this_run() == Subject::Bateau {
        for connection in &mut connections {
            assert_eq!(connection.receive(Duration::from_secs(60)), Outcome::Closed);
        }
    }
    scene.finish();
}

#[test]
fn two_thousand_connections_that_say_nothing_disturb_nobody() {
    const COUNT: usize = 2_000;
    raise_file_limit();
    let scene = Scene::start();
    let mut silent: Vec<Connection> = (0..COUNT).map(|_| scene.connect()).collect();
    let api = requests::api(requests::API_VERSIONS);
    // A newcomer is served, and so is a silent one that finds its tongue.
    silent.push(scene.connect());
    for index in [0, COUNT / 2, COUNT] {
        let connection = &mut silent[index];
        assert!(!connection.call(&api.request(0, &Context::new(""))).is_empty());
    }
    scene.finish();
    drop(silent);
}

/// More sockets than many systems give a process unasked.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let enough = maximum.is_none_or(|maximum| maximum >= 4_096);
    assert!(enough, "this test needs 4,096 open files, the system allows {maximum:?}");
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    raised.expect("the limit may be raised to its maximum");
}

fn more_records(batch: &mut Batch, more: i32) {
    batch.record_count_error = more;
    batch.last_offset_delta_error = more;
}

/// `request` with another version in its header.
fn with_version(request: &Request, version: i16) -> Vec<u8> {
    let mut frame = request.frame.clone();
    frame[2..4].copy_from_slice(&version.to_be_bytes());
    frame
}

/// `request` with another number of elements announced.
fn with_count(request: &Request, count: ArrayCount, announced: i32) -> Vec<u8> {
    let ArrayCount { position, length } = count;
    let encoded = if request.flexible {
        unsigned_varint((announced as u32).wrapping_add(1))
    } else {
        announced.to_be_bytes().to_vec()
    };
    let (before, after) = (&request.frame[..position], &request.frame[position + length..]);
    [before, &encoded, after].concat()
}
