//! Kafka's broker config keys that tools look for: read-only views of the node's settings.
//!
//! Absent on purpose: changing them (a node is configured by its file), and the keys of Kafka
//! that have no counterpart here.

use bateau_protocol::ids::NodeId;

use super::config_entry::{ConfigEntry, ConfigSource, ConfigSynonym, ConfigType, is_wanted};
use super::topic_config::topic_key;

/// The settings that the controller decides by and that clients may ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerSettings {
    /// The node that answers.
    pub node: NodeId,
    /// `node.rack`; `None` where it is empty.
    pub rack: Option<String>,
    /// What the Kafka listener advertises, `PLAINTEXT://host:port`; several with commas between.
    pub advertised_listeners: String,
    /// `topics.auto_create`.
    pub auto_create: bool,
    /// `topics.partitions_default`, ≥ 1.
    pub partitions_default: u32,
    /// `topics.replication_factor_default`; `None` (-1): min(3, nodes).
    pub replication_factor_default: Option<u16>,
    /// `topics.min_insync_replicas`; `None` (-1): the majority.
    pub min_insync_replicas: Option<u32>,
    /// `groups.initial_rebalance_delay_ms`.
    pub initial_rebalance_delay_ms: u32,
    /// `groups.offsets_retention_minutes`.
    pub offsets_retention_minutes: u32,
    /// Shortest session timeout that a group member may ask for.
    pub session_timeout_ms_min: u32,
    /// Longest session timeout that a group member may ask for.
    pub session_timeout_ms_max: u32,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            node: NodeId::new(1),
            rack: None,
            advertised_listeners: String::new(),
            auto_create: true,
            partitions_default: 1,
            replication_factor_default: None,
            min_insync_replicas: None,
            initial_rebalance_delay_ms: 0,
            offsets_retention_minutes: 10_080,
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
        }
    }
}

impl BrokerSettings {
    /// The replication factor of a topic that names none, in a cluster of `nodes` nodes.
    #[must_use]
    pub fn replication_factor(&self, nodes: usize) -> u16 {
        let automatic = u16::try_from(nodes.clamp(1, 3)).unwrap_or(1);
        self.replication_factor_default.unwrap_or(automatic)
    }
}

/// The level of Kafka whose behaviour we show.
pub const KAFKA_LEVEL: &str = "4.3";

/// Longest transaction timeout, Kafka's default.
const TRANSACTION_TIMEOUT_MS_MAX: &str = "900000";

/// Everything that a client may know of a node's config.
///
/// - `nodes`: nodes known to the cluster; the default replication factor depends on them.
/// - `keys`: what the client asked for; `None` for all. Unknown ones are left out.
///
/// Entries are sorted by name. A value that equals the default counts as not set.
#[must_use]
pub fn describe_broker(
    settings: &BrokerSettings,
    nodes: usize,
    keys: Option<&[&str]>,
) -> Vec<ConfigEntry> {
    let mut entries = configured_entries(settings, nodes);
    entries.extend(fixed_entries());
    entries.retain(|entry| is_wanted(keys, &entry.name));
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    entries
}

/// Keys whose value an operator may move.
fn configured_entries(settings: &BrokerSettings, nodes: usize) -> Vec<ConfigEntry> {
    use ConfigType::{Boolean, Int, List, String};
    let node = settings.node.to_string();
    let automatic = BrokerSettings { replication_factor_default: None, ..settings.clone() };
    let min_insync = settings.min_insync_replicas.map_or_else(|| "1".to_owned(), text);
    vec![
        fixed_source("advertised.listeners", List, &settings.advertised_listeners),
        entry("auto.create.topics.enable", Boolean, text(settings.auto_create), "true"),
        fixed_source("broker.id", Int, &node),
        ConfigEntry {
            value: settings.rack.clone(),
            source: match settings.rack {
                Some(_) => ConfigSource::StaticBrokerConfig,
                None => ConfigSource::DefaultConfig,
            },
            synonyms: synonyms("broker.rack", settings.rack.as_deref(), None),
            ..entry("broker.rack", String, std::string::String::new(), "")
        },
        entry(
            "default.replication.factor",
            Int,
            text(settings.replication_factor(nodes)),
            &text(automatic.replication_factor(nodes)),
        ),
        entry(
            "group.initial.rebalance.delay.ms",
            Int,
            text(settings.initial_rebalance_delay_ms),
            "0",
        ),
        entry(
            "group.max.session.timeout.ms",
            Int,
            text(settings.session_timeout_ms_max),
            "1800000",
        ),
        entry("group.min.session.timeout.ms", Int, text(settings.session_timeout_ms_min), "6000"),
        entry("min.insync.replicas", Int, min_insync, "1"),
        fixed_source("node.id", Int, &node),
        entry("num.partitions", Int, text(settings.partitions_default), "1"),
        entry("offsets.retention.minutes", Int, text(settings.offsets_retention_minutes), "10080"),
    ]
}

