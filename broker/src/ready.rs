//! What a node says once it is ready: one JSON line for programs, a banner for people.
//!
//! Nothing is said before every listener answers and every local partition is recovered, and a
//! start that fails says nothing here: a program that reads stdout gets the line or the end.
//!
//! Absent on purpose: keys of doors that this build or configuration does not have.

use crate::config::{Announce, Config, Mode};
use crate::node::Addresses;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

/// What the server learned while starting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Started {
    /// Where the doors really listen.
    pub addresses: Addresses,
    /// From the start of the process until now.
    pub took: Duration,
}

/// The ready line; its keys are an interface, in this order.
#[derive(Serialize)]
struct ReadyLine {
    ready: bool,
    version: &'static str,
    node_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    native: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<SocketAddr>,
    data_dir: String,
    durability: &'static str,
    ready_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<Self>,
}

impl ReadyLine {
    fn of((config, started): &(&Config, Started)) -> Self {
        let Addresses { kafka, native, http, peers } = started.addresses;
        Self {
            ready: true,
            version: env!("CARGO_PKG_VERSION"),
            node_id: config.node.id.get(),
            kafka,
            native,
            http,
            peers,
            data_dir: data_dir(config),
            durability: config.durability().word(),
            ready_ms: u64::try_from(started.took.as_millis()).unwrap_or(u64::MAX),
            nodes: Vec::new(),
        }
    }
}

/// Says that the nodes of this process are ready, the way their configuration asks for.
///
/// A closed stdout or stderr is no reason to stop serving: such an error is dropped.
pub fn announce(nodes: &[(&Config, Started)]) {
    let Some((config, started)) = nodes.first() else { return };
    let said = match config.announce {
        Announce::ReadyLine => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(ready_line(nodes).as_bytes()).and_then(|()| stdout.flush())
        }
        Announce::Banner => {
            let text = match nodes {
                [_] => banner(config, *started),
                _ => banner_of_several(nodes),
            };
            io::stderr().lock().write_all(text.as_bytes())
        }
    };
    if let Err(error) = said {
        tracing::warn!(%error, "the announcement could not be written");
    }
}

/// The JSON line, with its line end: the first node's keys, and of several nodes the array of all.
///
/// # Panics
/// There is no node.
#[must_use]
pub fn ready_line(nodes: &[(&Config, Started)]) -> String {
    let first = nodes.first().expect("somebody is ready, or nothing would be said");
    let mut line = ReadyLine::of(first);
    if nodes.len() > 1 {
        line.nodes = nodes.iter().map(ReadyLine::of).collect();
    }
    let mut text = serde_json::to_string(&line).expect("strings and numbers are always JSON");
    text.push('\n');
    text
}

/// The banner, with addresses to paste and one line per insecure setting.
#[must_use]
pub fn banner(config: &Config, started: Started) -> String {
    let mut text = format!("bateau {}  ", env!("CARGO_PKG_VERSION"));
    let place = config.node.data_dir.display();
    text += &match (config.mode, config.ephemeral) {
        (Mode::Dev, true) => "dev mode: nothing is kept, nothing is flushed".to_owned(),
        (Mode::Dev, false) => {
            format!("dev mode: data in {place} (kept; --ephemeral keeps nothing)")
        }
        (Mode::Serve, _) => format!("node {}: data in {place}", config.node.id),
    };
    text += if config.topics.auto_create { ", topics created on first use\n" } else { "\n" };
    let Addresses { kafka, native, http, peers } = started.addresses;
    if let Some(kafka) = kafka {
        let address = kafka.to_string();
        let paste = format!("brokers: ['{address}']");
        line(&mut text, "Kafka", &format!("{address:<22} {paste:<34} <- paste into kafkajs"));
    }
    if let Some(native) = native {
        line(&mut text, "Native", &format!("quic://{native}"));
    }
    if let Some(http) = http {
        line(&mut text, "HTTP", &format!("http://{http}/"));
    }
    if let Some(peers) = peers {
        line(&mut text, "Peers", &peers.to_string());
    }
    line(
        &mut text,
        "Durability",
        match config.ephemeral {
            true => "ephemeral: an acknowledged record is in memory and goes with this process",
            false if config.listeners.peers.is_some() => {
                "acknowledged = flushed to disk by a majority of the replicas"
            }
            false => "acknowledged = flushed to disk, 1 copy",
        },
    );
    if config.listeners.kafka.is_some_and(|listener| !listener.is_loopback()) {
        let who = match &config.tls {
            None => "plaintext beyond loopback, and everybody may do everything",
            Some(tls) if tls.client_ca.is_none() => "everybody who connects may do everything",
            Some(_) => "every client with a certificate may do everything",
        };
        line(&mut text, "INSECURE", who);
    }
    let took = started.took.as_millis();
    let _ = writeln!(text, "  ready in {took} ms   stop: Ctrl-C");
    text
}

