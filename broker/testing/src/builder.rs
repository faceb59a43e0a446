//! The choices of a test broker.
//!
//! Absent on purpose: a store for each node. All nodes keep their data in the same way.

use crate::broker::{TestBroker, TestBrokerError};
use crate::store::MemoryStore;
use crate::temporary::Temporary;
use crate::witness::MEMORY_FREE_MIN;
use bateau::config::{Mode, Problems, Sources, Start, load};
use bateau::entropy::Entropy;
use bateau::local_cluster::{self, NODES_MAX};
use bateau::node::NodeSettings;
use std::path::PathBuf;
use std::sync::Arc;

/// The variable whose value, hexadecimal, is the seed of brokers that are given none.
const SEED_VARIABLE: &str = "BATEAU_SEED";

/// Where a test broker keeps its data.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Store {
    /// In memory, [`MEMORY_BYTES_MAX`](crate::MEMORY_BYTES_MAX) at most on each node; records
    /// beyond are refused. The only one that can [`crash`](TestBroker::crash).
    #[default]
    Memory,
    /// In a temporary directory, without flushes; it goes with the broker.
    Temporary,
    /// In this directory, flushed; it stays. Of several nodes each has one in it, `node-1` and so
    /// on.
    Directory(PathBuf),
}

/// A broker to be started.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes_count: u32,
    store: Store,
    seed: Option<u64>,
    topics: Vec<(String, u32)>,
    settings: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        let (store, seed) = (Store::default(), None);
        Self { nodes_count: 1, store, seed, topics: Vec::new(), settings: Vec::new() }
    }
}

impl Builder {
    /// How many nodes make the cluster, 1 to 5. Topics have three replicas where there are as many
    /// nodes. Default: 1.
    #[must_use]
    pub fn nodes(mut self, nodes_count: u32) -> Self {
        self.nodes_count = nodes_count;
        self
    }

    /// Where it keeps its data. Default: [`Store::Memory`].
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = store;
        self
    }

    /// Decides ids and what a crash leaves. Default: `BATEAU_SEED`, or else a random one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A topic that exists from the start.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>, partitions: u32) -> Self {
        self.topics.push((name.into(), partitions));
        self
    }

    /// A key of the configuration, as `bateau dev -X key=value` takes it. A test broker differs
    /// from `dev` in its ports, which are free ones, and in limits on free space.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.settings.push(format!("{key}={value}"));
        self
    }

    /// Starts it. Cost: a few milliseconds in memory; of several nodes, some of an election too.
    ///
    /// Errors: [`TestBrokerError`]; nothing is left running then.
    pub async fn start(self) -> Result<TestBroker, TestBrokerError> {
        TestBroker::start_with(self.plan()?).await
    }

    fn plan(self) -> Result<Plan, TestBrokerError> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => seed_of(std::env::var(SEED_VARIABLE).ok().as_deref())?,
        };
        let mut sources = Sources::default();
        sources.add_flags(&own_settings(&self.store));
        sources.add_flags(&self.settings);
        let start = Start { ephemeral: self.store == Store::Temporary, ..Start::of(Mode::Dev) };
        let loaded = load(start, &sources);
        let wrong = |problems: Problems| TestBrokerError::Config(problems.to_string());
        let mut loaded = loaded.map_err(wrong)?;
        if !(1..=NODES_MAX).contains(&self.nodes_count) {
            let found = self.nodes_count;
            let reason = format!("nodes = {found}: allowed is 1 to {NODES_MAX}");
            return Err(TestBrokerError::Config(reason));
        }
        let (place, temporary) = self.store.place()?;
        if let Some(place) = &place {
            loaded.config.node.data_dir.clone_from(place);
        }
        if let Some(listener) = &mut loaded.config.listeners.kafka {
            // Clients are told 127.0.0.1; a twin would only be another port to find.
            listener.pair_loopback = false;
        }
        let configs = local_cluster::configs(&loaded, self.nodes_count).map_err(wrong)?;
        if let Some(place) = &place {
            let prepared = local_cluster::prepare(place, self.nodes_count);
            prepared.map_err(|failure| TestBrokerError::NotStarted(failure.message))?;
        }
        let mut nodes = local_cluster::settings(&configs);
        let mut memories = Vec::new();
        if self.store == Store::Memory {
            for (node, number) in nodes.iter_mut().zip(0..) {
                let memory = Arc::new(MemoryStore::new(seed.wrapping_add(number)));
                node.store = memory.clone();
                memories.push(memory);
            }
        }
        Ok(Plan { seed, topics: self.topics, nodes, memories, temporary })
    }
}

