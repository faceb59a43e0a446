//! TestBrokers, one after the other in one process: how soon each acknowledges a record, and what
//! they leave behind.
//!
//! It runs in a child, so that nothing else is in the process, and so that the same command of a
//! build with the debug profile can be asked too.
//!
//! Absent on purpose: verdicts. They are the rows'.

use crate::client;
use crate::counters::memory;
use crate::failure::{Failure, Tried};
use crate::native::client::first_ack;
use crate::native::run;
use bateau_testing::TestBroker;
use clap::ValueEnum;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What is done with each broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Through {
    /// It is dropped as soon as it is there.
    Nothing,
    /// `bateau-client` has a record acknowledged first.
    Native,
    /// The blocking client of the benches does.
    Kafka,
}

/// The most that the process held between two brokers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident_bytes: u64,
}

impl Held {
    fn now() -> Result<Self, Failure> {
        let count = |directory: &str| {
            let entries = std::fs::read_dir(directory).tried(|| directory.to_owned())?;
            Ok::<_, Failure>(entries.count())
        };
        let resident_bytes = memory(std::process::id())?.resident;
        let (descriptors, threads) = (count("/proc/self/fd")?, count("/proc/self/task")?);
        Ok(Self { descriptors, threads, resident_bytes })
    }

    /// The larger figure of each.
    fn max(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            resident_bytes: self.resident_bytes.max(other.resident_bytes),
        }
    }

    fn json(&self) -> Value {
        json!({
            "descriptors": self.descriptors,
            "threads": self.threads,
            "resident_bytes": self.resident_bytes,
        })
    }
}

/// When things were done, counted from just before the start of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Times {
    started: Duration,
    connected: Duration,
    acknowledged: Duration,
    closed: Duration,
    dropped: Duration,
}

/// One broker, from its start until it has been dropped.
fn one(through: Through) -> Result<Times, Failure> {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::Process {
        what: format!("TestBroker, {what}"),
        said: error.to_string(),
    };
    run(async {
        let (start, mut times) = (Instant::now(), Times::default());
        let broker = TestBroker::start().await.map_err(|error| failed("starting", &error))?;
        times.started = start.elapsed();
        match through {
            Through::Nothing => {}
            Through::Native => {
                let client = broker.client().await.map_err(|error| failed("client", &error))?;
                times.connected = start.elapsed();
                first_ack(&client).await?;
                times.acknowledged = start.elapsed();
                client.close().await.map_err(|error| failed("closing its client", &error))?;
            }
            Through::Kafka => {
                let address = broker.kafka_bootstrap();
                let parsed = address.parse().map_err(|error| failed(&address, &error))?;
                // It blocks this thread; the broker has its own.
                client::first_ack(parsed)?;
                times.acknowledged = start.elapsed();
            }
        }
        times.closed = start.elapsed();
        drop(broker);
        times.dropped = start.elapsed();
        Ok(times)
    })
}

/// Starts a broker, does something with it, drops it, and again.
///
/// The answer has the milliseconds of each, from its start until it was `started`, until its client
/// was `connected` (0 where that is not known), until the record was `acknowledged`, until the
/// client was `closed`, and until the broker was `dropped`; `total_ms` of all; and the most that
/// the process held between brokers of the first half (`early`) and of the second (`late`). The
/// most, because an allocator keeps freed memory for a while, or not.
///
/// # Errors
/// Any broker that does not start or does not acknowledge.
pub fn series(count: usize, through: Through) -> Result<Value, Failure> {
    let (mut times, mut halves) = (Vec::with_capacity(count), [Held::now()?; 2]);
    let began = Instant::now();
    for number in 1..=count {
        times.push(one(through)?);
        let [early, late] = &mut halves;
        let half = if number <= count.div_ceil(2) { early } else { late };
        *half = half.max(Held::now()?);
    }
    let total_ms = began.elapsed().as_secs_f64() * 1e3;
    let [early, late] = halves;
    let each = |of: fn(&Times) -> Duration| -> Vec<f64> {
        times.iter().map(|times| of(times).as_secs_f64() * 1e3).collect()
    };
    Ok(json!({
        "started": each(|times| times.started),
        "connected": each(|times| times.connected),
        "acknowledged": each(|times| times.acknowledged),
        "closed": each(|times| times.closed),
        "dropped": each(|times| times.dropped),
        "total_ms": total_ms,
        "early": early.json(),
        "late": late.json(),
    }))
}
