//! The broker under test: `bateau dev` as a child process on a data directory of its own.
//!
//! ```text
//!   Broker::start --> bateau dev --data-dir D --kafka A ... --> ready line --> bootstrap()
//!   kill() / terminate() --> restart(): the same D and the same port
//! ```
//!
//! # Invariants
//!
//! - A broker is used only after its ready line, and only at the address that the line names.
//! - A restart comes back on the same data directory and the same port, with the same settings.
//!
//! # Other subjects
//!
//! - `BATEAU_BIN`: the binary to run instead of the one built from this workspace. With
//!   `reference/kafka` there, a real Kafka answers to the same arguments.
//! - `BATEAU_IS_BUILT`: the binary of this workspace lies beside the tests already. A build of the
//!   whole workspace makes it, with other features than a build of its package alone, which would
//!   be a second build of much of it.
//! - `BATEAU_TEST_BOOTSTRAP=host:port`: tests that neither stop the broker nor need port 9092
//!   use that address and start nothing.
//! - `BATEAU_TEST_SUBJECT=kafka`: tells the tests that the subject is a real Kafka, where a
//!   few answers are known to differ (README.md lists them).
//!
//! # Absent on purpose
//!
//! Several processes, and any knowledge of what lies in the data directory ([`crate::data_dir`]).

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use bateau_testing::TestBroker;
use serde_json::Value;

use crate::program::Program;
use crate::scratch::ScratchDirectory;

/// Environment variable that names the broker's binary.
pub const BINARY_VARIABLE: &str = "BATEAU_BIN";

/// Environment variable that says that this workspace's binary is built.
const BUILT_VARIABLE: &str = "BATEAU_IS_BUILT";

/// A start that takes longer has failed. Generous for the sake of a JVM in Bateau's place.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A graceful stop that takes longer has failed.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What answers at the other end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The broker of this workspace.
    Bateau,
    /// Apache Kafka, for comparison.
    Kafka,
}

impl Subject {
    /// The subject of this run, from `BATEAU_TEST_SUBJECT`.
    pub fn of_this_run() -> Self {
        match env::var("BATEAU_TEST_SUBJECT").as_deref() {
            Err(_) | Ok("bateau") => Self::Bateau,
            Ok("kafka") => Self::Kafka,
            Ok(other) => panic!("BATEAU_TEST_SUBJECT is bateau or kafka, not {other}"),
        }
    }
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    program: Option<Program>,
    bootstrap: String,
    http: Option<String>,
    /// Of every node, where there are several.
    bootstraps: Vec<String>,
    defaults: bool,
    start: Start,
    settings: Vec<String>,
    data: PathBuf,
    /// Removed with the broker, where it is the broker's own.
    _own: Option<ScratchDirectory>,
}

impl Broker {
    /// Starts a broker on an empty data directory, with four partitions for a new topic.
    ///
    /// `address`: what the Kafka door binds (port 0 means any free port); `None` gives no
    /// address at all, as its users start it, and takes the ports that they expect.
    ///
    /// Panics when the ready line does not come.
    pub fn start(address: Option<&str>) -> Self {
        let own = ScratchDirectory::new("data");
        let broker =
            Self::launched(address, own.path(), &["topics.partitions_default=4"], Start::default());
        Self { _own: Some(own), ..broker }
    }

    /// Starts a broker on an empty data directory and a free port, with these settings (`-X`).
    pub fn start_with(settings: &[&str]) -> Self {
        let own = ScratchDirectory::new("data");
        let broker = Self::start_in(own.path(), settings);
        Self { _own: Some(own), ..broker }
    }

    /// The same under test control.
    pub fn start_controlled() -> Self {
        let own = ScratchDirectory::new("data");
        let broker = Self::launched(Some("127.0.0.1:0"), own.path(), &[], Start::controlled());
        Self { _own: Some(own), ..broker }
    }