/// Keys whose value is the same on every node.
fn fixed_entries() -> Vec<ConfigEntry> {
    use ConfigType::{Boolean, Int, Long, String};
    let constant = |name, config_type, value: &str| entry(name, config_type, text(value), value);
    let topic_default = |name, config_type, key: &str| {
        let default = topic_key(key).map_or("", |key| key.default);
        entry(name, config_type, text(default), default)
    };
    let unset = |name, config_type| ConfigEntry {
        value: None,
        synonyms: Vec::new(),
        ..entry(name, config_type, std::string::String::new(), "")
    };
    vec![
        topic_default("compression.type", String, "compression.type"),
        constant("delete.topic.enable", Boolean, "true"),
        constant("inter.broker.protocol.version", String, KAFKA_LEVEL),
        topic_default("log.cleanup.policy", ConfigType::List, "cleanup.policy"),
        topic_default("log.index.interval.bytes", Int, "index.interval.bytes"),
        topic_default("log.message.timestamp.after.max.ms", Long, "message.timestamp.after.max.ms"),
        topic_default(
            "log.message.timestamp.before.max.ms",
            Long,
            "message.timestamp.before.max.ms",
        ),
        topic_default("log.message.timestamp.type", String, "message.timestamp.type"),
        topic_default("log.retention.bytes", Long, "retention.bytes"),
        constant("log.retention.hours", Int, "168"),
        unset("log.retention.minutes", Int),
        unset("log.retention.ms", Long),
        constant("log.roll.hours", Int, "168"),
        topic_default("log.segment.bytes", Int, "segment.bytes"),
        topic_default("message.max.bytes", Int, "max.message.bytes"),
        constant("transaction.max.timeout.ms", Int, TRANSACTION_TIMEOUT_MS_MAX),
        topic_default("unclean.leader.election.enable", Boolean, "unclean.leader.election.enable"),
    ]
}

fn text(value: impl ToString) -> String {
    value.to_string()
}

fn entry(name: &'static str, config_type: ConfigType, value: String, default: &str) -> ConfigEntry {
    let is_default = value == default;
    ConfigEntry {
        name: name.into(),
        source: match is_default {
            true => ConfigSource::DefaultConfig,
            false => ConfigSource::StaticBrokerConfig,
        },
        read_only: true,
        sensitive: false,
        synonyms: synonyms(name, (!is_default).then_some(value.as_str()), Some(default)),
        value: Some(value),
        config_type,
        documentation: documentation(name).into(),
    }
}

/// A key that has no default: the operator, or the start, always gives it.
fn fixed_source(name: &'static str, config_type: ConfigType, value: &str) -> ConfigEntry {
    ConfigEntry {
        source: ConfigSource::StaticBrokerConfig,
        synonyms: synonyms(name, Some(value), None),
        ..entry(name, config_type, value.to_owned(), "")
    }
}

fn synonyms(
    name: &'static str,
    configured: Option<&str>,
    default: Option<&str>,
) -> Vec<ConfigSynonym> {
    let synonym =
        |value: &str, source| ConfigSynonym { name: name.into(), value: Some(text(value)), source };
    let configured = configured.map(|value| synonym(value, ConfigSource::StaticBrokerConfig));
    let default = default.map(|value| synonym(value, ConfigSource::DefaultConfig));
    configured.into_iter().chain(default).collect()
}

