//! The one list of keys: name, kind, range, default, meaning, and the field that it sets.
//!
//! A key is added here and nowhere else; tidy compares the table in `docs/configuration.md`.
//!
//! Absent on purpose: keys of features to come that nobody may set (they would only mislead).
//! Those that [`super::support`] knows are listed, because a file written for a later build must
//! be refused by name and not as a misspelling.

use super::{Advertised, Config, Listener};
use bateau_protocol::ids::NodeId;
use bateau_protocol::limits;
use std::path::PathBuf;

/// One key of the configuration.
pub struct Key {
    /// Dotted name, section first: `topics.auto_create`.
    pub name: &'static str,
    /// Type, range and the field.
    pub kind: Kind,
    /// The value when nobody says anything, as one would write it after `-X key=`.
    pub default: &'static str,
    /// One sentence.
    pub meaning: &'static str,
}

/// What a key's value is, its range, and where it goes.
pub enum Kind {
    /// A whole number in `min..=max`.
    Number {
        /// Unit, which decides which strings are accepted.
        unit: Unit,
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
        /// Stores it.
        set: fn(&mut Config, u64),
    },
    /// −1 ("the cluster decides", `None`) or a number from 1 to `max`.
    OrAuto {
        /// Largest allowed value.
        max: u16,
        /// Stores it.
        set: fn(&mut Config, Option<u16>),
    },
    /// true or false.
    Flag(fn(&mut Config, bool)),
    /// Any text of at most 1,024 bytes without control characters.
    Text(fn(&mut Config, String)),
    /// An address to listen on, or `off`.
    Listener(fn(&mut Config, Option<Listener>)),
    /// An address to tell, or `auto`.
    Advertised(fn(&mut Config, Advertised)),
    /// Several texts; with commas between them outside a file.
    List(fn(&mut Config, Vec<String>)),
}

/// Unit of a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// A plain count.
    Count,
    /// Milliseconds; `"500ms"`, `"30s"`, `"5m"`, `"2h"` and `"7d"` are accepted.
    Milliseconds,
    /// Bytes; `"64KiB"`, `"1MiB"`, `"1GiB"` and the decimal `"1MB"` are accepted.
    Bytes,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const HOUR_MS: u64 = 3_600_000;

/// The key with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

const fn key(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, meaning }
}

const fn count(min: u64, max: u64, set: fn(&mut Config, u64)) -> Kind {
    Kind::Number { unit: Unit::Count, min, max, set }
}

const fn duration_ms(min: u64, max: u64, set: fn(&mut Config, u64)) -> Kind {
    Kind::Number { unit: Unit::Milliseconds, min, max, set }
}

const fn bytes(min: u64, max: u64, set: fn(&mut Config, u64)) -> Kind {
    Kind::Number { unit: Unit::Bytes, min, max, set }
}

/// A number that its key's range keeps below 2^32.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).expect("every range that ends here stays below 2^32")
}

/// A number of bytes or elements in memory.
fn size(value: u64) -> usize {
    usize::try_from(value).expect("Bateau runs on 64-bit machines")
}