    /// The same with three nodes in one process.
    pub fn start_controlled_nodes() -> Self {
        let own = ScratchDirectory::new("data");
        let start = Start { nodes_count: 3, ..Start::controlled() };
        let broker = Self::launched(Some("127.0.0.1:0"), own.path(), &[], start);
        Self { _own: Some(own), ..broker }
    }

    /// The same on a data directory that is the caller's.
    pub fn start_in(data: &Path, settings: &[&str]) -> Self {
        Self::launched(Some("127.0.0.1:0"), data, settings, Start::default())
    }

    fn launched(address: Option<&str>, data: &Path, settings: &[&str], start: Start) -> Self {
        let settings: Vec<String> = settings.iter().map(|one| (*one).to_owned()).collect();
        let (program, ready) = launch(address, data, &settings, start);
        Self {
            program: Some(program),
            bootstrap: ready.kafka,
            http: ready.http,
            bootstraps: ready.kafka_of_all,
            defaults: address.is_none(),
            start,
            settings,
            data: data.to_owned(),
            _own: None,
        }
    }

    /// `http://host:port` of the HTTP door, from the ready line.
    ///
    /// Panics when it is off.
    pub fn http(&self) -> String {
        let address = self.http.as_deref().expect("the HTTP door is open");
        format!("http://{address}")
    }

    /// Where its data lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The running process.
    ///
    /// Panics when it was stopped.
    pub fn program(&self) -> &Program {
        self.program.as_ref().expect("the broker runs")
    }

    /// The line in which this start said what its recovery found.
    pub fn recovery(&self) -> Value {
        self.program().wait_for_error("recovery line", START_TIMEOUT, recovery_line)
    }

    /// The address of the Kafka door, from the ready line.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The same of every node, with commas between them.
    pub fn bootstraps(&self) -> String {
        self.bootstraps.join(",")
    }

    /// The process id of the running broker.
    pub fn id(&self) -> u32 {
        self.program().id()
    }

    /// Whether the process still runs.
    pub fn running(&mut self) -> bool {
        self.program.as_mut().is_some_and(Program::running)
    }

    /// Kills the broker with -9.
    pub fn kill(&mut self) {
        if let Some(mut program) = self.program.take() {
            program.kill();
        }
    }

    /// Waits until the process has ended, of whatever it was told.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let mut program = self.program.take().expect("the broker runs");
        program.wait_for_exit(STOP_TIMEOUT)
    }

    /// Stops the broker with SIGTERM and asserts that it ends with code 0.
    pub fn terminate(&mut self) {
        let mut program = self.program.take().expect("the broker runs");
        program.terminate();
        let status = program.wait_for_exit(STOP_TIMEOUT);
        assert_eq!(status.code(), Some(0), "SIGTERM is a clean stop{}", program.tail());
    }

    /// Starts the broker again, on the same data and the same port.
    pub fn restart(&mut self) {
        assert!(self.program.is_none(), "a broker is stopped before it is started again");
        let address = if self.defaults { None } else { Some(self.bootstrap.as_str()) };
        let (program, ready) = launch(address, &self.data, &self.settings, self.start);
        assert_eq!(ready.kafka, self.bootstrap, "the broker comes back where it was");
        self.http = ready.http;
        self.program = Some(program);
    }

    /// Starts the stopped broker again, which must refuse, and returns how it ended.
    pub fn refused_restart(&self) -> Ended {
        assert!(self.program.is_none(), "a broker is stopped before it is started again");
        let data = self.data.to_string_lossy();
        run_to_end(&["dev", "--kafka", "127.0.0.1:0", "--data-dir", &data])
    }
}

/// How a run of the binary ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Lines of standard output.
    pub lines: Vec<String>,
    /// Lines of standard error.
    pub errors: Vec<String>,
}

impl Ended {
    /// The line of standard error that says why it ended.
    ///
    /// Panics when there is another number of such lines than one.
    pub fn reason(&self) -> &str {
        let mut reasons = self.errors.iter().filter_map(|line| line.strip_prefix("error: "));
        match (reasons.next(), reasons.next()) {
            (Some(reason), None) => reason,
            _ => panic!("not one reason: {self:?}"),
        }
    }

