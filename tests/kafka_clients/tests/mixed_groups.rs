//! A member of ours shares a group with kafkajs, Java and librdkafka members.
//!
//! ```text
//!   ours ──── QUIC ────> TestBroker <── Kafka door ──── members.js, Members.java,
//!     └── events ──> Case <── JSON lines ───────────── group_members.py (several groups each)
//! ```
//!
//! For every assignor and either order of joining:
//!
//! | step | asserted |
//! |---|---|
//! | the first joins | it has all partitions, and consumes what is there |
//! | the second joins while records flow | every partition has one owner, both have some |
//! | records | each goes to the owner of its partition |
//! | the first, who leads, leaves while records flow | the second has all partitions |
//!
//! Through all of that no record is consumed twice, and in the end all positions are stored. The
//! first to join is the group's leader: the other clients say when they share out.
//!
//! Absent on purpose: what the assignors compute (`parts.rs` asks the real clients), and members
//! that die (`groups_kill9.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bateau_client::group::Assignor;
use bateau_client::{Client, CommitPolicy, Consumer, Delivery, Record};
use bateau_testing::TestBroker;
use kafka_clients_tests::program::{Line, Program};
use kafka_clients_tests::runtimes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

const PARTITIONS: u32 = 6;

/// Records that are produced at a time: enough for every partition to get some.
const BATCH: u32 = 48;

/// A step that takes longer has failed. Generous, for the start of a JVM on a busy machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// How often our consumer is asked for its partitions: it has no event for that.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Who {
    Ours,
    Other,
}

impl Who {
    const fn opposite(self) -> Self {
        match self {
            Self::Ours => Self::Other,
            Self::Other => Self::Ours,
        }
    }
}

/// What a member tells.
#[derive(Debug)]
enum Event {
    /// All partitions that it has from now on.
    Assigned(BTreeSet<u32>),
    Consumed {
        partition: u32,
        number: u32,
    },
    /// It shared out among so many members.
    Led(u64),
    Left,
    Failed(String),
}

type Events = mpsc::UnboundedSender<(Who, Event)>;

/// What one member has told so far.
#[derive(Default, Debug)]
struct Seen {
    assigned: BTreeSet<u32>,
    led: Vec<u64>,
    has_left: bool,
}

/// One group under test.
struct Case {
    name: String,
    client: Client,
    program: Arc<Program>,
    seen: BTreeMap<Who, Seen>,
    /// By record: who consumed it, and from where.
    consumed: BTreeMap<u32, (Who, u32)>,
    produced: u32,
    sender: Events,
    events: mpsc::UnboundedReceiver<(Who, Event)>,
    /// Makes our member leave.
    leave: Option<oneshot::Sender<()>>,
}

impl Case {
    fn seen(&self, who: Who) -> &Seen {
        &self.seen[&who]
    }

    fn note(&mut self, who: Who, event: Event) {
        let name = &self.name;
        let seen = self.seen.entry(who).or_default();
        match event {
            Event::Assigned(partitions) => seen.assigned = partitions,
            Event::Led(members) => seen.led.push(members),
            Event::Left => seen.has_left = true,
            Event::Consumed { partition, number } => {
                let before = self.consumed.insert(number, (who, partition));
                assert_eq!(before, None, "{name}: {who:?} consumes {number} as the second");
            }
            Event::Failed(reason) => {
                panic!("{name}: {who:?} failed: {reason}{}", self.program.tail());
            }
        }
    }

