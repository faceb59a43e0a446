//! A network per node, joined by a bridge, and ways to lose what goes from one node to another.
//!
//! ```text
//!   the test's network ── bridge 10.77.0.254 ──┬── n1: 10.77.0.1     clients are out here
//!                                              ├── n2: 10.77.0.2
//!                                              └── n3: 10.77.0.3 ── void: a link to nowhere
//!   Way::Packets   n1 sends to 10.77.0.2 by a route into its void: real packets are lost, one way
//!   Way::Proxies   10.77.0.2:9640 of n1 is a proxy of the test ([`crate::proxy`])
//!   Way::Tunnels   n1 sends to 10.77.0.2 by a tunnel to the test ([`crate::packets`])
//! ```
//!
//! Invariants
//! - Only what nodes send to each other is ever lost; clients reach every node at any time.
//! - A fault is counted where it happens: packets that went into a void, bytes that a proxy took.
//!
//! Absent on purpose: `tc` and packet filters, which a kernel may lack.

use crate::packets::Tunnels;
use crate::proxy::Proxies;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

/// Port of every node's Kafka door.
pub const KAFKA_PORT: u16 = 9_092;
/// Port of every node's native door, where it is open.
pub const NATIVE_PORT: u16 = 9_440;
/// Port on which every node hears its peers.
pub const PEERS_PORT: u16 = 9_640;

/// How nodes are kept apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Routes lead into a void: packets are lost without a word, TCP finds out by itself.
    Packets,
    /// Proxies between the nodes swallow bytes, hold them back or cut connections.
    Proxies,
    /// Packets go through the test, which does to them what a profile says.
    Tunnels,
}

/// What was lost so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Packets that went into a void.
    pub packets: u64,
    /// Bytes that a proxy did not pass on.
    pub bytes: u64,
    /// Connections that a proxy cut or refused.
    pub connections: u64,
}

/// Nodes' networks; gone with the namespace of the test, or when dropped.
#[derive(Debug)]
pub struct Network {
    nodes: Vec<usize>,
    proxies: Option<Proxies>,
    tunnels: Option<Tunnels>,
    routes: Vec<(usize, usize)>,
    /// What the voids had counted when they were new.
    counted_before: u64,
}

impl Network {
    /// Makes a network for each of these nodes. To be called inside of
    /// `namespace::enter_to_network`, or of `enter_program`.
    pub fn new(nodes: &[usize], way: Way, seed: u64) -> Self {
        ip("link add bridge0 type bridge");
        ip("addr add 10.77.0.254/24 dev bridge0");
        ip("link set bridge0 up");
        for node in nodes {
            ip(&format!("netns add n{node}"));
            ip(&format!("link add e{node} type veth peer name eth0 netns n{node}"));
            ip(&format!("link set e{node} master bridge0 up"));
            ip(&format!("-n n{node} link set lo up"));
            ip(&format!("-n n{node} addr add {}/24 dev eth0", address(*node)));
            ip(&format!("-n n{node} link set eth0 up"));
            ip(&format!("-n n{node} link add void type veth peer name nowhere"));
            ip(&format!("-n n{node} link set void addrgenmode none"));
            ip(&format!("-n n{node} link set nowhere addrgenmode none"));
            ip(&format!("-n n{node} link set void arp off up"));
            ip(&format!("-n n{node} link set nowhere up"));
        }
        if way == Way::Proxies {
            nodes.iter().for_each(|node| answer_for_the_link_alone(*node));
        }
        let proxies = (way == Way::Proxies).then(|| Proxies::start(nodes, seed));
        let tunnels = (way == Way::Tunnels).then(|| Tunnels::start(nodes, seed));
        let (nodes, routes) = (nodes.to_vec(), Vec::new());
        let mut network = Self { nodes, proxies, tunnels, routes, counted_before: 0 };
        network.counted_before = network.voided();
        network
    }

    /// How nodes are kept apart here.
    pub fn way(&self) -> Way {
        match (&self.proxies, &self.tunnels) {
            (Some(_), _) => Way::Proxies,
            (_, Some(_)) => Way::Tunnels,
            (None, None) => Way::Packets,
        }
    }

    /// What packets between nodes go through, where they do.
    pub fn tunnels(&self) -> Option<&Tunnels> {
        self.tunnels.as_ref()
    }

