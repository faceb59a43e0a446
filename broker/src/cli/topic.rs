//! `bateau topic create|list|describe|alter|delete`.
//!
//! Configs carry Kafka's names. `--dry-run` asks the broker to decide and to change nothing; where
//! it cannot be asked (delete), the command looks instead.
//!
//! Absent on purpose: internal topics. Clients can neither read nor write them.

use super::codes::UNKNOWN_TOPIC;
use super::confirm::Asking;
use super::connect::{self, BrokerArguments};
use super::fault::Fault;
use super::output::{Output, Rows, print};
use super::trouble;
use crate::config::problem::edit_distance;
use bateau_client::admin::{AlterTopic, NewTopic, PartitionInfo, TopicDescription, TopicInfo};
use bateau_client::{Admin, AdminError, ErrorKind};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) const CREATE: &str = "\
Examples:
  bateau topic create payments
  bateau topic create refunds invoices --partitions 4 -c retention.ms=86400000
  bateau topic create payments --if-not-exists";

pub(super) const LIST: &str = "\
Examples:
  bateau topic list
  bateau topic list -o table";

pub(super) const DESCRIBE: &str = "\
Examples:
  bateau topic describe orders
  bateau topic describe orders -o table";

pub(super) const ALTER: &str = "\
Examples:
  bateau topic alter orders -c retention.ms=86400000
  bateau topic alter orders --reset retention.ms
  bateau topic alter orders --partitions 8 --dry-run
  bateau topic alter orders --replicas 1 --dry-run";

pub(super) const DELETE: &str = "\
Examples:
  bateau topic delete orders --dry-run
  bateau topic delete orders --yes";

#[derive(Subcommand)]
pub(super) enum TopicCommand {
    /// Create topics
    #[command(before_help = CREATE)]
    Create(CreateArguments),
    /// List topics
    #[command(before_help = LIST)]
    List(ListArguments),
    /// Show partitions, offsets and configs of topics
    #[command(before_help = DESCRIBE)]
    Describe(DescribeArguments),
    /// Change configs of a topic, its number of partitions or of their copies
    #[command(before_help = ALTER)]
    Alter(AlterArguments),
    /// Delete topics with their records
    #[command(before_help = DELETE)]
    Delete(DeleteArguments),
}

