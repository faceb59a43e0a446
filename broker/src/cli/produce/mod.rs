//! `bateau produce`: records from arguments, stdin or a file into a topic.
//!
//! ```text
//!   arguments ───────────────► Record ──send──► producer ──► broker
//!   stdin, file ──source──►    Record                │
//!                                    acks, in order ◄┘ ──► stdout
//! ```
//!
//! Records are sent as they come and acknowledged in the order of the input; what was read is
//! bounded by [`PENDING_MAX`] and the producer's buffer. Ctrl-C ends the reading, and a second one
//! the waiting for answers.
//!
//! Absent on purpose: schemas, and an exit before the broker has answered.

mod input;
mod source;

use super::codes::{BAD_INPUT, OUTCOME_UNKNOWN};
use super::connect::{self, BrokerArguments};
use super::fault::{Fault, escaped};
use super::output::Output;
use super::stdout::{Reader, Stdout};
use super::topic::key_value;
use super::trouble;
use crate::exit::Exit;
use bateau_client::{Ack, Record, SendError, SendHandle};
use bytes::Bytes;
use clap::Args;
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use input::{LineError, Shape};
use jiff::Zoned;
use serde_json::json;
use source::{InputError, Parcel};
use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::PathBuf;
use tokio::sync::mpsc;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau produce orders paid
  bateau produce orders -k 7 -H source=shop paid shipped
  bateau produce orders --json '{\"id\":7}'
  echo paid | bateau produce orders
  printf '7=paid\\n8=open\\n' | bateau produce orders --key-separator =
  printf '{\"key\":\"7\",\"value\":{\"paid\":true}}\\n' > orders.jsonl
  bateau produce orders --file orders.jsonl --jsonl
  bateau topic create copies --partitions 2
  bateau consume orders --from :end | bateau produce copies --jsonl
  bateau produce orders -k 7 --tombstone";

/// Records that were sent and not acknowledged yet.
const PENDING_MAX: usize = 16 * 1024;

#[derive(Args)]
pub(super) struct ProduceArguments {
    /// Name of the topic
    topic: String,
    /// Values, a record each [default: each line of stdin is one]
    #[arg(value_name = "VALUE")]
    values: Vec<String>,
    /// Read lines from a file
    #[arg(long, value_name = "FILE", conflicts_with = "values")]
    file: Option<PathBuf>,
    /// Each line is a JSON object with key, value, headers, timestamp and partition
    #[arg(long, conflicts_with_all = ["values", "key_separator", "json"])]
    jsonl: bool,
    /// Values must be JSON; anything else is refused before it is sent
    #[arg(long)]
    json: bool,
    /// The key of every record
    #[arg(short, long, value_name = "KEY")]
    key: Option<String>,
    /// A header of every record, as in -H source=shop
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = key_value)]
    headers: Vec<(String, String)>,
    /// What stands between key and value of a line
    #[arg(
        long, value_name = "TEXT", conflicts_with_all = ["values", "key"],
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
    )]
    key_separator: Option<String>,
    /// The partition of every record [default: follows from the key]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Send one record with a null value, which deletes the key where a topic is compacted
    #[arg(long, requires = "key", conflicts_with_all = ["values", "file", "jsonl", "json"])]
    tombstone: bool,
    /// Print no acknowledgements
    #[arg(short, long)]
    quiet: bool,
    /// Read and check everything and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

pub(super) fn run(arguments: &ProduceArguments, output: Output) -> Result<(), Fault> {
    let input = Input::open(arguments)?;
    connect::run(send_all(arguments, input, output))
}

/// Records that are there already, or that come from a thread.
enum Input {
    Given(Vec<Record>),
    Read { parcels: mpsc::Receiver<Result<Parcel, InputError>>, bytes: Option<u64> },
}