fn documentation(name: &str) -> &'static str {
    match name {
        "advertised.listeners" => "Where clients are told to connect: listeners.kafka_advertised.",
        "auto.create.topics.enable" => "Whether a topic is made on first use: topics.auto_create.",
        "broker.id" | "node.id" => "This node's number: node.id.",
        "broker.rack" => "This node's failure domain: node.rack.",
        "compression.type" => "Batches are stored as producers send them.",
        "default.replication.factor" => {
            "Replicas of a topic that names no number: topics.replication_factor_default."
        }
        "delete.topic.enable" => "Topics can be deleted.",
        "group.initial.rebalance.delay.ms" => {
            "Wait of a new group for more members: groups.initial_rebalance_delay_ms."
        }
        "group.max.session.timeout.ms" => "Longest session timeout of a group member.",
        "group.min.session.timeout.ms" => "Shortest session timeout of a group member.",
        "inter.broker.protocol.version" => "The level of Kafka whose behaviour clients meet.",
        "log.cleanup.policy" => "What happens to old records where the topic says nothing.",
        "log.index.interval.bytes" => "Default of a topic's index.interval.bytes.",
        "log.message.timestamp.after.max.ms" => "Default of message.timestamp.after.max.ms.",
        "log.message.timestamp.before.max.ms" => "Default of message.timestamp.before.max.ms.",
        "log.message.timestamp.type" => "Default of a topic's message.timestamp.type.",
        "log.retention.bytes" => "Default of a topic's retention.bytes.",
        "log.retention.hours" => "Default of a topic's retention.ms, in hours.",
        "log.retention.minutes" | "log.retention.ms" => {
            "Not set: the default of a topic's retention.ms stands under log.retention.hours."
        }
        "log.roll.hours" => "Default of a topic's segment.ms, in hours.",
        "log.segment.bytes" => "Default of a topic's segment.bytes.",
        "message.max.bytes" => "Default of a topic's max.message.bytes.",
        "min.insync.replicas" => {
            "Replicas that must hold a record before it is acknowledged, and always the majority: \
             topics.min_insync_replicas."
        }
        "num.partitions" => {
            "Partitions of a topic that names no number: topics.partitions_default."
        }
        "offsets.retention.minutes" => {
            "How long an empty group's offsets are kept: groups.offsets_retention_minutes."
        }
        "transaction.max.timeout.ms" => "Longest transaction that a producer may ask for.",
        _ => "Raft never elects a replica without all acknowledged records.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Kafka 4.3.1 calls these keys' types.
    const KAFKA_TYPES: [(&str, &str); 28] = [
        ("advertised.listeners", "LIST"),
        ("auto.create.topics.enable", "BOOLEAN"),
        ("broker.id", "INT"),
        ("broker.rack", "STRING"),
        ("compression.type", "STRING"),
        ("default.replication.factor", "INT"),
        ("delete.topic.enable", "BOOLEAN"),
        ("group.initial.rebalance.delay.ms", "INT"),
        ("group.max.session.timeout.ms", "INT"),
        ("group.min.session.timeout.ms", "INT"),
        ("log.cleanup.policy", "LIST"),
        ("log.index.interval.bytes", "INT"),
        ("log.message.timestamp.after.max.ms", "LONG"),
        ("log.message.timestamp.before.max.ms", "LONG"),
        ("log.message.timestamp.type", "STRING"),
        ("log.retention.bytes", "LONG"),
        ("log.retention.hours", "INT"),
        ("log.retention.minutes", "INT"),
        ("log.retention.ms", "LONG"),
        ("log.roll.hours", "INT"),
        ("log.segment.bytes", "INT"),
        ("message.max.bytes", "INT"),
        ("min.insync.replicas", "INT"),
        ("node.id", "INT"),
        ("num.partitions", "INT"),
        ("offsets.retention.minutes", "INT"),
        ("transaction.max.timeout.ms", "INT"),
        ("unclean.leader.election.enable", "BOOLEAN"),
    ];

    fn value_of(settings: &BrokerSettings, key: &str) -> Option<String> {
        describe_broker(settings, 1, Some(&[key])).remove(0).value
    }

    #[test]
    fn the_keys_and_types_are_kafkas_and_one_that_tools_still_look_for() {
        let entries = describe_broker(&BrokerSettings::default(), 1, None);
        let described: Vec<_> = entries
            .iter()
            .map(|entry| (&*entry.name, entry.config_type.name()))
            .filter(|(name, _)| *name != "inter.broker.protocol.version")
            .collect();
        assert_eq!(described, KAFKA_TYPES);
        let level = value_of(&BrokerSettings::default(), "inter.broker.protocol.version");
        assert_eq!(level.as_deref(), Some("4.3"));
    }

    #[test]
    fn every_entry_is_read_only_sorted_and_documented() {
        let entries = describe_broker(&BrokerSettings::default(), 1, None);
        assert!(entries.is_sorted_by_key(|entry| &entry.name));
        for entry in entries {
            assert!(entry.read_only && !entry.sensitive && !entry.documentation.is_empty());
            let first = entry.synonyms.first().map(|synonym| synonym.value.clone());
            assert_eq!(first.unwrap_or(None), entry.value, "{}", entry.name);
        }
    }

    #[test]
    fn a_setting_shows_as_the_nodes_own() {
        let settings = BrokerSettings { partitions_default: 4, ..BrokerSettings::default() };
        let entry = describe_broker(&settings, 1, Some(&["num.partitions"])).remove(0);
        assert_eq!(entry.value.as_deref(), Some("4"));
        assert_eq!(entry.source, ConfigSource::StaticBrokerConfig);
        let sources: Vec<_> =
            entry.synonyms.iter().map(|synonym| synonym.source.number()).collect();
        assert_eq!(sources, [4, 5]);
    }

    #[test]
    fn what_nobody_set_has_no_value() {
        let settings = BrokerSettings::default();
        for key in ["broker.rack", "log.retention.ms", "log.retention.minutes"] {
            let entry = describe_broker(&settings, 1, Some(&[key])).remove(0);
            assert_eq!((entry.value, entry.synonyms), (None, vec![]), "{key}");
        }
        let racked = BrokerSettings { rack: Some("a".into()), ..settings };
        assert_eq!(value_of(&racked, "broker.rack").as_deref(), Some("a"));
    }

    #[test]
    fn the_replication_factor_follows_the_nodes_up_to_three() {
        let settings = BrokerSettings::default();
        let factors: Vec<_> =
            [0, 1, 2, 3, 9].map(|nodes| settings.replication_factor(nodes)).into();
        assert_eq!(factors, [1, 1, 2, 3, 3]);
        let fixed = BrokerSettings { replication_factor_default: Some(2), ..settings };
        assert_eq!(fixed.replication_factor(1), 2);
    }
}
