//! What `unsafe-recover` says before anything is done: line by line what is lost.
//!
//! Absent on purpose: doing it.

use super::super::fault::Fault;
use super::super::output::{Output, Rows};
use bateau_core::controller::Metadata;
use bateau_core::shard::{Alone, Left, Survival};
use bateau_log::{LostRange, RecoveredLog};
use bateau_protocol::ids::{Incarnation, Offset};
use serde_json::json;
use std::collections::BTreeMap;

/// One row for each log that was of several nodes, for each range that a damaged log loses, and for
/// each partition that is not here.
pub(super) fn describe(
    survival: &Survival,
    logs: &[RecoveredLog],
    output: Output,
) -> Result<(), Fault> {
    let columns = &["PARTITION", "VOTERS", ">COMMITTED", ">END OFFSET", "WHAT BECOMES OF IT"];
    let mut rows = Rows::new(output, columns);
    let mut names = names(&survival.metadata);
    for log in &survival.logs {
        add(&mut rows, &named(&mut names, log.incarnation), log);
    }
    for closed in &survival.closes {
        let loss = logs.iter().find(|log| log.incarnation == *closed);
        let loss = loss.and_then(|log| log.loss.as_ref());
        let name = named(&mut names, *closed);
        let ranges = loss.map_or(&[][..], |loss| &loss.ranges);
        ranges.iter().for_each(|range| lost(&mut rows, &name, *closed, range));
        if ranges.is_empty() {
            mended(&mut rows, &name);
        }
    }
    for Left { incarnation, reason } in &survival.left {
        stays(&mut rows, &named(&mut names, *incarnation), reason);
    }
    let given_up = |name: &Incarnation| {
        let partition = survival.metadata.partition(*name);
        partition.is_some_and(|one| {
            one.replicas.iter().all(|replica| survival.given_up.contains(&replica.node))
        })
    };
    for (_, name) in names.iter().filter(|(log, _)| given_up(log)) {
        stays(&mut rows, name, "no copy is here: delete its topic, or find a copy");
    }
    rows.print()
}

/// A range of a damaged log.
fn lost(rows: &mut Rows, name: &str, log: Incarnation, range: &LostRange) {
    let (first, last) = (range.first_index, range.last_index);
    let file = format!("partitions/{:016x}/{:016x}.log", log.get(), range.segment.get());
    rows.add(
        || {
            json!({
                "partition": name, "goes_on": true, "lost_first_index": first.get(),
                "lost_last_index": last.get(), "lost_first_offset": range.first_offset.get(),
                "lost_end_offset": range.end_offset.map(Offset::get), "file": file,
                "byte": range.position,
            })
        },
        || {
            let becomes = format!(
                "loses indexes {first} to {last}, {}; {file}, byte {}",
                offsets(range),
                range.position
            );
            vec![name.to_owned(), String::new(), String::new(), String::new(), becomes]
        },
    );
}

/// The offsets of a range, in words.
fn offsets(range: &LostRange) -> String {
    let first = range.first_offset;
    match range.end_offset {
        None => {
            format!("offsets from {first} on, how many is unknown: {} are passed over", u32::MAX)
        }
        Some(end) if end == first => "no offset".to_owned(),
        Some(end) => format!("offsets {first} to {}", end.get() - 1),
    }
}

/// A damaged log of which all entries are there.
fn mended(rows: &mut Rows, name: &str) {
    rows.add(
        || json!({ "partition": name, "goes_on": true, "lost_first_index": null }),
        || {
            let becomes = "is damaged and loses no entry: it is written anew".to_owned();
            vec![name.to_owned(), String::new(), String::new(), String::new(), becomes]
        },
    );
}

fn add(rows: &mut Rows, name: &str, log: &Alone) {
    let voters: Vec<u64> = log.before.voters.iter().map(|one| one.node_id.get()).collect();
    let becomes =
        format!("goes on here; lost is what others acknowledged from {} on", log.end_offset);
    let shown: Vec<String> = voters.iter().map(u64::to_string).collect();
    rows.add(
        || {
            json!({
                "partition": name, "voters": voters, "committed_index": log.commit.get(),
                "end_offset": log.end_offset.get(), "goes_on": true,
            })
        },
        || {
            let (commit, end) = (log.commit.to_string(), log.end_offset.to_string());
            vec![name.to_owned(), shown.join(","), commit, end, becomes.clone()]
        },
    );
}

fn stays(rows: &mut Rows, name: &str, reason: &str) {
    rows.add(
        || json!({ "partition": name, "goes_on": false, "reason": reason }),
        || vec![name.to_owned(), String::new(), String::new(), String::new(), reason.to_owned()],
    );
}

/// What people call each log.
fn names(metadata: &Metadata) -> BTreeMap<Incarnation, String> {
    let topics = metadata.topics().chain(metadata.group_topic());
    let named = topics.flat_map(|topic| {
        let numbered = topic.partitions.iter().enumerate();
        numbered.map(|(number, one)| (one.incarnation, format!("{}/{number}", topic.name)))
    });
    named.chain([(Incarnation::METADATA, "the metadata".to_owned())]).collect()
}

fn named(names: &mut BTreeMap<Incarnation, String>, log: Incarnation) -> String {
    names.remove(&log).unwrap_or_else(|| format!("{:016x}, which was deleted", log.get()))
}
