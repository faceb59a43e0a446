//! Five nodes, each asked to stop in turn: nobody waits for an election, and whoever holds no copy
//! of a partition knows who leads it.

use checker::check;
use cluster_tests::TIMEOUT;
use cluster_tests::load::{Load, Shape};
use cluster_tests::network::Way;
use cluster_tests::nodes::{Ground, Nodes};
use kafka_clients_tests::namespace;
use std::time::Duration;

const NAME: &str = "nodes_that_are_asked_to_stop_give_their_leaderships_away";
/// More than the nodes, each with three copies: every node asks about some that it does not hold.
const PARTITIONS: u32 = 10;
/// Nodes that stop, one after the other.
const STOPS: usize = 3;

#[test]
fn nodes_that_are_asked_to_stop_give_their_leaderships_away() {
    if !namespace::enter_to_network(NAME) {
        return;
    }
    let mut nodes = Nodes::started(5, Ground::of(Way::Packets), 1);
    let shape = Shape {
        partitions: PARTITIONS,
        ordered: 4,
        plain: 0,
        pause: Duration::from_millis(5),
        ask_pause: Duration::from_millis(50),
    };
    let load = Load::start(&nodes.ids(), &[], "orders", shape, 1);
    for stop in 0..STOPS {
        let partition = u32::try_from(stop).expect("it is small");
        let leader = load.directory().leader(partition).expect("the partition is led");
        nodes.program(leader).terminate();
        let (status, said) = nodes.ended(leader);
        assert!(status.success(), "node {leader}: {status}: {said}");
        assert!(said.contains("stopping"), "node {leader}: {said}");
        assert!(!said.contains("could not be given away"), "node {leader}: {said}");
        let others = nodes.others(leader);
        let moved = load.directory().led_elsewhere(&others, &[partition], &[leader], TIMEOUT);
        println!("partition {partition} is led by another node after {moved:?}");
        let moment = load.now();
        let went_on = load.all_acked_since(moment, TIMEOUT);
        assert!(went_on.is_some(), "every partition takes records without node {leader}");
        nodes.launch(leader);
        nodes.until_ready(leader);
    }
    let finished = load.finish();
    assert_eq!(finished.problems, Vec::<String>::new());
    let report = check(&finished.history);
    println!("{report}");
    assert!(report.is_good(), "{report}");
    assert!(report.acked > 100, "the clients wrote on: {report}");
}