    /// From now on nothing that `from` sends reaches `to`; the other direction goes on.
    ///
    /// Panics with tunnels, which lose by profile.
    pub fn lose(&mut self, from: usize, to: usize) {
        assert!(self.tunnels.is_none(), "tunnels have a route there already");
        match &self.proxies {
            Some(proxies) => proxies.lose(from, to),
            None => {
                ip(&format!("-n n{from} route add {}/32 dev void", address(to)));
                self.routes.push((from, to));
            }
        }
    }

    /// From now on nothing goes between these nodes and the others, in either direction.
    pub fn split(&mut self, apart: &[usize]) {
        let others: Vec<usize> =
            self.nodes.iter().copied().filter(|one| !apart.contains(one)).collect();
        for other in others {
            for node in apart {
                self.lose(*node, other);
                self.lose(other, *node);
            }
        }
    }

    /// All faults end. Connections that have lost bytes are cut.
    pub fn heal(&mut self) {
        for (from, to) in std::mem::take(&mut self.routes) {
            ip(&format!("-n n{from} route del {}/32 dev void", address(to)));
        }
        if let Some(proxies) = &self.proxies {
            proxies.heal();
        }
    }

    /// Cuts every connection between nodes once; they may dial again. Only proxies can.
    pub fn cut(&self) {
        if let Some(proxies) = &self.proxies {
            proxies.cut();
        }
    }

    /// Holds back everything between nodes for up to so many milliseconds. Only proxies can.
    pub fn delay(&self, most_ms: u64) {
        if let Some(proxies) = &self.proxies {
            proxies.delay(most_ms);
        }
    }

    /// What was lost since this network is there.
    pub fn lost(&self) -> Lost {
        let proxied = self.proxies.as_ref().map(Proxies::lost).unwrap_or_default();
        Lost { packets: self.voided().saturating_sub(self.counted_before), ..proxied }
    }

    /// Packets that the kernel has sent into the voids.
    fn voided(&self) -> u64 {
        let counts = self.nodes.iter().map(|node| {
            let text = ip(&format!("-n n{node} -s -o link show void"));
            // ... TX: bytes packets errors ...\    70       1      0 ...
            let sent = text.split("TX:").nth(1).unwrap_or_default();
            let numbers = sent.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
            numbers.skip(1).take(1).sum::<u64>()
        });
        counts.sum()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        (self.proxies, self.tunnels) = (None, None);
        for node in &self.nodes {
            // The kernel takes a network apart later; the name of its link must be free at once.
            ip(&format!("link del e{node}"));
            ip(&format!("netns del n{node}"));
        }
        ip("link del bridge0");
    }
}

/// A node that has the others' addresses as its own must not say so on the bridge.
fn answer_for_the_link_alone(node: usize) {
    let setting = "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore";
    let mut shell = command(node, std::path::Path::new("sh"));
    let status = shell.args(["-c", setting]).status().expect("a shell is there");
    assert!(status.success(), "node {node}: {setting}");
}

/// Where a node is.
pub fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(node).expect("there are few nodes"))
}

/// A node's Kafka door.
pub fn kafka(node: usize) -> SocketAddr {
    SocketAddr::from((address(node), KAFKA_PORT))
}

/// A node's native door.
pub fn native(node: usize) -> SocketAddr {
    SocketAddr::from((address(node), NATIVE_PORT))
}

/// A command that runs `program` in a node's network.
pub fn command(node: usize, program: &std::path::Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &format!("n{node}")]).arg(program);
    command
}

/// Listens in a node's network. The listener may then be used from anywhere.
pub fn listen(node: usize, at: SocketAddr) -> TcpListener {
    inside(node, move || TcpListener::bind(at).expect("the address is this network's"))
}

/// Runs something in a node's network. What it opens may then be used from anywhere.
pub fn inside<T: Send + 'static>(node: usize, make: impl FnOnce() -> T + Send + 'static) -> T {
    let made = thread::spawn(move || {
        let network = File::open(format!("/run/netns/n{node}")).expect("the network has a name");
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), kind)
            .expect("a network of our own can be entered");
        make()
    });
    made.join().expect("it does not panic")
}

/// Runs `ip` and returns what it says.
///
/// Panics when it fails.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.expect("ip was there when the namespace was entered");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
