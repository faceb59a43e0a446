//! Nodes of a cluster on this machine: started, killed, and started again.
//!
//! ```text
//!   site: place and file ──► free ports ──► node.toml of each ──► bateau serve ──► ready lines
//! ```
//!
//! The links between nodes need addresses that all files name, so ports are chosen before anybody
//! listens: where the kernel chooses none for connections, so that a port of a node that is down
//! goes to nobody else. Every other door has any free port.
//!
//! Absent on purpose: nodes that come and go, and removal of data, which goes with its directory.

use crate::failure::{Failure, Tried};
use crate::process::{Running, Starting};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Where the kernel says which ports it gives to connections.
const EPHEMERAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The first of them where it does not say.
const EPHEMERAL_FIRST: u16 = 32_768;
/// Ports below them in which free ones are looked for.
const PORTS_TRIED: u16 = 12_000;

/// Where a node lives.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its data goes into `data` below.
    pub place: PathBuf,
    /// Its configuration; its log lies beside it.
    pub file: PathBuf,
}

/// What is the same for all nodes.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The broker.
    pub binary: &'a Path,
    /// One for each node.
    pub sites: &'a [Site],
    /// Whether a place is a filesystem that nobody else writes to.
    pub are_exclusive: bool,
    /// Whether the native and the HTTP door are open, as they are where nobody says otherwise.
    pub has_all_doors: bool,
    /// More of each file: whole sections.
    pub settings: &'a str,
}

/// Nodes that have founded a cluster, numbered from 0; their ids begin at 1.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    site: Site,
    running: Option<Running>,
}

impl Cluster {
    /// Starts all nodes, and waits until each is ready.
    ///
    /// # Errors
    /// A file cannot be written, or a node did not become ready.
    pub fn start(plan: Plan<'_>) -> Result<Self, Failure> {
        let ports = free_ports(plan.sites.len())?;
        let voters: Vec<String> =
            (1..).zip(&ports).map(|(id, port)| format!("\"{id}@127.0.0.1:{port}\"")).collect();
        let mut starting: Vec<Starting> = Vec::new();
        for (id, (site, port)) in (1..).zip(plan.sites.iter().zip(&ports)) {
            let door = if plan.has_all_doors { "127.0.0.1:0" } else { "off" };
            let text = format!(
                "[node]\nid = {id}\ndata_dir = \"{}\"\ndata_dir_exclusive = {}\n\
                 [listeners]\nkafka = \"127.0.0.1:0\"\nnative = \"{door}\"\nhttp = \"{door}\"\n\
                 peers = \"127.0.0.1:{port}\"\n[cluster]\nvoters = [{}]\n{}",
                site.data().display(),
                plan.are_exclusive,
                voters.join(", "),
                plan.settings,
            );
            fs::write(&site.file, text).tried(|| site.file.display().to_string())?;
            starting.push(Running::node(plan.binary, &site.file)?);
        }
        let mut nodes = Vec::new();
        for (site, starting) in plan.sites.iter().zip(starting) {
            nodes.push(Node { site: site.clone(), running: Some(starting.until_ready()?) });
        }
        Ok(Self { binary: plan.binary.to_owned(), nodes })
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Processes of the nodes that run, in the order of their ids.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.running.as_ref()).map(Running::pid).collect()
    }

    /// The Kafka door of a node.
    ///
    /// # Errors
    /// It does not run.
    pub fn address(&self, node: usize) -> Result<SocketAddr, Failure> {
        let running = self.nodes.get(node).and_then(|node| node.running.as_ref());
        let address = running.map(|running| running.address);
        address.ok_or_else(|| Failure::unexpected(format!("node {}", id(node)), "down", "up"))
    }

    /// Where a node keeps everything that is durable.
    #[must_use]
    pub fn data(&self, node: usize) -> PathBuf {
        self.nodes.get(node).map(|node| node.site.data()).unwrap_or_default()
    }

    /// What a node has logged since its newest start.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn said(&self, node: usize) -> Result<String, Failure> {
        let file = self.nodes.get(node).map(|node| node.site.file.with_extension("log"));
        let file = file.unwrap_or_default();
        fs::read_to_string(&file).tried(|| file.display().to_string())
    }

    /// Ends a node with SIGKILL, and waits until it is gone. One that is down stays so.
    pub fn kill(&mut self, node: usize) {
        if let Some(running) = self.nodes.get_mut(node).and_then(|node| node.running.take()) {
            running.kill();
        }
    }

    /// Starts a node that is down, and waits until it is ready.
    ///
    /// # Errors
    /// It did not become ready.
    pub fn start_again(&mut self, node: usize) -> Result<&Running, Failure> {
        let missing = || Failure::unexpected("node", id(node), "one of the cluster's");
        let found = self.nodes.get_mut(node).ok_or_else(missing)?;
        let running = Running::node(&self.binary, &found.site.file)?.until_ready()?;
        Ok(found.running.insert(running))
    }
}

impl Site {
    fn data(&self) -> PathBuf {
        self.place.join("data")
    }
}

/// The id of a node.
#[must_use]
pub fn id(node: usize) -> i32 {
    i32::try_from(node).map_or(i32::MAX, |node| node.saturating_add(1))
}

/// So many ports that nobody listens at, and that no connection is given.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let range = fs::read_to_string(EPHEMERAL_PORTS).unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    let end: u16 = first.unwrap_or(EPHEMERAL_FIRST);
    let lowest = end.saturating_sub(PORTS_TRIED).max(1_024);
    let tried = end.saturating_sub(lowest).max(1);
    // Where to begin: two runs beside each other do not try the same ports.
    let begin = u16::try_from(std::process::id() % u32::from(tried)).unwrap_or(0);
    let mut listeners = Vec::new();
    let mut ports = Vec::new();
    for step in 0..tried {
        if ports.len() == count {
            break;
        }
        let turned = (u32::from(begin) + u32::from(step)) % u32::from(tried);
        let port = lowest + u16::try_from(turned).unwrap_or(0);
        // Held until all are found, so that none is found twice.
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            listeners.push(listener);
            ports.push(port);
        }
    }
    match ports.len() {
        found if found < count => Err(Failure::unexpected("free ports", found, count)),
        _ => Ok(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ports_are_distinct_and_can_be_listened_at() {
        let ports = free_ports(6).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 6);
        for port in ports {
            assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "port {port} was free");
        }
    }

    #[test]
    fn a_node_that_is_down_has_no_door_and_says_so() {
        let site = Site { place: "place".into(), file: "place/node.toml".into() };
        let nodes = vec![Node { site, running: None }];
        let mut cluster = Cluster { binary: "bateau".into(), nodes };
        cluster.kill(0);
        assert!(cluster.address(0).unwrap_err().to_string().contains("node 1: down found"));
        assert_eq!(cluster.data(0), Path::new("place/data"));
        assert!(cluster.pids().is_empty() && cluster.start_again(1).is_err());
    }
}
