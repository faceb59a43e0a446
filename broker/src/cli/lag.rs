//! `bateau lag`: how far each group is behind, by topic.
//!
//! Lag is the end of the log minus the committed offset, in records. A partition without a commit
//! has none: its consumer may begin anywhere.
//!
//! Absent on purpose: lag in seconds, which takes the timestamps of what was not read.

use super::connect::{self, BrokerArguments};
use super::fault::Fault;
use super::output::{Output, Rows};
use super::topic::number;
use super::trouble;
use bateau_client::AdminError;
use bateau_client::admin::{GroupDescription, PartitionLag};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau lag
  bateau lag billing
  bateau lag -o table";

#[derive(Args)]
pub(super) struct LagArguments {
    /// Groups [default: all]
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

/// A group in a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
struct TopicLag {
    topic: String,
    /// Sum over the partitions with a commit; `None` when none has one.
    lag: Option<i64>,
    /// The partition that is furthest behind, and how far.
    slowest: Option<(i32, i64)>,
}

/// Adds positions up by topic, in the order of the names.
fn by_topic(positions: &[PartitionLag]) -> Vec<TopicLag> {
    let mut topics: BTreeMap<&str, TopicLag> = BTreeMap::new();
    for position in positions {
        let topic = position.topic.clone();
        let entry =
            topics.entry(&position.topic).or_insert(TopicLag { topic, lag: None, slowest: None });
        let Some(lag) = position.lag() else { continue };
        entry.lag = Some(entry.lag.unwrap_or(0).saturating_add(lag));
        if lag > entry.slowest.map_or(0, |(_, most)| most) {
            entry.slowest = Some((position.partition, lag));
        }
    }
    topics.into_values().collect()
}

pub(super) fn run(arguments: &LagArguments, output: Output) -> Result<(), Fault> {
    connect::run(show(arguments, output))
}

async fn show(arguments: &LagArguments, output: Output) -> Result<(), Fault> {
    let admin = arguments.broker.connect().await?.admin();
    let mut groups = arguments.groups.clone();
    let all = groups.is_empty();
    if all {
        let listed = admin.list_groups().await;
        let listed = listed.map_err(|error| trouble::admin(&error, "groups"))?;
        groups = listed.into_iter().map(|group| group.group).collect();
    }
    let columns = &["GROUP", "TOPIC", ">LAG", ">MEMBERS", "STATE", "SLOWEST PARTITION"];
    let mut rows = Rows::new(output, columns);
    let mut faults = Vec::new();
    for group in &groups {
        match admin.describe_group(group).await {
            Ok(found) => add(&mut rows, &found),
            // One that was listed a moment ago may have gone since.
            Err(AdminError::NotFound { .. }) if all => {}
            Err(error) => faults.push(trouble::group(&error, group)),
        }
    }
    rows.print()?;
    Fault::several(faults)
}

fn add(rows: &mut Rows, group: &GroupDescription) {
    let (name, state, members) = (&group.group, &group.state, group.members.len());
    for TopicLag { topic, lag, slowest } in by_topic(&group.lags) {
        rows.add(
            || {
                json!({
                    "group": name, "topic": topic, "lag": lag, "members": members, "state": state,
                    "slowest_partition": slowest.map(|(partition, _)| partition),
                    "slowest_lag": slowest.map(|(_, lag)| lag),
                })
            },
            || {
                let slowest = slowest.map(|(partition, lag)| format!("{partition} ({lag})"));
                let state = state_in_words(state);
                let (lag, members) = (number(lag), members.to_string());
                vec![name.clone(), topic.clone(), lag, members, state, number(slowest)]
            },
        );
    }
}

/// `PreparingRebalance` as people say it.
pub(super) fn state_in_words(state: &str) -> String {
    let mut words = String::new();
    for letter in state.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_words() {
        assert_eq!(state_in_words("PreparingRebalance"), "preparing rebalance");
        assert_eq!(state_in_words("Stable"), "stable");
    }
}
