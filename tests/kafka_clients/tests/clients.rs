//! Kafka clients other than kafkajs: what each writes, each reads back unchanged.
//!
//! ```text
//!   produce: 12 records per codec (null keys, null values, headers) --> one topic per codec
//!   verify:  every client reads the topics of all clients, byte for byte
//!   group:   40 records, 20 consumed and committed, the next consumer gets the other 20
//! ```
//!
//! The programs are in `python/`, `go/` and `java/`; all take the same arguments and know the
//! same records. What they leave in the log is looked at with the raw client: the codec must be
//! the client's own, and batches of idempotent producers carry their producer id.

use std::process::Command;
use std::time::Duration;

use kafka_clients_tests::broker::{SharedBroker, Subject};
use kafka_clients_tests::program::Program;
use kafka_clients_tests::raw::calls;
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::Connection;
use kafka_clients_tests::raw::requests::unique;
use kafka_clients_tests::runtimes::{self, Installed};

/// A step of a client, start of its runtime included.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// In the order of their numbers in a batch's attributes.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Which topics of a client come from an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Idempotent {
    /// By default.
    Always,
    /// Where it is asked for: with zstd.
    OnRequest,
    /// The client does not know it.
    Never,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    name: &'static str,
    runtime: &'static str,
    installed: fn() -> Option<Installed>,
    idempotent: Idempotent,
}

const fn python(name: &'static str) -> Client {
    let runtime = "Python 3";
    Client { name, runtime, installed: runtimes::python, idempotent: Idempotent::OnRequest }
}

const fn go(name: &'static str, idempotent: Idempotent) -> Client {
    Client { name, runtime: "Go", installed: runtimes::go, idempotent }
}

const CONFLUENT_KAFKA: Client = python("confluent-kafka");
const KAFKA_PYTHON_2: Client = python("kafka-python-2");
const KAFKA_PYTHON_3: Client = python("kafka-python-3");
const AIOKAFKA: Client = python("aiokafka");
const FRANZ_GO: Client = go("franz-go", Idempotent::Always);
const SARAMA: Client = go("sarama", Idempotent::OnRequest);
const KAFKA_GO: Client = go("kafka-go", Idempotent::Never);
const JAVA: Client = Client {
    name: "java",
    runtime: "a JDK with Maven",
    installed: runtimes::java,
    idempotent: Idempotent::Always,
};
const ALL: [Client; 8] =
    [CONFLUENT_KAFKA, KAFKA_PYTHON_2, KAFKA_PYTHON_3, AIOKAFKA, FRANZ_GO, SARAMA, KAFKA_GO, JAVA];

impl Client {
    /// The client ready to run, or a skip.
    fn installed(&self, test: &str) -> Option<Installed> {
        let installed = (self.installed)();
        if installed.is_none() {
            runtimes::skip(test, &format!("{} needs {}", self.name, self.runtime));
        }
        installed
    }

    /// Runs one step to its end, which must be a success, and returns how often it reported
    /// `event`.
    fn step(&self, command: Command, arguments: &[&str], event: &str) -> usize {
        let mut command = command;
        command.args(arguments);
        let mut program = Program::start(self.name, command);
        let status = program.wait_for_exit(STEP_TIMEOUT);
        assert!(status.success(), "{} {arguments:?}: {status}{}", self.name, program.tail());
        program.lines().iter().filter(|line| line.event() == Some(event)).count()
    }

    fn produce(&self, installed: &Installed, bootstrap: &str) -> Vec<String> {
        let prefix = unique(self.name);
        let topics: Vec<String> = CODECS.iter().map(|codec| format!("{prefix}-{codec}")).collect();
        if Subject::of_this_run() == Subject::Kafka {
            // While Kafka creates a topic it answers with errors to retry, upon which clients
            // without idempotence may change the order, as they do there for everybody.
            let mut connection = Connection::open(bootstrap);
            topics.iter().for_each(|topic| calls::create_by_metadata(&mut connection, topic));
        }
        let arguments = [self.name, bootstrap, "produce", &prefix];
        let count = self.step(installed.command(), &arguments, "produced");
        assert_eq!(count, CODECS.len(), "{}", self.name);
        topics
    }

    fn verify(&self, installed: &Installed, bootstrap: &str, topics: &[String]) {
        let mut arguments = vec![self.name, bootstrap, "verify"];
        arguments.extend(topics.iter().map(String::as_str));
        let count = self.step(installed.command(), &arguments, "verified");
        assert_eq!(count, topics.len(), "{}", self.name);
    }

