//! TestBrokers, one after the other in one process: how soon each acknowledges a record, and what
//! they leave behind.
//!
//! It runs in a child, so that nothing else is in the process, and so that the same command of a
//! build with the debug profile can be asked too.
//!
//! Absent on purpose: verdicts. They are the rows'.

use crate::client::first_ack;
use crate::counters::memory;
use crate::failure::{Failure, Tried};
use crate::native::run;
use bateau_testing::TestBroker;
use serde_json::{Value, json};
use std::time::Instant;

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

/// Starts a broker, has a record acknowledged, drops it, and again.
///
/// The answer has `ms` of each until its acknowledgement, `total_ms` with what dropping takes, and
/// what the process held after the first tenth (`early`) and at the end (`late`).
///
/// # Errors
/// Any broker that does not start or does not acknowledge.
pub fn series(count: usize) -> Result<Value, Failure> {
    let tenth = count.div_ceil(10);
    let (mut times, mut early) = (Vec::with_capacity(count), None);
    let began = Instant::now();
    for number in 1..=count {
        let start = Instant::now();
        let broker = run(async {
            TestBroker::start().await.map_err(|error| Failure::Process {
                what: "starting a TestBroker".to_owned(),
                said: error.to_string(),
            })
        })?;
        let address = broker.kafka_bootstrap();
        let parsed = address.parse().map_err(|_| {
            Failure::unexpected("address of a TestBroker", &address, "host and port")
        })?;
        first_ack(parsed)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        drop(broker);
        if number == tenth {
            early = Some(Held::now()?);
        }
    }
    let total_ms = began.elapsed().as_secs_f64() * 1e3;
    let late = Held::now()?;
    let early = early.unwrap_or(late);
    Ok(json!({"ms": times, "total_ms": total_ms, "early": early.json(), "late": late.json()}))
}
