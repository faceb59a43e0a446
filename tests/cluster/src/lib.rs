//! Clusters of real processes under real faults, and the clients that judge them.
//!
//! ```text
//!   rows ── Nodes ──┬── Network: a namespace per node; routes into a void, or proxies
//!     │             │            or packets through the test, which loses, delays, damages some
//!     │             ├── Disk: an ext4 of its own on a loop device or on a device of ours; a tmpfs
//!     │             ├── WallClock: a wall clock of its own
//!     │             └── Program: killed, stopped, continued
//!     ├──── Load: producers, readers, askers ──> history ──> checker ──> Report
//!     └──── ledger: a line of JSON per run
//! ```
//!
//! [`Trio`] is the small cluster on one network, for founding and refusals. All of it is to be used
//! inside of a network namespace of the test's own, where every port is free.
//!
//! # Invariants
//!
//! - A node keeps its ports and its directory over its restarts.
//! - No process outlives its [`Trio`].
//!
//! # Absent on purpose
//!
//! What clients see: that is for the test to ask.

pub mod commanded;
pub mod device;
pub mod disk;
pub mod fuse;
pub mod group;
pub mod harm;
pub mod ledger;
pub mod load;
pub mod network;
pub mod nodes;
pub mod numbers;
pub mod operator;
pub mod packets;
pub mod proxy;
pub mod replicas;
pub mod rows;
pub mod wall_clock;
pub mod wire;

use kafka_clients_tests::broker::binary;
use kafka_clients_tests::following::Load;
use kafka_clients_tests::program::Program;
use kafka_clients_tests::scratch::ScratchDirectory;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// What takes longer has failed. Generous, for a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Nodes of a [`Trio`].
pub const NODES: [usize; 3] = [1, 2, 3];

/// What Rust clients do while nodes of a [`Trio`] go and come: some thousand records a second.
pub const RUST_LOAD: Load =
    Load { partitions: 6, stride: 200, ahead_max: 500, pause: Duration::from_millis(1) };

/// Three nodes by their ids.
#[derive(Debug)]
pub struct Trio {
    place: ScratchDirectory,
    programs: [Option<Program>; 3],
}

impl Trio {
    /// Writes three files; nothing runs yet.
    pub fn new() -> Self {
        let trio = Self { place: ScratchDirectory::new("trio"), programs: [None, None, None] };
        for id in NODES {
            std::fs::write(trio.file(id), trio.configuration(id, &NODES)).expect("it is written");
        }
        trio
    }

    /// As [`Self::new`], and all of them run and are ready.
    pub fn started() -> Self {
        let mut trio = Self::new();
        trio.launch_all();
        trio
    }

    /// The file of a node that names these voters. How full the machine's disk is must not matter.
    pub fn configuration(&self, id: usize, voters: &[usize]) -> String {
        let data = self.place.path().join(format!("node{id}"));
        let voters: Vec<String> =
            voters.iter().map(|voter| format!("\"{voter}@127.0.0.1:{}\"", 9_640 + voter)).collect();
        format!(
            "[node]\nid = {id}\ndata_dir = \"{}\"\n\
             [listeners]\nkafka = \"127.0.0.1:{}\"\nnative = \"off\"\nhttp = \"off\"\n\
             peers = \"127.0.0.1:{}\"\n\
             [limits]\ndisk_free_soft_bytes = \"64MiB\"\ndisk_free_soft_percent = 0\n\
             disk_free_hard_bytes = \"16MiB\"\ndisk_ballast_bytes = \"4MiB\"\n\
             [cluster]\nvoters = [{}]\n",
            data.display(),
            9_090 + id,
            9_640 + id,
            voters.join(", "),
        )
    }

    /// As [`Self::configuration`] with all voters, and an open native door.
    pub fn configuration_with_native(&self, id: usize) -> String {
        let text = self.configuration(id, &NODES);
        let open = format!("native = \"{}\"", Self::native(id));
        let text = text.replace("native = \"off\"", &open);
        assert!(text.contains(&open), "{text}");
        text
    }

    /// The native door of a node that has one.
    pub fn native(id: usize) -> String {
        format!("127.0.0.1:{}", 9_440 + id)
    }

    /// Where the file of a node is.
    pub fn file(&self, id: usize) -> PathBuf {
        self.place.path().join(format!("node{id}.toml"))
    }

    /// Where the data of a node is.
    pub fn data(&self, id: usize) -> PathBuf {
        self.place.path().join(format!("node{id}"))
    }

    /// Starts all of them and waits until they are ready.
    pub fn launch_all(&mut self) {
        NODES.into_iter().for_each(|id| self.launch(id));
        NODES.into_iter().for_each(|id| self.until_ready(id));
    }

    /// Starts a node.
    pub fn launch(&mut self, id: usize) {
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(self.file(id)).env_remove("RUST_LOG");
        self.programs[id - 1] = Some(Program::start(&format!("node {id}"), command));
    }

    /// Waits until a node has said that it is ready.
    pub fn until_ready(&self, id: usize) {
        let program = self.program(id);
        program.wait_for("ready line", TIMEOUT, |lines| {
            lines.iter().find(|line| line.text.contains("\"ready\":true")).cloned()
        });
    }

    /// Ends a node without a word.
    pub fn kill(&mut self, id: usize) {
        self.programs[id - 1].take().expect("it runs").kill();
    }

    /// Waits until a node has ended by itself; its status and what it said on standard error.
    pub fn ended(&mut self, id: usize) -> (ExitStatus, String) {
        let mut program = self.programs[id - 1].take().expect("it was started");
        let status = program.wait_for_exit(TIMEOUT);
        (status, program.errors().join("\n"))
    }

    /// A node's process.
    pub fn program(&self, id: usize) -> &Program {
        self.programs[id - 1].as_ref().expect("it runs")
    }

    /// Every node's Kafka door, for a client.
    pub fn bootstrap() -> String {
        NODES.map(|id| format!("127.0.0.1:{}", 9_090 + id)).join(",")
    }
}

impl Default for Trio {
    fn default() -> Self {
        Self::new()
    }
}
