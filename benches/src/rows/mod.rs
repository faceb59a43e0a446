//! The rows, each its own short file, and what they share.
//!
//! ```text
//!   start  idle  build            a broker of our own, nothing sent or next to nothing
//!   produce  fetch  small         the loader against it, and a bare loop in turn
//!   recovery                      killed with -9 and started again
//!   bystander                     the same with and without abusive clients
//!   native                        the native protocol, its client, the TestBroker
//!   replicated                    three nodes, and a bare chain of three
//!   long_lived                    three nodes that sleep, come back, mend and move
//! ```
//!
//! Absent on purpose: rows that no gate needs. A row is one file and one line in [`FIRST_LIGHT`],
//! [`NATIVE_LIGHT`], [`THREE_NODES`] or [`LONG_LIVED`].

mod build;
mod bystander;
mod fetch;
mod idle;
mod long_lived;
mod native;
mod produce;
mod recovery;
mod replicated;
mod small;
mod start;

use crate::cleanup::Scratch;
use crate::client::Client;
use crate::cluster::Site;
use crate::counters::{Ticks, process_cpu};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::native::ends::Door;
use crate::native::replay::Outcome;
use crate::process::Running;
use crate::report::{Probe, Row, Unit};
use crate::stats::{Summary, ratios};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A row, or a few that are measured together.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What `--only` calls it.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Whether a broker that runs already will do.
    pub foreign: bool,
    run: fn(&Context) -> Result<Vec<Row>, Failure>,
}

pub use long_lived::LONG_LIVED;
pub use native::NATIVE_LIGHT;

/// The numbers of the first release, in the order in which they run.
pub const FIRST_LIGHT: &[Kind] = &[
    Kind { name: "size", about: "size of the binary", foreign: false, run: build::size },
    Kind { name: "crates", about: "packages in the binary", foreign: false, run: build::crates },
    Kind { name: "start", about: "exec to first ack", foreign: false, run: start::run },
    Kind { name: "idle_rss", about: "memory, idle", foreign: false, run: idle::rss },
    Kind { name: "idle_cpu", about: "CPU, 100 partitions", foreign: false, run: idle::cpu },
    Kind { name: "produce", about: "64 KiB batches", foreign: true, run: produce::run },
    Kind { name: "fetch", about: "cached data", foreign: true, run: fetch::run },
    Kind { name: "small", about: "one-record requests", foreign: true, run: small::run },
    Kind {
        name: "recovery_100",
        about: "kill -9, 2 GiB in 100 partitions",
        foreign: false,
        run: recovery::hundred,
    },
    Kind {
        name: "recovery_1",
        about: "kill -9, 2 GiB in one partition",
        foreign: false,
        run: recovery::one,
    },
    Kind { name: "bystander", about: "p99 beside abuse", foreign: true, run: bystander::run },
];

/// The numbers of three nodes.
pub const THREE_NODES: &[Kind] = &[
    Kind {
        name: "replicated",
        about: "64 KiB batches, three replicas, new files",
        foreign: false,
        run: replicated::on_new_files,
    },
    Kind {
        name: "replicated_recycled",
        about: "64 KiB batches, three replicas, files that retention has freed",
        foreign: false,
        run: replicated::on_recycled_files,
    },
];

/// A broker that runs already, instead of one of our own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process, where it is on this machine; without it there is no CPU time.
    pub pid: Option<u32>,
}

/// What a run was asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// The broker's binary.
    pub binary: PathBuf,
    /// A broker that runs already.
    pub foreign: Option<Foreign>,
    /// Interleaved pairs, or repetitions.
    pub pairs: usize,
    /// Share of each load, 1 for what the gates are about.
    pub scale: f64,
    /// Whether figures of the debug profile are wanted beside.
    pub with_debug: bool,
}

/// What rows are measured with.
#[derive(Debug)]
pub struct Context {
    /// What was asked for.
    pub settings: Settings,
    /// What it is measured on.
    pub machine: Machine,
    scratch: Scratch,
    serial: Cell<u32>,
}

