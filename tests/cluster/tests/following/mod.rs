//! Rust clients on the native doors of a cluster: an idempotent producer and two groups that go on
//! whatever node is taken from them, and the judgement in the end.
//!
//! ```text
//!   producer ── numbers, by key ──> the leaders ──> billing (commits every 20 ms)
//!                                       ▲     └───> shipping (every ack waits until it is stored)
//!             a node goes and comes ────┘
//! ```
//!
//! | who | what must hold |
//! |---|---|
//! | producer | every record is acknowledged, whichever node leads |
//! | log | every number is there once, where its ack said, ascending in its partition |
//! | members | every number comes once, ascending in its partition: no session ends meanwhile |
//! | groups | in the end the stored positions are the ends of the log |
//!
//! Absent on purpose: what is done to the nodes, which each test decides.

use bateau_client::admin::{NewTopic, OffsetAt};
use bateau_client::{Client, ClientBuilder, CommitPolicy, Record};
use cluster_tests::TIMEOUT;
use kafka_clients_tests::program::wait_until;
use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

pub const TOPIC: &str = "orders";

const PARTITIONS: i32 = 6;

/// Keys: enough for every partition to get some.
const KEYS: usize = 32;

/// Records that everybody has to get through between two faults.
const STRIDE: usize = 200;

/// What the producer has on its way at most.
const IN_FLIGHT: usize = 64;

/// How far the producer gets ahead of the slowest group, so that none is left behind in the end.
const AHEAD_MAX: usize = 500;

/// The pause between two records: some thousand a second.
const PACE: Duration = Duration::from_millis(1);

const GROUPS: [(&str, Duration); 2] =
    [("billing", Duration::from_millis(20)), ("shipping", Duration::ZERO)];

/// How far each of them has come, for whoever disturbs them.
#[derive(Default)]
pub struct Progress {
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

    fn counts(&self) -> [usize; 1 + GROUPS.len()] {
        let [one, other] = &self.consumed;
        [&self.acknowledged, one, other].map(|count| count.load(Ordering::Acquire))
    }

    /// Waits until everybody has got on from here.
    pub fn goes_on(&self, when: &str) {
        let (began, from) = (Instant::now(), self.counts());
        let is_on = || self.counts().iter().zip(from).all(|(now, from)| *now >= from + STRIDE);
        wait_until(&format!("load {when}"), TIMEOUT, is_on);
        println!("{when}: on from {from:?} after {} ms", began.elapsed().as_millis());
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
        let came_so_far = came.len();
        progress.note(place, || format!("waits behind {came_so_far} of {total}"));
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
    let ends: Vec<_> = (0..PARTITIONS).map(|partition| reader.position(TOPIC, partition)).collect();
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

async fn finished<T>(what: &str, task: JoinHandle<Outcome<T>>, progress: &Progress) -> T {
    match tokio::time::timeout(TIMEOUT, task).await {
        Ok(Ok(Ok(value))) => value,
        Ok(Ok(Err(error))) => panic!("{what}: {error}"),
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(_) => panic!("{what}: not finished within {TIMEOUT:?}: {:?}", progress.doing),
    }
}

/// Runs the load while `disturb` does its worst, and judges.
///
/// - `client`: how each client begins.
///
/// Returns what `disturb` does, and how many records there were.
pub async fn story<T: Send + 'static>(
    client: impl Fn() -> ClientBuilder,
    disturb: impl FnOnce(&Progress) -> T + Send + 'static,
) -> Outcome<(T, usize)> {
    let looking = client().connect().await?;
    let topic = NewTopic::new(TOPIC).partitions(PARTITIONS.unsigned_abs());
    looking.admin().create_topic(topic).await?;
    let progress = Arc::new(Progress::default());
    let mut members = Vec::new();
    for place in 0..GROUPS.len() {
        let client = client().connect().await?;
        members.push(tokio::spawn(consume(client, place, Arc::clone(&progress))));
    }
    let producing = client().connect().await?;
    let producing = tokio::spawn(produce(producing, Arc::clone(&progress)));
    let watched = Arc::clone(&progress);
    let disturbing = tokio::task::spawn_blocking(move || {
        watched.goes_on("before anything happens");
        disturb(&watched)
    });
    let disturbed = disturbing.await?;
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
        let lag: Vec<_> = lag.iter().map(|one| one.lag()).collect();
        assert_eq!(lag, vec![Some(0); lag.len()], "{group}");
        assert_eq!(lag.len(), usize::try_from(PARTITIONS)?, "{group}");
    }
    Ok((disturbed, places.len()))
}

/// Runs an asynchronous story on one thread.
pub fn run<T>(story: impl Future<Output = Outcome<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.expect("a runtime can be made").block_on(story);
    outcome.unwrap_or_else(|error| panic!("{error}"))
}
