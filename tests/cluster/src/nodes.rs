//! Brokers that are one cluster, each with a network and a filesystem of its own.
//!
//! Invariants
//! - A node keeps its address and its disk over its restarts.
//! - [`Nodes::ids`] are the members; spares have a network and a disk, and no process before they
//!   are let in ([`Nodes::join`]).
//! - No process outlives its [`Nodes`]; disks and networks go after the processes.
//!
//! Absent on purpose: what clients see ([`crate::load`]).

use crate::TIMEOUT;
use crate::disk::{self, Disk};
use crate::network::{self, KAFKA_PORT, Network, PEERS_PORT, Way};
use crate::wall_clock::{Library, WallClock};
use kafka_clients_tests::broker::binary;
use kafka_clients_tests::program::{Line, Program, wait_until};
use kafka_clients_tests::scratch::ScratchDirectory;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Between two looks at a node.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// What nodes stand on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ground {
    /// How they are kept apart.
    pub way: Way,
    /// Where they keep their data.
    pub disk: disk::Kind,
    /// Whether each has a wall clock of its own.
    pub has_clocks: bool,
    /// Whether each has an open native door, for an operator's commands.
    pub has_native: bool,
    /// Nodes that are no members yet.
    pub spares: usize,
}

impl Ground {
    /// The usual one.
    pub fn of(way: Way) -> Self {
        let disk = disk::Kind::Image(disk::SIZE_BYTES);
        Self { way, disk, has_clocks: false, has_native: false, spares: 0 }
    }
}

/// Nodes by their ids, from 1 on.
#[derive(Debug)]
pub struct Nodes {
    programs: BTreeMap<usize, Program>,
    disks: BTreeMap<usize, Disk>,
    clocks: BTreeMap<usize, WallClock>,
    members: BTreeSet<usize>,
    has_native: bool,
    /// Which the clocks need.
    _library: Option<Library>,
    /// How they reach each other.
    pub network: Network,
    place: ScratchDirectory,
}

impl Nodes {
    /// Makes networks, disks and files for so many members, and for spares; nothing runs yet.
    pub fn new(count: usize, ground: Ground, seed: u64) -> Self {
        let ids: Vec<usize> = (1..=count + ground.spares).collect();
        let network = Network::new(&ids, ground.way, seed);
        let disks = ids.iter().map(|id| (*id, Disk::new(*id, ground.disk))).collect();
        let library = ground.has_clocks.then(Library::compile).flatten();
        let clocks =
            library.iter().flat_map(|library| ids.iter().map(|id| (*id, library.clock(*id))));
        let (clocks, programs) = (clocks.collect(), BTreeMap::new());
        let place = ScratchDirectory::new("nodes");
        let (members, has_native) = ((1..=count).collect(), ground.has_native);
        let _library = library;
        let nodes = Self { programs, disks, clocks, members, has_native, _library, network, place };
        nodes.ids().into_iter().for_each(|id| nodes.configure(id, &nodes.ids()));
        nodes
    }

    /// Starts all of them and waits until they are ready.
    pub fn started(count: usize, ground: Ground, seed: u64) -> Self {
        let mut nodes = Self::new(count, ground, seed);
        nodes.ids().into_iter().for_each(|id| nodes.launch(id));
        for id in nodes.ids() {
            nodes.until_ready(id);
        }
        nodes
    }

    /// All members.
    pub fn ids(&self) -> Vec<usize> {
        self.members.iter().copied().collect()
    }

    /// Nodes that are no members.
    pub fn spares(&self) -> Vec<usize> {
        self.disks.keys().copied().filter(|id| !self.members.contains(id)).collect()
    }

    /// A spare becomes a member that knows these others; it is launched, and not waited for.
    pub fn join(&mut self, id: usize, others: &[usize]) {
        self.configure(id, others);
        self.members.insert(id);
        self.launch(id);
    }

    /// A member whose process has ended becomes a spare with an empty disk.
    pub fn leave(&mut self, id: usize) {
        assert!(!self.running(id), "it has ended");
        self.members.remove(&id);
        self.programs.remove(&id);
        self.disk(id).wipe();
    }

    /// Two nodes that do not run get each other's disks.
    pub fn swap_disks(&mut self, one: usize, other: usize) {
        let taken = [one, other].map(|id| self.disks.remove(&id).expect("every node has a disk"));
        let [of_one, of_other] = taken;
        self.disks.insert(one, of_other);
        self.disks.insert(other, of_one);
        let voters = self.ids();
        [one, other].into_iter().for_each(|id| self.configure(id, &voters));
    }

    /// All members but this one.
    pub fn others(&self, id: usize) -> Vec<usize> {
        self.ids().into_iter().filter(|other| *other != id).collect()
    }

    fn file(&self, id: usize) -> PathBuf {
        self.place.path().join(format!("node{id}.toml"))
    }

    /// Writes the file of a node that is to dial these.
    fn configure(&self, id: usize, voters: &[usize]) {
        std::fs::write(self.file(id), self.configuration(id, voters)).expect("it is written");
    }