    /// What recovery said before, if it came that far.
    pub fn recovery(&self) -> Option<Value> {
        recovery_line(&self.errors)
    }
}

/// Runs the binary, which must end by itself.
pub fn run_to_end(arguments: &[&str]) -> Ended {
    let mut command = Command::new(binary());
    command.args(arguments).args(free_doors(arguments)).env_remove("RUST_LOG");
    let mut program = Program::start("bateau", command);
    let code = program.wait_for_exit(STOP_TIMEOUT).code();
    let lines = program.lines().into_iter().map(|line| line.text).collect();
    Ended { code, lines, errors: program.errors() }
}

/// What to add to the arguments of `dev` so that doors which they do not name take free ports.
pub fn free_doors(arguments: &[&str]) -> Vec<&'static str> {
    if arguments.first().is_some_and(|first| !first.starts_with("--") && *first != "dev") {
        return Vec::new();
    }
    let doors = ["--native", "--http"];
    let unnamed = doors.into_iter().filter(|door| !arguments.contains(door));
    unnamed.flat_map(|door| [door, "127.0.0.1:0"]).collect()
}

fn recovery_line(errors: &[String]) -> Option<Value> {
    let lines = errors.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut recovered = lines.filter(|line| {
        line["message"].as_str().is_some_and(|message| message.starts_with("recovered"))
    });
    recovered.next()
}

/// A broker that the tests of one process share while at least one of them holds it.
#[derive(Debug)]
pub enum SharedBroker {
    /// In this very process.
    Here(Box<TestBroker>, String),
    /// A process that was started here.
    Own(Box<Mutex<Broker>>, String),
    /// Started by somebody else, who named its address in `BATEAU_TEST_BOOTSTRAP`.
    Foreign(String),
}

/// Where tests find the broker that others of their process hold.
type Current = Mutex<Weak<SharedBroker>>;

impl SharedBroker {
    /// Joins the tests that share a broker now, or starts one. It stops with its last user, so
    /// no static outlives the tests and keeps a thread, a process or a directory behind.
    ///
    /// It is a TestBroker, which is the production engine, unless `BATEAU_BIN` asks for another
    /// binary.
    pub fn join() -> Arc<Self> {
        static CURRENT: Current = Mutex::new(Weak::new());
        match env::var_os(BINARY_VARIABLE) {
            None => Self::join_or_start(&CURRENT, Self::here),
            Some(_) => Self::join_process(),
        }
    }

    /// The same for tests that look at the broker's process.
    pub fn join_process() -> Arc<Self> {
        static CURRENT: Current = Mutex::new(Weak::new());
        Self::join_or_start(&CURRENT, || {
            let broker = Broker::start(Some("127.0.0.1:0"));
            let bootstrap = broker.bootstrap().to_owned();
            Self::Own(Box::new(Mutex::new(broker)), bootstrap)
        })
    }

    fn join_or_start(current: &Current, start: impl FnOnce() -> Self) -> Arc<Self> {
        // A test that failed to start a broker poisons nothing: the next one tries again.
        let mut current = current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(shared) = current.upgrade() {
            return shared;
        }
        let foreign = env::var("BATEAU_TEST_BOOTSTRAP").map(Self::Foreign);
        let shared = Arc::new(foreign.unwrap_or_else(|_| start()));
        *current = Arc::downgrade(&shared);
        shared
    }

