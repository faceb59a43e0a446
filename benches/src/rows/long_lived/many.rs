//! Thousands of partitions: made, given a record each, and looked at until all are led.
//!
//! Absent on purpose: loads. What they cost is being there.

use crate::client::{Client, PRODUCE_VERSION};
use crate::cluster::Cluster;
use crate::failure::{Failure, accepted};
use crate::payload::{Noise, Shape, produce_request};
use crate::placement::Led;
use crate::rows::Context;
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::{ErrorCode, decode_response};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// On three nodes each.
pub(super) const PARTITIONS: u64 = 3_000;
/// Partitions of a topic, at most.
const PARTITIONS_EACH: u64 = 100;
/// Records in flight of what gives each partition one.
const INFLIGHT: usize = 16;
/// Between two looks at the leaders.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// What is not so after that will not be so.
const LOOK_MAX: Duration = Duration::from_secs(120);

/// Makes topics and gives each partition a record.
pub(super) fn fill(context: &Context, cluster: &Cluster, partitions: u64) -> Result<(), Failure> {
    let mut client = Client::connect(cluster.address(0)?)?;
    let mut left = partitions;
    while left > 0 {
        let count = left.min(PARTITIONS_EACH);
        let name = context.topic("idle");
        client.create_replicated(&name, i32::try_from(count).unwrap_or(i32::MAX), 3, &[])?;
        left -= count;
    }
    let all = client.all_partitions()?;
    if all.len() as u64 != partitions {
        return Err(Failure::unexpected("partitions", all.len(), partitions));
    }
    until_taken(&mut client, all).map(|_| ())
}

/// Of all partitions, those that are among some.
pub(super) fn same(some: &[Led], mut all: Vec<Led>) -> Vec<Led> {
    let names: BTreeSet<(&str, i32)> =
        some.iter().map(|one| (one.topic.as_str(), one.partition)).collect();
    all.retain(|one| names.contains(&(one.topic.as_str(), one.partition)));
    all
}

/// Gives each of these partitions a record, looking for its leader anew where it is refused, as
/// every client does; how often that was.
pub(super) fn until_taken(client: &mut Client, mut left: Vec<Led>) -> Result<usize, Failure> {
    let deadline = Instant::now() + LOOK_MAX;
    let mut refusals = 0;
    loop {
        let refused = offer(&left)?;
        if refused.is_empty() {
            return Ok(refusals);
        }
        refusals += refused.len();
        if Instant::now() > deadline {
            let what = format!("partitions that refuse records after {LOOK_MAX:?}");
            return Err(Failure::unexpected(what, refused.len(), 0));
        }
        std::thread::sleep(LOOK_PAUSE);
        left = same(&refused, client.all_partitions()?);
    }
}

/// Gives each of these partitions a record, at whoever leads it by the newest look; those that were
/// refused, because that was another one.
fn offer(partitions: &[Led]) -> Result<Vec<Led>, Failure> {
    let batch = Shape::SINGLE.batch(&mut Noise::new(29))?;
    let mut by_leader: BTreeMap<SocketAddr, Vec<&Led>> = BTreeMap::new();
    let mut refused = Vec::new();
    for one in partitions {
        match one.leader {
            Some((_, address)) => by_leader.entry(address).or_default().push(one),
            None => refused.push(one.clone()),
        }
    }
    for (address, led) in by_leader {
        let mut client = Client::connect(address)?;
        for some in led.chunks(INFLIGHT) {
            let request = |one: &&Led| produce_request(&one.topic, one.partition, batch.clone());
            let requests: Result<Vec<_>, _> = some.iter().map(request).collect();
            let answers = client.call_all(&requests?, "Produce")?;
            for (one, answer) in some.iter().zip(answers) {
                if !is_taken(one, answer)? {
                    refused.push((*one).clone());
                }
            }
        }
    }
    Ok(refused)
}

/// Whether a record was taken; `false` where another node has to be asked.
fn is_taken(one: &Led, answer: Bytes) -> Result<bool, Failure> {
    let (_, answer) = decode_response::<ProduceResponse>(answer, PRODUCE_VERSION)?;
    let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    let Led { topic, partition, .. } = one;
    let code = partitions.next().map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |one| one.error_code);
    if code == ErrorCode::NOT_LEADER_OR_FOLLOWER {
        return Ok(false);
    }
    accepted(code, || format!("a record for {topic} {partition}")).map(|()| true)
}

/// Looks at all partitions until none of them is so.
pub(super) fn until(
    client: &mut Client,
    what: &str,
    is_so: impl Fn(&Led) -> bool,
) -> Result<Vec<Led>, Failure> {
    let deadline = Instant::now() + LOOK_MAX;
    loop {
        let all = client.all_partitions()?;
        let count = all.iter().filter(|one| is_so(one)).count();
        if count == 0 {
            return Ok(all);
        }
        if Instant::now() > deadline {
            return Err(Failure::unexpected(format!("{what} after {LOOK_MAX:?}"), count, 0));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}
