//! What a test broker costs: start to first acknowledged record, and many starts in a row.
//!
//! `cargo run --release -p bateau-testing --example starts [COUNT]`
//!
//! Absent on purpose: comparison with anything; the figures are bounds of their own.

use bateau::api::{ProduceRequest, TopicReference};
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bateau_testing::TestBroker;
use std::time::{Duration, Instant};

fn entries(path: &str) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn held() -> String {
    let (threads, descriptors) = (entries("/proc/self/task"), entries("/proc/self/fd"));
    format!("{threads} threads, {descriptors} descriptors, {} KiB resident", resident_kib())
}

async fn first_record(broker: &TestBroker) -> Option<u64> {
    let mut batch = BatchBuilder::new();
    batch.push(&NewRecord { value: Some(b"one"), ..NewRecord::default() }).ok()?;
    let request = ProduceRequest {
        topic: &TopicReference::Name("orders".to_owned()),
        partition: 0,
        records: batch.build().ok()?,
        wants_ack: true,
        timeout: Duration::from_secs(10),
        zstd_allowed: true,
    };
    let ack = broker.engine()?.produce(request).await.wait().await?;
    ack.ok().map(|ack| ack.base_offset.get())
}

async fn measure(count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut took = Vec::with_capacity(count);
    let (mut started, mut stopped) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for number in 0..count {
        let start = Instant::now();
        let broker = TestBroker::start().await?;
        started.push(start.elapsed());
        broker.seed_topic("orders", 1).await?;
        first_record(&broker).await.ok_or("no ack")?;
        took.push(start.elapsed());
        let stop = Instant::now();
        drop(broker);
        stopped.push(stop.elapsed());
        if number == count / 10 || number + 1 == count {
            println!("after {:>5}: {}", number + 1, held());
        }
    }
    println!("{count} brokers in {:.2?}", begun.elapsed());
    let columns = [("start", &mut started), ("to first ack", &mut took), ("drop", &mut stopped)];
    for (name, times) in columns {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied();
        println!("{name:<13} p50 {:.2?}  p99 {:.2?}", at(50).ok_or("none")?, at(99).ok_or("none")?);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(count))
}