    fn here() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime can be made");
        let builder = TestBroker::builder().config("topics.partitions_default", "4");
        let broker = runtime.block_on(builder.start()).expect("a broker starts");
        let bootstrap = broker.kafka_bootstrap();
        Self::Here(Box::new(broker), bootstrap)
    }

    /// The address of the Kafka door.
    pub fn bootstrap(&self) -> &str {
        match self {
            Self::Here(_, bootstrap) | Self::Own(_, bootstrap) | Self::Foreign(bootstrap) => {
                bootstrap
            }
        }
    }

    /// Panics when the broker's process has ended.
    pub fn assert_alive(&self) {
        if let Self::Own(broker, _) = self {
            let mut broker = broker.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if !broker.running() {
                let tail = broker.program.as_ref().map(Program::tail).unwrap_or_default();
                panic!("the broker has ended{tail}");
            }
        }
    }

    /// The most address space that the broker's process ever had, in bytes, used or not; `None`
    /// for a broker that is no process of ours, and where the system does not tell.
    pub fn address_space_peak_bytes(&self) -> Option<u64> {
        let Self::Own(broker, _) = self else { return None };
        let id = broker.lock().unwrap_or_else(std::sync::PoisonError::into_inner).id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

/// The addresses of a ready line.
struct Ready {
    kafka: String,
    kafka_of_all: Vec<String>,
    http: Option<String>,
}

/// What a start is told beside addresses and settings.
#[derive(Clone, Copy, Debug)]
struct Start {
    test_control: bool,
    nodes_count: u32,
}

impl Default for Start {
    fn default() -> Self {
        Self { test_control: false, nodes_count: 1 }
    }
}

impl Start {
    fn controlled() -> Self {
        Self { test_control: true, ..Self::default() }
    }
}

fn launch(
    address: Option<&str>,
    data: &Path,
    settings: &[String],
    start: Start,
) -> (Program, Ready) {
    let mut command = Command::new(binary());
    command.args(["dev", "--exit-on-stdin-close"]).env_remove("RUST_LOG");
    for setting in settings {
        command.args(["-X", setting]);
    }
    if let Some(address) = address {
        command.args(["--kafka", address, "--native", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    }
    if start.test_control {
        command.arg("--test-control");
    }
    if start.nodes_count > 1 {
        command.arg("--nodes").arg(start.nodes_count.to_string());
    }
    command.arg("--data-dir").arg(data);
    let program = Program::start("broker", command);
    let first = program.wait_for("ready line", START_TIMEOUT, |lines| lines.first().cloned());
    let ready = first.json.as_ref().filter(|json| json.get("ready") == Some(&true.into()));
    let address = |door| ready.and_then(|ready| ready.get(door)?.as_str()).map(str::to_owned);
    let Some(kafka) = address("kafka") else {
        panic!("not a ready line with a Kafka address: {}{}", first.text, program.tail());
    };
    let nodes = ready.and_then(|ready| ready.get("nodes")?.as_array());
    let of_all = nodes.into_iter().flatten().filter_map(|node| node.get("kafka")?.as_str());
    let kafka_of_all = of_all.map(str::to_owned).collect();
    (program, Ready { kafka, kafka_of_all, http: address("http") })
}

/// The broker's binary: `BATEAU_BIN`, or else the one that cargo builds (once per process, unless
/// `BATEAU_IS_BUILT`) into the target directory and profile that this test belongs to.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os(BINARY_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => {
            if env::var_os(BUILT_VARIABLE).is_none() {
                build();
            }
            let binary = profile_directory().join("bateau");
            assert!(binary.is_file(), "{}: cargo built no such file", binary.display());
            binary
        }
    })
}

fn build() {
    let profile_directory = profile_directory();
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => panic!("{}: not a cargo target", profile_directory.display()),
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "bateau", "--profile", profile, "--target-dir"]);
    command.arg(target_directory());
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = command.status().expect("cargo can be started");
    assert!(status.success(), "{command:?} failed");
}

/// `target/<profile>` of what runs: a test lies in `target/<profile>/deps`, a program beside it.
fn profile_directory() -> PathBuf {
    let test = env::current_exe().expect("a process knows its own executable");
    let directory = test.parent().expect("an executable lies in a directory");
    if !directory.ends_with("deps") {
        return directory.to_owned();
    }
    directory.parent().expect("cargo puts tests two levels below the target directory").to_owned()
}

/// The target directory that the running test was built into; packages are installed there.
pub fn target_directory() -> PathBuf {
    let profile = profile_directory();
    profile.parent().expect("a profile's directory lies in the target directory").to_owned()
}
