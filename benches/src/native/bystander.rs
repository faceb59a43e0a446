//! One producer and one subscriber at a fixed rate, over the native protocol: what a well-behaved
//! client notices.
//!
//! Open loop, as in [`crate::bystander`]: a record is stamped with the time at which it was to be
//! sent. A thread keeps the pace, because the runtime's timers count whole milliseconds.
//!
//! Absent on purpose: the client library. What it adds is other rows' business.

use super::ends::Door;
use super::peer::{Peer, Stream};
use super::replay::{Encoded, check, produce_frames};
use super::run as run_here;
use crate::bystander::Outcome;
use crate::failure::Failure;
use crate::payload::{Noise, Shape};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{Credit, Records, Reply, StreamRole, VERSION_MAX};
use bateau_protocol::record::Batches;
use quinn::SendStream;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Credit that the subscriber has outstanding at most.
const CREDIT_BYTES: u64 = 4 * 1024 * 1024;

/// It renews its credit when so much of it is used.
const RENEWAL_BYTES: u64 = 1024 * 1024;

/// What the bystander does, with partition 0 of a topic that is its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Whose.
    pub door: Door,
    /// Which topic.
    pub topic_id: TopicId,
    /// Where its partition ends now.
    pub offset: i64,
    /// Records in all.
    pub records: u32,
    /// Time from one to the next.
    pub interval: Duration,
}

/// Produces and subscribes at the plan's pace.
///
/// # Errors
/// Any error that a user would see.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    run_here(async {
        let producer = Peer::connect(plan.door).await?;
        let consumer = Peer::connect(plan.door).await?;
        let Stream { mut send, mut frames, .. } = producer.open(StreamRole::Data).await?;
        let mut bulk = consumer.open(StreamRole::Bulk).await?;
        let batch = Shape::SINGLE.batch(&mut Noise::new(11))?;
        let request = produce_frames(plan.topic_id, [(batch, 1)])?.pop();
        let request = request.ok_or_else(|| Failure::unexpected("requests", 0, 1))?;
        let subscription = bulk.subscribe(plan.topic_id, plan.offset, CREDIT_BYTES).await?;
        // The first record is due when everybody has had time to start.
        let start = Instant::now() + Duration::from_millis(20);
        let due = pace(*plan, start);
        let acknowledged = async {
            let mut samples = Vec::with_capacity(plan.records as usize);
            for number in 0..plan.records {
                check(frames.next().await?, 0)?;
                samples.push(plan.late_us(start, number));
            }
            Ok(samples)
        };
        let (_, acknowledged, delivered) = tokio::try_join!(
            produce(due, &mut send, &request),
            acknowledged,
            plan.consume(&mut bulk, subscription, start)
        )?;
        producer.close().await;
        consumer.close().await;
        Ok(Outcome::of(acknowledged, delivered))
    })
}

/// Says when each record is due. The channel holds all of them, so the pace is never held up.
fn pace(plan: Plan, start: Instant) -> mpsc::Receiver<()> {
    let (tell, told) = mpsc::channel(plan.records.max(1) as usize);
    std::thread::spawn(move || {
        for number in 0..plan.records {
            let due = start + plan.interval * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if tell.blocking_send(()).is_err() {
                return;
            }
        }
    });
    told
}

async fn produce(
    mut due: mpsc::Receiver<()>,
    stream: &mut SendStream,
    request: &Encoded,
) -> Result<(), Failure> {
    while due.recv().await.is_some() {
        let written = stream.write_chunk(request.frame.clone()).await;
        written.map_err(|error| Failure::quic("bystander, producing", error))?;
    }
    Ok(())
}

impl Plan {
    /// Microseconds between the time that a record was due and now.
    fn late_us(&self, start: Instant, number: u32) -> u64 {
        let due = start + self.interval * number;
        u64::try_from(Instant::now().saturating_duration_since(due).as_micros()).unwrap_or(u64::MAX)
    }

    async fn consume(
        &self,
        bulk: &mut Stream,
        subscription: u32,
        start: Instant,
    ) -> Result<Vec<u64>, Failure> {
        let mut samples = Vec::with_capacity(self.records as usize);
        let (mut number, mut taken_bytes, mut granted_bytes) = (0, 0, CREDIT_BYTES);
        while number < self.records {
            let reply = Reply::decode(bulk.frames.next().await?, VERSION_MAX)?;
            let Reply::Records(Records { records, .. }) = reply else {
                return Err(Failure::unexpected("bystander", format!("{reply:?}"), "records"));
            };
            taken_bytes += records.len() as u64;
            for batch in Batches::new(records.to_bytes()) {
                let found = batch?.header().base_offset;
                let expected = self.offset + i64::from(number);
                if found != expected {
                    return Err(Failure::unexpected("bystander, offset", found, expected));
                }
                samples.push(self.late_us(start, number));
                number += 1;
            }
            if taken_bytes + CREDIT_BYTES >= granted_bytes + RENEWAL_BYTES {
                granted_bytes = taken_bytes + CREDIT_BYTES;
                bulk.tell_as(subscription, Credit { credit_bytes: granted_bytes }).await?;
            }
        }
        Ok(samples)
    }
}
