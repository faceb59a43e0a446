//! `bateau consume`: records of a topic to stdout.
//!
//! ```text
//!   --from ──► lookup ──► Window ──► reader, or member of --group
//!                           │              │ records as they come
//!                           └──show?───────┴──► JSON, -f or a line ──► stdout ──► commit
//! ```
//!
//! It goes on until Ctrl-C unless there is an end: `-n`, `--exit-at-end`, or one in `--from`. A
//! reader of stdout that goes away ends it quietly.
//!
//! Invariant: a group's position is stored behind what stdout has taken, and nothing more.
//!
//! Absent on purpose: several topics, whose records would have to be told apart by a program.

mod window;

use super::connect::{self, BrokerArguments};
use super::fault::Fault;
use super::format::Format;
use super::lookup;
use super::offsets::{Place, Range};
use super::output::Output;
use super::record::{Record, write_json, write_line};
use super::stdout::{self, Reader, Stdout};
use super::trouble;
use crate::exit::Exit;
use bateau_client::group::Assignor;
use bateau_client::{
    Admin, Client, CommitError, CommitPolicy, ConsumeError, Consumer, Delivery, OutOfRange, Start,
    TopicPartition,
};
use clap::Args;
use futures_util::FutureExt;
use jiff::Zoned;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use window::Window;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau consume orders                # from the start, and on until Ctrl-C
  bateau consume orders --from :end
  bateau consume orders --from -2 --exit-at-end
  bateau consume orders --from 1:3 -p 0
  bateau consume orders --from @-1h:@now
  bateau consume orders --from :end -f '%p:%o %d{strftime[%F %T]} %k=%v\\n'
  bateau consume orders -n 1 -f '%v{json}\\n'
  bateau consume orders --group billing -n 2";

/// Bytes that are gathered before they are written, as far as records are there.
const BUFFER_BYTES: usize = 64 * 1024;

/// How often a group's positions are stored, and ends without a record are noticed.
const TICK: Duration = Duration::from_millis(500);

/// All there are: whoever is in the group already, this member can join them.
const ASSIGNORS: [Assignor; 4] = [
    Assignor::Range,
    Assignor::CooperativeSticky,
    Assignor::RoundRobin,
    Assignor::KafkaJsRoundRobin,
];

#[derive(Args)]
pub(super) struct ConsumeArguments {
    /// Name of the topic
    topic: String,
    /// Where to begin, and where to end if anywhere [default: start]
    ///
    /// start, end, +n, -n, n: a place. o1:o2, :end: from one place to before another.
    ///
    /// @t, @t1:t2: the same by time, with t as in 2026-11-21T10:15, 10:15, -1h, yesterday or
    /// milliseconds since 1970.
    ///
    /// With --group it counts where the group has no position yet.
    #[arg(long, value_name = "OFFSETS", allow_hyphen_values = true)]
    from: Option<String>,
    /// Read these partitions only
    #[arg(
        short, long = "partition", value_name = "N", conflicts_with = "group",
        value_parser = clap::value_parser!(i32).range(0..),
    )]
    partitions: Vec<i32>,
    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Read as a member of this group, and store how far it came
    #[arg(short, long, value_name = "GROUP")]
    group: Option<String>,
    /// What to print of each record, as in '%t[%p]@%o %k=%v\n'
    ///
    /// %t topic, %p partition, %o offset, %k key, %v value, %h headers, %K %S lengths of key and
    /// value, %T time in ms, %d date, %d{strftime[%F %T]} in another shape, %e leader epoch,
    /// %a codec.
    ///
    /// Behind %k, %v and %h: {hex}, {base64} or {json}.
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Stop at the end that each partition has now
    #[arg(long)]
    exit_at_end: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

/// How a record is printed.
enum Shape {
    Json,
    Line,
    Format(Format),
}

impl Shape {
    fn write(&self, record: &Record, out: &mut Vec<u8>) {
        match self {
            Self::Json => write_json(record, out),
            Self::Line => write_line(record, out),
            Self::Format(format) => format.render(record, out),
        }
    }
}

