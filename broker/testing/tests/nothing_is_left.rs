//! A broker that was dropped leaves no thread, no descriptor and no file, however it was dropped.
//!
//! One test in a process of its own: it counts what the whole process has.

mod support;

use bateau_testing::{Store, TestBroker};
use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{TOPIC, join, produce};

/// A stop takes less.
const STOP_MAX: Duration = Duration::from_secs(1);
/// A client that was dropped is gone by then.
const CLIENT_END_MAX: Duration = Duration::from_secs(10);
/// Brokers side by side.
const AT_ONCE: usize = 64;
/// Brokers one after the other.
const IN_TURN: usize = 100;

/// Threads, descriptors and temporary directories of this process.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Held {
    threads: usize,
    descriptors: usize,
    directories: BTreeSet<String>,
}

fn names(of: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(of).expect("it is a directory");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether a thread has not ended. One that was joined is listed until the kernel has buried it.
fn lives(id: &str) -> bool {
    /// `PF_EXITING` of Linux, in the seventh field behind the name (proc_pid_stat(5)).
    const IS_EXITING: u64 = 4;
    let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let flags = fields.nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & IS_EXITING == 0)
}

fn held() -> Held {
    let own = format!("bateau-test-{}-", std::process::id());
    let temporary = names(&std::env::temp_dir());
    Held {
        threads: names(Path::new("/proc/self/task")).iter().filter(|id| lives(id)).count(),
        descriptors: names(Path::new("/proc/self/fd")).len(),
        directories: temporary.into_iter().filter(|name| name.starts_with(&own)).collect(),
    }
}

/// Drops a broker, and sees to it that this takes less than a second.
fn drop_in_time(broker: TestBroker) {
    let begun = Instant::now();
    drop(broker);
    assert!(begun.elapsed() < STOP_MAX, "it took {:?}", begun.elapsed());
}

async fn used() -> TestBroker {
    let broker = TestBroker::start().await.expect("it starts");
    broker.seed_topic(TOPIC, 3).await.expect("it is new");
    produce(&broker, b"one").await.expect("it is appended");
    join(&broker, "", 10_000).await;
    broker
}

async fn with_open_connections() {
    let broker = used().await;
    let address = broker.kafka_bootstrap();
    let connect = || TcpStream::connect(&address).expect("it listens");
    let mut open: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    drop_in_time(broker);
    for stream in &mut open {
        stream.set_read_timeout(Some(STOP_MAX)).expect("it is a socket");
        // Cut or closed, it has ended.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more");
}

async fn with_a_client_that_works(before: &Held) {
    let broker = used().await;
    let client = broker.client().await.expect("it trusts the broker's certificate");
    client.producer(TOPIC).send("two").await.expect("it is appended");
    drop_in_time(broker);
    drop(client);
    // The client's tasks end on this runtime, in their own time.
    let deadline = Instant::now() + CLIENT_END_MAX;
    while held() != *before && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn in_all_stores() {
    let broker = TestBroker::builder().store(Store::Temporary).topic(TOPIC, 2).start().await;
    let broker = broker.expect("it starts");
    assert_eq!(held().directories.len(), 1);
    produce(&broker, b"one").await.expect("it is appended");
    drop_in_time(broker);
}

async fn after_restarts_and_crashes() {
    let broker = used().await;
    broker.restart().await.expect("it starts again");
    broker.crash().await.expect("it starts again");
    broker.crash().await.expect("it starts again");
    drop_in_time(broker);
}

/// Three nodes: one stands still, one is dead, and a link is cut.
async fn of_several_nodes(store: Store) {
    let broker = TestBroker::builder().nodes(3).store(store).topic(TOPIC, 3).start().await;
    let broker = broker.expect("it starts");
    broker.shuffle_leaders().await.expect("others take over");
    broker.restart_node(1).await.expect("it starts again");
    broker.pause(1).await.expect("it stands still");
    broker.kill(2).await.expect("it is gone");
    broker.cut_link(1, 3).expect("there are two such nodes");
    let control = broker.control().clone();
    drop_in_time(broker);
    assert!(control.restart().await.is_err(), "nobody is left to be controlled");
}

async fn with_a_handle_kept() {
    let broker = used().await;
    let (engine, control) = (broker.engine(), broker.control().clone());
    drop_in_time(broker);
    // The engine's threads have ended though somebody could ask; he hears that it is gone.
    assert!(control.restart().await.is_err());
    assert_eq!(engine.expect("it ran").advance(Duration::ZERO).await, None);
}

async fn given_up_while_it_starts() {
    for patience_us in [0, 200, 1_000, 3_000] {
        let patience = Duration::from_micros(patience_us);
        // Either way it is gone afterwards.
        drop(tokio::time::timeout(patience, TestBroker::start()).await);
        drop(tokio::time::timeout(patience, TestBroker::builder().nodes(3).start()).await);
    }
}

async fn refused_at_its_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let builder = TestBroker::builder().store(Store::Temporary);
    let refused = builder.config("listeners.kafka", &address).start().await;
    assert!(refused.expect_err("the port is taken").to_string().contains(&address));
}

async fn many_at_once() {
    let mut brokers = Vec::new();
    for _ in 0..AT_ONCE {
        brokers.push(TestBroker::builder().topic(TOPIC, 1).start().await.expect("it starts"));
    }
    for broker in &brokers {
        produce(broker, b"one").await.expect("each is a broker of its own");
    }
    let addresses: BTreeSet<String> = brokers.iter().map(TestBroker::kafka_bootstrap).collect();
    assert_eq!(addresses.len(), AT_ONCE);
    brokers.into_iter().for_each(drop_in_time);
}

async fn one_after_the_other() {
    let before = held();
    for _ in 0..IN_TURN {
        let broker = TestBroker::builder().topic(TOPIC, 1).start().await.expect("it starts");
        produce(&broker, b"one").await.expect("it is appended");
        drop(broker);
        assert_eq!(held(), before);
    }
}

#[test]
fn a_dropped_broker_leaves_nothing_however_it_was_used() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be had");
    runtime.block_on(async {
        let before = held();
        with_open_connections().await;
        assert_eq!(held(), before, "with open connections");
        with_a_client_that_works(&before).await;
        assert_eq!(held(), before, "with a client at work");
        in_all_stores().await;
        assert_eq!(held(), before, "in a directory");
        after_restarts_and_crashes().await;
        assert_eq!(held(), before, "after restarts");
        for store in [Store::Memory, Store::Temporary] {
            of_several_nodes(store.clone()).await;
            assert_eq!(held(), before, "of several nodes, {store:?}");
        }
        with_a_handle_kept().await;
        assert_eq!(held(), before, "while handles were kept");
        given_up_while_it_starts().await;
        assert_eq!(held(), before, "before they were ready");
        refused_at_its_start().await;
        assert_eq!(held(), before, "without having started");
        many_at_once().await;
        assert_eq!(held(), before, "side by side");
        one_after_the_other().await;
    });
}