/// Every key, in the order of the documentation.
pub static KEYS: &[Key] = &[
    key(
        "node.id",
        count(1, 0x7FFF_FFFF, |config, value| config.node.id = NodeId::new(value)),
        "1",
        "This node's id, never reused in its cluster.",
    ),
    key(
        "node.data_dir",
        Kind::Text(|config, value| config.node.data_dir = PathBuf::from(value)),
        "data",
        "Where everything durable lives, relative to where the node starts.",
    ),
    key(
        "node.data_dir_exclusive",
        Kind::Flag(|config, value| config.node.data_dir_exclusive = value),
        "false",
        "The data directory has a filesystem of its own, so one `syncfs` may flush it.",
    ),
    key(
        "node.rack",
        Kind::Text(|config, value| config.node.rack = Some(value).filter(|rack| !rack.is_empty())),
        "",
        "The rack told to clients.",
    ),
    key(
        "node.shutdown_grace_ms",
        duration_ms(0, HOUR_MS, |config, value| config.node.shutdown_grace_ms = value),
        "5000",
        "How long a graceful stop may take.",
    ),
    key(
        "listeners.kafka",
        Kind::Listener(|config, value| config.listeners.kafka = value),
        "127.0.0.1:9092",
        "Where the Kafka door listens. `localhost:9092` is 127.0.0.1 and ::1; port 0 is any.",
    ),
    key(
        "listeners.kafka_advertised",
        Kind::Advertised(|config, value| config.listeners.kafka_advertised = value),
        "auto",
        "The address that Kafka clients are told to use; a listener beyond loopback names it.",
    ),
    key(
        "listeners.native",
        Kind::Listener(|config, value| config.listeners.native = value),
        "127.0.0.1:9443",
        "Where the native door listens, on UDP. As `kafka`.",
    ),
    key(
        "listeners.native_advertised",
        Kind::Advertised(|config, value| config.listeners.native_advertised = value),
        "auto",
        "As `kafka_advertised`, for the native door.",
    ),
    key(
        "listeners.http",
        Kind::Listener(|config, value| config.listeners.http = value),
        "127.0.0.1:8080",
        "Where the HTTP door listens, or `off`; see [http.md](http.md).",
    ),
    key(
        "listeners.peers",
        Kind::Listener(|config, value| config.listeners.peers = value),
        "127.0.0.1:9644",
        "Where other nodes connect. Opened when `cluster.voters` names other nodes, or when this \
         key is set.",
    ),
    key(
        "listeners.peers_advertised",
        Kind::Advertised(|config, value| config.listeners.peers_advertised = value),
        "auto",
        "The address that other nodes are told to dial; `auto` is this node's entry of \
         `cluster.voters`, or where it listens if it has none.",
    ),
    key(
        "listeners.allow_plaintext",
        Kind::Flag(|config, value| config.listeners.allow_plaintext = value),
        "false",
        "Lets a listener beyond loopback start without TLS: anyone in between can read and change.",
    ),
    key(
        "cluster.voters",
        Kind::List(|config, value| config.cluster.voters = value),
        "1@127.0.0.1:9644",
        "The founders as `id@host:port` of their peers listeners, this node among them; the same \
         list on each. One entry is a complete cluster. A node that joins later names members to \
         dial, not itself.",
    ),
    key(
        "topics.auto_create",
        Kind::Flag(|config, value| config.topics.auto_create = value),
        "true",
        "A topic is created when a client first asks for it.",
    ),
    key(
        "topics.partitions_default",
        count(1, 10_000, |config, value| config.topics.partitions_default = narrow(value)),
        "1",
        "Partitions of a topic whose creator names no number.",
    ),
    key(
        "topics.replication_factor_default",
        Kind::OrAuto {
            max: 7,
            set: |config, value| config.topics.replication_factor_default = value,
        },
        "-1",
        "Replicas per partition; -1 is min(3, nodes of the cluster).",
    ),
    key(
        "topics.min_insync_replicas",
        Kind::OrAuto { max: 7, set: |config, value| config.topics.min_insync_replicas = value },
        "-1",
        "Replicas that hold a record before its ack; -1, and whatever is less: the majority.",
    ),
    key(
        "groups.initial_rebalance_delay_ms",
        duration_ms(0, 300_000, |config, value| {
            config.groups.initial_rebalance_delay_ms = value;
        }),
        "0",
        "How long an empty group's first rebalance waits for more members (Kafka: 3000).",
    ),
    key(
        "groups.offsets_retention_minutes",
        count(1, 5_256_000, |config, value| config.groups.offsets_retention_minutes = value),
        "10080",
        "How long the offsets of an empty group are kept.",
    ),
    key(
        "groups.session_timeout_min_ms",
        duration_ms(1, 24 * HOUR_MS, |config, value| config.groups.session_timeout_min_ms = value),
        "6000",
        "Shortest session timeout that a member may ask for.",
    ),
    key(
        "groups.session_timeout_max_ms",
        duration_ms(1, 24 * HOUR_MS, |config, value| config.groups.session_timeout_max_ms = value),
        "1800000",
        "Longest session timeout that a member may ask for.",
    ),
    key(
        "tls.cert",
        Kind::Text(|config, value| config.tls.get_or_insert_default().cert = PathBuf::from(value)),
        "",
        "PEM file with this node's certificate chain. Given: every open door is encrypted.",
    ),
    key(
        "tls.key",
        Kind::Text(|config, value| config.tls.get_or_insert_default().key = PathBuf::from(value)),
        "",
        "PEM file with the certificate's private key, mode 0600.",
    ),
    key(
        "tls.client_ca",
        Kind::Text(|config, value| {
            let path = Some(value).filter(|value| !value.is_empty()).map(PathBuf::from);
            config.tls.get_or_insert_default().client_ca = path;
        }),
        "",
        "PEM file with authorities of clients, who must then have a certificate of one, and of \
         other nodes.",
    ),
    key(
        "auth.required",
        Kind::Flag(|_, _| {}),
        "false",
        "Clients must authenticate. This build has no authentication and takes only the default.",
    ),
    key(
        "auth.superusers",
        Kind::List(|_, _| {}),
        "",
        "Principals above all rules. This build has no authentication and takes only the default.",
    ),
    key(
        "limits.connections_max",
        count(1, 1_000_000, |config, value| config.limits.connections_max = narrow(value)),
        "10000",
        "Open connections, all doors together.",
    ),
    key(
        "limits.connections_per_ip_max",
        count(1, 1_000_000, |config, value| {
            config.limits.connections_per_ip_max = Some(narrow(value));
        }),
        "256",
        "Open connections per client address. Off in `dev` and for loopback.",
    ),
    key(
        "limits.connections_per_ip_second_max",
        count(1, 1_000_000, |config, value| {
            config.limits.connections_per_ip_second_max = Some(narrow(value));
        }),
        "50",
        "New connections per second and client address. Off in `dev` and for loopback.",
    ),
    key(
        "limits.connection_idle_ms",
        duration_ms(1_000, 24 * HOUR_MS, |config, value| {
            config.limits.connection_idle_ms = value;
        }),
        "600000",
        "A connection without a request for so long is closed.",
    ),
    key(
        "limits.connection_inflight_bytes_max",
        bytes(64 * KIB, 4 * GIB, |config, value| {
            config.limits.connection_inflight_bytes_max = size(value);
        }),
        "32MiB",
        "Request bytes in flight on one connection before it is not read further.",
    ),
    key(
        "limits.connection_reply_bytes_max",
        bytes(64 * KIB, GIB, |config, value| {
            config.limits.connection_reply_bytes_max = size(value);
        }),
        "8MiB",
        "Reply bytes queued on one connection before it is not read further.",
    ),
    key(
        "limits.kafka_frame_bytes_max",
        bytes(4 * KIB, GIB, |config, value| config.limits.kafka_frame_bytes_max = size(value)),
        "16MiB",
        "Largest Kafka request; a longer one closes its connection (Kafka: 100 MiB).",
    ),
    key(
        "limits.kafka_requests_inflight_max",
        count(1, 1_000, |config, value| config.limits.kafka_requests_inflight_max = size(value)),
        "16",
        "Kafka requests in flight on one connection before it is not read further.",
    ),
    key(
        "limits.fetch_reply_bytes_max",
        bytes(64 * KIB, 256 * MIB, |config, value| {
            config.limits.fetch_reply_bytes_max = size(value);
        }),
        "8MiB",
        "Record bytes of one Fetch reply, its first batch excepted.",
    ),
    key(
        "limits.stall_window_ms",
        duration_ms(100, HOUR_MS, |config, value| config.limits.stall_window_ms = value),
        "30000",
        "Window over which the pace of a sender inside a request is measured.",
    ),
    key(
        "limits.stall_bytes_per_second_min",
        count(1, GIB, |config, value| config.limits.stall_bytes_per_second_min = value),
        "1024",
        "A sender slower than this inside a request, over the window, is cut.",
    ),
    key(
        "limits.request_memory_bytes_max",
        bytes(16 * MIB, 1_024 * GIB, |config, value| {
            config.limits.request_memory_bytes_max = size(value);
        }),
        "1GiB",
        "Request bytes in memory, whole node, before connections are not read further.",
    ),
    key(
        "limits.group_members_max",
        count(1, 100_000, |config, value| config.limits.group_members_max = size(value)),
        "2000",
        "Members of one consumer group.",
    ),
    key(
        "limits.offset_metadata_bytes_max",
        bytes(0, 32 * KIB - 1, |config, value| {
            config.limits.offset_metadata_bytes_max = size(value);
        }),
        "4KiB",
        "Metadata that a client may store with one committed offset.",
    ),
    key(
        "limits.retention_check_ms",
        duration_ms(10, 24 * HOUR_MS, |config, value| config.limits.retention_check_ms = value),
        "30000",
        "Between two looks at what retention allows to go (Kafka: 5 minutes).",
    ),
    key(
        "limits.scrub_percent",
        count(0, 100, |config, value| config.limits.scrub_percent = narrow(value)),
        "5",
        "Share of the disk's time that the scrub may take, which reads everything once more; 0: \
         there is none.",
    ),
    key(
        "limits.scrub_interval_ms",
        duration_ms(100, 7 * 24 * HOUR_MS, |config, value| config.limits.scrub_interval_ms = value),
        "86400000",
        "Between the beginnings of two scrubs.",
    ),
    key(
        "limits.disk_free_soft_bytes",
        bytes(0, 1_024 * GIB, |config, value| config.limits.disk_free_soft_bytes = value),
        "5GiB",
        "With less free, produces get a retriable error (or with less than the percentage).",
    ),
    key(
        "limits.disk_free_soft_percent",
        count(0, 50, |config, value| config.limits.disk_free_soft_percent = value),
        "5",
        "As `disk_free_soft_bytes`, in percent of the filesystem; the larger of both holds.",
    ),
    key(
        "limits.disk_free_hard_bytes",
        bytes(0, 1_024 * GIB, |config, value| config.limits.disk_free_hard_bytes = value),
        "1GiB",
        "With less free, nothing is appended but what makes room and what groups commit.",
    ),
    key(
        "limits.disk_ballast_bytes",
        bytes(0, 64 * GIB, |config, value| config.limits.disk_ballast_bytes = value),
        "256MiB",
        "Room set aside so that votes, offset commits and deletions work on a full disk.",
    ),
];

/// Keys that have another default in `dev`: its place is the project, its disk a laptop's.
pub static DEV_DEFAULTS: &[(&str, &str)] = &[
    ("node.data_dir", "./.bateau"),
    ("limits.disk_free_soft_bytes", "64MiB"),
    ("limits.disk_free_soft_percent", "0"),
    ("limits.disk_free_hard_bytes", "16MiB"),
    ("limits.disk_ballast_bytes", "4MiB"),
];

/// The defaults of `protocol/src/limits.rs` and of this table are one number each.
const _: () = assert!(limits::KAFKA_FRAME_BYTES_MAX as u64 == 16 * MIB);
const _: () = assert!(limits::CONNECTION_BYTES_INFLIGHT_MAX as u64 == 32 * MIB);
const _: () = assert!(limits::FETCH_REPLY_BYTES_MAX as u64 == 8 * MIB);
const _: () = assert!(limits::KAFKA_REQUESTS_INFLIGHT_MAX == 16);
const _: () = assert!(limits::OFFSET_METADATA_BYTES_MAX as u64 == 4 * KIB);
