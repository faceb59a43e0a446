//! What one node is told before it starts: typed, checked, and with the origin of every value.
//!
//! ```text
//!   flags ─┐
//!   BATEAU_SECTION__KEY ─┤   sources        value             load
//!   file ─┤  (text, origin) ──► kinds, ranges ──► relations, features ──► Config
//!   default ─┘                    │                   │
//!                                 └──── problem ◄─────┘   every fault in one go, a line each
//! ```
//!
//! [`keys::KEYS`] is the one list of keys: parsing, `bateau config explain`, the page
//! `docs/configuration.md` and the tests follow from it.
//!
//! Invariants
//! - `I-CONFIG-1` A [`Config`] holds only values inside their ranges, and asks for no feature that
//!   this build lacks: whoever gets one need not check again.
//!
//! Absent on purpose: changing a value while the node runs, topic configs (they are on the wire,
//! under Kafka's names), and secrets.

pub mod address;
pub mod keys;
pub mod load;
pub mod problem;
pub mod sources;
pub mod support;
pub mod value;

pub use address::{Advertised, Listener};
pub(crate) use load::voter_parts;
pub use load::{Loaded, Start, load};
pub use problem::{Problem, Problems};
pub use sources::{Origin, Sources};

use crate::api::Durability;
use bateau_protocol::ids::NodeId;
use std::path::PathBuf;

/// Everything that a node needs to know to start (`I-CONFIG-1`).
///
/// Field names equal the keys of the file; a value's meaning and range stand in [`keys::KEYS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `dev` or `serve`.
    pub mode: Mode,
    /// Data lives in a temporary directory, is never flushed and goes at the end (`dev` only).
    /// `node.data_dir` names that directory already; `cli::start` makes it and removes it.
    pub ephemeral: bool,
    /// Drain and stop when stdin reaches its end.
    pub exit_on_stdin_close: bool,
    /// Tests may move the clock and inject faults (`dev` only).
    pub test_control: bool,
    /// What a successful start announces: the ready line on stdout, or the banner on stderr.
    pub announce: Announce,
    /// `[node]`
    pub node: NodeSettings,
    /// `[listeners]`
    pub listeners: ListenerSettings,
    /// `[cluster]`
    pub cluster: ClusterSettings,
    /// `[topics]`
    pub topics: TopicSettings,
    /// `[groups]`
    pub groups: GroupSettings,
    /// `[tls]`; where it is given, every open door is encrypted (`I-TLS-1`).
    pub tls: Option<TlsSettings>,
    /// `[limits]`
    pub limits: Limits,
}

impl Config {
    /// What an acknowledgement of this node promises.
    #[must_use]
    pub const fn durability(&self) -> Durability {
        if self.ephemeral { Durability::Ephemeral } else { Durability::Flushed }
    }
}

/// How the node was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// `bateau dev`: no file needed, limits per client address off.
    Dev,
    /// `bateau serve --config FILE`.
    Serve,
}

/// How a successful start is announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announce {
    /// One JSON object as the first line on stdout.
    ReadyLine,
    /// A banner with pasteable addresses on stderr.
    Banner,
}

/// `[node]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSettings {
    /// This node's id, 1 to 2^31 − 1: Kafka's wire has 31 bits for it.
    pub id: NodeId,
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// The data directory has a filesystem of its own, so one `syncfs` may flush it.
    pub data_dir_exclusive: bool,
    /// The rack told to clients; `None` where the key is empty.
    pub rack: Option<String>,
    /// How long a graceful stop may take.
    pub shutdown_grace_ms: u64,
}

/// `[listeners]`, as far as this build has doors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerSettings {
    /// Where the Kafka door listens; `None` when it is `"off"`.
    pub kafka: Option<Listener>,
    /// The address that clients of the Kafka door are told to use.
    pub kafka_advertised: Advertised,
    /// Where the native door listens; `None` when it is `"off"`.
    pub native: Option<Listener>,
    /// The address that clients of the native door are told to use.
    pub native_advertised: Advertised,
    /// Where the HTTP door listens; `None` when it is `"off"`.
    pub http: Option<Listener>,
    /// Where other nodes connect; `None` when it is `"off"`, or nobody asks for it.
    pub peers: Option<Listener>,
    /// The address that other nodes are told to dial.
    pub peers_advertised: Advertised,
    /// A listener beyond loopback may be unencrypted.
    pub allow_plaintext: bool,
}

