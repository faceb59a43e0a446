//! The command line beside kafkajs: what one writes the other reads, and a key is in the same
//! partition whoever wrote it.
//!
//! Absent on purpose: other clients. They partition as Java does, which the client's own tests
//! hold against vectors of each.

use kafka_clients_tests::program::Program;
use kafka_clients_tests::runtimes::{self, Installed};
use kafka_clients_tests::scratch::ScratchDirectory;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

/// For whatever takes seconds at most; generous, for busy machines.
const SOON: Duration = Duration::from_secs(60);

const RECORDS: usize = 60;
const PARTITIONS: &str = "7";

/// A broker of this test's own, whose user's contexts are this test's too.
struct Node {
    scratch: ScratchDirectory,
    _program: Program,
    kafka: String,
    native: String,
}

impl Node {
    fn start() -> Self {
        let scratch = ScratchDirectory::new("command-line");
        let mut command = bateau(&scratch);
        command.args(["dev", "--exit-on-stdin-close", "--kafka", "127.0.0.1:0"]);
        command.args(["--native", "127.0.0.1:0", "--http", "off", "--data-dir"]);
        command.arg(scratch.path().join("data"));
        let program = Program::start("broker", command);
        let first = program.wait_for("ready line", SOON, |lines| lines.first().cloned());
        let address = |door: &str| match first.json.as_ref().and_then(|json| json[door].as_str()) {
            Some(address) => address.to_owned(),
            None => panic!("no {door} door: {}{}", first.text, program.tail()),
        };
        let (kafka, native) = (address("kafka"), address("native"));
        Self { scratch, _program: program, kafka, native }
    }

    /// Runs a command, which must end well, and returns the objects that it prints.
    fn bateau(&self, arguments: &[&str]) -> Vec<Value> {
        let mut command = bateau(&self.scratch);
        command.args(arguments).args(["--broker", &self.native]);
        let mut program = Program::start("bateau", command);
        let status = program.wait_for_exit(SOON);
        assert!(status.success(), "{arguments:?}: {status}{}", program.tail());
        program.lines().into_iter().filter_map(|line| line.json).collect()
    }
}

fn bateau(scratch: &ScratchDirectory) -> Command {
    let mut command = Command::new(kafka_clients_tests::broker::binary());
    command.env("BATEAU_CONFIG_DIR", scratch.path().join("config"));
    command.env_remove("BATEAU_CONTEXT").env_remove("RUST_LOG");
    command
}

/// Runs kafkajs to its end and returns the records that it reported.
fn kafkajs(installed: &Installed, arguments: &[&str]) -> Vec<Value> {
    let mut command = installed.command();
    command.arg("command-line.js").args(arguments);
    let mut program = Program::start("kafkajs", command);
    program.wait_for_events("done", 1, SOON);
    assert!(program.wait_for_exit(SOON).success(), "{}", program.tail());
    let lines = program.lines().into_iter().filter(|line| line.event() == Some("record"));
    lines.filter_map(|line| line.json).collect()
}

/// Key, value and partition of each record, in one order.
fn placed(records: &[Value]) -> BTreeSet<(String, String, i64)> {
    let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
    let place = |record: &Value| {
        let partition = record["partition"].as_i64().expect("a record has a partition");
        (text(&record["key"]), text(&record["value"]), partition)
    };
    records.iter().map(place).collect()
}

fn partitions(records: &[Value]) -> BTreeMap<String, i64> {
    placed(records).into_iter().map(|(key, _, partition)| (key, partition)).collect()
}

#[test]
fn kafkajs_and_the_command_line_read_each_other_and_agree_on_partitions() {
    let Some(installed) = runtimes::node() else {
        return runtimes::skip("command_line", "Node.js or npm is missing");
    };
    let node = Node::start();
    let count = RECORDS.to_string();
    for topic in ["ours", "theirs"] {
        node.bateau(&["topic", "create", topic, "--partitions", PARTITIONS]);
    }

    // We write, kafkajs reads.
    let lines: String = (0..RECORDS)
        .map(|number| {
            json!({
                "key": format!("key-{number}"), "value": format!("value {number}"),
                "headers": { "source": "bateau" }, "timestamp": 1_000 + number,
            })
            .to_string()
                + "\n"
        })
        .collect();
    let file = node.scratch.path().join("ours.jsonl");
    std::fs::write(&file, lines).expect("the scratch directory is writable");
    let file = file.to_string_lossy();
    let acks = node.bateau(&["produce", "ours", "--jsonl", "--file", &file]);
    assert_eq!(acks.len(), RECORDS);
    let read = kafkajs(&installed, &[&node.kafka, "read", "ours", &count, "readers"]);
    let ours = node.bateau(&["consume", "ours", "--from", ":end"]);
    assert_eq!((read.len(), placed(&read)), (RECORDS, placed(&ours)));
    for record in &read {
        assert_eq!(record["headers"], json!({ "source": "bateau" }), "{record}");
        assert_eq!(record["timestamp"].as_str().map(str::len), Some(4), "{record}");
    }

    // kafkajs writes, we read.
    kafkajs(&installed, &[&node.kafka, "write", "theirs", &count]);
    let theirs = node.bateau(&["consume", "theirs", "--from", ":end"]);
    assert_eq!(theirs.len(), RECORDS);
    for record in &theirs {
        let headers = json!([{ "name": "source", "value": "kafkajs" }]);
        assert_eq!(record["headers"], headers, "{record}");
    }
    let used: BTreeSet<i64> = partitions(&theirs).into_values().collect();
    assert!(used.len() > 4, "{RECORDS} keys are spread over {used:?}");
    assert_eq!(partitions(&theirs), partitions(&ours), "a key has one place, whoever writes it");

    // The group of kafkajs is one group for both.
    let lag = node.bateau(&["lag", "readers"]);
    assert_eq!((&lag[0]["topic"], &lag[0]["lag"]), (&json!("ours"), &json!(0)), "{lag:?}");
    node.bateau(&["produce", "ours", "-k", "key-0", "one more"]);
    let next = node.bateau(&["consume", "ours", "--group", "readers", "-n", "1"]);
    assert_eq!(next[0]["value"], "one more", "it goes on where kafkajs had stopped");
}