/// A broker under measurement. One of our own ends, and its data goes, with this.
#[derive(Debug)]
pub struct Target {
    running: Option<Running>,
    _data: Option<Scratch>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Target {
    /// CPU time of its threads so far; `None` where its process is not known.
    fn cpu(&self, context: &Context) -> Result<Option<Duration>, Failure> {
        let foreign = context.settings.foreign.and_then(|foreign| foreign.pid);
        let pid = self.running.as_ref().map(Running::pid).or(foreign);
        pid.map(process_cpu).transpose()
    }

    fn client(&self) -> Result<Client, Failure> {
        Client::connect(self.address)
    }

    fn door(&self) -> Result<Door, Failure> {
        let door = self.running.as_ref().and_then(|running| running.native);
        door.ok_or_else(|| {
            Failure::unexpected("ready line", "no native door", "an address and pin")
        })
    }
}

impl Context {
    /// Rows will lie in a new directory under `parent`.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn new(settings: Settings, parent: &Path) -> Result<Self, Failure> {
        let scratch = Scratch::create(parent, &format!("run-{}", std::process::id()))?;
        let machine = Machine::look(scratch.path())?;
        Ok(Self { settings, machine, scratch, serial: Cell::new(0) })
    }

    /// Measures one kind of row.
    ///
    /// # Errors
    /// Whatever went wrong; then there is no figure.
    pub fn measure(&self, kind: &Kind) -> Result<Vec<Row>, Failure> {
        let before = Ticks::now();
        let mut rows = (kind.run)(self)?;
        let stolen = Ticks::now().stolen_since(&before);
        for row in &mut rows {
            note_noise(row, stolen);
        }
        Ok(rows)
    }

    /// A name that nothing else has in this run.
    fn unique(&self, name: &str) -> String {
        self.serial.set(self.serial.get() + 1);
        format!("{name}-{}", self.serial.get())
    }

    /// A topic name that nothing else has, on a foreign broker neither.
    fn topic(&self, name: &str) -> String {
        format!("first-light-{}-{}", std::process::id(), self.unique(name))
    }

    fn directory(&self, name: &str) -> Result<Scratch, Failure> {
        Scratch::create(self.scratch.path(), &self.unique(name))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(self.unique(name))
    }

    /// A node with its data in `place`, and its file beside everything else.
    fn site(&self, place: &Path) -> Site {
        Site { place: place.to_owned(), file: self.file("node").with_extension("toml") }
    }

    /// A broker of our own on an empty directory, or the foreign one.
    fn target(&self) -> Result<Target, Failure> {
        if let Some(foreign) = self.settings.foreign {
            return Ok(Target { running: None, _data: None, address: foreign.address });
        }
        let data = self.directory("data")?;
        let running = self.broker(data.path())?;
        let address = running.address;
        Ok(Target { running: Some(running), _data: Some(data), address })
    }

    /// A broker of our own on this directory.
    fn broker(&self, data: &Path) -> Result<Running, Failure> {
        Running::broker(&self.settings.binary, data)
    }

    fn bare_loop(&self, arguments: &[&str]) -> Result<Running, Failure> {
        Running::bare_loop(arguments, &self.file("bare-loop-log"))
    }

    /// A count, scaled; never zero.
    fn scaled(&self, count: u64) -> u64 {
        // Loads are far below what a float counts exactly.
        ((count as f64 * self.settings.scale).round() as u64).max(1)
    }

    /// A row without probe, gate and contract; `figures` is not empty.
    fn row(&self, name: &str, unit: Unit, figures: &[f64]) -> Result<Row, Failure> {
        let subject = match self.settings.foreign {
            Some(foreign) => foreign.address.to_string(),
            None => "bateau".to_owned(),
        };
        let figures = Summary::of(figures)
            .ok_or_else(|| Failure::unexpected(format!("figures of {name}"), 0, "1 or more"))?;
        let unjudged = if self.settings.foreign.is_some() {
            Some("gates are Bateau's")
        } else if self.settings.scale < 1.0 {
            Some("the load is scaled")
        } else {
            None
        };
        Ok(Row {
            name: name.to_owned(),
            subject,
            contract: Vec::new(),
            unit,
            figures,
            probe: None,
            gates: Vec::new(),
            unjudged,
            beside: Vec::new(),
        })
    }

