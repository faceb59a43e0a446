//! The table of topic config keys: all that Kafka 4.3.1 has, and what each means here.
//!
//! Names, types and defaults equal Kafka's own answer (`kafka_4_3_1.tsv`, kept by a test).
//!
//! Absent on purpose: `min.insync.replicas` at Kafka's default of 1. Ours is the majority of the
//! replicas and depends on their number, so `describe` works it out.

use super::super::config_entry::ConfigType;

/// What a value may be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Domain {
    /// A whole number within these bounds, both included.
    Number {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// `true` or `false`, in any case.
    Boolean,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One or more of these texts, with commas between.
    ListOf(&'static [&'static str]),
    /// The default and nothing else: this build does not enforce the key.
    OnlyDefault,
}

/// What the broker does with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enforcement {
    /// It acts on it.
    Enforced,
    /// Nothing, because what the value asks for holds anyway, or is a hint.
    HoldsAnyway,
    /// Nothing, so it takes only the default.
    OnlyDefault,
}

/// One topic config key.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TopicKey {
    /// Kafka's key.
    pub name: &'static str,
    /// Data type on the wire.
    pub config_type: ConfigType,
    /// Value where nobody sets it.
    pub default: &'static str,
    /// The broker-wide key of the same meaning that Kafka lists as synonym.
    pub broker_key: Option<&'static str>,
    /// What it may be.
    pub domain: Domain,
    /// What we do with it.
    pub enforcement: Enforcement,
    /// What it means here, in a sentence or two.
    pub documentation: &'static str,
}

const LONG_MAX: i64 = i64::MAX;
const INT_MAX: i64 = i32::MAX as i64;
/// `bateau_protocol::limits::BATCH_BYTES_MAX`, as a number of Kafka's.
const BATCH_BYTES_MAX: i64 = bateau_protocol::limits::BATCH_BYTES_MAX as i64;

const fn key(
    name: &'static str,
    config_type: ConfigType,
    default: &'static str,
    broker_key: &'static str,
) -> TopicKey {
    let broker_key = if broker_key.is_empty() { None } else { Some(broker_key) };
    let domain = Domain::OnlyDefault;
    let enforcement = Enforcement::OnlyDefault;
    TopicKey { name, config_type, default, broker_key, domain, enforcement, documentation: "" }
}

impl TopicKey {
    const fn enforced(self, domain: Domain, documentation: &'static str) -> Self {
        Self { domain, enforcement: Enforcement::Enforced, documentation, ..self }
    }

    const fn holds_anyway(self, domain: Domain, documentation: &'static str) -> Self {
        Self { domain, enforcement: Enforcement::HoldsAnyway, documentation, ..self }
    }

    const fn only_default(self, documentation: &'static str) -> Self {
        Self { documentation, ..self }
    }
}

const fn from(min: i64) -> Domain {
    Domain::Number { min, max: LONG_MAX }
}

const fn between(min: i64, max: i64) -> Domain {
    Domain::Number { min, max }
}

const NOT_COMPACTED: &str = "Governs compaction, which this release does not have.";
const NOT_TIERED: &str = "Governs tiered storage, which this release does not have.";
const NOT_RECOMPRESSED: &str =
    "Level for batches that a broker compresses again. Batches are stored as producers send them.";
const NOT_THROTTLED: &str = "Governs throttled reassignment, which this release does not have.";

use ConfigType::{Boolean, Double, Int, List, Long, String};

