//! The configurations of the nodes of one process, from the one that somebody gave.
//!
//! ```text
//!   --kafka 127.0.0.1:9092 ──> node 1: 9092    node 2: 9093    node 3: 9094, or a free one
//!   --data-dir DIR         ──> DIR/node-1      DIR/node-2      DIR/node-3
//! ```
//!
//! Invariants: the first node listens where it was told to; port 0 is any free one for each.
//!
//! Absent on purpose: what no two nodes may share, such as an advertised address: a value for it is
//! refused.

use super::places::place_of;
use crate::config::{Advertised, Config, Listener, Loaded, Origin, Problem, Problems};
use crate::controls::Controls;
use crate::entropy::Entropy;
use crate::node::{NodeSettings, Ports};
use crate::peers::Wires;
use bateau_protocol::ids::NodeId;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Nodes of one process.
pub const NODES_MAX: u32 = 5;

/// Keys whose value each node has to have for itself, or cannot have here.
const OWN_KEYS: [&str; 9] = [
    "node.id",
    "cluster.voters",
    "listeners.kafka_advertised",
    "listeners.native_advertised",
    "listeners.peers",
    "listeners.peers_advertised",
    "tls.cert",
    "tls.key",
    "tls.client_ca",
];

/// The configurations of `nodes_count` nodes that make a cluster, in the order of their ids. One
/// keeps the configuration as it is.
///
/// Errors: a key that only one node could have, or a TLS certificate, was given.
///
/// # Panics
/// `nodes_count` is 0 or above [`NODES_MAX`].
pub fn configs(loaded: &Loaded, nodes_count: u32) -> Result<Vec<Config>, Problems> {
    assert!((1..=NODES_MAX).contains(&nodes_count), "{nodes_count} nodes in one process");
    if nodes_count == 1 {
        return Ok(vec![loaded.config.clone()]);
    }
    let problems: Vec<Problem> =
        OWN_KEYS.iter().filter_map(|key| given(loaded, key, nodes_count)).collect();
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let ids = (1..=nodes_count).map(|id| NodeId::new(id.into()));
    let voters: Vec<String> = ids.clone().map(|id| format!("{id}@{}", Wires::name(id))).collect();
    Ok(ids.map(|id| of_node(&loaded.config, id, &voters)).collect())
}

fn given(loaded: &Loaded, key: &'static str, nodes_count: u32) -> Option<Problem> {
    let origin = loaded.origins.get(key)?.clone();
    if matches!(origin, Origin::Default | Origin::Dev) {
        return None;
    }
    let value = loaded.values.get(key).cloned().unwrap_or_default();
    let rule = format!("{nodes_count} nodes of one process cannot share it; leave it out");
    Some(Problem::Relation { key, origin, value, rule })
}

fn of_node(given: &Config, id: NodeId, voters: &[String]) -> Config {
    let mut config = given.clone();
    config.node.id = id;
    config.node.data_dir = place_of(&given.node.data_dir, id);
    config.cluster.voters = voters.to_vec();
    let listeners = &mut config.listeners;
    let doors = [&mut listeners.kafka, &mut listeners.native, &mut listeners.http];
    for listener in doors.into_iter().flatten() {
        listener.address.set_port(following(listener.address.port(), id));
    }
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    listeners.peers = Some(Listener { address, pair_loopback: false });
    listeners.peers_advertised = Advertised::Auto;
    config
}

/// The port of a node whose first one has this; 0 where there is none behind it.
fn following(port: u16, id: NodeId) -> u16 {
    let behind = u16::try_from(id.get() - 1).unwrap_or(u16::MAX);
    if port == 0 { 0 } else { port.checked_add(behind).unwrap_or(0) }
}

/// What the nodes of these configurations are started with. A port that follows another one is a
/// wish.
#[must_use]
pub fn settings(configs: &[Config]) -> Vec<NodeSettings> {
    let of_node = |(config, ports): (&Config, Ports)| NodeSettings {
        ports,
        ..NodeSettings::of(config.clone())
    };
    let ports = std::iter::once(Ports::Given).chain(std::iter::repeat(Ports::Wished));
    configs.iter().zip(ports).map(of_node).collect()
}

/// Puts nodes under the control of a test: one plan of faults for all, and ids that `seed` repeats.
/// `None` where there is no node.
pub fn control(nodes: &mut [NodeSettings], seed: u64) -> Option<Arc<Controls>> {
    let mut shared: Option<Arc<Controls>> = None;
    for node in nodes {
        let (id, clock) = (node.config.node.id, node.clock.clone());
        let controls = match &shared {
            Some(first) => first.beside(id, clock),
            None => Controls::new(id, clock),
        };
        node.entropy = entropy(seed, id);
        node.controls = Some(Arc::clone(&controls));
        shared.get_or_insert(controls);
    }
    shared
}

/// Of the first node it is the seed's own sequence.
fn entropy(seed: u64, id: NodeId) -> Entropy {
    Entropy::seeded(seed.wrapping_add((id.get() - 1) << 48))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mode, Sources, Start, load};

    fn loaded(flags: &[&str]) -> Loaded {
        let mut sources = Sources::default();
        sources.add_flags(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
        load(Start::of(Mode::Dev), &sources).expect("the flags are good")
    }

    #[test]
    fn the_ports_follow_each_other_and_everything_else_is_for_each() {
        let flags = ["listeners.http=127.0.0.1:65535", "topics.partitions_default=7"];
        let made = configs(&loaded(&flags), 3).expect("nothing is shared");
        let port = |listener: Option<Listener>| listener.map(|listener| listener.address.port());
        let kafka: Vec<_> = made.iter().map(|config| port(config.listeners.kafka)).collect();
        assert_eq!(kafka, [Some(9092), Some(9093), Some(9094)]);
        let http: Vec<_> = made.iter().map(|config| port(config.listeners.http)).collect();
        assert_eq!(http, [Some(65535), Some(0), Some(0)]);
        for (config, id) in made.iter().zip(1..) {
            assert_eq!(config.node.id, NodeId::new(id));
            assert!(config.node.data_dir.ends_with(format!(".bateau/node-{id}")));
            let partitions = config.topics.partitions_default;
            assert_eq!((partitions, config.cluster.voters.len()), (7, 3));
        }
        let free =
            configs(&loaded(&["listeners.kafka=127.0.0.1:0"]), 2).expect("nothing is shared");
        assert!(free.iter().all(|config| port(config.listeners.kafka) == Some(0)));
    }

    #[test]
    fn one_node_is_as_it_was_given() {
        let loaded = loaded(&["node.id=7"]);
        assert_eq!(configs(&loaded, 1), Ok(vec![loaded.config.clone()]));
    }

    #[test]
    fn what_only_one_node_can_have_is_named() {
        let loaded = loaded(&["node.id=7", "listeners.kafka_advertised=broker:9092"]);
        let refused = configs(&loaded, 3).expect_err("three cannot").to_string();
        let expected = "node.id = 7 (-X): 3 nodes of one process cannot share it; leave it out\n\
                        listeners.kafka_advertised = broker:9092 (-X): 3 nodes of one process \
                        cannot share it; leave it out";
        assert_eq!(refused, expected);
    }

    #[test]
    fn each_node_draws_other_ids_and_the_first_one_those_of_the_seed() {
        let draw = |id| entropy(7, NodeId::new(id)).bytes::<16>();
        assert_eq!(draw(1), Entropy::seeded(7).bytes());
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(2), draw(3));
    }
}
