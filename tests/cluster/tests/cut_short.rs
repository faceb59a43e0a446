//! A segment that somebody has cut short under a node that has it mapped: the node names it and
//! ends, and comes back with all that the others have.

use cluster_tests::network::Way;
use cluster_tests::nodes::{Ground, Nodes};
use cluster_tests::{TIMEOUT, operator, replicas};
use kafka_clients_tests::namespace;
use kafka_clients_tests::program::wait_until;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;

const TOPIC: &str = "orders";
/// `SIGABRT`.
const ABORTED: i32 = 6;
/// Where the first frame of a segment starts.
const HEADER_BYTES: u64 = 4096;

fn values(nodes: &Nodes, at: usize) -> Vec<String> {
    let records = operator::done(nodes, at, &["consume", TOPIC, "--exit-at-end"]);
    records.iter().map(|record| record["value"].to_string()).collect()
}

#[test]
fn a_segment_that_is_cut_short_under_a_node_is_named_and_the_node_comes_back() {
    let name = "a_segment_that_is_cut_short_under_a_node_is_named_and_the_node_comes_back";
    if !namespace::enter_to_network(name) {
        return;
    }
    let ground = Ground { has_native: true, ..Ground::of(Way::Packets) };
    let mut nodes = Nodes::started(3, ground, 1);
    operator::done(&nodes, 1, &["topic", "create", TOPIC, "--partitions", "1"]);
    for value in ["one", "two", "three"] {
        operator::done(&nodes, 1, &["produce", TOPIC, "-k", "7", value]);
    }
    let written = values(&nodes, 1);
    assert_eq!(written.len(), 3);
    let topic = operator::done(&nodes, 1, &["topic", "describe", TOPIC]);
    let leader = topic[0]["partitions"][0]["leader"].as_u64().expect("it has a leader");
    let leader = usize::try_from(leader).expect("a node");

    let segments = replicas::first_segments(&nodes, leader);
    let [segment] = &segments[..] else { panic!("one partition holds records: {segments:?}") };
    let file = File::options().write(true).open(segment).expect("it is there");
    file.set_len(HEADER_BYTES).expect("it can be cut short");
    // It may be answered by another node, once this one is gone.
    let _ = operator::run(&nodes, leader, &["consume", TOPIC, "--exit-at-end"]);
    let (status, said) = nodes.ended(leader);
    let wanted = format!("error: segment {}: byte {HEADER_BYTES} cannot", segment.display());
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(matches!(lines[..], [line] if line.starts_with(&wanted)), "{status}: {said}");
    assert_eq!(status.signal(), Some(ABORTED), "{status}: {said}");

    // What it has lost it gets from the others.
    nodes.launch(leader);
    nodes.until_ready(leader);
    wait_until("the node has its copy again", TIMEOUT, || {
        operator::hindrance(&nodes, leader, (TOPIC, 3)).is_none()
    });
    let compared = replicas::agree(&nodes, &nodes.ids(), TIMEOUT);
    assert!(compared.is_ok_and(|frames| frames > 3), "all copies are equal again");
    assert_eq!(values(&nodes, leader), written);
}