    /// Takes in what the members tell until `condition` holds.
    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        self.take_in(what, condition, false).await;
    }

    /// The same while records go on coming: one more for each that is consumed.
    async fn until_in_flow(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        self.produce(BATCH).await;
        self.take_in(what, condition, true).await;
    }

    async fn take_in(&mut self, what: &str, condition: impl Fn(&Self) -> bool, is_flowing: bool) {
        let deadline = Instant::now() + STEP_TIMEOUT;
        while !condition(self) {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some((who, event))) => {
                    let is_consumed = matches!(event, Event::Consumed { .. });
                    self.note(who, event);
                    if is_consumed && is_flowing {
                        self.produce(1).await;
                    }
                }
                Ok(None) | Err(_) => {
                    let (name, tail) = (&self.name, self.program.tail());
                    let missing = self.missing();
                    panic!("{name}: not {what}: {:?}, missing {missing:?}{tail}", self.seen);
                }
            }
        }
    }

    /// What nobody has consumed.
    fn missing(&self) -> Vec<u32> {
        (0..self.produced).filter(|number| !self.consumed.contains_key(number)).collect()
    }

    async fn produce(&mut self, count: u32) -> BTreeSet<u32> {
        let numbers: BTreeSet<u32> = (self.produced..self.produced + count).collect();
        let record = |number: &u32| Record::new(format!("{number}")).key(format!("key-{number}"));
        let producer = self.client.producer(&self.name);
        for ack in producer.send_all(numbers.iter().map(record)).await {
            ack.expect("the broker takes records");
        }
        self.produced += count;
        numbers
    }

    async fn consume_all(&mut self) {
        self.until("all consumed", |case| case.missing().is_empty()).await;
    }

    async fn join(&mut self, who: Who, assignors: &[Assignor]) {
        let name = &self.name;
        if who == Who::Other {
            self.program.tell(&format!("join {name} {name} {}", names(assignors)));
            return;
        }
        let often = Duration::from_millis(20);
        let builder = self.client.consumer(name).topics([name]).assignors(assignors.to_vec());
        let builder = builder.heartbeat_interval(Duration::from_millis(100));
        let consumer = builder.commit(CommitPolicy::AfterAck { interval: often }).start().await;
        let (leave, left) = oneshot::channel();
        self.leave = Some(leave);
        tokio::spawn(live(consumer.expect("it starts"), self.sender.clone(), left));
    }

    fn leave(&mut self, who: Who) {
        match who {
            Who::Other => self.program.tell(&format!("leave {}", self.name)),
            Who::Ours => drop(self.leave.take()),
        }
    }

    fn has_all(&self, who: Who) -> bool {
        self.seen(who).assigned == all_partitions()
    }

    /// Whether every partition has one owner, and both members own some.
    fn is_shared(&self) -> bool {
        let (ours, other) = (&self.seen(Who::Ours).assigned, &self.seen(Who::Other).assigned);
        let together: BTreeSet<u32> = ours.union(other).copied().collect();
        let both = !ours.is_empty() && !other.is_empty();
        both && ours.is_disjoint(other) && together == all_partitions()
    }

    /// Each of these records was consumed by the owner of its partition.
    fn check_owners(&self, numbers: &BTreeSet<u32>) {
        for number in numbers {
            let (who, partition) = self.consumed[number];
            let is_owner = self.seen(who).assigned.contains(&partition);
            assert!(is_owner, "{}: {who:?} has no {partition}: {:?}", self.name, self.seen);
        }
    }

    async fn run(mut self, assignors: &'static [Assignor], first: Who) {
        let second = first.opposite();
        self.produce(BATCH).await;
        self.join(first, assignors).await;
        self.until("alone with all partitions", |case| case.has_all(first)).await;
        self.consume_all().await;

        self.join(second, assignors).await;
        self.until_in_flow("shared", Self::is_shared).await;
        self.consume_all().await;
        let numbers = self.produce(BATCH).await;
        self.consume_all().await;
        self.check_owners(&numbers);
        let consumers: BTreeSet<Who> = numbers.iter().map(|one| self.consumed[one].0).collect();
        assert_eq!(consumers.len(), 2, "{}: both have worked", self.name);

        self.leave(first);
        let has_taken_over = |case: &Self| case.seen(first).has_left && case.has_all(second);
        self.until_in_flow("taken over", has_taken_over).await;
        self.consume_all().await;
        let numbers = self.produce(BATCH).await;
        self.consume_all().await;
        self.check_owners(&numbers);
        self.leave(second);
        self.until("left", |case| case.seen(second).has_left).await;

        let led = &self.seen(Who::Other).led;
        let has_led = led.contains(&2);
        assert_eq!(has_led, first == Who::Other, "{}: the other led {led:?}", self.name);
        let lags = self.client.admin().lag(&self.name).await.expect("the group is there");
        let lag: i64 = lags.iter().filter_map(|one| one.lag()).sum();
        assert_eq!((lags.len(), lag), (PARTITIONS as usize, 0), "{}: {lags:?}", self.name);
    }
}

fn names(assignors: &[Assignor]) -> String {
    assignors.iter().map(|assignor| assignor.name()).collect::<Vec<_>>().join(",")
}

fn all_partitions() -> BTreeSet<u32> {
    (0..PARTITIONS).collect()
}

/// Our member: reads, acknowledges and tells, until it is to leave.
async fn live(mut consumer: Consumer, events: Events, mut leave: oneshot::Receiver<()>) {
    let tell = |event| {
        // Nobody listens any more where the case has failed already.
        let _ = events.send((Who::Ours, event));
    };
    let mut assigned = BTreeSet::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            _ = &mut leave => break,
            _ = look.tick() => {}
            next = consumer.next() => match next {
                Some(Ok(delivery)) => {
                    tell(consumed(&delivery));
                    if let Err(error) = delivery.ack().await {
                        tell(Event::Failed(error.to_string()));
                    }
                }
                Some(Err(error)) => tell(Event::Failed(error.to_string())),
                None => return tell(Event::Failed("the consumer is over".to_owned())),
            },
        }
        let number = |partition: i32| u32::try_from(partition).expect("partitions count from 0");
        let now = consumer.assignment().into_iter().map(|one| number(one.partition)).collect();
        if now != assigned {
            assigned = now;
            tell(Event::Assigned(assigned.clone()));
        }
    }
    if let Err(error) = consumer.close().await {
        tell(Event::Failed(error.to_string()));
    }
    tell(Event::Assigned(BTreeSet::new()));
    tell(Event::Left);
}