pub(super) fn run(arguments: &ConsumeArguments, output: Output) -> Result<(), Fault> {
    let now = Zoned::now();
    let range = match &arguments.from {
        None => Range { from: Place::AfterStart(0), until: None },
        Some(text) => {
            Range::parse(text, &now).map_err(|error| Fault::usage(format!("--from {error}")))?
        }
    };
    let shape = match (&arguments.format, output) {
        (Some(text), _) => {
            let format = Format::parse(text, now.time_zone().clone());
            Shape::Format(format.map_err(|error| Fault::usage(error.to_string()))?)
        }
        (None, Output::Json) => Shape::Json,
        (None, Output::Table) => Shape::Line,
    };
    connect::run(read(arguments, range, shape))
}

async fn read(arguments: &ConsumeArguments, range: Range, shape: Shape) -> Result<(), Fault> {
    let client = arguments.broker.connect().await?;
    let ConsumeArguments { topic, partitions, exit_at_end, count, .. } = arguments;
    let extents = lookup::extents(&client.admin(), topic, partitions, range).await?;
    let window = Window::new(range, *exit_at_end, *count, &extents);
    let consumer = match &arguments.group {
        Some(group) => member(&client, group, topic, range.from).await?,
        None if window.is_done() => return Ok(()),
        None => reader(&client, topic, &window).await?,
    };
    let stdout = Stdout::start().map_err(|error| broken_stdout(&error))?;
    let reading = Reading {
        topic,
        group: arguments.group.as_deref(),
        window,
        admin: client.admin(),
        consumer,
        shape,
        stdout,
        buffer: Vec::with_capacity(BUFFER_BYTES),
        buffered: BTreeMap::new(),
        shown: BTreeMap::new(),
        damaged: None,
    };
    let outcome = reading.finish().await;
    // Nothing was sent that could be lost.
    drop(client.close().await);
    outcome
}

/// A consumer of all partitions in which there is something to read.
async fn reader(client: &Client, topic: &str, window: &Window) -> Result<Consumer, Fault> {
    let mut builder = client.reader().out_of_range(OutOfRange::Error);
    for (partition, offset) in window.starts() {
        let start = Start::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        builder = builder.partition_from(topic, partition, start);
    }
    builder.start().await.map_err(|error| trouble::consume(&error, topic))
}

/// A member of a group. Positions are stored by hand, behind what was written.
async fn member(client: &Client, group: &str, topic: &str, from: Place) -> Result<Consumer, Fault> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let start = match from {
        Place::AfterStart(count) => Start::AfterStart(signed(count)),
        Place::BeforeEnd(count) => Start::BeforeEnd(signed(count)),
        Place::Offset(offset) => Start::Offset(signed(offset)),
        Place::Time(time_ms) => Start::Time(time_ms),
    };
    let builder = client.consumer(group).topics([topic]).start_at(start).assignors(ASSIGNORS);
    let consumer = builder.commit(CommitPolicy::Manual).start().await;
    consumer.map_err(|error| trouble::consume(&error, group))
}

fn broken_stdout(error: &std::io::Error) -> Fault {
    Fault::plain(Exit::Failed, format!("stdout: {error}"))
}

/// Records on their way to stdout.
struct Reading<'a> {
    topic: &'a str,
    group: Option<&'a str>,
    window: Window,
    admin: Admin,
    consumer: Consumer,
    shape: Shape,
    stdout: Stdout,
    buffer: Vec<u8>,
    /// Behind the last record of each partition that is in the buffer.
    buffered: BTreeMap<i32, i64>,
    /// Behind the last record of each partition that stdout has taken since the last commit.
    shown: BTreeMap<i32, i64>,
    /// The first batch that could not be read; the rest is.
    damaged: Option<Fault>,
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Go {
    On,
    Stop,
}

