//! `topic`, `status` and `ctx`.

use crate::node::Node;
use serde_json::{Value, json};

#[test]
fn a_topic_is_created_listed_described_altered_and_deleted() {
    let node = Node::start();
    let create = ["topic", "create", "orders", "-p", "3", "-c", "retention.ms=86400000"];
    let created = &node.run(&create).objects()[0];
    assert_eq!((&created["topic"], &created["created"]), (&json!("orders"), &json!(true)));
    assert_eq!((&created["partitions"], &created["replicas"]), (&json!(3), &json!(1)));

    let listed = node.run(&["topic", "list"]).objects();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["topic"], "orders");
    assert_eq!(listed[0]["id"], created["id"]);

    let described = &node.run(&["topic", "describe", "orders"]).objects()[0];
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3));
    let first = &described["partitions"][0];
    assert_eq!((&first["leader"], &first["log_end"]), (&json!(1), &json!(0)));
    assert_eq!(config(described, "retention.ms"), json!(["86400000", "topic"]));

    node.run(&["topic", "alter", "orders", "-c", "retention.ms=1000", "-p", "5"]).text();
    let described = &node.run(&["topic", "describe", "orders"]).objects()[0];
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(5));
    assert_eq!(config(described, "retention.ms"), json!(["1000", "topic"]));
    node.run(&["topic", "alter", "orders", "--reset", "retention.ms"]).text();
    let described = &node.run(&["topic", "describe", "orders"]).objects()[0];
    assert_ne!(config(described, "retention.ms")[1], "topic");

    node.run(&["topic", "delete", "orders", "--yes"]).text();
    assert_eq!(node.run(&["topic", "list"]).text(), "");
}

fn config(topic: &Value, name: &str) -> Value {
    let configs = topic["configs"].as_array().expect("a topic has configs");
    let found = configs.iter().find(|config| config["name"] == name).expect("it is listed");
    json!([found["value"], found["source"]])
}

#[test]
fn a_dry_run_changes_nothing() {
    let node = Node::start();
    let created = node.run(&["topic", "create", "orders", "--dry-run"]);
    assert_eq!(created.column("created"), ["false"]);
    assert_eq!(node.run(&["topic", "list"]).text(), "");

    node.run(&["topic", "create", "orders", "-p", "1"]).text();
    let altered = node.run(&["topic", "alter", "orders", "-p", "9", "--dry-run"]);
    assert_eq!(altered.column("altered"), ["false"]);
    let deleted = node.run(&["topic", "delete", "orders", "--dry-run"]);
    assert_eq!(deleted.column("deleted"), ["false"]);
    assert_eq!(node.run(&["topic", "list"]).column("partitions"), ["1"]);
}

#[test]
fn a_topic_that_exists_is_accepted_only_on_request() {
    let node = Node::start();
    node.run(&["topic", "create", "orders"]).text();
    let again = node.run(&["topic", "create", "orders", "others"]);
    again.refused(4, "error[E1002]: orders: the topic exists already\n");
    assert!(again.stdout.contains("\"topic\":\"others\""), "each is decided alone: {again:?}");
    let accepted = node.run(&["topic", "create", "orders", "--if-not-exists"]);
    assert_eq!(accepted.column("created"), ["false"]);
}

#[test]
fn tables_are_for_people() {
    let node = Node::start();
    node.run(&["topic", "create", "orders", "-p", "2"]).text();
    let found = node.run(&["topic", "list", "-o", "table"]);
    let expected = "TOPIC   PARTITIONS  REPLICAS  LEADERLESS\n\
                    orders           2         1           0\n";
    assert_eq!(found.text(), expected);
    let status = node.run(&["status", "-o", "table"]);
    assert!(status.text().starts_with("healthy   1 node   1 topics   2 partitions"), "{status:?}");
}

#[test]
fn status_says_how_the_node_is() {
    let node = Node::start();
    let status = &node.run(&["status"]).objects()[0];
    assert_eq!((&status["healthy"], &status["nodes"]), (&json!(true), &json!(1)));
    assert_eq!(status["durability"], "flushed");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_context_names_the_node_that_commands_talk_to() {
    let node = Node::start();
    let listed = node.run(&["ctx", "list"]).objects();
    assert_eq!(listed[0]["name"], node.context());
    assert_eq!((&listed[0]["native"], &listed[0]["current"]), (&json!(node.native), &json!(false)));
    let shown = node.run(&["ctx", "show"]).column("from");
    assert_eq!(shown, [format!("BATEAU_CONTEXT={}", node.context())]);

    node.run(&["ctx", "use", node.context()]).text();
    let mut plain = node.command(&["ctx", "show"]);
    plain.env_remove("BATEAU_CONTEXT");
    let shown = crate::node::ended(plain, b"");
    assert_eq!(shown.column("from"), [format!("context {}", node.context())]);
    let mut status = node.command(&["status"]);
    status.env_remove("BATEAU_CONTEXT");
    crate::node::ended(status, b"").text();

    let unknown = node.run(&["ctx", "use", "nowhere"]);
    unknown.refused(3, "error[E0301]: nowhere: no such context\n");
}

#[test]
fn a_flag_goes_around_the_context_and_a_loopback_address_needs_no_pin() {
    let node = Node::start();
    let mut status = node.command(&["status", "--broker", &node.native]);
    status.env("BATEAU_CONTEXT", "nowhere");
    crate::node::ended(status, b"").text();
}
