//! A disk that fills while records are produced and fetched: a retriable error for producers and
//! nothing for anybody else, and production resumes by itself (D20).
//!
//! Each test has a tmpfs of its own, which it fills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka_clients_tests::broker::{Broker, Subject};
use kafka_clients_tests::namespace;
use kafka_clients_tests::program::wait_until;
use kafka_clients_tests::raw::batch::Batch;
use kafka_clients_tests::raw::calls::{self, Produced};
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::Connection;
use kafka_clients_tests::raw::groups::{self, Member};
use kafka_clients_tests::tmpfs::Tmpfs;

const MIB: u64 = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(20);
/// Production resumes within this time after there is room again (D20).
const RESUME_TIMEOUT: Duration = Duration::from_secs(10);
/// Limits that are met long before the room ends.
const LIMITS: [&str; 3] = [
    "limits.disk_free_soft_bytes=24MiB",
    "limits.disk_free_hard_bytes=8MiB",
    "limits.disk_ballast_bytes=2MiB",
];
/// No limit but the end of the room itself.
const NO_LIMITS: [&str; 3] = [
    "limits.disk_free_soft_bytes=0",
    "limits.disk_free_hard_bytes=0",
    "limits.disk_ballast_bytes=2MiB",
];

/// Whether the test's body runs here, in a namespace where it may mount.
fn inside(name: &str) -> bool {
    Subject::of_this_run() == Subject::Bateau && namespace::enter_to_mount(name)
}

/// Numbers of what a producer has seen.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    stopping: AtomicBool,
}

/// An idempotent producer that sends one batch after the other and each until it is acknowledged.
struct Producer {
    seen: Arc<Seen>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Producer {
    fn start(bootstrap: &str, topic: &str, value_bytes: usize) -> Self {
        let mut connection = Connection::open(bootstrap);
        let (topic, seen) = (topic.to_owned(), Arc::new(Seen::default()));
        let thread = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                let (id, epoch) = calls::new_producer(&mut connection);
                let mut batches = Vec::new();
                while !seen.stopping.load(Ordering::Acquire) {
                    let number = i32::try_from(batches.len()).expect("tests are finite");
                    let value = [format!("{number} ").into_bytes(), vec![b'v'; value_bytes]];
                    let batch = Batch::of(&[&value.concat()]).sequenced(id, epoch, number).encode();
                    acknowledge(&mut connection, &topic, &batch, i64::from(number), &seen);
                    batches.push(batch);
                    seen.acknowledged.store(batches.len(), Ordering::Release);
                }
                batches
            }
        });
        Self { seen, thread }
    }

    fn acknowledged(&self) -> usize {
        self.seen.acknowledged.load(Ordering::Acquire)
    }

    fn refused(&self) -> usize {
        self.seen.refused.load(Ordering::Acquire)
    }

    /// Waits for so many more.
    fn wait_for(&self, what: &str, timeout: Duration, count: impl Fn(&Self) -> usize, more: usize) {
        let wanted = count(self) + more;
        wait_until(what, timeout, || count(self) >= wanted || self.thread.is_finished());
    }

    /// Ends it and returns what was acknowledged, in order.
    fn finish(self) -> Vec<Vec<u8>> {
        self.seen.stopping.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn acknowledge(connection: &mut Connection, topic: &str, batch: &[u8], offset: i64, seen: &Seen) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let produced = calls::produce(connection, topic, 0, batch);
        if produced.code == code::KAFKA_STORAGE_ERROR {
            assert!(Instant::now() < deadline, "offset {offset} is refused for ever");
            seen.refused.fetch_add(1, Ordering::AcqRel);
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        assert_eq!(produced, Produced { code: code::NONE, base_offset: offset });
        return;
    }
}

/// Whether a produce gets the retriable error of a full disk; any other error fails the test.
fn is_refused(connection: &mut Connection, topic: &str, batch: &[u8]) -> bool {
    let code = calls::produce(connection, topic, 0, batch).code;
    assert!([code::NONE, code::KAFKA_STORAGE_ERROR].contains(&code), "{topic}: error {code}");
    code == code::KAFKA_STORAGE_ERROR
}

/// What is written must be what was acknowledged, each batch once and in order.
fn assert_kept(bootstrap: &str, topic: &str, batches: &[Vec<u8>]) {
    let kept = calls::fetch_all(&mut Connection::open(bootstrap), topic, 0);
    assert_eq!(kept.len(), batches.len());
    assert!(kept.iter().zip(batches).all(|(kept, batch)| kept.is(batch)));
}

/// Fetches, look-ups and offset commits go on: a full disk is the producers' matter alone.
fn assert_others_work(bootstrap: &str, topic: &str, member: &Member) {
    let mut connection = Connection::open(bootstrap);
    let stored = calls::fetch_all(&mut connection, topic, 0).len();
    assert!(stored > 0);
    let end = i64::try_from(stored).expect("tests are finite");
    for offset in 0..end.min(20) {
        assert_eq!(groups::commit(&mut connection, member, topic, offset), code::NONE);
        let committed = groups::committed(&mut connection, &member.group, topic);
        assert_eq!(committed, (code::NONE, offset));
    }
    assert_eq!(calls::list_offset(&mut connection, topic, calls::EARLIEST), (code::NONE, 0));
}