impl Input {
    fn open(arguments: &ProduceArguments) -> Result<Self, Fault> {
        let shape = Shape {
            defaults: defaults(arguments),
            json_lines: arguments.jsonl,
            must_be_json: arguments.json,
            key_separator: arguments.key_separator.clone(),
            now: Zoned::now(),
        };
        if arguments.tombstone {
            return Ok(Self::Given(vec![shape.defaults]));
        }
        if !arguments.values.is_empty() {
            let record = |value: &String| shape.record(Bytes::from(value.clone()));
            let records: Result<Vec<_>, LineError> = arguments.values.iter().map(record).collect();
            let records = records.map_err(|error| bad_input("arguments", error.to_string()))?;
            return Ok(Self::Given(records.into_iter().flatten().collect()));
        }
        let file = arguments.file.as_deref();
        let bytes = file.and_then(|file| std::fs::metadata(file).ok()).map(|file| file.len());
        let parcels = source::start(file, shape).map_err(|error| input_fault(&error))?;
        Ok(Self::Read { parcels, bytes })
    }

    /// The next records; `None` at the end.
    ///
    /// Cancel-safe.
    async fn next(&mut self) -> Option<Result<Parcel, InputError>> {
        match self {
            Self::Given(records) => {
                let records = std::mem::take(records);
                (!records.is_empty()).then_some(Ok(Parcel { records, bytes: 0 }))
            }
            Self::Read { parcels, .. } => parcels.recv().await,
        }
    }
}

fn defaults(arguments: &ProduceArguments) -> Record {
    let mut record = Record::default();
    record.key = arguments.key.clone().map(Bytes::from);
    record.partition = arguments.partition;
    let headers = arguments.headers.iter();
    headers.fold(record, |record, (name, value)| record.header(name.clone(), value.clone()))
}

fn bad_input(place: &str, cause: String) -> Fault {
    Fault::of(&BAD_INPUT, place).because(cause)
}

fn input_fault(error: &InputError) -> Fault {
    match error {
        InputError::Read { .. } => {
            let missing = matches!(error, InputError::Read { error, .. }
                if error.kind() == std::io::ErrorKind::NotFound);
            let exit = if missing { Exit::NotFoundOrHeld } else { Exit::Failed };
            Fault::plain(exit, error.to_string())
        }
        InputError::Line { place, line, error } => {
            bad_input(&format!("{place}:{line}"), error.to_string())
        }
        InputError::TooLong { place, line } => {
            bad_input(&format!("{place}:{line}"), error.to_string())
        }
    }
}

async fn send_all(
    arguments: &ProduceArguments,
    mut input: Input,
    output: Output,
) -> Result<(), Fault> {
    let client = arguments.broker.connect().await?;
    let producer = client.producer(&arguments.topic).timeout(arguments.broker.timeout());
    let mut sending = Sending::new(arguments, &input, output)?;
    let mut interrupted = Box::pin(connect::interrupted());
    let mut is_open = true;
    while is_open || !sending.pending.is_empty() {
        let has_room = sending.pending.len() < PENDING_MAX;
        tokio::select! {
            () = &mut interrupted => match is_open {
                true => {
                    is_open = false;
                    interrupted = Box::pin(connect::interrupted());
                }
                // Pressed again: nobody wants to wait any more.
                false => return sending.abandoned(),
            },
            acked = sending.next_ack() => sending.acknowledged(acked).await,
            parcel = input.next(), if is_open && has_room => match parcel {
                None => is_open = false,
                Some(Err(error)) => {
                    sending.fault.get_or_insert(input_fault(&error));
                }
                Some(Ok(parcel)) if arguments.dry_run => sending.checked(&parcel),
                Some(Ok(parcel)) => {
                    for record in parcel.records {
                        match producer.send(record).queued().await {
                            Ok(handle) => sending.pending.push_back(handle),
                            Err(error) => {
                                sending.failed(&error);
                                break;
                            }
                        }
                    }
                    sending.progress.inc(parcel.bytes);
                }
            },
        }
        // What failed once is not gone on with: the rest would be written behind a hole.
        is_open &= sending.fault.is_none();
    }
    let closed = client.close().await;
    if let (Err(error), None) = (closed, &sending.fault) {
        sending.fault = Some(trouble::unsent(&error, &arguments.topic));
    }
    sending.finish()
}

/// What was sent, what came of it, and who is told.
struct Sending<'a> {
    topic: &'a str,
    output: Output,
    /// `None` when nobody wants to see acknowledgements.
    stdout: Option<Stdout>,
    buffer: Vec<u8>,
    pending: VecDeque<SendHandle>,
    progress: ProgressBar,
    written_count: u64,
    checked_count: Option<u64>,
    fault: Option<Fault>,
}