impl Reading<'_> {
    async fn finish(mut self) -> Result<(), Fault> {
        let outcome = self.rounds().await;
        let committed = self.commit().await;
        let closed = self.consumer.close().await;
        outcome.and(committed)?;
        let group = self.group.unwrap_or(self.topic);
        closed.map_err(|error| trouble::commit(&error, group))?;
        self.damaged.map_or(Ok(()), Err)
    }

    async fn rounds(&mut self) -> Result<(), Fault> {
        let mut interrupted = Box::pin(connect::interrupted());
        let mut closed = Box::pin(stdout::closed());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_done() {
            let go = tokio::select! {
                () = &mut interrupted => Go::Stop,
                () = &mut closed => Go::Stop,
                _ = tick.tick() => {
                    self.look_at_positions();
                    self.commit().await?;
                    if self.is_left_out().await { Go::Stop } else { Go::On }
                }
                next = self.consumer.next() => self.take(next).await?,
            };
            if go == Go::Stop {
                break;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        if self.group.is_none() {
            return self.window.is_done();
        }
        // Other members read the other partitions.
        let assigned = self.consumer.assignment();
        let is_read = |one: &TopicPartition| self.window.is_read(one.partition);
        self.window.is_full() || (!assigned.is_empty() && assigned.iter().all(is_read))
    }

    /// Whether what has an end is read to it by other members, because there are more members than
    /// partitions. Asked of the group, which alone knows that it has settled.
    async fn is_left_out(&self) -> bool {
        let Some(group) = self.group.filter(|_| self.window.has_end()) else { return false };
        if !self.consumer.assignment().is_empty() {
            return false;
        }
        // A group that cannot be asked now is asked again.
        let Ok(found) = self.admin.describe_group(group).await else { return false };
        let shares: Vec<_> = found.members.iter().flat_map(|one| &one.subscription).collect();
        let has = |partition: i32| {
            let mut all = shares.iter().flat_map(|share| &share.partitions);
            all.any(|(topic, number)| topic == self.topic && *number == partition)
        };
        let is_idle = shares.iter().any(|share| share.partitions.is_empty());
        found.state == "Stable" && is_idle && self.window.partitions().all(has)
    }

    /// A partition may be read to its end without a record there to say so.
    fn look_at_positions(&mut self) {
        for TopicPartition { partition, .. } in self.consumer.assignment() {
            let position = self.consumer.position(self.topic, partition);
            if let Some(position) = position.and_then(|position| u64::try_from(position).ok()) {
                self.window.advance(partition, position);
            }
        }
    }

    /// Prints a record and all that are there behind it.
    async fn take(&mut self, first: Option<Result<Delivery, ConsumeError>>) -> Result<Go, Fault> {
        let mut next = Some(first);
        let mut go = Go::On;
        while let Some(found) = next.take() {
            match found {
                None => go = Go::Stop,
                Some(Ok(delivery)) => self.show(delivery),
                Some(Err(error)) => self.stumble(&error)?,
            }
            if go == Go::On && !self.window.is_full() && self.buffer.len() < BUFFER_BYTES {
                next = self.consumer.next().now_or_never();
            }
        }
        match self.stdout.write(&mut self.buffer).await {
            Ok(Reader::Listening) => {
                self.shown.append(&mut self.buffered);
                Ok(go)
            }
            Ok(Reader::Gone) => Ok(Go::Stop),
            Err(error) => Err(broken_stdout(&error)),
        }
    }

    fn show(&mut self, delivery: Delivery) {
        let record = Record::from(delivery);
        let Ok(offset) = u64::try_from(record.offset) else { return };
        if !self.window.admit(record.partition, offset) {
            return;
        }
        self.shape.write(&record, &mut self.buffer);
        self.buffered.insert(record.partition, record.offset.saturating_add(1));
    }

    /// Goes on behind a damaged batch, and ends with anything else.
    fn stumble(&mut self, error: &ConsumeError) -> Result<(), Fault> {
        let fault = trouble::consume(error, self.group.unwrap_or(self.topic));
        match error {
            ConsumeError::Corrupt { .. } => {
                self.damaged.get_or_insert(fault);
                Ok(())
            }
            _ => Err(fault),
        }
    }

    /// Stores behind what was written, in a group.
    async fn commit(&mut self) -> Result<(), Fault> {
        let shown = std::mem::take(&mut self.shown);
        let Some(group) = self.group.filter(|_| !shown.is_empty()) else { return Ok(()) };
        let positions = shown.into_iter().map(|(partition, offset)| {
            (TopicPartition { topic: self.topic.to_owned(), partition }, offset)
        });
        match self.consumer.commit_positions(positions).await {
            // Whoever has the partition now reads those records again.
            Ok(()) | Err(CommitError::Revoked { .. }) => Ok(()),
            Err(error) => Err(trouble::commit(&error, group)),
        }
    }
}
