//! One config key as a client is told of it, whichever resource it belongs to.
//!
//! Absent on purpose: the keys themselves (`topic_config`, `broker_config`).

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Kafka's data types of config values, with the numbers that they have on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean = 1,
    /// Any text.
    String = 2,
    /// A 32-bit number.
    Int = 3,
    /// A 64-bit number.
    Long = 5,
    /// A floating-point number.
    Double = 6,
    /// Texts with commas between.
    List = 7,
}

impl ConfigType {
    /// The number in `DescribeConfigs` v3 and later.
    #[must_use]
    pub const fn number(self) -> i8 {
        self as i8
    }

    /// Kafka's name of the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::String => "STRING",
            Self::Int => "INT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
        }
    }
}

/// Where a value comes from, with the number that it has on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConfigSource {
    /// Set for the topic.
    DynamicTopicConfig = 1,
    /// Set for the node, before it started.
    StaticBrokerConfig = 4,
    /// Set by nobody.
    DefaultConfig = 5,
}

impl ConfigSource {
    /// The number in `DescribeConfigs` v1 and later and in `CreateTopics` v5 and later.
    #[must_use]
    pub const fn number(self) -> i8 {
        self as i8
    }
}

/// A value that a key has, or would have if a stronger source did not speak.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigSynonym {
    /// The key under which that source holds it.
    pub name: Cow<'static, str>,
    /// The value.
    pub value: Option<String>,
    /// The source.
    pub source: ConfigSource,
}

/// One key with everything that `DescribeConfigs` and the `CreateTopics` answer want to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// Kafka's key.
    pub name: Cow<'static, str>,
    /// The value in effect; `None` where the key has none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether clients cannot change it.
    pub read_only: bool,
    /// Whether the value is a secret. Never so in this release.
    pub sensitive: bool,
    /// All sources that have a value, strongest first; the value in effect is the first one's.
    pub synonyms: Vec<ConfigSynonym>,
    /// The value's data type.
    pub config_type: ConfigType,
    /// What it does here.
    pub documentation: Cow<'static, str>,
}

impl ConfigEntry {
    /// Whether nobody set it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.source == ConfigSource::DefaultConfig
    }
}

/// Whether a client that named `keys` wants this one; no list means all.
pub(super) fn is_wanted(keys: Option<&[&str]>, name: &str) -> bool {
    keys.is_none_or(|keys| keys.contains(&name))
}
