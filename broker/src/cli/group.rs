//! `bateau group list|describe|seek|delete`.
//!
//! A position can only be moved while nobody is in the group: a running member would overwrite it
//! at its next commit. `seek` shows what it changes, with `--dry-run` before it does.
//!
//! Absent on purpose: throwing members out. They end by themselves, or their session does.

use super::codes::{GROUP_IN_USE, UNKNOWN_GROUP};
use super::confirm::Asking;
use super::connect::{self, BrokerArguments};
use super::fault::{Fault, escaped};
use super::lag::state_in_words;
use super::lookup::{self, Extent};
use super::offsets::{Place, Range};
use super::output::{Output, Rows, print};
use super::topic::number;
use super::trouble;
use bateau_client::admin::{GroupDescription, GroupMember, GroupPosition, PartitionLag};
use bateau_client::{Admin, AdminError};
use clap::{Args, Subcommand};
use jiff::Zoned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const LIST: &str = "\
Examples:
  bateau group list
  bateau group list -o table";

pub(super) const DESCRIBE: &str = "\
Examples:
  bateau group describe billing
  bateau group describe billing -o table";

pub(super) const SEEK: &str = "\
Examples:
  bateau group seek billing --to start --dry-run
  bateau group seek billing --to @-1h
  bateau group seek billing --topic orders --partition 0 --to -10
  bateau group seek audit --topic orders --to end";

pub(super) const DELETE: &str = "\
Examples:
  bateau group delete billing --dry-run
  bateau group delete billing --yes";

#[derive(Subcommand)]
pub(super) enum GroupCommand {
    /// List groups
    #[command(before_help = LIST)]
    List(ListArguments),
    /// Show members, positions and lag of groups
    #[command(before_help = DESCRIBE)]
    Describe(DescribeArguments),
    /// Move a group that has no members to another place
    #[command(before_help = SEEK)]
    Seek(SeekArguments),
    /// Delete groups with their positions
    #[command(before_help = DELETE)]
    Delete(DeleteArguments),
}