/// Settings of every test broker, which its own may override.
fn own_settings(store: &Store) -> Vec<String> {
    let mut settings: Vec<String> = Vec::new();
    for door in ["kafka", "native", "http"] {
        settings.push(format!("listeners.{door}=127.0.0.1:0"));
    }
    // A stop has nobody to wait for.
    settings.push("node.shutdown_grace_ms=1000".to_owned());
    if *store == Store::Memory {
        settings.push(format!("limits.disk_free_soft_bytes={MEMORY_FREE_MIN}"));
        settings.push(format!("limits.disk_free_hard_bytes={}", MEMORY_FREE_MIN / 4));
    }
    settings.push("limits.disk_ballast_bytes=0".to_owned());
    settings
}

/// The seed that the variable names, or a random one of 32 bits, which is short to type.
fn seed_of(variable: Option<&str>) -> Result<u64, TestBrokerError> {
    let Some(text) = variable else { return Ok(Entropy::system().number() >> 32) };
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|_| TestBrokerError::Seed { found: text.to_owned() })
}

impl Store {
    /// The directory, and the one that goes with the broker; none in memory.
    fn place(&self) -> Result<(Option<PathBuf>, Option<Temporary>), TestBrokerError> {
        match self {
            Self::Memory => Ok((None, None)),
            Self::Temporary => {
                let made = Temporary::create().map_err(TestBrokerError::Temporary)?;
                Ok((Some(made.path().to_owned()), Some(made)))
            }
            Self::Directory(path) => Ok((Some(path.clone()), None)),
        }
    }
}

/// Everything that a broker is started with.
pub(crate) struct Plan {
    pub seed: u64,
    pub topics: Vec<(String, u32)>,
    /// In the order of their ids.
    pub nodes: Vec<NodeSettings>,
    /// The stores of nodes in memory.
    pub memories: Vec<Arc<MemoryStore>>,
    /// Removed when it is dropped.
    pub temporary: Option<Temporary>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_is_hexadecimal_and_random_where_none_is_given() {
        assert_eq!(seed_of(Some("8f31")).ok(), Some(0x8f31));
        assert_eq!(seed_of(Some("0x8f31")).ok(), Some(0x8f31));
        let refused = seed_of(Some("a broker")).expect_err("no seed");
        assert!(refused.to_string().contains("\"a broker\""), "{refused}");
        let draws: std::collections::BTreeSet<u64> =
            (0..4).filter_map(|_| seed_of(None).ok()).collect();
        assert!(draws.len() > 1 && draws.iter().all(|seed| *seed <= u64::from(u32::MAX)));
    }

    #[test]
    fn a_setting_of_the_test_wins_and_a_wrong_one_is_named() {
        let plan = Builder::default().config("topics.partitions_default", "7").plan();
        let config = &plan.expect("it is a good one").nodes[0].config;
        assert_eq!(config.topics.partitions_default, 7);
        let refused = Builder::default().config("topics.partitons", "7").plan();
        let text = refused.err().expect("no such key").to_string();
        assert!(text.contains("topics.partitons"), "{text}");
    }

    #[test]
    fn as_many_nodes_as_there_may_be() {
        assert_eq!(Builder::default().nodes(5).plan().expect("they are few").nodes.len(), 5);
        for nodes_count in [0, 6] {
            let refused = Builder::default().nodes(nodes_count).plan().err().expect("not so many");
            assert!(refused.to_string().contains("allowed is 1 to 5"), "{refused}");
        }
    }
}
