//! Rust clients that go on whatever happens to their brokers: an idempotent producer and two groups
//! under load, and the judgement in the end.
//!
//! ```text
//!   producer ── numbers, by key ──> brokers ──> billing (commits every 20 ms)
//!                                    ▲   └────> shipping (every ack waits until it is stored)
//!         what the test does to them ┘
//! ```
//!
//! | who | what must hold |
//! |---|---|
//! | producer | every record is acknowledged, whichever broker goes and comes |
//! | log | every number is there once, where its ack said, ascending in its partition |
//! | members | every number comes once, ascending in its partition: no session ends meanwhile |
//! | groups | in the end the stored positions are the ends of the log |
//!
//! Absent on purpose: what is done to the brokers, which each test decides, and members whose
//! session ends (the client's own tests move the broker's clock).

use crate::program::wait_until;
use bateau_client::admin::{NewTopic, OffsetAt};
use bateau_client::{Client, ClientBuilder, CommitPolicy, Record};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The topic that is made for the load.
const TOPIC: &str = "orders";

/// Keys: enough for every partition to get some.
const KEYS: usize = 32;

/// What the producer has on its way at most.
const IN_FLIGHT: usize = 64;

/// What takes longer has failed. Generous, for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Groups, and how often they commit: zero is each ack by itself.
const GROUPS: [(&str, Duration); 2] =
    [("billing", Duration::from_millis(20)), ("shipping", Duration::ZERO)];

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Partitions of the topic, at least one.
    pub partitions: i32,
    /// Records that everybody has to get through between two faults.
    pub stride: usize,
    /// How far the producer gets ahead of the slowest group, so that none is left behind in the
    /// end; more than `stride`.
    pub ahead_max: usize,
    /// The pause between two records.
    pub pause: Duration,
}

/// How far each of them has come, for whoever disturbs them.
#[derive(Debug)]
pub struct Progress {
    load: Load,
    acknowledged: AtomicUsize,
    consumed: [AtomicUsize; GROUPS.len()],
    is_enough: AtomicBool,
    /// All that were acknowledged, once that is final.
    total: AtomicUsize,
    /// What each member is at, for whoever waits in vain.
    doing: [Mutex<String>; GROUPS.len()],
}

impl Progress {
    fn new(load: Load) -> Self {
        Self {
            load,
            acknowledged: AtomicUsize::default(),
            consumed: Default::default(),
            is_enough: AtomicBool::default(),
            total: AtomicUsize::default(),
            doing: Default::default(),
        }
    }

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

    /// Waits until everybody has got on from here, by the load's stride.
    ///
    /// Panics when that takes a minute.
    pub fn goes_on(&self, when: &str) {
        let (began, from, stride) = (Instant::now(), self.counts(), self.load.stride);
        let is_on = || self.counts().iter().zip(from).all(|(now, from)| *now >= from + stride);
        wait_until(&format!("load {when}"), TIMEOUT, is_on);
        println!("{when}: on from {from:?} after {} ms", began.elapsed().as_millis());
    }
}

/// Where the records of the numbers 0, 1, … lie: partition and offset.
type Places = Vec<(i32, i64)>;

async fn produce(client: Client, progress: Arc<Progress>) -> Outcome<Places> {
    let Load { ahead_max, pause, .. } = progress.load;
    let producer = client.producer(TOPIC);
    let mut pace = tokio::time::interval(pause);
    let (mut places, mut waiting) = (Places::new(), VecDeque::new());
    let mut sent = 0;
    loop {
        let is_enough = progress.is_enough.load(Ordering::Acquire);
        if !is_enough {
            pace.tick().await;
        }
        if !is_enough && sent < progress.least_consumed() + ahead_max {
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

/// A number, as it came: partition, offset and the number.
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
        progress.note(place, || {
            let position = |partition| consumer.position(TOPIC, partition);
            let positions: Vec<_> = (0..progress.load.partitions).map(position).collect();
            format!("waits behind {} of {total}, next {positions:?}", came.len())
        });
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
async fn read_all(client: &Client, partitions: i32, total: usize) -> Outcome<Vec<Came>> {
    let mut reader = client.reader().topics([TOPIC]).start().await?;
    let mut read = Vec::new();
    while read.len() < total {
        let delivery = reader.try_next().await?.ok_or("the reader ended")?;
        let number = std::str::from_utf8(delivery.value.as_deref().ok_or("a value")?)?.parse()?;
        read.push((delivery.partition, delivery.offset, number));
    }
    // Nothing lies behind what was acknowledged.
    let ends: Vec<_> = (0..partitions).map(|partition| reader.position(TOPIC, partition)).collect();
    let found = client.admin().offsets(TOPIC, OffsetAt::End).await?;
    let found: Vec<_> = found.iter().map(|one| one.offset).collect();
    if found != ends {
        return Err(format!("the log ends at {found:?}, what was sent at {ends:?}").into());
    }
    Ok(read)
}

/// Whether the numbers of each partition ascend, in the order in which they came.
fn ascend(came: &[Came]) -> bool {
    let mut last = HashMap::new();
    came.iter().all(|(partition, offset, number)| {
        let before = last.insert(partition, (offset, number));
        before.is_none_or(|before| before.0 < offset && before.1 < number)
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

impl Load {
    /// Runs the load on one thread while `disturb` does its worst on another, and judges.
    ///
    /// - `client`: how each client begins.
    ///
    /// Returns what `disturb` does, and how many records there were. `disturb` begins when
    /// everybody has got on; what it returns lives until all has been judged.
    ///
    /// Panics when a client meets an error, or when what came is not what was sent.
    pub fn run<T: Send + 'static>(
        self,
        client: impl Fn() -> ClientBuilder,
        disturb: impl FnOnce(&Progress) -> T + Send + 'static,
    ) -> (T, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let outcome = runtime.block_on(self.judged(client, disturb));
        outcome.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn judged<T: Send + 'static>(
        self,
        client: impl Fn() -> ClientBuilder,
        disturb: impl FnOnce(&Progress) -> T + Send + 'static,
    ) -> Outcome<(T, usize)> {
        let looking = client().connect().await?;
        let topic = NewTopic::new(TOPIC).partitions(self.partitions.unsigned_abs());
        looking.admin().create_topic(topic).await?;
        let progress = Arc::new(Progress::new(self));
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
        let log = read_all(&looking, self.partitions, places.len()).await?;
        assert!(ascend(&log), "the order of a partition is that of `send`");
        assert!(sorted(log) == expected, "the log is what was acknowledged, each once");
        for (member, (group, _)) in members.into_iter().zip(GROUPS) {
            let came = finished(group, member, &progress).await;
            assert!(ascend(&came), "{group}: nothing comes twice, and nothing before its turn");
            assert!(sorted(came) == expected, "{group}: everything comes once");
            let lag = looking.admin().lag(group).await?;
            let lag: Vec<_> = lag.iter().map(|one| one.lag()).collect();
            assert_eq!(lag, vec![Some(0); usize::try_from(self.partitions)?], "{group}");
        }
        Ok((disturbed, places.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_or_before_its_turn_in_its_partition_is_seen() {
        assert!(ascend(&[(0, 0, 1), (1, 0, 0), (0, 1, 2), (1, 7, 3)]));
        assert!(!ascend(&[(0, 0, 1), (1, 0, 0), (0, 0, 1)]), "it comes again");
        assert!(!ascend(&[(0, 1, 1), (1, 0, 0), (0, 0, 2)]), "the offset goes back");
        assert!(!ascend(&[(0, 0, 2), (1, 0, 0), (0, 1, 1)]), "the number goes back");
    }
}