#[derive(Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct DescribeArguments {
    /// Names of the groups
    #[arg(required = true, value_name = "GROUP")]
    names: Vec<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct SeekArguments {
    /// Name of the group
    #[arg(value_name = "GROUP")]
    name: String,
    /// Where to: start, end, +n, -n, n, or @t with a moment such as @-1h, @10:15, @yesterday
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: String,
    /// Topics [default: those in which the group has a position]
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Partitions [default: all]
    #[arg(
        short, long = "partition", value_name = "N", requires = "topics",
        value_parser = clap::value_parser!(i32).range(0..),
    )]
    partitions: Vec<i32>,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct DeleteArguments {
    /// Names of the groups
    #[arg(required = true, value_name = "GROUP")]
    names: Vec<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

pub(super) fn run(command: &GroupCommand, output: Output) -> Result<(), Fault> {
    match command {
        GroupCommand::List(arguments) => connect::run(list(arguments, output)),
        GroupCommand::Describe(arguments) => connect::run(describe(arguments, output)),
        GroupCommand::Seek(arguments) => {
            let to = Place::parse(&arguments.to, &Zoned::now());
            let to = to.map_err(|error| Fault::usage(format!("--to {error}")))?;
            connect::run(seek(arguments, to, output))
        }
        GroupCommand::Delete(arguments) => {
            let asking = Asking::new(arguments.yes || arguments.dry_run);
            arguments.names.iter().try_for_each(|name| asking.confirm("delete", name))?;
            connect::run(delete(arguments, output))
        }
    }
}

async fn list(arguments: &ListArguments, output: Output) -> Result<(), Fault> {
    let admin = arguments.broker.connect().await?.admin();
    let groups = admin.list_groups().await.map_err(|error| trouble::admin(&error, "groups"))?;
    let mut rows = Rows::new(output, &["GROUP", "STATE", "TYPE"]);
    for found in groups {
        let (group, state, kind) = (&found.group, &found.state, &found.protocol_type);
        rows.add(
            || json!({ "group": group, "state": state, "protocol_type": kind }),
            || {
                let kind = if kind.is_empty() { "-" } else { kind };
                vec![group.clone(), state_in_words(state), kind.to_owned()]
            },
        );
    }
    rows.print()
}

async fn describe(arguments: &DescribeArguments, output: Output) -> Result<(), Fault> {
    let admin = arguments.broker.connect().await?.admin();
    let mut faults = Vec::new();
    for (place, name) in arguments.names.iter().enumerate() {
        match admin.describe_group(name).await {
            Ok(group) if output == Output::Json => print(&format!("{}\n", object(&group)))?,
            Ok(group) => {
                let gap = if place == 0 { "" } else { "\n" };
                print(&format!("{gap}{}", page(&group)))?;
            }
            Err(error) => faults.push(trouble::group(&error, name)),
        }
    }
    Fault::several(faults)
}

fn object(group: &GroupDescription) -> Value {
    let member = |member: &GroupMember| {
        let subscription = member.subscription.as_ref();
        let partition =
            |(topic, partition): &(String, i32)| json!({ "topic": topic, "partition": partition });
        let assigned = subscription.map(|found| found.partitions.iter().map(partition).collect());
        let assigned: Option<Vec<Value>> = assigned;
        json!({
            "member_id": member.member_id, "instance_id": member.instance_id,
            "client_id": member.client_id, "host": member.client_host,
            "topics": subscription.map(|found| &found.topics), "partitions": assigned,
        })
    };
    let position = |lag: &PartitionLag| {
        json!({
            "topic": lag.topic, "partition": lag.partition, "committed": lag.committed,
            "log_start": lag.log_start, "log_end": lag.high_watermark, "lag": lag.lag(),
        })
    };
    let members: Vec<Value> = group.members.iter().map(member).collect();
    let positions: Vec<Value> = group.lags.iter().map(position).collect();
    json!({
        "group": group.group, "state": group.state, "protocol_type": group.protocol_type,
        "assignor": group.assignor, "generation": group.generation, "lag": group.lag(),
        "members": members, "positions": positions,
    })
}

/// A line, the positions, then the members.
fn page(group: &GroupDescription) -> String {
    let columns = &["TOPIC", ">PARTITION", ">COMMITTED", ">END", ">LAG"];
    let mut positions = Rows::new(Output::Table, columns);
    for one in &group.lags {
        let cells = || {
            let numbers = [one.committed, one.high_watermark, one.lag()].map(number);
            [vec![one.topic.clone(), one.partition.to_string()], numbers.to_vec()].concat()
        };
        positions.add(|| Value::Null, cells);
    }
    let mut members = Rows::new(Output::Table, &["MEMBER", "CLIENT", "HOST", "PARTITIONS"]);
    for member in &group.members {
        let assigned = member.subscription.as_ref().map(|found| {
            let name = |(topic, partition): &(String, i32)| format!("{topic}[{partition}]");
            found.partitions.iter().map(name).collect::<Vec<_>>().join(" ")
        });
        let cells = || {
            let (id, client) = (member.member_id.clone(), member.client_id.clone());
            vec![id, client, member.client_host.clone(), number(assigned)]
        };
        members.add(|| Value::Null, cells);
    }
    let (positions, members) = (positions.text(), members.text());
    let gap = if members.is_empty() { "" } else { "\n" };
    let assignor = if group.assignor.is_empty() { "-" } else { &group.assignor };
    let line = format!(
        "{}  {}  assignor {assignor}  generation {}  lag {}",
        group.group,
        state_in_words(&group.state),
        group.generation,
        group.lag(),
    );
    format!("{}\n{positions}{gap}{members}", escaped(&line))
}

async fn seek(arguments: &SeekArguments, to: Place, output: Output) -> Result<(), Fault> {
    let SeekArguments { name, topics, partitions, dry_run, broker, .. } = arguments;
    let admin = broker.connect().await?.admin();
    let before = positions_of(&admin, name).await?;
    let mut topics: BTreeSet<String> = topics.iter().cloned().collect();
    if topics.is_empty() {
        topics = before.keys().map(|(topic, _)| topic.clone()).collect();
    }
    if topics.is_empty() {
        let fault = Fault::of(&UNKNOWN_GROUP, name).because("it has no position anywhere");
        return Err(fault.mend("name topics with --topic, and the group gets its first positions"));
    }
    let mut positions = Vec::new();
    let range = Range { from: to, until: None };
    for topic in &topics {
        for (partition, extent) in lookup::extents(&admin, topic, partitions, range).await? {
            let Extent { bounds, from_found, .. } = extent;
            let offset = to.resolve(bounds, from_found);
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            positions.push(GroupPosition::new(topic, partition, offset));
        }
    }
    if !dry_run {
        let moved = admin.seek_group(name, positions.clone()).await;
        moved.map_err(|error| trouble::group(&error, name))?;
    }
    let columns = &["GROUP", "TOPIC", ">PARTITION", ">BEFORE", ">OFFSET", "DONE"];
    let mut rows = Rows::new(output, columns);
    for GroupPosition { topic, partition, offset, .. } in &positions {
        let old = before.get(&(topic.clone(), *partition)).copied();
        let done = !dry_run;
        rows.add(
            || {
                json!({
                    "group": name, "topic": topic, "partition": partition, "before": old,
                    "offset": offset, "moved": done,
                })
            },
            || {
                let said = if done { "moved" } else { "would be moved" };
                let numbers = [number(Some(partition)), number(old), number(Some(offset))];
                [vec![name.clone(), topic.clone()], numbers.to_vec(), vec![said.to_owned()]]
                    .concat()
            },
        );
    }
    rows.print()
}

/// Where a group without members is; nowhere for one that does not exist.
async fn positions_of(admin: &Admin, name: &str) -> Result<BTreeMap<(String, i32), i64>, Fault> {
    let group = match admin.describe_group(name).await {
        Ok(group) => group,
        Err(AdminError::NotFound { .. }) => return Ok(BTreeMap::new()),
        Err(error) => return Err(trouble::group(&error, name)),
    };
    if !group.members.is_empty() {
        let count = group.members.len();
        let fault = Fault::of(&GROUP_IN_USE, name);
        return Err(fault.because(format_args!("{count} members are in it")));
    }
    let stored = group.lags.into_iter();
    Ok(stored.filter_map(|one| Some(((one.topic, one.partition), one.committed?))).collect())
}

async fn delete(arguments: &DeleteArguments, output: Output) -> Result<(), Fault> {
    let admin = arguments.broker.connect().await?.admin();
    let mut rows = Rows::new(output, &["GROUP", "DONE"]);
    let mut faults = Vec::new();
    for name in &arguments.names {
        let outcome = match arguments.dry_run {
            true => admin.describe_group(name).await.map(|_| ()),
            false => admin.delete_group(name).await,
        };
        match outcome {
            Ok(()) => {
                let done = !arguments.dry_run;
                let said = if done { "deleted" } else { "would be deleted" };
                let cells = || vec![name.clone(), said.to_owned()];
                rows.add(|| json!({ "group": name, "deleted": done }), cells);
            }
            Err(error) => faults.push(trouble::group(&error, name)),
        }
    }
    rows.print()?;
    Fault::several(faults)
}