fn consumed(delivery: &Delivery) -> Event {
    let value = delivery.value.as_deref().expect("records have values");
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    let partition = u32::try_from(delivery.partition).expect("partitions count from 0");
    Event::Consumed { partition, number: number.expect("values are numbers") }
}

/// An event of the member of `group`, if the line is one.
fn event_of(line: &Line, group: &str) -> Option<Event> {
    let json = line.json.as_ref().filter(|json| json["group"] == group)?;
    let number = |value: &Value| {
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let number = number.and_then(|number| u32::try_from(number).ok());
        number.unwrap_or_else(|| panic!("{value} is no number: {}", line.text))
    };
    match line.event()? {
        "assigned" => {
            let partitions = json["partitions"].as_array().expect("an array");
            Some(Event::Assigned(partitions.iter().map(number).collect()))
        }
        "consumed" => Some(Event::Consumed {
            partition: number(&json["partition"]),
            number: number(&json["value"]),
        }),
        "leading" => Some(Event::Led(number(&json["members"]).into())),
        "left" => Some(Event::Left),
        "failed" => Some(Event::Failed(json["error"].to_string())),
        other => panic!("{other}: {}", line.text),
    }
}

/// Passes on what the other member of `group` tells, on a thread of its own, until it has left.
fn pass_on(program: Arc<Program>, group: String, events: Events) {
    std::thread::spawn(move || {
        let mut read = 0;
        loop {
            let news = program.try_wait_for(2 * STEP_TIMEOUT, |lines| {
                let news: Vec<Event> =
                    lines[read..].iter().filter_map(|line| event_of(line, &group)).collect();
                read = lines.len();
                (!news.is_empty()).then_some(news)
            });
            let Some(news) = news else {
                let _ = events.send((Who::Other, Event::Failed("its output ended".to_owned())));
                return;
            };
            for event in news {
                let is_last = matches!(event, Event::Left);
                if events.send((Who::Other, event)).is_err() || is_last {
                    return;
                }
            }
        }
    });
}

/// What the members of each group offer.
type Groups = &'static [&'static [Assignor]];

const RANGE: &[Assignor] = &[Assignor::Range];
const ROUND_ROBIN: &[Assignor] = &[Assignor::RoundRobin];
const COOPERATIVE: &[Assignor] = &[Assignor::CooperativeSticky];

/// The last one is Java's default, and ours.
const JAVA: Groups =
    &[RANGE, ROUND_ROBIN, COOPERATIVE, &[Assignor::Range, Assignor::CooperativeSticky]];

/// The last one is librdkafka's default.
const LIBRDKAFKA: Groups =
    &[RANGE, ROUND_ROBIN, COOPERATIVE, &[Assignor::Range, Assignor::RoundRobin]];

/// All cases of one client at the same time, in one process of it.
async fn share(broker: TestBroker, client: &str, mut command: Command, groups: Groups) {
    command.arg(broker.kafka_bootstrap());
    let program = Arc::new(Program::start(client, command));
    let mut cases = JoinSet::new();
    for assignors in groups {
        for first in [Who::Ours, Who::Other] {
            let name = format!("{}.{first:?}-first", names(assignors).replace(',', "-or-"));
            broker.seed_topic(&name, PARTITIONS).await.expect("a new topic");
            let (sender, events) = mpsc::unbounded_channel();
            pass_on(Arc::clone(&program), name.clone(), sender.clone());
            let case = Case {
                name,
                client: broker.client().await.expect("the native door is open"),
                program: Arc::clone(&program),
                seen: [Who::Ours, Who::Other].map(|who| (who, Seen::default())).into(),
                consumed: BTreeMap::new(),
                produced: 0,
                sender,
                events,
                leave: None,
            };
            cases.spawn(case.run(assignors, first));
        }
    }
    while let Some(ended) = cases.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[bateau_testing::test]
async fn a_group_is_shared_with_kafkajs(broker: TestBroker) {
    let Some(installed) = runtimes::node() else {
        return runtimes::skip("kafkajs in a mixed group", "needs Node.js with npm");
    };
    let mut command = installed.command();
    command.arg("members.js");
    share(broker, "kafkajs", command, &[&[Assignor::KafkaJsRoundRobin]]).await;
}

#[bateau_testing::test]
async fn groups_are_shared_with_java(broker: TestBroker) {
    let Some(installed) = runtimes::java_members() else {
        return runtimes::skip("Java in mixed groups", "needs a JDK with Maven");
    };
    share(broker, "java", installed.command(), JAVA).await;
}

#[bateau_testing::test]
async fn groups_are_shared_with_librdkafka(broker: TestBroker) {
    let Some(installed) = runtimes::python_file("group_members.py") else {
        return runtimes::skip("librdkafka in mixed groups", "needs Python 3");
    };
    share(broker, "confluent-kafka", installed.command(), LIBRDKAFKA).await;
}