    fn configuration(&self, id: usize, voters: &[usize]) -> String {
        let disk = self.disk(id);
        let voters: Vec<String> = voters
            .iter()
            .map(|voter| format!("\"{voter}@{}:{PEERS_PORT}\"", network::address(*voter)))
            .collect();
        let address = network::address(id);
        let native = match self.has_native {
            true => format!("\"{0}\"\nnative_advertised = \"{0}\"", network::native(id)),
            false => "\"off\"".to_owned(),
        };
        format!(
            "[node]\nid = {id}\ndata_dir = \"{}\"\ndata_dir_exclusive = {}\n\
             [listeners]\nkafka = \"{address}:{KAFKA_PORT}\"\n\
             kafka_advertised = \"{address}:{KAFKA_PORT}\"\nnative = {native}\nhttp = \"off\"\n\
             peers = \"{address}:{PEERS_PORT}\"\nallow_plaintext = true\n\
             [cluster]\nvoters = [{}]\n\
             [limits]\nconnections_per_ip_max = 10000\nconnections_per_ip_second_max = 100000\n\
             retention_check_ms = 1000\n\
             disk_free_soft_bytes = \"64MiB\"\ndisk_free_soft_percent = 0\n\
             disk_free_hard_bytes = \"16MiB\"\ndisk_ballast_bytes = \"4MiB\"\n",
            disk.data().display(),
            disk.is_own(),
            voters.join(", "),
        )
    }

    /// Where a node's data lies.
    pub fn disk(&self, id: usize) -> &Disk {
        self.disks.get(&id).expect("every node has a disk")
    }

    /// A node's wall clock, where it has one of its own.
    pub fn clock(&self, id: usize) -> Option<&WallClock> {
        self.clocks.get(&id)
    }

    /// Takes a node's filesystem away and brings it back, as a new start of its machine does.
    pub fn remount(&mut self, id: usize) {
        self.disks.get_mut(&id).expect("every node has a disk").remount();
    }

    /// Starts a node.
    pub fn launch(&mut self, id: usize) {
        let mut command = network::command(id, binary());
        command.arg("serve").arg("--config").arg(self.file(id)).env_remove("RUST_LOG");
        if let Some(clock) = self.clock(id) {
            clock.give(&mut command);
        }
        self.programs.insert(id, Program::start(&format!("node {id}"), command));
    }

    /// Waits until a node has said that it is ready, and returns what it says it took, in ms.
    pub fn until_ready(&self, id: usize) -> u64 {
        self.program(id).wait_for("ready line", TIMEOUT, |lines| {
            let ready = lines.iter().find_map(|line| line.json.as_ref())?;
            (ready["ready"] == true).then(|| ready["ready_ms"].as_u64().unwrap_or_default())
        })
    }

    /// Whether a node has said that it is ready.
    pub fn is_ready(&self, id: usize) -> bool {
        let is_ready = |line: &Line| line.json.as_ref().is_some_and(|json| json["ready"] == true);
        self.programs.get(&id).is_some_and(|program| program.lines().iter().any(is_ready))
    }

    /// Waits until a node is ready or its process has ended.
    pub fn until_ready_or_ended(&mut self, id: usize) {
        let deadline = Instant::now() + TIMEOUT;
        while !self.is_ready(id) && self.running(id) {
            let tail = || self.tail(id);
            assert!(Instant::now() < deadline, "node {id} is not ready, and goes on{}", tail());
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// Ends a node without a word.
    pub fn kill(&mut self, id: usize) {
        self.programs.remove(&id).expect("it runs").kill();
    }

    /// Whether a node's process runs.
    pub fn running(&mut self, id: usize) -> bool {
        self.programs.get_mut(&id).is_some_and(Program::running)
    }

    /// Waits until a node has ended by itself; its status and what it said on standard error.
    pub fn ended(&mut self, id: usize) -> (ExitStatus, String) {
        let mut program = self.programs.remove(&id).expect("it was started");
        let status = program.wait_for_exit(TIMEOUT);
        (status, program.errors().join("\n"))
    }

    /// As [`Self::ended`], and before these whether it had said that it is ready.
    pub fn ended_unready(&mut self, id: usize) -> (bool, ExitStatus, String) {
        wait_until("it has ended", TIMEOUT, || self.is_ready(id) || !self.running(id));
        if self.is_ready(id) && self.running(id) {
            self.kill(id);
            return (true, ExitStatus::default(), String::new());
        }
        let is_ready = self.is_ready(id);
        let (status, said) = self.ended(id);
        (is_ready, status, said)
    }

    /// What a node has said on standard error since it was started; nothing where it was ended.
    pub fn said(&self, id: usize) -> String {
        self.programs.get(&id).map(|program| program.errors().join("\n")).unwrap_or_default()
    }

    /// The end of what a node has said, for messages.
    pub fn tail(&self, id: usize) -> String {
        self.programs.get(&id).map(Program::tail).unwrap_or_default()
    }

    /// A node's process.
    pub fn program(&self, id: usize) -> &Program {
        self.programs.get(&id).expect("it runs")
    }

    /// The state of a node's process as the kernel tells it: `T` where it stands still.
    pub fn state(&self, id: usize) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.program(id).id())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}
