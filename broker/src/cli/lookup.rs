//! What the partitions of a topic hold, and where the places of a range are in them.
//!
//! Absent on purpose: one moment for all of it. Records come while it is looked up; each answer is
//! right for its own moment, and an end never lies before its start.

use super::fault::Fault;
use super::offsets::{Bounds, Range};
use super::topic;
use bateau_client::Admin;
use bateau_client::admin::{OffsetAt, OffsetFound};
use std::collections::BTreeMap;

/// A partition, as far as a range needs to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// What is in it now.
    pub(super) bounds: Bounds,
    /// The first offset at or after the moment where the range begins.
    pub(super) from_found: Option<u64>,
    /// The first offset at or after the moment where the range ends.
    pub(super) until_found: Option<u64>,
}

/// Looks at these partitions of a topic, or at all of them when none is named.
pub(super) async fn extents(
    admin: &Admin,
    topic: &str,
    partitions: &[i32],
    range: Range,
) -> Result<BTreeMap<i32, Extent>, Fault> {
    let starts = offsets(admin, topic, partitions, OffsetAt::Start).await?;
    let ends = offsets(admin, topic, partitions, OffsetAt::End).await?;
    let mut found = BTreeMap::new();
    for (partition, start) in starts {
        let start = start.unwrap_or(0);
        let end = ends.get(&partition).copied().flatten().unwrap_or(0).max(start);
        let bounds = Bounds { start, end };
        found.insert(partition, Extent { bounds, from_found: None, until_found: None });
    }
    if let Some(time_ms) = range.from.time_ms() {
        for (partition, offset) in offsets(admin, topic, partitions, at(time_ms)).await? {
            if let Some(extent) = found.get_mut(&partition) {
                extent.from_found = offset;
            }
        }
    }
    if let Some(time_ms) = range.until.and_then(|until| until.time_ms()) {
        for (partition, offset) in offsets(admin, topic, partitions, at(time_ms)).await? {
            if let Some(extent) = found.get_mut(&partition) {
                extent.until_found = offset;
            }
        }
    }
    Ok(found)
}

const fn at(time_ms: i64) -> OffsetAt {
    OffsetAt::Time(time_ms)
}

async fn offsets(
    admin: &Admin,
    topic: &str,
    partitions: &[i32],
    at: OffsetAt,
) -> Result<BTreeMap<i32, Option<u64>>, Fault> {
    let found = match partitions {
        [] => admin.offsets(topic, at).await,
        some => admin.offsets_of(topic, some.iter().map(|partition| (*partition, at))).await,
    };
    let number = |found: &OffsetFound| found.offset.and_then(|offset| u64::try_from(offset).ok());
    match found {
        Ok(found) => Ok(found.iter().map(|one| (one.partition, number(one))).collect()),
        Err(error) => Err(topic::missing(admin, topic, &error).await),
    }
}