/// `[cluster]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterSettings {
    /// The founders, `id@host:port`, this node among them.
    pub voters: Vec<String>,
}

/// `[topics]`: what a topic gets that does not say otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSettings {
    /// A topic is created when a client first asks for it.
    pub auto_create: bool,
    /// Partitions of a topic whose creator names no number.
    pub partitions_default: u32,
    /// Replicas per partition; `None` is −1 in the file: min(3, nodes known).
    pub replication_factor_default: Option<u16>,
    /// Replicas that must hold a record before its ack; `None` is −1: the majority.
    pub min_insync_replicas: Option<u16>,
}

/// `[groups]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSettings {
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay_ms: u64,
    /// How long an empty group's offsets are kept.
    pub offsets_retention_minutes: u64,
    /// Shortest session timeout that a member may ask for.
    pub session_timeout_min_ms: u64,
    /// Longest session timeout that a member may ask for.
    pub session_timeout_max_ms: u64,
}

/// `[tls]`: PEM files, relative to where the node starts. They are read when it does.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct TlsSettings {
    /// Certificate chain of the node, its own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of clients, which then need a certificate.
    pub client_ca: Option<PathBuf>,
}

/// `[limits]`: nothing in this process grows without one of these, or a constant beside its queue.
///
/// `default()` is all zeros and only of use as a start; [`load()`] fills every field.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open connections, all doors together.
    pub connections_max: u32,
    /// Open connections per client address; `None` in `dev`. Never applied to loopback peers.
    pub connections_per_ip_max: Option<u32>,
    /// New connections per second and client address; `None` in `dev`. Never for loopback peers.
    pub connections_per_ip_second_max: Option<u32>,
    /// A connection without a request for so long is closed.
    pub connection_idle_ms: u64,
    /// Request bytes that one connection may have in flight before it is not read further.
    pub connection_inflight_bytes_max: usize,
    /// Reply bytes queued on one connection before it is not read further.
    pub connection_reply_bytes_max: usize,
    /// Largest Kafka frame behind its length field.
    pub kafka_frame_bytes_max: usize,
    /// Kafka requests of one connection in flight before it is not read further.
    pub kafka_requests_inflight_max: usize,
    /// Record bytes of one Fetch reply, its first batch excepted.
    pub fetch_reply_bytes_max: usize,
    /// Window over which a sender inside a frame must reach `stall_bytes_per_second_min`.
    pub stall_window_ms: u64,
    /// A sender slower than this inside a frame is cut.
    pub stall_bytes_per_second_min: u64,
    /// Request bytes in memory, whole node, before connections are not read further.
    pub request_memory_bytes_max: usize,
    /// Between two looks at what retention allows to go.
    pub retention_check_ms: u64,
    /// Share of the disk's time that the scrub may take, in percent; 0: there is none.
    pub scrub_percent: u32,
    /// Between the beginnings of two scrubs.
    pub scrub_interval_ms: u64,
    /// Members of one consumer group.
    pub group_members_max: usize,
    /// Metadata string of one committed offset.
    pub offset_metadata_bytes_max: usize,
    /// Free bytes below which produces are refused; see also `disk_free_soft_percent`.
    pub disk_free_soft_bytes: u64,
    /// The same in percent of the filesystem; the larger of both holds.
    pub disk_free_soft_percent: u64,
    /// Free bytes below which leaders append nothing.
    pub disk_free_hard_bytes: u64,
    /// Bytes set aside for what must work on a full disk.
    pub disk_ballast_bytes: u64,
}

/// Where every value came from, for `bateau config explain` and the log.
pub type Origins = std::collections::BTreeMap<&'static str, Origin>;

#[cfg(test)]
mod tests;
