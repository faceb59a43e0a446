//! `kill -9` of the broker under a running Rust producer and running Rust group members: nothing
//! lost, nothing twice, and nobody has to do anything.
//!
//! ```text
//!   producer ── numbers, by key ──> bateau dev ──> billing (commits every 20 ms)
//!                                    ▲      └────> shipping (every ack waits until it is stored)
//!        kill -9, start again, 3 × ──┘
//! ```
//!
//! | who | what must hold |
//! |---|---|
//! | producer | every record is acknowledged: the broker is back long before a record's deadline |
//! | log | every number is there once, where its ack said, ascending in its partition |
//! | members | every number comes once, ascending in its partition: no session ends meanwhile |
//! | groups | in the end the stored positions are the ends of the log |
//!
//! Absent on purpose: members whose session ends (the client's own tests move the broker's clock),
//! and power cuts (the tests of the log).

use bateau_client::admin::{NewTopic, OffsetAt};
use bateau_client::contexts::Contexts;
use bateau_client::{Client, CommitPolicy, Record};
use kafka_clients_tests::broker::{Subject, binary};
use kafka_clients_tests::program::{Program, wait_until};
use kafka_clients_tests::scratch::ScratchDirectory;
use std::collections::VecDeque;
use std::error::Error;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::task::JoinHandle;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const TOPIC: &str = "orders";

const PARTITIONS: i32 = 4;

/// Keys: enough for every partition to get some.
const KEYS: usize = 32;

const KILLS: u32 = 3;

/// Records that everybody has to get through between two kills.
const STRIDE: usize = 300;

/// A kill comes at a moment within so much time.
const MOMENT_MAX: Duration = Duration::from_millis(150);

/// What the producer has on its way at most.
const IN_FLIGHT: usize = 64;

/// How far the producer gets ahead of the slowest group, so that none is left behind in the end.
const AHEAD_MAX: usize = 2_000;

/// The pause between two records: some two thousand a second.
const PACE: Duration = Duration::from_micros(500);

/// What takes longer has failed. Generous, for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

const GROUPS: [(&str, Duration); 2] =
    [("billing", Duration::from_millis(20)), ("shipping", Duration::ZERO)];

/// A broker's process, with ports and a data directory that outlive it.
struct Node {
    place: ScratchDirectory,
    addresses: [String; 3],
    program: Option<Program>,
}

const DOORS: [&str; 3] = ["kafka", "native", "http"];

impl Node {
    fn start() -> Self {
        let addresses = DOORS.map(|_| "127.0.0.1:0".to_owned());
        let mut node = Self { place: ScratchDirectory::new("kill9"), addresses, program: None };
        node.launch();
        node
    }

    fn launch(&mut self) {
        let mut command = Command::new(binary());
        command.args(["dev", "--exit-on-stdin-close"]).env_remove("RUST_LOG");
        for (door, address) in DOORS.iter().zip(&self.addresses) {
            command.arg(format!("--{door}")).arg(address);
        }
        command.arg("--data-dir").arg(self.place.path().join("data"));
        command.env("BATEAU_CONFIG_DIR", self.place.path().join("config"));
        let program = Program::start("bateau dev", command);
        let first = program.wait_for("ready line", TIMEOUT, |lines| lines.first().cloned());
        let ready = first.json.unwrap_or_else(|| panic!("{}{}", first.text, program.tail()));
        let opened = DOORS.map(|door| ready[door].as_str().expect("every door is open").to_owned());
        let is_first = self.addresses[0].ends_with(":0");
        assert!(is_first || opened == self.addresses, "{opened:?}, not {:?}", self.addresses);
        (self.addresses, self.program) = (opened, Some(program));
    }

    fn kill_and_start_again(&mut self) {
        self.program.take().expect("it runs").kill();
        self.launch();
    }

    /// The native door, with the pin that a user finds in the file of contexts.
    fn url(&self) -> String {
        let contexts = Contexts::load(&self.place.path().join("config")).expect("it was written");
        let native = &self.addresses[1];
        let mut named = contexts.iter().filter(|one| one.native.as_ref() == Some(native));
        let pin = named.next().and_then(|context| context.pin).expect("it has a pin");
        format!("quic://{native}?pin={pin}")
    }
}

