//! Topic configs: what may be set, what it means, and what clients are told of it.
//!
//! ```text
//!   client's strings ──check_override──> overrides (as written) ──from_overrides──> TopicConfig
//!                                                └──describe_topic──> ConfigEntry for each key
//! ```
//!
//! What we do not enforce we refuse to store: a value is taken if the broker acts on it, if what
//! it asks for holds anyway, or if it is the default. Overrides are kept as the client wrote
//! them, as Kafka does.
//!
//! Absent on purpose: which overrides a topic has (`metadata`), and the keys' table (`keys`).

mod keys;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use thiserror::Error;

pub use keys::{Domain, Enforcement, TOPIC_KEYS, TopicKey, topic_key};

use super::broker_config::BrokerSettings;
use super::command::ConfigOverrides;
use super::config_entry::{ConfigEntry, ConfigSource, ConfigSynonym, ConfigType, is_wanted};
use super::limits::TOPIC_CONFIG_BYTES_MAX;

/// Why a topic config is refused. Kafka's INVALID_CONFIG (40), all of them.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum TopicConfigError {
    /// Kafka has no such key.
    #[error("Unknown topic config name: {name}")]
    UnknownName {
        /// The key.
        name: String,
    },
    /// A key without a value.
    #[error("Null value not supported for topic configs: {name}")]
    NullValue {
        /// The key.
        name: Cow<'static, str>,
    },
    /// The value does not parse, or is out of range.
    #[error("Invalid value {value} for configuration {name}: expected {expected}")]
    InvalidValue {
        /// The key.
        name: Cow<'static, str>,
        /// What was found.
        value: String,
        /// What may be there.
        expected: String,
    },
    /// Kafka would take it, but this build would not act on it.
    #[error(
        "Value {value} for configuration {name} is not enforced by this release and therefore \
         refused: only {allowed} is"
    )]
    NotEnforced {
        /// The key.
        name: Cow<'static, str>,
        /// What was found.
        value: String,
        /// What is taken.
        allowed: Cow<'static, str>,
    },
    /// All names and values together are too long.
    #[error("the topic's configs take {found} bytes, the limit is {TOPIC_CONFIG_BYTES_MAX}")]
    TooLarge {
        /// Bytes of names and values.
        found: usize,
    },
}

/// A topic's config as the brain uses it: typed, with every default filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// `retention.ms`; `None`: no bound.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`, of each partition; `None`: no bound.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `max.message.bytes`: the largest record batch, at most
    /// `bateau_protocol::limits::BATCH_BYTES_MAX`.
    pub message_bytes_max: u32,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: u64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: u64,
    /// `min.insync.replicas` where the topic sets it; `None`: the node's default.
    pub min_insync_replicas: Option<u32>,
    /// `index.interval.bytes`: a hint.
    pub index_interval_bytes: u32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::from_overrides(&ConfigOverrides::new())
    }
}

