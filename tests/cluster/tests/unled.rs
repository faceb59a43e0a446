//! A partition that nobody can lead, beside others that are served.

use cluster_tests::network::Way;
use cluster_tests::nodes::{Ground, Nodes};
use cluster_tests::{TIMEOUT, operator};
use kafka_clients_tests::namespace;
use kafka_clients_tests::program::wait_until;

#[test]
fn a_partition_without_a_majority_keeps_no_node_from_serving_the_others() {
    let name = "a_partition_without_a_majority_keeps_no_node_from_serving_the_others";
    if !namespace::enter_to_network(name) {
        return;
    }
    let ground = Ground { has_native: true, ..Ground::of(Way::Packets) };
    let mut nodes = Nodes::started(3, ground, 1);
    operator::done(
        &nodes,
        1,
        &["topic", "create", "pairs", "--partitions", "3", "--replicas", "2"],
    );
    operator::done(
        &nodes,
        1,
        &["topic", "create", "whole", "--partitions", "1", "--replicas", "3"],
    );
    let pairs = operator::done(&nodes, 1, &["topic", "describe", "pairs"]);
    let held = pairs[0]["partitions"][0]["replicas"].as_array().expect("a list").clone();
    let held: Vec<usize> = held.iter().filter_map(|id| id.as_u64()?.try_into().ok()).collect();
    let [stays, goes] = held[..] else { panic!("two replicas: {held:?}") };
    nodes.kill(goes);
    nodes.kill(stays);
    nodes.launch(stays);
    nodes.until_ready(stays);
    let warns = |nodes: &Nodes| nodes.said(stays).contains("have no leader");
    wait_until("it says that one is not led", TIMEOUT, || warns(&nodes));
    operator::done(&nodes, stays, &["produce", "whole", "-k", "7", "value"]);
    let read = operator::done(&nodes, stays, &["consume", "whole", "--exit-at-end"]);
    assert_eq!(read.len(), 1);
}