    /// What the client's batches look like in the log.
    fn check_batches(&self, bootstrap: &str, topics: &[String]) {
        let mut connection = Connection::open(bootstrap);
        for (number, (codec, topic)) in CODECS.iter().zip(topics).enumerate() {
            let fetched = calls::fetch(&mut connection, topic, 0, 0, Duration::ZERO);
            assert_eq!((fetched.code, fetched.high_watermark), (code::NONE, 12), "{topic}");
            let batches = batches(&fetched.records);
            let codecs: Vec<u8> = batches.iter().map(|batch| batch[22] & 7).collect();
            // Clients send a batch as it is where compression does not make it smaller.
            let as_asked = codecs.iter().any(|codec| usize::from(*codec) == number);
            let right = |codec: &u8| *codec == 0 || usize::from(*codec) == number;
            assert!(as_asked && codecs.iter().all(right), "{topic}: codecs {codecs:?}");
            let producer = batches[0][43..51].try_into().expect("eight bytes");
            let idempotent = match self.idempotent {
                Idempotent::Always => true,
                Idempotent::OnRequest => *codec == "zstd",
                Idempotent::Never => false,
            };
            let producer = i64::from_be_bytes(producer);
            assert_eq!(producer >= 0, idempotent, "{topic}: producer id {producer}");
        }
    }
}

/// The batches of a Fetch answer that ends with a whole one.
fn batches(mut records: &[u8]) -> Vec<&[u8]> {
    let mut batches = Vec::new();
    while !records.is_empty() {
        let length = i32::from_be_bytes(records[8..12].try_into().expect("four bytes"));
        let length = usize::try_from(length).expect("a batch has a length");
        let (batch, rest) = records.split_at(12 + length);
        batches.push(batch);
        records = rest;
    }
    batches
}

fn produces_and_consumes(client: Client) {
    let test = format!("{} produces and consumes", client.name);
    let Some(installed) = client.installed(&test) else { return };
    let broker = SharedBroker::join();
    let bootstrap = broker.bootstrap();
    let topics = client.produce(&installed, bootstrap);
    client.check_batches(bootstrap, &topics);
    client.verify(&installed, bootstrap, &topics);
    let (topic, group) = (unique(client.name), unique("group"));
    let arguments = [client.name, bootstrap, "group", &topic, &group];
    assert_eq!(client.step(installed.command(), &arguments, "resumed"), 1, "{test}");
    broker.assert_alive();
}

#[test]
fn confluent_kafka_produces_and_consumes() {
    produces_and_consumes(CONFLUENT_KAFKA);
}

#[test]
fn kafka_python_2_produces_and_consumes() {
    produces_and_consumes(KAFKA_PYTHON_2);
}

#[test]
fn kafka_python_3_produces_and_consumes() {
    produces_and_consumes(KAFKA_PYTHON_3);
}

#[test]
fn aiokafka_produces_and_consumes() {
    produces_and_consumes(AIOKAFKA);
}

#[test]
fn franz_go_produces_and_consumes() {
    produces_and_consumes(FRANZ_GO);
}

#[test]
fn sarama_produces_and_consumes() {
    produces_and_consumes(SARAMA);
}

#[test]
fn kafka_go_produces_and_consumes() {
    produces_and_consumes(KAFKA_GO);
}

#[test]
fn java_produces_and_consumes() {
    produces_and_consumes(JAVA);
}

#[test]
fn every_client_reads_what_every_client_wrote() {
    let test = "every_client_reads_what_every_client_wrote";
    let clients: Vec<(Client, Installed)> =
        ALL.into_iter().filter_map(|client| Some((client, client.installed(test)?))).collect();
    let broker = SharedBroker::join();
    let bootstrap = broker.bootstrap();
    let topics: Vec<String> = std::thread::scope(|scope| {
        let produce = |(client, installed): &'_ (Client, Installed)| {
            let (client, installed) = (*client, installed.clone());
            scope.spawn(move || client.produce(&installed, bootstrap))
        };
        let threads: Vec<_> = clients.iter().map(produce).collect();
        threads.into_iter().flat_map(|t| t.join().expect("its message is above")).collect()
    });
    let topics = &topics;
    std::thread::scope(|scope| {
        for (client, installed) in &clients {
            scope.spawn(move || client.verify(installed, bootstrap, topics));
        }
    });
    broker.assert_alive();
}