    fn pairs_text(&self) -> String {
        format!("{} interleaved (ABBA)", self.settings.pairs)
    }

    fn durability_text(&self) -> String {
        match self.settings.foreign {
            Some(_) => "acks=all, flushed as the peer is configured".to_owned(),
            None => "acks=all, flushed before the ack".to_owned(),
        }
    }
}

/// Adds a probe to a row.
fn compare(row: &mut Row, name: &'static str, ours: &[f64], theirs: &[f64]) {
    let ratios = Summary::of(&ratios(ours, theirs));
    row.probe =
        Summary::of(theirs).zip(ratios).map(|(figures, ratios)| Probe { name, figures, ratios });
}

/// Says so where the machine was not quiet: a row to be repeated, not to be believed.
fn note_noise(row: &mut Row, stolen: f64) {
    /// Share of the time that a hypervisor may give to others.
    const STOLEN_MAX: f64 = 0.02;
    /// Distance of a probe's extremes, as a share of its median.
    const SPREAD_MAX: f64 = 0.15;
    let mut noise = Vec::new();
    if stolen > STOLEN_MAX {
        noise.push(format!("{:.1} % of the time was stolen", stolen * 100.0));
    }
    let spread = row.probe.as_ref().map_or(0.0, |probe| probe.figures.spread());
    if spread > SPREAD_MAX {
        noise.push(format!("the probe moved by {:.0} %", spread * 100.0));
    }
    if !noise.is_empty() {
        row.beside.push(("noise", noise.join(", ")));
    }
}

/// One slice of a load: what it moved, and what that cost.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Slice {
    wall: Duration,
    server_cpu: Option<Duration>,
    loader_cpu: Duration,
    /// Payload bytes, or requests.
    amount: u64,
}

impl Slice {
    /// What a loader noticed, what it cost the server, and how much was moved.
    fn new(outcome: Outcome, server_cpu: Option<Duration>, amount: u64) -> Self {
        let Outcome { wall, loader_cpu } = outcome;
        Self { wall, server_cpu, loader_cpu, amount }
    }

    /// 10^6 of the amount per second.
    fn millions_per_second(&self) -> f64 {
        self.amount as f64 / 1e6 / self.wall.as_secs_f64()
    }

    /// Server CPU in microseconds per unit of the amount.
    fn server_us_each(&self) -> Option<f64> {
        self.server_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.amount as f64)
    }

    /// Loader CPU in microseconds per unit of the amount.
    fn loader_us_each(&self) -> f64 {
        self.loader_cpu.as_secs_f64() * 1e6 / self.amount as f64
    }
}

/// CPU columns of slices whose amount is bytes: seconds per 10^9 bytes.
fn cpu_per_gigabyte(row: &mut Row, ours: &[Slice], theirs: &[Slice]) {
    let server = |slices: &[Slice]| {
        let each: Vec<f64> = slices.iter().filter_map(Slice::server_us_each).collect();
        Summary::of(&each).map(|each| format!("{:.3} CPU s/GB", each.median * 1e3))
    };
    let loader = |slices: &[Slice]| {
        let each: Vec<f64> = slices.iter().map(Slice::loader_us_each).collect();
        Summary::of(&each).map(|each| format!("{:.3} CPU s/GB", each.median * 1e3))
    };
    row.beside.extend(server(ours).map(|text| ("broker", text)));
    row.beside.extend(server(theirs).map(|text| ("bare loop", text)));
    row.beside.extend(loader(ours).map(|text| ("loader", text)));
    row.beside.extend(loader(theirs).map(|text| ("loader of the bare loop", text)));
}
