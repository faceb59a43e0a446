//! `kill -9` of the broker under a running Rust producer and running Rust group members: nothing
//! lost, nothing twice, and nobody has to do anything.
//!
//! The load and the judgement are those of [`following`](kafka_clients_tests::following); the
//! broker is back long before a record's deadline.
//!
//! Absent on purpose: power cuts (the tests of the log).

use bateau_client::Client;
use bateau_client::contexts::Contexts;
use kafka_clients_tests::broker::{Subject, binary};
use kafka_clients_tests::following::{Load, Progress};
use kafka_clients_tests::program::Program;
use kafka_clients_tests::scratch::ScratchDirectory;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Some two thousand records a second.
const LOAD: Load =
    Load { partitions: 4, stride: 300, ahead_max: 2_000, pause: Duration::from_micros(500) };

const KILLS: u32 = 3;

/// A kill comes at a moment within so much time.
const MOMENT_MAX: Duration = Duration::from_millis(150);

/// What takes longer has failed. Generous, for a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A broker's process, with ports and a data directory that outlive it.
struct Node {
    place: ScratchDirectory,
    addresses: [String; 3],
    program: Option<Program>,
}

const DOORS: [&str; 3] = ["kafka", "native", "http"];

impl Node {
    fn start() -> Self {
        let addresses = DOORS.map(|_| "127.0.0.1:0".to_owned());
        let mut node = Self { place: ScratchDirectory::new("kill9"), addresses, program: None };
        node.launch();
        node
    }

    fn launch(&mut self) {
        let mut command = Command::new(binary());
        command.args(["dev", "--exit-on-stdin-close"]).env_remove("RUST_LOG");
        for (door, address) in DOORS.iter().zip(&self.addresses) {
            command.arg(format!("--{door}")).arg(address);
        }
        command.arg("--data-dir").arg(self.place.path().join("data"));
        command.env("BATEAU_CONFIG_DIR", self.place.path().join("config"));
        let program = Program::start("bateau dev", command);
        let first = program.wait_for("ready line", TIMEOUT, |lines| lines.first().cloned());
        let ready = first.json.unwrap_or_else(|| panic!("{}{}", first.text, program.tail()));
        let opened = DOORS.map(|door| ready[door].as_str().expect("every door is open").to_owned());
        let is_first = self.addresses[0].ends_with(":0");
        assert!(is_first || opened == self.addresses, "{opened:?}, not {:?}", self.addresses);
        (self.addresses, self.program) = (opened, Some(program));
    }

    fn kill_and_start_again(&mut self) {
        self.program.take().expect("it runs").kill();
        self.launch();
    }

    /// The native door, with the pin that a user finds in the file of contexts.
    fn url(&self) -> String {
        let contexts = Contexts::load(&self.place.path().join("config")).expect("it was written");
        let native = &self.addresses[1];
        let mut named = contexts.iter().filter(|one| one.native.as_ref() == Some(native));
        let pin = named.next().and_then(|context| context.pin).expect("it has a pin");
        format!("quic://{native}?pin={pin}")
    }
}

/// Three kills at moments that the seed decides, each under full load.
fn kill_three_times(mut node: Node, progress: &Progress, seed: u64) -> Node {
    let mut random = fastrand::Rng::with_seed(seed);
    for kill in 1..=KILLS {
        let moment = random.u64(0..u64::try_from(MOMENT_MAX.as_micros()).expect("it is short"));
        thread::sleep(Duration::from_micros(moment));
        node.kill_and_start_again();
        progress.goes_on(&format!("after kill {kill}"));
    }
    node
}

#[test]
fn a_broker_that_is_killed_three_times_costs_rust_clients_nothing() {
    if Subject::of_this_run() != Subject::Bateau {
        return;
    }
    let seed = std::env::var("BATEAU_SEED").ok();
    let seed = seed.and_then(|text| u64::from_str_radix(&text, 16).ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat the moments of the kills with BATEAU_SEED={seed:x}");
    let node = Node::start();
    let client = Client::builder().address(node.url());
    let disturb = move |progress: &Progress| kill_three_times(node, progress, seed);
    let (_node, count) = LOAD.run(move || client.clone(), disturb);
    println!("{count} records, {KILLS} kills");
}