impl TopicConfig {
    /// Fills the defaults in. A value that does not parse counts as not set: the leader checked
    /// every value before it was committed, so only a newer version can have written such a one.
    #[must_use]
    pub fn from_overrides(overrides: &ConfigOverrides) -> Self {
        let long = |name: &str| effective_number(overrides, name);
        let int = |name: &str| u32::try_from(long(name)).unwrap_or(u32::MAX);
        let unsigned = |name: &str| u64::try_from(long(name)).unwrap_or(0);
        Self {
            retention_ms: u64::try_from(long("retention.ms")).ok(),
            retention_bytes: u64::try_from(long("retention.bytes")).ok(),
            segment_bytes: int("segment.bytes"),
            segment_ms: unsigned("segment.ms"),
            message_bytes_max: int("max.message.bytes"),
            timestamp_before_max_ms: unsigned("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: unsigned("message.timestamp.after.max.ms"),
            min_insync_replicas: set_number(overrides, "min.insync.replicas")
                .and_then(|number| u32::try_from(number).ok()),
            index_interval_bytes: int("index.interval.bytes"),
        }
    }

    /// Replicas that must hold a record, flushed, before it is acknowledged: the majority, or
    /// more where the topic or the node asks for more. May exceed `replicas`: then no produce
    /// can be acknowledged (NOT_ENOUGH_REPLICAS), as with Kafka.
    ///
    /// - `node_default`: `topics.min_insync_replicas`; `None` for the majority.
    /// - `replicas`: voters of the partition, ≥ 1.
    #[must_use]
    pub fn replicas_to_ack(&self, node_default: Option<u32>, replicas: u32) -> u32 {
        let asked = self.min_insync_replicas.or(node_default).unwrap_or(0);
        asked.max(majority(replicas))
    }
}

/// Voters that make a majority of `replicas`.
#[must_use]
pub const fn majority(replicas: u32) -> u32 {
    replicas / 2 + 1
}

fn set_number(overrides: &ConfigOverrides, name: &str) -> Option<i64> {
    let key = topic_key(name)?;
    let value = overrides.get(name)?;
    check_value(key, value).ok()?;
    parse_number(value)
}

fn effective_number(overrides: &ConfigOverrides, name: &str) -> i64 {
    let default = || topic_key(name).and_then(|key| parse_number(key.default)).unwrap_or(0);
    set_number(overrides, name).unwrap_or_else(default)
}

/// Parses as Kafka does: surrounding blanks and a plus sign are taken.
fn parse_number(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// Checks what a client wants a topic's overrides to be.
///
/// Where a key comes twice the last one counts, as with Kafka.
///
/// Errors: the first offence, keys in the order given.
pub fn check_overrides(configs: &[(String, Option<String>)]) -> Result<(), TopicConfigError> {
    let found =
        configs.iter().map(|(name, value)| name.len() + value.as_deref().map_or(0, str::len)).sum();
    if found > TOPIC_CONFIG_BYTES_MAX {
        return Err(TopicConfigError::TooLarge { found });
    }
    configs.iter().try_for_each(|(name, value)| check_override(name, value.as_deref()))
}

/// Checks one override.
///
/// Errors: [`TopicConfigError`], never `TooLarge`.
pub fn check_override(name: &str, value: Option<&str>) -> Result<(), TopicConfigError> {
    let key =
        topic_key(name).ok_or_else(|| TopicConfigError::UnknownName { name: name.to_owned() })?;
    let value = value.ok_or(TopicConfigError::NullValue { name: key.name.into() })?;
    check_value(key, value)
}

fn check_value(key: &TopicKey, value: &str) -> Result<(), TopicConfigError> {
    let invalid = |expected: String| {
        let (name, value) = (key.name.into(), value.to_owned());
        Err(TopicConfigError::InvalidValue { name, value, expected })
    };
    let not_enforced = |allowed: &'static str| {
        let (name, value) = (key.name.into(), value.to_owned());
        Err(TopicConfigError::NotEnforced { name, value, allowed: allowed.into() })
    };
    match key.domain {
        Domain::Number { min, max } => match parse_number(value) {
            Some(number) if (min..=max).contains(&number) => Ok(()),
            _ => invalid(number_range(key.config_type, min, max)),
        },
        Domain::Boolean if parse_boolean(value).is_some() => Ok(()),
        Domain::Boolean => invalid("true or false".to_owned()),
        Domain::OneOf(allowed) if allowed.contains(&value.trim()) => Ok(()),
        Domain::ListOf(allowed) if value.split(',').all(|part| allowed.contains(&part.trim())) => {
            Ok(())
        }
        Domain::OnlyDefault if equals_default(key, value) => Ok(()),
        Domain::OneOf(_) | Domain::ListOf(_) | Domain::OnlyDefault => not_enforced(key.default),
    }
}

fn number_range(config_type: ConfigType, min: i64, max: i64) -> String {
    let kind = config_type.name();
    match (min, max) {
        (i64::MIN, i64::MAX) => format!("a number of type {kind}"),
        (_, i64::MAX) => format!("a number of type {kind}, at least {min}"),
        _ => format!("a number of type {kind} from {min} to {max}"),
    }
}

fn parse_boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    match (text.eq_ignore_ascii_case("true"), text.eq_ignore_ascii_case("false")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// Whether a value means the key's default, however it is written.
fn equals_default(key: &TopicKey, value: &str) -> bool {
    match key.config_type {
        ConfigType::Int | ConfigType::Long => parse_number(value) == parse_number(key.default),
        ConfigType::Boolean => parse_boolean(value) == parse_boolean(key.default),
        ConfigType::Double => value.trim().parse::<f64>() == key.default.parse::<f64>(),
        ConfigType::String | ConfigType::List => value.trim() == key.default,
    }
}

/// Everything that a client may know of a topic's config.
///
/// - `overrides`: what was set for the topic.
/// - `replicas`: its replication factor; the default of `min.insync.replicas` depends on it.
/// - `keys`: what the client asked for; `None` for all. Unknown ones are left out, as with Kafka.
///
/// Entries are sorted by name.
#[must_use]
pub fn describe_topic(
    overrides: &ConfigOverrides,
    replicas: u16,
    settings: &BrokerSettings,
    keys: Option<&[&str]>,
) -> Vec<ConfigEntry> {
    TOPIC_KEYS
        .iter()
        .filter(|key| is_wanted(keys, key.name))
        .map(|key| describe_key(key, overrides, replicas, settings))
        .collect()
}

fn describe_key(
    key: &'static TopicKey,
    overrides: &ConfigOverrides,
    replicas: u16,
    settings: &BrokerSettings,
) -> ConfigEntry {
    let inherited = inherited_value(key, replicas, settings);
    let mut synonyms = Vec::new();
    if let Some(value) = overrides.get(key.name) {
        synonyms.push(ConfigSynonym {
            name: key.name.into(),
            value: Some(value.to_string()),
            source: ConfigSource::DynamicTopicConfig,
        });
    }
    // Kafka's own default of retention.ms stands under log.retention.hours, which is no synonym.
    if let Some(broker_key) = key.broker_key.filter(|name| *name != "log.retention.ms") {
        let (value, source) = inherited.clone();
        synonyms.push(ConfigSynonym { name: broker_key.into(), value: Some(value), source });
    }
    let (value, source) = match overrides.get(key.name) {
        Some(value) => (value.to_string(), ConfigSource::DynamicTopicConfig),
        None => inherited,
    };
    ConfigEntry {
        name: key.name.into(),
        value: Some(value),
        source,
        read_only: false,
        sensitive: false,
        synonyms,
        config_type: key.config_type,
        documentation: key.documentation.into(),
    }
}

/// What a topic has where it sets nothing.
fn inherited_value(
    key: &TopicKey,
    replicas: u16,
    settings: &BrokerSettings,
) -> (String, ConfigSource) {
    if key.name != "min.insync.replicas" {
        return (key.default.to_owned(), ConfigSource::DefaultConfig);
    }
    match settings.min_insync_replicas {
        Some(number) => (number.to_string(), ConfigSource::StaticBrokerConfig),
        None => (majority(replicas.into()).to_string(), ConfigSource::DefaultConfig),
    }
}

#[cfg(test)]
mod tests;
