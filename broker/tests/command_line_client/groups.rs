//! `group` and `lag`, with real members.

use crate::node::Node;
use serde_json::json;

/// A topic with one partition and six records, of which the group `billing` has read two.
fn billing() -> Node {
    let node = Node::start();
    node.run(&["topic", "create", "orders", "-p", "1"]).text();
    node.run(&["produce", "orders", "a", "b", "c", "d", "e", "f"]).text();
    assert_eq!(read(&node, &["-n", "2"]), "ab");
    node
}

fn read(node: &Node, more: &[&str]) -> String {
    let arguments = [&["consume", "orders", "--group", "billing", "-f", "%v"], more].concat();
    node.run(&arguments).text().to_owned()
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let node = billing();
    assert_eq!(read(&node, &["-n", "1"]), "c");
    assert_eq!(read(&node, &["--exit-at-end"]), "def");
    assert_eq!(read(&node, &["--exit-at-end"]), "");
}

#[test]
fn lag_names_group_topic_and_the_slowest_partition() {
    let node = billing();
    let expected = json!({
        "group": "billing", "topic": "orders", "lag": 4, "members": 0, "state": "Empty",
        "slowest_partition": 0, "slowest_lag": 4,
    });
    assert_eq!(node.run(&["lag"]).objects(), [expected]);
    let table = node.run(&["lag", "billing", "-o", "table"]);
    let expected = "GROUP    TOPIC   LAG  MEMBERS  STATE  SLOWEST PARTITION\n\
                    billing  orders    4        0  empty  0 (4)\n";
    assert_eq!(table.text(), expected);
}

#[test]
fn a_group_is_listed_and_described_with_its_members() {
    let node = billing();
    assert_eq!(node.run(&["group", "list"]).column("group"), ["billing"]);
    let mut member = node.begin(&["consume", "orders", "--group", "billing", "-f", "%v\\n"]);
    assert_eq!(member.line(), "c\n");
    let described = &node.run(&["group", "describe", "billing"]).objects()[0];
    assert_eq!(described["state"], "Stable");
    let members = described["members"].as_array().expect("a group has members");
    assert_eq!(members.len(), 1);
    assert_eq!(members[0]["partitions"], json!([{ "topic": "orders", "partition": 0 }]));
    member.interrupt();
    assert_eq!(member.end().code, Some(0));
    let described = &node.run(&["group", "describe", "billing"]).objects()[0];
    assert_eq!((&described["members"], &described["lag"]), (&json!([]), &json!(0)));
}

#[test]
fn seek_moves_a_group_without_members_and_shows_what_it_changes() {
    let node = billing();
    let dry = node.run(&["group", "seek", "billing", "--to", "start", "--dry-run"]).objects();
    let row = |offset: u64, moved: bool| {
        json!({
            "group": "billing", "topic": "orders", "partition": 0, "before": 2, "offset": offset,
            "moved": moved,
        })
    };
    assert_eq!(dry, [row(0, false)]);
    assert_eq!(node.run(&["lag"]).column("lag"), ["4"]);
    let moved = node.run(&["group", "seek", "billing", "--to", "-1"]).objects();
    assert_eq!(moved, [row(5, true)]);
    assert_eq!(read(&node, &["--exit-at-end"]), "f");

    // A group that never was gets its first position.
    node.run(&["group", "seek", "audit", "--topic", "orders", "--to", "4"]).text();
    assert_eq!(node.run(&["lag", "audit"]).column("lag"), ["2"]);
}

#[test]
fn a_group_with_members_is_neither_moved_nor_deleted() {
    let node = billing();
    let mut member = node.begin(&["consume", "orders", "--group", "billing", "-f", "%v\\n"]);
    assert_eq!(member.line(), "c\n");
    let seek = node.run(&["group", "seek", "billing", "--to", "start"]);
    seek.refused(4, "error[E1102]: billing: the group has members\n");
    let delete = node.run(&["group", "delete", "billing", "--yes"]);
    delete.refused(4, "error[E1102]: billing: the group has members\n");
    member.interrupt();
    assert_eq!(member.end().code, Some(0));
    node.run(&["group", "delete", "billing", "--yes"]).text();
    assert_eq!(node.run(&["group", "list"]).text(), "");
    assert_eq!(read(&node, &["-n", "1"]), "a");
}

#[test]
fn what_nobody_took_is_not_stored() {
    let node = Node::start();
    node.run(&["topic", "create", "orders", "-p", "1"]).text();
    // Each is longer than a pipe holds: the second one is taken by nobody.
    let line = "x".repeat(200 * 1024) + "\n";
    node.feed(&["produce", "orders", "--quiet"], line.repeat(5)).text();
    let mut member = node.begin(&["consume", "orders", "--group", "billing", "-f", "%v\\n"]);
    assert_eq!(member.line(), line);
    member.close_stdout();
    assert_eq!(member.end().code, Some(0));
    assert_eq!(node.run(&["lag"]).column("lag"), ["4"]);
}

#[test]
fn a_member_that_gets_no_partition_ends_where_an_end_was_asked_for() {
    let node = Node::start();
    node.run(&["topic", "create", "orders", "-p", "1"]).text();
    node.run(&["produce", "orders", "one"]).text();
    let mut first = node.begin(&["consume", "orders", "--group", "billing"]);
    assert!(!first.line().is_empty(), "it has the only partition");
    let second = node.run(&["consume", "orders", "--group", "billing", "--exit-at-end"]);
    // Whoever of the two has the partition after the rebalance, nothing is left to read.
    assert_eq!((second.code, second.stderr.as_str()), (Some(0), ""), "{second:?}");
    first.interrupt();
    assert_eq!(first.end().code, Some(0));
}