impl<'a> Sending<'a> {
    fn new(arguments: &'a ProduceArguments, input: &Input, output: Output) -> Result<Self, Fault> {
        // People who feed a file want its sum, programs want every acknowledgement.
        let bytes = match input {
            Input::Read { bytes, .. } => *bytes,
            Input::Given(_) => None,
        };
        let quiet = arguments.quiet || (output == Output::Table && bytes.is_some());
        let stdout = (!quiet).then(Stdout::start).transpose();
        let stdout =
            stdout.map_err(|error| Fault::plain(Exit::Failed, format!("stdout: {error}")))?;
        Ok(Self {
            topic: &arguments.topic,
            output,
            stdout,
            buffer: Vec::new(),
            pending: VecDeque::new(),
            progress: progress(bytes),
            written_count: 0,
            checked_count: arguments.dry_run.then_some(0),
            fault: None,
        })
    }

    /// The oldest record's outcome; never, where none is on its way.
    ///
    /// Cancel-safe.
    async fn next_ack(&mut self) -> Result<Ack, SendError> {
        match self.pending.front_mut() {
            Some(handle) => handle.await,
            None => std::future::pending().await,
        }
    }

    /// Tells of an outcome and of all that are there behind it.
    async fn acknowledged(&mut self, first: Result<Ack, SendError>) {
        let mut next = Some(first);
        while let Some(outcome) = next.take() {
            self.pending.pop_front();
            match outcome {
                Ok(ack) => self.tell(&ack),
                Err(error) => self.failed(&error),
            }
            next = self.pending.front_mut().and_then(FutureExt::now_or_never);
        }
        let Some(stdout) = &self.stdout else { return };
        match stdout.write(&mut self.buffer).await {
            Ok(Reader::Listening) => {}
            // Nobody reads the acknowledgements: the records are wanted all the same.
            Ok(Reader::Gone) => self.stdout = None,
            Err(error) => {
                self.stdout = None;
                let fault = Fault::plain(Exit::Failed, format!("stdout: {error}"));
                self.fault.get_or_insert(fault);
            }
        }
    }

    /// Ends with records of which nobody knows what became.
    fn abandoned(mut self) -> Result<(), Fault> {
        let cause = format!("interrupted before {} records were answered", self.pending.len());
        self.fault.get_or_insert(Fault::of(&OUTCOME_UNKNOWN, self.topic).because(cause));
        self.finish()
    }

    fn tell(&mut self, ack: &Ack) {
        self.written_count += 1;
        if self.stdout.is_none() {
            return;
        }
        let Ack { partition, offset, durability, replicas, duplicate, .. } = ack;
        let line = match self.output {
            Output::Json => json!({
                "topic": self.topic, "partition": partition, "offset": offset,
                "durability": durability.as_str(), "replicas": replicas, "duplicate": duplicate,
            })
            .to_string(),
            Output::Table => {
                format!("{}[{partition}]@{offset}  {durability}", escaped(self.topic))
            }
        };
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
    }

    fn failed(&mut self, error: &SendError) {
        if self.fault.is_none() {
            self.fault = Some(trouble::send(error, self.topic));
        }
    }

    fn checked(&mut self, parcel: &Parcel) {
        let count = parcel.records.len() as u64;
        self.checked_count = self.checked_count.map(|before| before + count);
        self.progress.inc(parcel.bytes);
    }

    fn finish(self) -> Result<(), Fault> {
        self.progress.finish_and_clear();
        let (written, topic) = (self.written_count, escaped(self.topic));
        if let Some(count) = self.checked_count {
            eprintln!("{count} records would be written to {topic}");
        } else if std::io::stderr().is_terminal() || (self.fault.is_some() && written > 0) {
            eprintln!("{written} records were written to {topic}");
        }
        self.fault.map_or(Ok(()), Err)
    }
}

/// A bar on a terminal, nothing elsewhere.
///
/// - `bytes`: of the file; `None` where the end is not known.
fn progress(bytes: Option<u64>) -> ProgressBar {
    let Some(bytes) = bytes.filter(|_| std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let bar = ProgressBar::new(bytes);
    let template = "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
