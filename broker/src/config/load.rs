//! Sources to a [`Config`]: values into fields, then what one value says about another.
//!
//! Absent on purpose: I/O. Whether a directory exists or a port is free shows when it is used.

use super::address::Listener;
use super::keys::find;
use super::problem::{Problem, Problems};
use super::sources::{Origin, Sources};
use super::value::{Raw, store};
use super::{
    Advertised, Announce, ClusterSettings, Config, GroupSettings, Limits, ListenerSettings, Mode,
    NodeSettings, Origins, TlsSettings, TopicSettings, support,
};
use bateau_protocol::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The value that holds for each key, and who said it.
pub(super) type Effective = BTreeMap<&'static str, (Raw, Origin)>;

/// What the command line says beside keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// `dev` or `serve`.
    pub mode: Mode,
    /// `--ephemeral`
    pub ephemeral: bool,
    /// `--exit-on-stdin-close`
    pub exit_on_stdin_close: bool,
    /// `--test-control`
    pub test_control: bool,
    /// Ready line or banner.
    pub announce: Announce,
}

impl Start {
    /// A start without any flag, which says a ready line.
    #[must_use]
    pub const fn of(mode: Mode) -> Self {
        let (ephemeral, exit_on_stdin_close, test_control) = (false, false, false);
        let announce = Announce::ReadyLine;
        Self { mode, ephemeral, exit_on_stdin_close, test_control, announce }
    }
}

/// A configuration and its history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The checked values.
    pub config: Config,
    /// Where each of them came from.
    pub origins: Origins,
    /// The values as written, for `bateau config explain`.
    pub values: BTreeMap<&'static str, String>,
}

/// Judges all sources (`I-CONFIG-1`).
///
/// Errors: every [`Problem`] of every source, also of values that a stronger source overrides: a
/// file with a fault is a fault, whatever was tried on the command line.
pub fn load(start: Start, sources: &Sources) -> Result<Loaded, Problems> {
    let mut problems = sources.problems.clone();
    let mut config = blank(start);
    let mut effective = Effective::new();
    let defaults = Sources::defaults(start.mode);
    for setting in defaults.settings.iter().chain(&sources.settings) {
        let (origin, value) = (setting.origin.clone(), setting.raw.shown());
        let Some(key) = find(&setting.key) else {
            problems.push(Problem::UnknownKey { key: setting.key.clone(), origin, value });
            continue;
        };
        match store(key, &setting.raw, &mut config) {
            Some(()) => {
                effective.insert(key.name, (setting.raw.clone(), origin));
            }
            None => problems.push(Problem::BadValue { key: key.name, origin, value }),
        }
    }
    adapt(&mut config, &effective);
    problems.extend(support::unbuilt(&effective));
    problems.extend(Relations { config: &config, effective: &effective }.problems());
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    assert!(
        config.listeners.allow_plaintext
            || plaintext_listeners(&config).all(|(_, listener)| listener.is_loopback()),
        "I-CONFIG-1: an unencrypted listener beyond loopback that nobody allowed"
    );
    Ok(Loaded {
        config,
        values: effective.iter().map(|(key, (raw, _))| (*key, raw.shown())).collect(),
        origins: effective.into_iter().map(|(key, (_, origin))| (key, origin)).collect(),
    })
}

/// What follows from a default and something else.
fn adapt(config: &mut Config, effective: &Effective) {
    let is_default = |key| effective.get(key).is_some_and(|(_, origin)| *origin == Origin::Default);
    if is_default("cluster.voters") {
        config.cluster.voters = vec![format!("{}@127.0.0.1:9644", config.node.id)];
    }
    if is_default("listeners.peers") && !names_others(config) {
        config.listeners.peers = None;
    }
    config.tls = config.tls.take().filter(|tls| *tls != TlsSettings::default());
    if config.mode != Mode::Dev {
        return;
    }
    if is_default("limits.connections_per_ip_max") {
        config.limits.connections_per_ip_max = None;
    }
    if is_default("limits.connections_per_ip_second_max") {
        config.limits.connections_per_ip_second_max = None;
    }
    let ListenerSettings { kafka, native, http, .. } = &mut config.listeners;
    for listener in [kafka, native, http].into_iter().flatten() {
        listener.pair_loopback |= listener.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST);
    }
}

/// Whether a node has others to speak with.
fn names_others(config: &Config) -> bool {
    let parts = config.cluster.voters.iter().map(|voter| voter_parts(voter));
    parts.flatten().any(|(id, _)| id != config.node.id.get())
}

