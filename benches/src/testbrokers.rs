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
use std::time::Instant;

/// The door through which the first record comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Through {
    /// With `bateau-client`.
    Native,
    /// With the blocking client of the benches.
    Kafka,
}

/// What the process holds between two brokers.
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

    fn json(&self) -> Value {
        json!({
            "descriptors": self.descriptors,
            "threads": self.threads,
            "resident_bytes": self.resident_bytes,
        })
    }
}

/// Milliseconds from the start of a broker to its first acknowledgement; it is dropped then.
fn one(through: Through) -> Result<f64, Failure> {
    let start = Instant::now();
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::Process {
        what: format!("TestBroker, {what}"),
        said: error.to_string(),
    };
    run(async {
        let broker = TestBroker::start().await.map_err(|error| failed("starting", &error))?;
        let took = match through {
            Through::Native => {
                let client = broker.client().await.map_err(|error| failed("client", &error))?;
                first_ack(&client).await?;
                let took = start.elapsed();
                client.close().await.map_err(|error| failed("closing its client", &error))?;
                took
            }
            Through::Kafka => {
                let address = broker.kafka_bootstrap();
                let parsed = address.parse().map_err(|error| failed(&address, &error))?;
                // It blocks this thread; the broker has its own.
                client::first_ack(parsed)?;
                start.elapsed()
            }
        };
        Ok(took.as_secs_f64() * 1e3)
    })
}

/// Starts a broker, has a record acknowledged, drops it, and again.
///
/// The answer has `ms` of each until its acknowledgement, `total_ms` with what dropping takes, and
/// what the process held after the first tenth (`early`) and at the end (`late`).
///
/// # Errors
/// Any broker that does not start or does not acknowledge.
pub fn series(count: usize, through: Through) -> Result<Value, Failure> {
    let tenth = count.div_ceil(10);
    let (mut times, mut early) = (Vec::with_capacity(count), None);
    let began = Instant::now();
    for number in 1..=count {
        times.push(one(through)?);
        if number == tenth {
            early = Some(Held::now()?);
        }
    }
    let total_ms = began.elapsed().as_secs_f64() * 1e3;
    let late = Held::now()?;
    let early = early.unwrap_or(late);
    Ok(json!({"ms": times, "total_ms": total_ms, "early": early.json(), "late": late.json()}))
}
