//! `bateau-client` as an application uses it: one producer, so many records unacknowledged.
//!
//! Absent on purpose: options of the producer. Its defaults are what is measured.

use super::ends::{Door, MTU_BYTES};
use super::replay::Outcome;
use crate::counters::thread_cpu;
use crate::failure::Failure;
use crate::payload::Noise;
use bateau_client::{Client, QuicSettings};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

/// A client of this door, with the datagrams of every measurement. To be called inside of a
/// runtime.
///
/// # Errors
/// It does not connect.
pub async fn connect(door: Door) -> Result<Client, Failure> {
    let quic = QuicSettings { mtu_bytes_max: MTU_BYTES, ..QuicSettings::default() };
    let address = format!("quic://{}?pin={}", door.address, door.pin);
    let connected = Client::builder().address(address).quic(quic).connect().await;
    connected.map_err(|error| failed("connecting", &error))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::quic(format!("client, {what}"), error)
}

/// Sends so many records to a topic, and waits until each is acknowledged.
///
/// - `values`: of the records, over and over.
/// - `inflight`: records that may be unacknowledged.
///
/// # Errors
/// Any record that is not acknowledged.
pub async fn send(
    client: &Client,
    topic: &str,
    values: &[Bytes],
    records: u64,
    inflight: usize,
) -> Result<Outcome, Failure> {
    let producer = client.producer(topic);
    // Topic and producer id are learnt before the clock starts.
    producer.ready().await.map_err(|error| failed("waiting for its topic", &error))?;
    let mut waiting = VecDeque::with_capacity(inflight);
    let mut values = values.iter().cycle();
    let (start, before) = (Instant::now(), thread_cpu()?);
    let mut sent = 0;
    while sent < records || !waiting.is_empty() {
        while sent < records && waiting.len() < inflight {
            let value = values.next().cloned().unwrap_or_default();
            waiting.push_back(producer.send(value));
            sent += 1;
        }
        // The records of a batch are acknowledged together.
        if let Some(oldest) = waiting.pop_front() {
            oldest.await.map_err(|error| failed("sending", &error))?;
        }
        while waiting.front().is_some_and(bateau_client::SendHandle::is_done) {
            if let Some(done) = waiting.pop_front() {
                done.await.map_err(|error| failed("sending", &error))?;
            }
        }
    }
    let loader_cpu = thread_cpu()?.saturating_sub(before);
    let outcome = Outcome { wall: start.elapsed(), loader_cpu };
    producer.close().await.map_err(|error| failed("closing", &error))?;
    Ok(outcome)
}

/// Sends one record to a topic that does not exist yet, and waits for its acknowledgement.
///
/// # Errors
/// As [`send`].
pub async fn first_ack(client: &Client) -> Result<(), Failure> {
    let value = Noise::new(2).bytes(1_024);
    let sent = client.producer("first-light").send(value).await;
    sent.map(drop).map_err(|error| failed("sending the first record", &error))
}

/// Sends one record, waits for its acknowledgement, and again; the times in nanoseconds, sorted.
///
/// # Errors
/// As [`send`].
pub async fn round_trips(
    client: &Client,
    topic: &str,
    value: &Bytes,
    count: usize,
) -> Result<Vec<u64>, Failure> {
    let producer = client.producer(topic);
    producer.ready().await.map_err(|error| failed("waiting for its topic", &error))?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        producer.send(value.clone()).await.map_err(|error| failed("sending", &error))?;
        samples.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    producer.close().await.map_err(|error| failed("closing", &error))?;
    samples.sort_unstable();
    Ok(samples)
}