/// The open doors that are not encrypted.
fn plaintext_listeners(config: &Config) -> impl Iterator<Item = (&'static str, Listener)> {
    let Config { listeners, .. } = config;
    let doors = [
        ("listeners.kafka", listeners.kafka),
        ("listeners.http", listeners.http),
        ("listeners.peers", listeners.peers),
    ];
    let is_plain = config.tls.is_none();
    doors
        .into_iter()
        .filter_map(move |(key, listener)| Some((key, listener?)))
        .filter(move |_| is_plain)
}

/// Founders of a cluster, at most.
const VOTERS_MAX: usize = 15;

/// Node and address of an entry of `cluster.voters`.
pub(crate) fn voter_parts(entry: &str) -> Option<(u64, &str)> {
    let (id, address) = entry.split_once('@')?;
    let is_named = matches!(address.parse(), Ok(Advertised::At { .. }));
    Some((id.parse().ok()?, address)).filter(|_| is_named)
}

/// Checks that concern two keys.
struct Relations<'a> {
    config: &'a Config,
    effective: &'a Effective,
}

impl Relations<'_> {
    fn problems(&self) -> Vec<Problem> {
        let first = [self.data_dir(), self.voters(), self.tls()].into_iter().flatten();
        first.chain(self.plaintext()).chain(self.advertised()).chain(self.orders()).collect()
    }

    fn data_dir(&self) -> Option<Problem> {
        let empty = self.config.node.data_dir.as_os_str().is_empty();
        empty.then(|| self.relation("node.data_dir", "names no directory".to_owned()))
    }

    fn voters(&self) -> Option<Problem> {
        let rule = self.voters_rule()?;
        Some(self.relation("cluster.voters", rule))
    }

    /// What is wrong with the voters.
    fn voters_rule(&self) -> Option<String> {
        let Config { cluster, node, listeners, .. } = self.config;
        if cluster.voters.is_empty() {
            return Some("one entry, this node's own, is a complete cluster".to_owned());
        }
        if cluster.voters.len() > VOTERS_MAX {
            let found = cluster.voters.len();
            return Some(format!("found {found} entries, expected at most {VOTERS_MAX}"));
        }
        let mut ids = BTreeSet::new();
        for voter in &cluster.voters {
            let Some((id, _)) = voter_parts(voter) else {
                return Some(format!("{voter:?} is no voter, expected id@host:port"));
            };
            if !ids.insert(id) {
                return Some(format!("names node {id} twice"));
            }
        }
        // A node that joins later names members to dial, and not itself.
        let names_others = ids.iter().any(|id| *id != node.id.get());
        if !ids.contains(&node.id.get()) && self.config.mode == Mode::Dev {
            let (own, origin) = self.said("node.id");
            let named: Vec<String> = ids.iter().map(u64::to_string).collect();
            let named = named.join(", ");
            return Some(format!("names node {named}, but node.id is {own} ({origin})"));
        }
        if names_others && listeners.peers.is_none() {
            return Some("names other nodes, so listeners.peers cannot be off".to_owned());
        }
        None
    }

    fn tls(&self) -> Option<Problem> {
        let tls = self.config.tls.as_ref()?;
        let is_missing = |path: &Path| path.as_os_str().is_empty();
        let (missing, given) = match (is_missing(&tls.cert), is_missing(&tls.key)) {
            (false, false) => return self.nodes_have_authority(tls),
            (false, true) => ("tls.key", "tls.cert"),
            (true, false) => ("tls.cert", "tls.key"),
            (true, true) => ("tls.cert", "tls.client_ca"),
        };
        let (value, origin) = self.said(given);
        Some(self.relation(missing, format!("{given} = {value} ({origin}) needs it")))
    }

    /// Nodes know each other by certificates where doors are encrypted.
    fn nodes_have_authority(&self, tls: &TlsSettings) -> Option<Problem> {
        let is_alone = self.config.listeners.peers.is_none() || tls.client_ca.is_some();
        (!is_alone).then(|| {
            let (value, origin) = self.said("listeners.peers");
            let rule = format!(
                "listeners.peers = {value} ({origin}) needs it beside tls.cert: the authority of \
                 the nodes' certificates"
            );
            self.relation("tls.client_ca", rule)
        })
    }

    fn plaintext(&self) -> Vec<Problem> {
        if self.config.listeners.allow_plaintext {
            return Vec::new();
        }
        let beyond = plaintext_listeners(self.config);
        let beyond = beyond.filter(|(_, listener)| !listener.is_loopback());
        let (value, origin) = self.said("listeners.allow_plaintext");
        let rule = format!(
            "a listener beyond loopback needs [tls], or listeners.allow_plaintext = true, \
             which is {value} ({origin})"
        );
        beyond.map(|(key, _)| self.relation(key, rule.clone())).collect()
    }

    fn advertised(&self) -> Vec<Problem> {
        let listeners = &self.config.listeners;
        let doors = [
            ("listeners.kafka", listeners.kafka, &listeners.kafka_advertised),
            ("listeners.native", listeners.native, &listeners.native_advertised),
        ];
        let keys = ["listeners.kafka_advertised", "listeners.native_advertised"];
        let found = doors.into_iter().zip(keys).filter_map(|((key, listener, told), told_key)| {
            let rule = match told {
                Advertised::Auto if self.config.mode == Mode::Serve && !listener?.is_loopback() => {
                    let (value, origin) = self.said(key);
                    format!(
                        "{key} = {value} ({origin}) lies beyond loopback, so name the \
                         host:port that clients reach"
                    )
                }
                Advertised::At { host, .. } if listener.is_some() && is_unspecified(host) => {
                    "is an address to listen on, which no client can reach".to_owned()
                }
                _ => return None,
            };
            Some(self.relation(told_key, rule))
        });
        found.chain(self.peers_advertised()).collect()
    }

    /// Members dial a node that joins where it says that it is.
    fn peers_advertised(&self) -> Option<Problem> {
        let listener = self.config.listeners.peers?;
        let own = self.config.node.id.get();
        let mut named = self.config.cluster.voters.iter().filter_map(|voter| voter_parts(voter));
        let is_told = match &self.config.listeners.peers_advertised {
            Advertised::At { host, .. } => !is_unspecified(host),
            Advertised::Auto => named.any(|(id, _)| id == own),
        };
        (!is_told && listener.address.ip().is_unspecified()).then(|| {
            let (value, origin) = self.said("listeners.peers");
            let rule = format!(
                "listeners.peers = {value} ({origin}) is an address to listen on, and \
                 cluster.voters does not name this node, so name the host:port that members dial"
            );
            self.relation("listeners.peers_advertised", rule)
        })
    }

    /// Keys of which the first must not exceed the second.
    fn orders(&self) -> Vec<Problem> {
        let Config { groups, limits, .. } = self.config;
        let wide = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        let frame = ("limits.kafka_frame_bytes_max", wide(limits.kafka_frame_bytes_max));
        let connection =
            ("limits.connection_inflight_bytes_max", wide(limits.connection_inflight_bytes_max));
        let node = ("limits.request_memory_bytes_max", wide(limits.request_memory_bytes_max));
        let shortest = ("groups.session_timeout_min_ms", groups.session_timeout_min_ms);
        let longest = ("groups.session_timeout_max_ms", groups.session_timeout_max_ms);
        let hard = ("limits.disk_free_hard_bytes", limits.disk_free_hard_bytes);
        let soft = ("limits.disk_free_soft_bytes", limits.disk_free_soft_bytes);
        let pairs = [(frame, connection), (connection, node), (shortest, longest), (hard, soft)];
        let broken = pairs.into_iter().filter(|((_, small), (_, large))| small > large);
        broken
            .map(|((smaller, _), (larger, _))| {
                let (value, origin) = self.said(larger);
                self.relation(smaller, format!("must not exceed {larger} = {value} ({origin})"))
            })
            .collect()
    }

    fn relation(&self, key: &'static str, rule: String) -> Problem {
        let (value, origin) = self.said(key);
        Problem::Relation { key, origin, value, rule }
    }

    fn said(&self, key: &'static str) -> (String, Origin) {
        let found = self.effective.get(key);
        found.map_or((String::new(), Origin::Default), |(raw, by)| (raw.shown(), by.clone()))
    }
}

fn is_unspecified(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// A configuration in which every field waits for its default.
fn blank(start: Start) -> Config {
    Config {
        mode: start.mode,
        ephemeral: start.ephemeral,
        exit_on_stdin_close: start.exit_on_stdin_close,
        test_control: start.test_control,
        announce: start.announce,
        node: NodeSettings {
            id: NodeId::new(0),
            data_dir: PathBuf::new(),
            data_dir_exclusive: false,
            rack: None,
            shutdown_grace_ms: 0,
        },
        listeners: ListenerSettings {
            kafka: None,
            kafka_advertised: Advertised::Auto,
            native: None,
            native_advertised: Advertised::Auto,
            http: None,
            peers: None,
            peers_advertised: Advertised::Auto,
            allow_plaintext: false,
        },
        cluster: ClusterSettings { voters: Vec::new() },
        topics: TopicSettings {
            auto_create: false,
            partitions_default: 0,
            replication_factor_default: None,
            min_insync_replicas: None,
        },
        groups: GroupSettings {
            initial_rebalance_delay_ms: 0,
            offsets_retention_minutes: 0,
            session_timeout_min_ms: 0,
            session_timeout_max_ms: 0,
        },
        tls: None,
        limits: Limits::default(),
    }
}
