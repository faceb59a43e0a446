//! `node`, as far as one node goes; what several do, real clusters show.

use crate::node::Node;
use serde_json::json;

#[test]
fn an_expected_node_is_told_how_to_start_and_listed_until_it_is_removed() {
    let node = Node::start();
    let would = &node.run(&["node", "add", "4", "--dry-run"]).objects()[0];
    assert_eq!((&would["node"], &would["permitted"]), (&json!(4), &json!(false)));
    assert_eq!(node.run(&["node", "list"]).column("node"), ["1"]);
    let may = &node.run(&["node", "add", "4"]).objects()[0];
    assert_eq!((&may["permit"], &may["permitted"]), (&json!("join"), &json!(true)));
    let next = may["next"].as_str().expect("a text");
    assert!(next.contains("listeners.peers"), "a node of `dev` cannot be reached: {next}");
    let nodes = node.run(&["node", "list"]).objects();
    assert_eq!((&nodes[0]["alive"], &nodes[0]["metadata"]), (&json!(true), &json!("leader")));
    assert_eq!((&nodes[1]["node"], &nodes[1]["standing"]), (&json!(4), &json!(null)));
    let table = node.run(&["node", "list", "-o", "table"]);
    assert!(
        table.text().lines().any(|line| line.starts_with("4     no     expected")),
        "{table:?}"
    );
    let removed = node.run(&["node", "remove", "4", "--yes"]).objects();
    assert_eq!(removed, [json!({ "node": 4, "removed": true })]);
    assert_eq!(node.run(&["node", "list"]).column("node"), ["1"]);
}

#[test]
fn what_cannot_be_done_with_a_node_has_its_code() {
    let node = Node::start();
    node.run(&["node", "add", "1"]).refused(4, "error[E0501]: node 1: the node is a member");
    node.run(&["node", "remove", "7", "--yes"]).refused(3, "error[E0502]: node 7: no such node\n");
    node.run(&["node", "replace", "7", "--yes"]).refused(3, "error[E0502]: node 7: no such node\n");
    node.run(&["node", "drain", "7"]).refused(3, "error[E0502]: node 7: no such node\n");
    node.run(&["node", "replace", "1", "--yes"]).refused(4, "error[E0503]: node 1: the node is al");
    for more in [&["--yes"][..], &["--dry-run"]] {
        let last = node.run(&[&["node", "remove", "1"], more].concat());
        last.refused(4, "error[E0504]: node 1: the cluster cannot do without the node\n");
        assert!(
            last.stderr.contains("cause  node 1 is the only node of the cluster\n"),
            "{last:?}"
        );
    }
    node.run(&["node", "remove", "1"]).refused(2, "error: remove 1: nobody can be asked here");
    node.run(&["node", "replace", "1"]).refused(2, "error: replace 1: nobody can be asked here");
    let copies = node.run(&["topic", "create", "orders"]);
    assert_eq!(copies.code, Some(0));
    let copies = node.run(&["topic", "alter", "orders", "--replicas", "2"]);
    copies.refused(4, "error[E1003]: orders: the broker refuses the topic");
    assert!(
        copies.stderr.contains("replication factor 2 is not between 1 and the 1"),
        "{copies:?}"
    );
}

#[test]
fn a_drain_that_nobody_can_help_with_ends_with_one_line() {
    let node = Node::start();
    let alone = node.run(&["node", "drain", "1"]);
    assert_eq!(alone.code, Some(4), "{alone:?}");
    let cause = "cause  node 1 goes on leading 17 partitions, ";
    assert!(alone.stderr.contains("error[E0505]") && alone.stderr.contains(cause), "{alone:?}");
    let undone = node.run(&["node", "drain", "1", "--undo"]).objects();
    assert_eq!(undone, [json!({ "node": 1, "drained": false })]);
    let told = node.run(&["node", "drain", "1", "--no-wait"]).objects();
    assert_eq!(told, [json!({ "node": 1, "drained": false })]);
    assert_eq!(node.run(&["node", "list"]).column("standing"), ["draining"]);
}