/// The banner of nodes that make a cluster in one process.
fn banner_of_several(nodes: &[(&Config, Started)]) -> String {
    let Some((config, Started { took, .. })) = nodes.first() else { return String::new() };
    let count = nodes.len();
    let mut text = format!("bateau {}  dev mode: {count} nodes, ", env!("CARGO_PKG_VERSION"));
    let place = config.node.data_dir.parent().unwrap_or(&config.node.data_dir).display();
    text += &match config.ephemeral {
        true => "nothing is kept, nothing is flushed".to_owned(),
        false => format!("data in {place} (kept; --ephemeral keeps nothing)"),
    };
    text += if config.topics.auto_create { ", topics created on first use\n" } else { "\n" };
    let kafka = nodes.iter().filter_map(|(_, started)| started.addresses.kafka);
    let kafka: Vec<String> = kafka.map(|address| format!("'{address}'")).collect();
    if !kafka.is_empty() {
        let paste = format!("brokers: [{}]", kafka.join(", "));
        line(&mut text, "Kafka", &format!("{paste}  <- paste into kafkajs"));
    }
    for (config, Started { addresses, .. }) in nodes {
        let doors = [
            addresses.kafka.map(|at| format!("{at:<16}")),
            addresses.native.map(|at| format!("quic://{at:<16}")),
            addresses.http.map(|at| format!("http://{at}/")),
        ];
        let doors: Vec<String> = doors.into_iter().flatten().collect();
        line(&mut text, &format!("Node {}", config.node.id), doors.join("  ").trim_end());
    }
    line(
        &mut text,
        "Durability",
        match config.ephemeral {
            true => "ephemeral: an acknowledged record is in memory and goes with this process",
            false => "acknowledged = flushed by a majority of the nodes, all on this disk",
        },
    );
    let _ = writeln!(text, "  ready in {} ms   stop: Ctrl-C", took.as_millis());
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<10} {value}");
}