/// All keys, sorted by name.
pub static TOPIC_KEYS: [TopicKey; 33] = [
    key("cleanup.policy", List, "delete", "log.cleanup.policy").enforced(
        Domain::ListOf(&["delete"]),
        "What happens to old records. delete: whole segments go by time and size.",
    ),
    key("compression.gzip.level", Int, "-1", "compression.gzip.level")
        .only_default(NOT_RECOMPRESSED),
    key("compression.lz4.level", Int, "9", "compression.lz4.level").only_default(NOT_RECOMPRESSED),
    key("compression.type", String, "producer", "compression.type").enforced(
        Domain::OneOf(&["producer"]),
        "Codec in which batches are stored. producer: as they were sent.",
    ),
    key("compression.zstd.level", Int, "3", "compression.zstd.level")
        .only_default(NOT_RECOMPRESSED),
    key("delete.retention.ms", Long, "86400000", "log.cleaner.delete.retention.ms")
        .only_default(NOT_COMPACTED),
    key("file.delete.delay.ms", Long, "60000", "log.segment.delete.delay.ms").only_default(
        "Delay before a file that retention drops is removed. Here a reader keeps what it holds.",
    ),
    key("flush.messages", Long, "9223372036854775807", "log.flush.interval.messages").holds_anyway(
        from(1),
        "Records between two flushes. Holds for every value: each acknowledged record is flushed.",
    ),
    key("flush.ms", Long, "9223372036854775807", "").holds_anyway(
        from(0),
        "Time between two flushes. Holds for every value: each acknowledged record is flushed.",
    ),
    key("follower.replication.throttled.replicas", List, "", "").only_default(NOT_THROTTLED),
    key("index.interval.bytes", Int, "4096", "log.index.interval.bytes").holds_anyway(
        between(0, INT_MAX),
        "Bytes of records between two entries of the offset index. A hint.",
    ),
    key("leader.replication.throttled.replicas", List, "", "").only_default(NOT_THROTTLED),
    key("local.retention.bytes", Long, "-2", "log.local.retention.bytes").only_default(NOT_TIERED),
    key("local.retention.ms", Long, "-2", "log.local.retention.ms").only_default(NOT_TIERED),
    key("max.compaction.lag.ms", Long, "9223372036854775807", "log.cleaner.max.compaction.lag.ms")
        .only_default(NOT_COMPACTED),
    key("max.message.bytes", Int, "1048588", "message.max.bytes").enforced(
        between(0, BATCH_BYTES_MAX),
        "Largest record batch in bytes, after compression. A larger one is MESSAGE_TOO_LARGE.",
    ),
    key("message.timestamp.after.max.ms", Long, "3600000", "log.message.timestamp.after.max.ms")
        .enforced(
            from(0),
            "How far a record's timestamp may lie in the future. Beyond it: INVALID_TIMESTAMP.",
        ),
    key(
        "message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "log.message.timestamp.before.max.ms",
    )
    .enforced(
        from(0),
        "How far a record's timestamp may lie in the past. Beyond it: INVALID_TIMESTAMP.",
    ),
    key("message.timestamp.type", String, "CreateTime", "log.message.timestamp.type").enforced(
        Domain::OneOf(&["CreateTime"]),
        "Whose clock a record's timestamp is. CreateTime: the producer's.",
    ),
    key("min.cleanable.dirty.ratio", Double, "0.5", "log.cleaner.min.cleanable.ratio")
        .only_default(NOT_COMPACTED),
    key("min.compaction.lag.ms", Long, "0", "log.cleaner.min.compaction.lag.ms")
        .only_default(NOT_COMPACTED),
    key("min.insync.replicas", Int, "1", "min.insync.replicas").enforced(
        between(1, INT_MAX),
        "Replicas that must hold a record, flushed, before it is acknowledged. The majority is \
         always asked for, so a smaller number changes nothing.",
    ),
    key("preallocate", Boolean, "false", "log.preallocate").holds_anyway(
        Domain::Boolean,
        "Whether segment files get their room at creation. Here they always do.",
    ),
    key("remote.log.copy.disable", Boolean, "false", "").only_default(NOT_TIERED),
    key("remote.log.delete.on.disable", Boolean, "false", "").only_default(NOT_TIERED),
    key("remote.storage.enable", Boolean, "false", "").only_default(NOT_TIERED),
    key("retention.bytes", Long, "-1", "log.retention.bytes").enforced(
        from(i64::MIN),
        "Bytes of each partition beyond which its oldest segments go. Below 0: no bound.",
    ),
    key("retention.ms", Long, "604800000", "log.retention.ms")
        .enforced(from(-1), "Age in milliseconds beyond which segments go. -1: no bound."),
    key("segment.bytes", Int, "1073741824", "log.segment.bytes").enforced(
        between(1_048_576, INT_MAX),
        "Size in bytes up to which a segment file grows. The first ones of a log are smaller.",
    ),
    key("segment.index.bytes", Int, "10485760", "log.index.size.max.bytes").holds_anyway(
        between(4, INT_MAX),
        "Largest index of a segment. Indexes are in memory here and never fill.",
    ),
    key("segment.jitter.ms", Long, "0", "")
        .only_default("Random delay of segment.ms. Segments roll without one."),
    key("segment.ms", Long, "604800000", "")
        .enforced(from(1), "Age in milliseconds at which a segment is closed though not full."),
    key("unclean.leader.election.enable", Boolean, "false", "unclean.leader.election.enable")
        .holds_anyway(
            Domain::Boolean,
            "Whether a replica without all acknowledged records may lead. Raft never elects one.",
        ),
];

/// A key by name.
#[must_use]
pub fn topic_key(name: &str) -> Option<&'static TopicKey> {
    let position = TOPIC_KEYS.binary_search_by(|key| key.name.cmp(name)).ok()?;
    TOPIC_KEYS.get(position)
}
