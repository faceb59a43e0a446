//! Tests of topic configs: Kafka's own table, and what is taken and refused.

use super::*;
use crate::controller::broker_config::BrokerSettings;

/// Name, type and default of every topic config, as Kafka 4.3.1 answered DescribeConfigs.
const KAFKA_4_3_1: &str = include_str!("kafka_4_3_1.tsv");

fn overrides(pairs: &[(&str, &str)]) -> ConfigOverrides {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

#[test]
fn names_types_and_defaults_are_kafkas() {
    let kafka: Vec<String> = KAFKA_4_3_1.lines().map(str::to_owned).collect();
    let ours: Vec<String> = TOPIC_KEYS
        .iter()
        .map(|key| format!("{}\t{}\t{}", key.name, key.config_type.name(), key.default))
        .collect();
    assert_eq!(ours, kafka);
}

#[test]
fn every_default_is_taken_and_every_key_is_documented() {
    for key in &TOPIC_KEYS {
        assert_eq!(check_override(key.name, Some(key.default)), Ok(()), "{}", key.name);
        assert!(key.documentation.len() > 20, "{}", key.name);
        assert_eq!(topic_key(key.name), Some(key));
    }
}

#[test]
fn what_is_enforced_is_taken_within_its_range() {
    for (name, good, bad) in [
        ("retention.ms", "-1", "-2"),
        ("retention.ms", "9223372036854775807", "9223372036854775808"),
        ("retention.ms", " +5 ", "1.5"),
        ("retention.bytes", "-2", "many"),
        ("segment.bytes", "1048576", "1048575"),
        ("segment.bytes", "2147483647", "2147483648"),
        ("segment.ms", "1", "0"),
        ("max.message.bytes", "16777216", "16777217"),
        ("max.message.bytes", "0", "-1"),
        ("message.timestamp.before.max.ms", "0", "-1"),
        ("message.timestamp.after.max.ms", "0", ""),
        ("min.insync.replicas", "1", "0"),
        ("index.interval.bytes", "0", "-1"),
    ] {
        assert_eq!(check_override(name, Some(good)), Ok(()), "{name}={good}");
        let refused = check_override(name, Some(bad));
        assert!(
            matches!(refused, Err(TopicConfigError::InvalidValue { .. })),
            "{name}={bad}: {refused:?}"
        );
    }
}

#[test]
fn what_holds_anyway_is_taken() {
    for (name, value) in [
        ("flush.messages", "1"),
        ("flush.ms", "0"),
        ("preallocate", "TRUE"),
        ("unclean.leader.election.enable", "true"),
        ("segment.index.bytes", "4"),
    ] {
        assert_eq!(check_override(name, Some(value)), Ok(()), "{name}={value}");
        assert_eq!(topic_key(name).unwrap().enforcement, Enforcement::HoldsAnyway);
    }
}

#[test]
fn what_is_not_enforced_is_refused_with_its_value() {
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("cleanup.policy", ""),
        ("compression.type", "zstd"),
        ("message.timestamp.type", "LogAppendTime"),
        ("remote.storage.enable", "true"),
        ("local.retention.ms", "1000"),
        ("delete.retention.ms", "1"),
        ("segment.jitter.ms", "5"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("follower.replication.throttled.replicas", "*"),
    ] {
        let error = check_override(name, Some(value)).unwrap_err();
        assert!(matches!(error, TopicConfigError::NotEnforced { .. }), "{name}={value}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(value), "{text}");
    }
}

#[test]
fn a_default_is_taken_however_it_is_written() {
    for (name, value) in [
        ("cleanup.policy", " delete "),
        ("cleanup.policy", "delete,delete"),
        ("delete.retention.ms", "086400000"),
        ("min.cleanable.dirty.ratio", "0.50"),
        ("remote.storage.enable", "False"),
        ("compression.type", " producer "),
    ] {
        assert_eq!(check_override(name, Some(value)), Ok(()), "{name}={value}");
    }
}

#[test]
fn an_unknown_name_and_a_null_value_are_named() {
    let unknown = check_override("retention.milliseconds", Some("1")).unwrap_err();
    assert_eq!(unknown.to_string(), "Unknown topic config name: retention.milliseconds");
    let null = check_override("retention.ms", None).unwrap_err();
    assert_eq!(null.to_string(), "Null value not supported for topic configs: retention.ms");
}

#[test]
fn configs_beyond_the_byte_limit_are_refused() {
    let padded = |length: usize| {
        let value = format!("{}1", " ".repeat(length - "retention.ms".len() - 1));
        [("retention.ms".to_owned(), Some(value))]
    };
    assert_eq!(check_overrides(&padded(TOPIC_CONFIG_BYTES_MAX)), Ok(()));
    let found = TOPIC_CONFIG_BYTES_MAX + 1;
    assert_eq!(check_overrides(&padded(found)), Err(TopicConfigError::TooLarge { found }));
}

#[test]
fn the_typed_config_has_kafkas_defaults() {
    let expected = TopicConfig {
        retention_ms: Some(604_800_000),
        retention_bytes: None,
        segment_bytes: 1 << 30,
        segment_ms: 604_800_000,
        message_bytes_max: 1_048_588,
        timestamp_before_max_ms: i64::MAX as u64,
        timestamp_after_max_ms: 3_600_000,
        min_insync_replicas: None,
        index_interval_bytes: 4_096,
    };
    assert_eq!(TopicConfig::default(), expected);
}

#[test]
fn the_typed_config_follows_the_overrides() {
    let config = TopicConfig::from_overrides(&overrides(&[
        ("retention.ms", "-1"),
        ("retention.bytes", " 5 "),
        ("max.message.bytes", "100"),
        ("min.insync.replicas", "3"),
        ("segment.ms", "not a number"),
    ]));
    assert_eq!(config.retention_ms, None);
    assert_eq!(config.retention_bytes, Some(5));
    assert_eq!(config.message_bytes_max, 100);
    assert_eq!(config.min_insync_replicas, Some(3));
    assert_eq!(config.segment_ms, 604_800_000, "what does not parse counts as not set");
}

#[test]
fn min_insync_never_weakens_the_majority() {
    let with = |value| TopicConfig { min_insync_replicas: value, ..TopicConfig::default() };
    assert_eq!(with(None).replicas_to_ack(None, 1), 1);
    assert_eq!(with(None).replicas_to_ack(None, 3), 2);
    assert_eq!(with(Some(1)).replicas_to_ack(None, 3), 2);
    assert_eq!(with(Some(3)).replicas_to_ack(None, 3), 3);
    assert_eq!(with(None).replicas_to_ack(Some(3), 3), 3);
    assert_eq!(with(Some(1)).replicas_to_ack(Some(3), 3), 2, "the topic speaks before the node");
    assert_eq!(with(Some(3)).replicas_to_ack(None, 1), 3, "more than there are: none suffices");
    assert_eq!(with(None).replicas_to_ack(None, 4), 3);
}

#[test]
fn a_description_has_every_key_or_those_asked_for() {
    let settings = BrokerSettings::default();
    let all = describe_topic(&ConfigOverrides::new(), 1, &settings, None);
    assert_eq!(all.len(), TOPIC_KEYS.len());
    assert!(all.iter().all(|entry| entry.is_default() && !entry.read_only && !entry.sensitive));
    let keys = ["retention.ms", "nope", "cleanup.policy"];
    let some = describe_topic(&ConfigOverrides::new(), 1, &settings, Some(&keys));
    let names: Vec<_> = some.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names, ["cleanup.policy", "retention.ms"]);
    assert_eq!(describe_topic(&ConfigOverrides::new(), 1, &settings, Some(&[])), []);
}

#[test]
fn a_description_tells_where_a_value_comes_from() {
    let overrides = overrides(&[("max.message.bytes", "100"), ("retention.ms", "1000")]);
    let settings = BrokerSettings::default();
    let describe = |key| describe_topic(&overrides, 1, &settings, Some(&[key])).remove(0);
    let set = describe("max.message.bytes");
    assert_eq!(set.source, ConfigSource::DynamicTopicConfig);
    assert_eq!(set.value.as_deref(), Some("100"));
    let synonyms: Vec<_> = set
        .synonyms
        .iter()
        .map(|each| (&*each.name, each.value.as_deref(), each.source.number()))
        .collect();
    let expected =
        [("max.message.bytes", Some("100"), 1), ("message.max.bytes", Some("1048588"), 5)];
    assert_eq!(synonyms, expected);
    assert_eq!(describe("retention.ms").synonyms.len(), 1, "as Kafka has it");
    let default = describe("cleanup.policy");
    assert_eq!((default.source.number(), default.config_type.number()), (5, 7));
    assert_eq!(default.synonyms[0].name, "log.cleanup.policy");
}

#[test]
fn the_default_of_min_insync_is_what_is_done() {
    let mut settings = BrokerSettings::default();
    let describe = |settings: &BrokerSettings, replicas| {
        let none = ConfigOverrides::new();
        describe_topic(&none, replicas, settings, Some(&["min.insync.replicas"])).remove(0)
    };
    assert_eq!(describe(&settings, 1).value.as_deref(), Some("1"));
    assert_eq!(describe(&settings, 3).value.as_deref(), Some("2"));
    settings.min_insync_replicas = Some(3);
    let entry = describe(&settings, 3);
    assert_eq!(entry.value.as_deref(), Some("3"));
    assert_eq!(entry.source, ConfigSource::StaticBrokerConfig);
}

/// What the page says about each key: what is taken, and what it does.
fn documented_rows() -> String {
    let range = |key: &TopicKey| match key.domain {
        Domain::Number { min: i64::MIN, max: i64::MAX } => "any number".to_owned(),
        Domain::Number { min, max: i64::MAX } => format!("from {min}"),
        Domain::Number { min, max } => format!("{min} to {max}"),
        Domain::Boolean => "`true`, `false`".to_owned(),
        Domain::OneOf(texts) | Domain::ListOf(texts) => format!("`{}`", texts.join("`, `")),
        Domain::OnlyDefault => "its default".to_owned(),
    };
    let effect = |key: &TopicKey| match key.enforcement {
        Enforcement::Enforced => "enforced",
        Enforcement::HoldsAnyway => "none needed",
        Enforcement::OnlyDefault => "not in this release",
    };
    let row = |key: &TopicKey| {
        let default = if key.default.is_empty() { "empty" } else { key.default };
        let (name, kind) = (key.name, key.config_type.name());
        format!("| {name} | {kind} | {default} | {} | {} |\n", range(key), effect(key))
    };
    let heading = "| Key | Type | Default | Taken | Effect |\n|---|---|---|---|---|\n";
    heading.to_owned() + &TOPIC_KEYS.iter().map(row).collect::<String>()
}

#[test]
fn the_page_of_topic_configs_equals_the_table() {
    let page = include_str!("../../../../../docs/topic-configs.md");
    let (_, rest) = page.split_once("<!-- table: topic-configs -->\n").unwrap();
    let (found, _) = rest.split_once("<!-- end -->").unwrap();
    assert_eq!(found, documented_rows());
}