fn data_dir(config: &Config) -> String {
    let path = &config.node.data_dir;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
    absolute.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, Start, load};

    fn config(mode: Mode, ephemeral: bool, flags: &[&str]) -> Config {
        let announce = Announce::ReadyLine;
        let start = Start { ephemeral, announce, ..Start::of(mode) };
        let mut sources = Sources::default();
        sources.add_flags(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
        load(start, &sources).expect("the flags are good").config
    }

    fn started() -> Started {
        let kafka = Some("127.0.0.1:51234".parse().unwrap());
        let addresses = Addresses { kafka, ..Addresses::default() };
        Started { addresses, took: Duration::from_millis(17) }
    }

    #[test]
    fn the_ready_line_has_the_keys_that_programs_read_in_their_order() {
        let config = config(Mode::Serve, false, &["node.data_dir=/srv/bateau", "node.id=3"]);
        let expected = concat!(
            r#"{"ready":true,"version":""#,
            env!("CARGO_PKG_VERSION"),
            r#"","node_id":3,"kafka":"127.0.0.1:51234","data_dir":"/srv/bateau","#,
            r#""durability":"flushed","ready_ms":17}"#,
            "\n"
        );
        assert_eq!(ready_line(&[(&config, started())]), expected);
    }

    #[test]
    fn a_door_that_is_off_has_no_key() {
        let config = config(Mode::Serve, false, &["listeners.kafka=off"]);
        let addresses = Addresses::default();
        let line = ready_line(&[(&config, Started { addresses, ..started() })]);
        for door in ["kafka", "native", "http"] {
            assert!(!line.contains(door), "{line}");
        }
    }

    #[test]
    fn every_open_door_has_its_key_and_its_line() {
        let config = config(Mode::Dev, false, &[]);
        let at = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let addresses = Addresses { kafka: at(1), native: at(2), http: at(3), peers: None };
        let started = Started { addresses, ..started() };
        let keys = r#""kafka":"127.0.0.1:1","native":"127.0.0.1:2","http":"127.0.0.1:3""#;
        assert!(ready_line(&[(&config, started)]).contains(keys));
        let banner = banner(&config, started);
        assert!(banner.contains("  Native     quic://127.0.0.1:2\n"), "{banner}");
        assert!(banner.contains("  HTTP       http://127.0.0.1:3/\n"), "{banner}");
    }

    #[test]
    fn several_nodes_are_an_array_beside_the_first_ones_keys() {
        let ids = ["node.id=1", "node.id=2"].map(|id| config(Mode::Dev, false, &[id]));
        let line = ready_line(&[(&ids[0], started()), (&ids[1], started())]);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["node_id"], 1);
        let nodes = line["nodes"].as_array().unwrap();
        assert_eq!((&nodes[0]["node_id"], &nodes[1]["node_id"]), (&1.into(), &2.into()));
        for node in nodes {
            assert_eq!((&node["ready"], &node["kafka"]), (&true.into(), &line["kafka"]));
            assert!(node.get("nodes").is_none());
        }
    }

    #[test]
    fn the_banner_of_several_has_one_list_to_paste_and_a_line_for_each() {
        let configs = [1, 2].map(|id| {
            let place = format!("node.data_dir=./.bateau/node-{id}");
            config(Mode::Dev, false, &[&format!("node.id={id}"), &place])
        });
        let at = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let of = |port| {
            let kafka = at(port);
            let addresses = Addresses { kafka, native: at(9_443), ..Addresses::default() };
            Started { addresses, ..started() }
        };
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "bateau {version}  dev mode: 2 nodes, data in ./.bateau (kept; --ephemeral keeps \
             nothing), topics created on first use\n  \
             Kafka      brokers: ['127.0.0.1:9092', '127.0.0.1:9093']  <- paste into kafkajs\n  \
             Node 1     127.0.0.1:9092    quic://127.0.0.1:9443\n  \
             Node 2     127.0.0.1:9093    quic://127.0.0.1:9443\n  \
             Durability acknowledged = flushed by a majority of the nodes, all on this disk\n  \
             ready in 17 ms   stop: Ctrl-C\n"
        );
        let nodes = [(&configs[0], of(9_092)), (&configs[1], of(9_093))];
        assert_eq!(banner_of_several(&nodes), expected);
    }

    #[test]
    fn an_ephemeral_node_says_so_to_programs_and_to_people() {
        let config = config(Mode::Dev, true, &[]);
        assert!(ready_line(&[(&config, started())]).contains(r#""durability":"ephemeral""#));
        assert!(banner(&config, started()).contains("nothing is kept, nothing is flushed"));
    }

    #[test]
    fn the_banner_has_an_address_to_paste() {
        let config = config(Mode::Dev, false, &["node.data_dir=./.bateau"]);
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "bateau {version}  dev mode: data in ./.bateau (kept; --ephemeral keeps nothing), \
             topics created on first use\n  \
             Kafka      127.0.0.1:51234        brokers: ['127.0.0.1:51234']       \
             <- paste into kafkajs\n  \
             Durability acknowledged = flushed to disk, 1 copy\n  \
             ready in 17 ms   stop: Ctrl-C\n"
        );
        assert_eq!(banner(&config, started()), expected);
    }

    #[test]
    fn the_banner_names_what_is_insecure() {
        let flags = [
            "listeners.kafka=0.0.0.0:9092",
            "listeners.kafka_advertised=broker:9092",
            "listeners.allow_plaintext=true",
        ];
        assert!(banner(&config(Mode::Serve, false, &flags), started()).contains("INSECURE"));
        let beyond = [&flags[..2], &["tls.cert=node.crt", "tls.key=node.key"]].concat();
        let text = banner(&config(Mode::Serve, false, &beyond), started());
        assert!(text.contains("INSECURE   everybody who connects may do everything"), "{text}");
        assert!(!banner(&config(Mode::Serve, false, &[]), started()).contains("INSECURE"));
    }
}