/// Fills the disk by `fill` under a producer and a reader, and gives the room back.
fn fill_and_free(settings: &[&str], fill: impl FnOnce(&Tmpfs)) {
    let disk = Tmpfs::mount(64 * MIB);
    let mut broker = Broker::start_in(&disk.data(), settings);
    let bootstrap = broker.bootstrap().to_owned();
    let topic = calls::new_topic(&mut Connection::open(&bootstrap), "full");
    let producer = Producer::start(&bootstrap, &topic, 60_000);
    producer.wait_for("the first acks", TIMEOUT, Producer::acknowledged, 20);
    fill(&disk);
    producer.wait_for("a refusal", TIMEOUT, Producer::refused, 1);
    let before = producer.acknowledged();
    assert_others_work(&bootstrap, &topic, &Member::new("full"));
    producer.wait_for("refusals", TIMEOUT, Producer::refused, 20);
    assert_others_work(&bootstrap, &topic, &Member::new("full"));
    assert_eq!(producer.acknowledged(), before, "an ack came from a full disk");
    assert!(broker.running(), "{}", broker.program().tail());
    disk.free();
    producer.wait_for("acks again", RESUME_TIMEOUT, Producer::acknowledged, 5);
    let batches = producer.finish();
    assert_kept(&bootstrap, &topic, &batches);
    broker.kill();
    broker.restart();
    assert_kept(&bootstrap, &topic, &batches);
    let committed = groups::committed(&mut Connection::open(&bootstrap), "full", &topic);
    assert!(committed.1 >= 19, "{committed:?}");
}

#[test]
fn below_the_soft_limit_producers_wait_and_nobody_else_does() {
    if inside("below_the_soft_limit_producers_wait_and_nobody_else_does") {
        // Leaves some 20 MiB: below the soft limit and far from the end.
        fill_and_free(&LIMITS, |disk| disk.fill_to(20 * MIB));
    }
}

#[test]
fn below_the_hard_limit_producers_wait_and_nobody_else_does() {
    if inside("below_the_hard_limit_producers_wait_and_nobody_else_does") {
        fill_and_free(&LIMITS, |disk| disk.fill_to(4 * MIB));
    }
}

#[test]
fn a_segment_that_finds_no_room_is_an_error_and_no_signal() {
    if inside("a_segment_that_finds_no_room_is_an_error_and_no_signal") {
        fill_and_free(&NO_LIMITS, Tmpfs::fill_up);
    }
}

#[test]
fn a_node_starts_on_a_full_disk_and_serves_what_it_has() {
    if !inside("a_node_starts_on_a_full_disk_and_serves_what_it_has") {
        return;
    }
    for (settings, at_once) in [(&LIMITS, true), (&NO_LIMITS, false)] {
        let disk = Tmpfs::mount(64 * MIB);
        let mut broker = Broker::start_in(&disk.data(), settings);
        let bootstrap = broker.bootstrap().to_owned();
        let topic = calls::new_topic(&mut Connection::open(&bootstrap), "full");
        let producer = Producer::start(&bootstrap, &topic, 60_000);
        producer.wait_for("the first acks", TIMEOUT, Producer::acknowledged, 20);
        let batches = producer.finish();
        broker.kill();
        disk.fill_up();
        broker.restart();
        assert_kept(&bootstrap, &topic, &batches);
        assert_others_work(&bootstrap, &topic, &Member::new("full"));
        let mut connection = Connection::open(&bootstrap);
        let large = Batch::of(&[&vec![b'x'; 900_000]]).encode();
        // A limit is known from the first moment; without one, what the last segment had set
        // aside may still be used.
        let small = Batch::of(&[b"small"]).encode();
        assert_eq!(is_refused(&mut connection, &topic, &small), at_once);
        wait_until("a refusal", TIMEOUT, || is_refused(&mut connection, &topic, &large));
        disk.free();
        wait_until("an ack", RESUME_TIMEOUT, || !is_refused(&mut connection, &topic, &large));
        assert!(broker.running());
    }
}

#[test]
fn deleting_a_topic_on_a_full_disk_makes_room_for_the_others() {
    if !inside("deleting_a_topic_on_a_full_disk_makes_room_for_the_others") {
        return;
    }
    let disk = Tmpfs::mount(64 * MIB);
    let mut broker = Broker::start_in(&disk.data(), &LIMITS);
    let bootstrap = broker.bootstrap().to_owned();
    let mut connection = Connection::open(&bootstrap);
    // Small segments: what a large one finds no room for says nothing about the limits.
    let segments = [("segment.bytes", "1048576")];
    assert_eq!(calls::create_topic_with(&mut connection, "large", 1, &segments), code::NONE);
    let other = calls::new_topic(&mut connection, "other");
    let batch = Batch::of(&[&vec![b'x'; 900_000]]).encode();
    wait_until("a full disk", TIMEOUT, || is_refused(&mut connection, "large", &batch));
    let small = Batch::of(&[b"small"]).encode();
    assert!(is_refused(&mut connection, &other, &small));
    assert_eq!(calls::delete_topic(&mut connection, "large"), code::NONE);
    wait_until("an ack", RESUME_TIMEOUT, || !is_refused(&mut connection, &other, &small));
    assert!(broker.running());
}

#[test]
fn a_topic_that_is_created_on_a_full_disk_can_be_used_when_there_is_room() {
    if !inside("a_topic_that_is_created_on_a_full_disk_can_be_used_when_there_is_room") {
        return;
    }
    let disk = Tmpfs::mount(64 * MIB);
    let mut broker = Broker::start_in(&disk.data(), &NO_LIMITS);
    let mut connection = Connection::open(broker.bootstrap());
    disk.fill_up();
    // Created or refused: the clients ask again, as they do for every error here.
    let _ = calls::metadata(&mut connection, "new");
    let batch = Batch::of(&[b"new"]).encode();
    assert_ne!(calls::produce(&mut connection, "new", 0, &batch).code, code::NONE);
    assert!(broker.running(), "{}", broker.program().tail());
    disk.free();
    wait_until("an ack", RESUME_TIMEOUT, || {
        let _ = calls::metadata(&mut connection, "new");
        calls::produce(&mut connection, "new", 0, &batch).code == code::NONE
    });
    assert!(broker.running());
}