#[derive(Args)]
pub(super) struct CreateArguments {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    names: Vec<String>,
    /// Number of partitions [default: the broker's topics.partitions_default]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// Copies of each partition [default: the broker's topics.replication_factor_default]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    replicas: Option<u16>,
    /// A config of the topic, as in -c retention.ms=86400000
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// A topic that exists already is left as it is
    #[arg(long)]
    if_not_exists: bool,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct DescribeArguments {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
    names: Vec<String>,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct AlterArguments {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    name: String,
    /// Set a config, as in -c retention.ms=86400000
    #[arg(short = 'c', long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// Return a config to its default
    #[arg(long, value_name = "KEY")]
    reset: Vec<String>,
    /// The new number of partitions. Keys then go to other partitions than before
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// The new number of copies of each partition; they are made while it serves
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    replicas: Option<u16>,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct DeleteArguments {
    /// Names of the topics
    #[arg(required = true, value_name = "TOPIC")]
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

/// `key=value`; the value may be empty and may have further equals signs.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

pub(super) fn run(command: &TopicCommand, output: Output) -> Result<(), Fault> {
    match command {
        TopicCommand::Create(arguments) => connect::run(create(arguments, output)),
        TopicCommand::List(arguments) => connect::run(list(arguments, output)),
        TopicCommand::Describe(arguments) => connect::run(describe(arguments, output)),
        TopicCommand::Alter(arguments) => connect::run(alter(arguments, output)),
        TopicCommand::Delete(arguments) => {
            let asking = Asking::new(arguments.yes || arguments.dry_run);
            arguments.names.iter().try_for_each(|name| asking.confirm("delete", name))?;
            connect::run(delete(arguments, output))
        }
    }
}

async fn create(arguments: &CreateArguments, output: Output) -> Result<(), Fault> {
    let topics = arguments.names.iter().map(|name| {
        let mut topic = NewTopic::new(name);
        if let Some(partitions) = arguments.partitions {
            topic = topic.partitions(partitions);
        }
        if let Some(replicas) = arguments.replicas {
            topic = topic.replication_factor(u32::from(replicas));
        }
        let configs = arguments.configs.iter();
        configs.fold(topic, |topic, (key, value)| topic.config(key, value))
    });
    let admin = arguments.broker.connect().await?.admin();
    let outcomes = admin.create_topics(topics, arguments.dry_run).await;
    let outcomes = outcomes.map_err(|error| trouble::admin(&error, "topics"))?;
    let mut rows = Rows::new(output, &["TOPIC", ">PARTITIONS", ">REPLICAS", "CREATED"]);
    let mut faults = Vec::new();
    for (name, outcome) in arguments.names.iter().zip(outcomes) {
        match outcome {
            Ok(topic) => add_created(&mut rows, &topic, arguments.dry_run),
            Err(error) if arguments.if_not_exists && error.kind() == ErrorKind::Conflict => {
                let cells = || vec![name.clone(), "-".into(), "-".into(), "existed".into()];
                rows.add(|| json!({ "topic": name, "created": false }), cells);
            }
            Err(error) => faults.push(trouble::topic(&error, name)),
        }
    }
    rows.print()?;
    Fault::several(faults)
}

fn add_created(rows: &mut Rows, topic: &TopicInfo, dry_run: bool) {
    let TopicInfo { name, id, partitions, replication_factor, .. } = topic;
    let known = |count: i32| (count >= 0).then_some(count);
    let (partitions, replicas) = (known(*partitions), known(*replication_factor));
    let id = (!dry_run).then(|| id.to_string());
    rows.add(
        || {
            json!({
                "topic": name, "created": !dry_run, "id": id, "partitions": partitions,
                "replicas": replicas,
            })
        },
        || {
            let said = if dry_run { "would be" } else { "yes" };
            vec![name.clone(), number(partitions), number(replicas), said.to_owned()]
        },
    );
}

/// A number in a table, or the dash for none.
pub(super) fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

async fn list(arguments: &ListArguments, output: Output) -> Result<(), Fault> {
    let admin = arguments.broker.connect().await?.admin();
    let topics = admin.list_topics().await.map_err(|error| trouble::admin(&error, "topics"))?;
    let mut rows = Rows::new(output, &["TOPIC", ">PARTITIONS", ">REPLICAS", ">LEADERLESS"]);
    for topic in topics {
        let (partitions, replicas) = (topic.partitions, topic.replication_factor);
        let leaderless = topic.leaderless_partitions;
        rows.add(
            || {
                json!({
                    "topic": topic.name, "id": topic.id.to_string(), "partitions": partitions,
                    "replicas": replicas, "leaderless_partitions": leaderless,
                })
            },
            || {
                let numbers = [partitions, replicas, leaderless].map(|count| count.to_string());
                [vec![topic.name.clone()], numbers.to_vec()].concat()
            },
        );
    }
    rows.print()
}

async fn describe(arguments: &DescribeArguments, output: Output) -> Result<(), Fault> {
    let admin = arguments.broker.connect().await?.admin();
    let mut faults = Vec::new();
    for (place, name) in arguments.names.iter().enumerate() {
        match admin.describe_topic(name).await {
            Ok(topic) if output == Output::Json => print(&format!("{}\n", object(&topic)))?,
            Ok(topic) => {
                let gap = if place == 0 { "" } else { "\n" };
                print(&format!("{gap}{}", page(&topic)))?;
            }
            Err(error) => faults.push(missing(&admin, name, &error).await),
        }
    }
    Fault::several(faults)
}

fn object(topic: &TopicDescription) -> Value {
    let partition = |one: &PartitionInfo| {
        json!({
            "partition": one.partition, "leader": one.leader, "leader_epoch": one.leader_epoch,
            "replicas": one.replicas, "log_start": one.log_start, "log_end": one.high_watermark,
            "log_bytes": one.log_bytes,
        })
    };
    let partitions: Vec<Value> = topic.partitions.iter().map(partition).collect();
    let configs = topic.configs.iter().map(
        |config| json!({ "name": config.name, "value": config.value, "source": config.source }),
    );
    let configs: Vec<Value> = configs.collect();
    let (name, id) = (&topic.name, topic.id.to_string());
    json!({ "topic": name, "id": id, "partitions": partitions, "configs": configs })
}

/// Partitions, then the configs that are not everybody's.
fn page(topic: &TopicDescription) -> String {
    let columns = &["PARTITION", ">LEADER", ">EPOCH", "REPLICAS", ">START", ">END", ">BYTES"];
    let mut partitions = Rows::new(Output::Table, columns);
    for one in &topic.partitions {
        let replicas: Vec<String> = one.replicas.iter().map(ToString::to_string).collect();
        partitions.add(
            || Value::Null,
            || {
                vec![
                    one.partition.to_string(),
                    number(one.leader),
                    one.leader_epoch.to_string(),
                    replicas.join(","),
                    number(one.log_start),
                    number(one.high_watermark),
                    number(one.log_bytes),
                ]
            },
        );
    }
    let mut configs = Rows::new(Output::Table, &["CONFIG", "VALUE", "SOURCE"]);
    for config in topic.configs.iter().filter(|config| config.source != "default") {
        let value = config.value.clone().unwrap_or_default();
        let cells = || vec![config.name.clone(), value, config.source.clone()];
        configs.add(|| Value::Null, cells);
    }
    let (partitions, configs) = (partitions.text(), configs.text());
    let gap = if configs.is_empty() { "" } else { "\n" };
    format!("{}  {}\n{partitions}{gap}{configs}", super::fault::escaped(&topic.name), topic.id)
}

async fn alter(arguments: &AlterArguments, output: Output) -> Result<(), Fault> {
    let AlterArguments { name, configs, reset, partitions, replicas, dry_run, broker } = arguments;
    let is_resized = partitions.is_some() || replicas.is_some();
    if configs.is_empty() && reset.is_empty() && !is_resized {
        let flags = "-c KEY=VALUE, --reset, --partitions or --replicas";
        return Err(Fault::usage(format!("nothing to change; give {flags}")));
    }
    let mut change = AlterTopic::new(name).validate_only(*dry_run);
    for (key, value) in configs {
        change = change.config(key, value);
    }
    change = reset.iter().fold(change, |change, key| change.reset_config(key));
    if let Some(partitions) = partitions {
        change = change.partitions(*partitions);
    }
    if let Some(replicas) = replicas {
        change = change.replication_factor(u32::from(*replicas));
    }
    let admin = broker.connect().await?.admin();
    if let Err(error) = admin.alter_topic(change).await {
        return Err(missing(&admin, name, &error).await);
    }
    let mut rows = Rows::new(output, &["TOPIC", "DONE"]);
    add_done(&mut rows, name, "altered", !dry_run);
    rows.print()
}

/// A line about what was done, or would be, to a topic.
fn add_done(rows: &mut Rows, name: &str, deed: &str, done: bool) {
    let said = if done { deed.to_owned() } else { format!("would be {deed}") };
    rows.add(|| json!({ "topic": name, deed: done }), || vec![name.to_owned(), said]);
}

async fn delete(arguments: &DeleteArguments, output: Output) -> Result<(), Fault> {
    let admin = arguments.broker.connect().await?.admin();
    let mut rows = Rows::new(output, &["TOPIC", "DONE"]);
    let mut faults = Vec::new();
    for name in &arguments.names {
        let outcome = match arguments.dry_run {
            true => admin.describe_topic(name).await.map(|_| ()),
            false => admin.delete_topic(name).await,
        };
        match outcome {
            Ok(()) => add_done(&mut rows, name, "deleted", !arguments.dry_run),
            Err(error) => faults.push(missing(&admin, name, &error).await),
        }
    }
    rows.print()?;
    Fault::several(faults)
}

/// The fault for a topic; one that does not exist is named with the nearest that does.
pub(super) async fn missing(admin: &Admin, name: &str, error: &AdminError) -> Fault {
    let fault = trouble::topic(error, name);
    // A partition of the topic may be missing, too.
    if !matches!(error, AdminError::NotFound { name: missing } if missing == name) {
        return fault;
    }
    let Ok(topics) = admin.list_topics().await else { return fault };
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    unknown(name, &names).unwrap_or(fault)
}

/// The fault that names the nearest of `names`, if any is near.
fn unknown(name: &str, names: &[&str]) -> Option<Fault> {
    let nearest = names.iter().min_by_key(|known| edit_distance(name, known))?;
    let is_near = edit_distance(name, nearest) <= name.chars().count().div_ceil(3);
    let cause = format!("the cluster has no topic of this name; the nearest is {nearest}");
    is_near.then(|| Fault::of(&UNKNOWN_TOPIC, name).because(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_a_key_and_anything_behind_the_first_equals_sign() {
        assert_eq!(key_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(key_value("a="), Ok(("a".to_owned(), String::new())));
        assert!(key_value("a").is_err() && key_value("=b").is_err());
    }

    #[test]
    fn only_a_near_name_is_offered() {
        let names = ["orders", "payments"];
        let offered = |name: &str| unknown(name, &names).map(|fault| fault.report());
        assert!(offered("order").unwrap().contains("the nearest is orders\n"));
        assert!(offered("Orders").unwrap().contains("the nearest is orders\n"));
        assert_eq!(offered("billing"), None);
        assert_eq!(unknown("orders", &[]), None);
    }
}