/// How far each of them has come, for whoever kills the broker.
#[derive(Default)]
struct Progress {
    acknowledged: AtomicUsize,
    consumed: [AtomicUsize; GROUPS.len()],
    is_enough: AtomicBool,
    /// All that were acknowledged, once that is final.
    total: AtomicUsize,
    /// What each member is at, for whoever waits in vain.
    doing: [Mutex<String>; GROUPS.len()],
}

impl Progress {
    fn note(&self, place: usize, doing: impl FnOnce() -> String) {
        *self.doing[place].lock().expect("nobody panics here") = doing();
    }

    fn least_consumed(&self) -> usize {
        self.consumed.iter().map(|one| one.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    fn least(&self) -> usize {
        self.least_consumed().min(self.acknowledged.load(Ordering::Acquire))
    }
}

/// Where the records of the numbers 0, 1, … lie: partition and offset.
type Places = Vec<(i32, i64)>;

async fn produce(client: Client, progress: Arc<Progress>) -> Outcome<Places> {
    let producer = client.producer(TOPIC);
    let mut pace = tokio::time::interval(PACE);
    let (mut places, mut waiting) = (Places::new(), VecDeque::new());
    let mut sent = 0;
    loop {
        let is_enough = progress.is_enough.load(Ordering::Acquire);
        if !is_enough {
            pace.tick().await;
        }
        if !is_enough && sent < progress.least_consumed() + AHEAD_MAX {
            let record = Record::new(format!("{sent}")).key(format!("key {}", sent % KEYS));
            waiting.push_back(producer.send(record).queued().await?);
            sent += 1;
        }
        while waiting.len() > IN_FLIGHT
            || is_enough
            || waiting.front().is_some_and(|one| one.is_done())
        {
            let Some(handle) = waiting.pop_front() else {
                progress.total.store(places.len(), Ordering::Release);
                return Ok(places);
            };
            let ack = handle.await.map_err(|error| format!("record {}: {error}", places.len()))?;
            places.push((ack.partition, ack.offset));
            progress.acknowledged.store(places.len(), Ordering::Release);
        }
    }
}

/// A number, as it came.
type Came = (i32, i64, usize);

async fn consume(client: Client, place: usize, progress: Arc<Progress>) -> Outcome<Vec<Came>> {
    let (group, interval) = GROUPS[place];
    let builder =
        client.consumer(group).topics([TOPIC]).commit(CommitPolicy::AfterAck { interval });
    let mut consumer = builder.heartbeat_interval(Duration::from_millis(100)).start().await?;
    let mut came: Vec<Came> = Vec::new();
    loop {
        let total = progress.total.load(Ordering::Acquire);
        if total > 0 && came.len() >= total {
            consumer.close().await?;
            return Ok(came);
        }
        let positions = [0, 1, 2, 3].map(|partition| consumer.position(TOPIC, partition));
        let came_so_far = came.len();
        progress.note(place, || format!("{came_so_far} of {total}, next {positions:?}"));
        // Nothing may come any more when the total becomes known.
        let next = tokio::time::timeout(Duration::from_millis(50), consumer.try_next());
        let Ok(delivery) = next.await else { continue };
        let delivery = delivery?.ok_or_else(|| format!("{group} has ended"))?;
        let number = std::str::from_utf8(delivery.value.as_deref().ok_or("a value")?)?.parse()?;
        let at = (delivery.partition, delivery.offset);
        came.push((at.0, at.1, number));
        progress.note(place, || format!("acknowledges {at:?}"));
        delivery.ack().await.map_err(|error| format!("{group}, number {number}: {error}"))?;
        progress.consumed[place].store(came.len(), Ordering::Release);
    }
}

/// What lies in the log, in the order of partitions and offsets.
async fn read_all(client: &Client, total: usize) -> Outcome<Vec<Came>> {
    let mut reader = client.reader().topics([TOPIC]).start().await?;
    let mut read = Vec::new();
    while read.len() < total {
        let delivery = reader.try_next().await?.ok_or("the reader ended")?;
        let number = std::str::from_utf8(delivery.value.as_deref().ok_or("a value")?)?.parse()?;
        read.push((delivery.partition, delivery.offset, number));
    }
    // Nothing lies behind what was acknowledged.
    let mut ends = Vec::new();
    for partition in 0..PARTITIONS {
        ends.push(reader.position(TOPIC, partition));
    }
    let found = client.admin().offsets(TOPIC, OffsetAt::End).await?;
    let found: Vec<_> = found.iter().map(|one| one.offset).collect();
    if found != ends {
        return Err(format!("the log ends at {found:?}, what was sent at {ends:?}").into());
    }
    Ok(read)
}

/// Whether the numbers of each partition ascend, in the order in which they came.
fn ascend(came: &[Came]) -> bool {
    let of = |partition| came.iter().filter(move |(of, _, _)| *of == partition);
    (0..PARTITIONS).all(|partition| {
        let numbers: Vec<_> = of(partition).map(|(_, offset, number)| (offset, number)).collect();
        numbers.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1)
    })
}

fn sorted(mut came: Vec<Came>) -> Vec<Came> {
    came.sort_unstable();
    came
}

/// Three kills at moments that the seed decides, each under full load.
fn disturb(node: &mut Node, progress: &Progress, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for kill in 1..=KILLS {
        let goal = progress.least() + STRIDE;
        wait_until(&format!("load before kill {kill}"), TIMEOUT, || progress.least() >= goal);
        let moment = random.u64(0..u64::try_from(MOMENT_MAX.as_micros()).expect("it is short"));
        thread::sleep(Duration::from_micros(moment));
        node.kill_and_start_again();
    }
    let goal = progress.least() + STRIDE;
    wait_until("load after the last kill", TIMEOUT, || progress.least() >= goal);
}

async fn finished<T>(what: &str, task: JoinHandle<Outcome<T>>, progress: &Progress) -> T {
    match tokio::time::timeout(TIMEOUT, task).await {
        Ok(Ok(Ok(value))) => value,
        Ok(Ok(Err(error))) => panic!("{what}: {error}"),
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(_) => panic!("{what}: not finished within {TIMEOUT:?}: {:?}", progress.doing),
    }
}

async fn story(seed: u64) -> Outcome<()> {
    let mut node = Node::start();
    let url = node.url();
    let looking = Client::connect(&url).await?;
    let topic = NewTopic::new(TOPIC).partitions(PARTITIONS.unsigned_abs());
    looking.admin().create_topic(topic).await?;
    let progress = Arc::new(Progress::default());
    let mut members = Vec::new();
    for place in 0..GROUPS.len() {
        let client = Client::connect(&url).await?;
        members.push(tokio::spawn(consume(client, place, Arc::clone(&progress))));
    }
    let producing = tokio::spawn(produce(Client::connect(&url).await?, Arc::clone(&progress)));
    let watched = Arc::clone(&progress);
    let disturbing = tokio::task::spawn_blocking(move || {
        disturb(&mut node, &watched, seed);
        node
    });
    let _node = disturbing.await?;
    progress.is_enough.store(true, Ordering::Release);
    let places = finished("the producer", producing, &progress).await;
    let numbered = places.iter().zip(0..);
    let numbered = numbered.map(|((partition, offset), number)| (*partition, *offset, number));
    let expected = sorted(numbered.collect());
    let log = read_all(&looking, places.len()).await?;
    assert!(ascend(&log), "the order of a partition is that of `send`");
    assert!(sorted(log) == expected, "the log is what was acknowledged, each once");
    for (member, (group, _)) in members.into_iter().zip(GROUPS) {
        let came = finished(group, member, &progress).await;
        assert!(ascend(&came), "{group}: nothing comes twice, and nothing before its turn");
        assert!(sorted(came) == expected, "{group}: everything comes once");
        let lag = looking.admin().lag(group).await?;
        assert_eq!(lag.iter().map(|one| one.lag()).collect::<Vec<_>>(), [Some(0); 4], "{group}");
    }
    println!("{} records, {KILLS} kills", places.len());
    Ok(())
}

#[test]
fn a_broker_that_is_killed_three_times_costs_rust_clients_nothing() {
    if Subject::of_this_run() != Subject::Bateau {
        return;
    }
    let seed = std::env::var("BATEAU_SEED").ok();
    let seed = seed.and_then(|text| u64::from_str_radix(&text, 16).ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat the moments of the kills with BATEAU_SEED={seed:x}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.expect("a runtime can be made").block_on(story(seed));
    outcome.expect("nobody meets an error");
}
