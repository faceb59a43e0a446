//! Producers of every kind ride through the kill of a leader, at once and on one cluster.

use checker::{History, NEVER, Operation, Outcome, What, check};
use cluster_tests::TIMEOUT;
use cluster_tests::load::{Load, Shape};
use cluster_tests::network::{self, Way};
use cluster_tests::nodes::{Ground, Nodes};
use kafka_clients_tests::program::Program;
use kafka_clients_tests::{namespace, runtimes};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

const NAME: &str = "every_client_rides_through_the_kill_of_a_leader";
const TOPIC: &str = "orders";
const PARTITIONS: u32 = 6;
/// Numbers that one client may use.
const RANGE: u64 = 1_000_000;

/// What each client is started with, beside bootstrap, topic, partitions and first number.
fn clients() -> Vec<(&'static str, Option<Command>)> {
    let bootstrap = (1..=3).map(|node| network::kafka(node).to_string()).collect::<Vec<_>>();
    let bootstrap = bootstrap.join(",");
    let with = |mut command: Command, before: &[&str], after: &[&str]| {
        command.args(before).arg(&bootstrap).args(after);
        command
    };
    let node = runtimes::node().map(|node| with(node.command(), &["steady.js"], &[]));
    let java = runtimes::java_steady().map(|java| with(java.command(), &[], &[]));
    let go = runtimes::go().map(|go| with(go.command(), &["franz-go"], &["steady"]));
    let python = runtimes::python_file("steady_aiokafka.py");
    let python = python.map(|python| with(python.command(), &[], &[]));
    vec![("kafkajs", node), ("java", java), ("franz-go", go), ("aiokafka", python)]
}

#[test]
fn every_client_rides_through_the_kill_of_a_leader() {
    // What is missing is installed out here, where there is a network.
    let clients = clients();
    if !namespace::enter_to_network(NAME) {
        return;
    }
    let mut nodes = Nodes::started(3, Ground::of(Way::Packets), 1);
    let shape = Shape {
        partitions: PARTITIONS,
        ordered: 0,
        plain: 0,
        pause: Duration::from_millis(20),
        ask_pause: Duration::from_millis(50),
    };
    let load = Load::start(&nodes.ids(), &[], TOPIC, shape, 1);
    let mut programs = Vec::new();
    for (at, (name, command)) in (1_u64..).zip(clients) {
        let Some(mut command) = command else {
            runtimes::skip(NAME, &format!("{name} has no runtime here"));
            continue;
        };
        command.arg(TOPIC).arg(PARTITIONS.to_string()).arg((at * RANGE).to_string());
        programs.push((at, Program::start(name, command)));
    }
    for (_, program) in &programs {
        program.wait_for_events("first_ack", 1, TIMEOUT);
    }
    let victim = load.directory().leader(0).expect("the partition is led");
    nodes.kill(victim);
    let gone = [0];
    let others = nodes.others(victim);
    let elected = load.directory().led_elsewhere(&others, &gone, &[victim], TIMEOUT);
    println!("another leader after {elected:?}");
    nodes.launch(victim);
    nodes.until_ready(victim);
    programs.iter().for_each(|(_, program)| program.tell("stop"));
    let sent = programs.iter().flat_map(|(client, program)| sent(*client, program)).collect();
    // The load's own clients have read on meanwhile, and read everything once more in the end.
    let finished = load.finish();
    assert_eq!(finished.problems, Vec::<String>::new());
    let report = check(&History::of([finished.history.operations, sent]));
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(report.acked > 400, "the clients wrote on: {report}");
}

/// What a client says in the end that it has sent, in its order.
fn sent(client: u64, program: &Program) -> Vec<Operation> {
    let line = program.wait_for("what was sent", TIMEOUT, |lines| {
        lines.iter().find(|line| line.event() == Some("sent")).cloned()
    });
    let line = line.json.expect("it is an object");
    let number = |value: &Value| value.as_u64().expect("a number is told");
    let failed = line["failed"].as_array().expect("a list is told");
    assert!(failed.is_empty(), "{}: {failed:?}", program.name());
    let mut acked = std::collections::HashMap::new();
    for one in line["acked"].as_array().expect("a list is told") {
        let offset = one[1].as_i64().expect("a number is told");
        acked.insert(number(&one[2]), offset);
    }
    println!("{}: {} acknowledged", program.name(), acked.len());
    let first = client * RANGE;
    let sends = (first..number(&line["next"])).map(|value| {
        let offset = acked.get(&value).copied();
        Operation {
            client: 1_000 + u32::try_from(client).expect("it is small"),
            // When is not told, but in which order.
            invoked: value - first,
            returned: NEVER,
            what: What::Send {
                partition: u32::try_from(value % u64::from(PARTITIONS)).expect("it is small"),
                value,
                outcome: offset.map_or(Outcome::Unknown, Outcome::Acked),
                ordered: true,
            },
        }
    });
    sends.collect()
}
