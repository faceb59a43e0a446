//! Every exit code, and the error that goes with it.

use crate::node::{Node, signal};
use rustix::process::Signal;
use std::net::UdpSocket;

#[test]
fn a_topic_that_is_not_there_is_not_found_and_the_nearest_is_named() {
    let node = Node::start();
    node.run(&["topic", "create", "orders"]).text();
    let expected = "error[E1001]: ordres: no such topic\n  \
                    cause  the cluster has no topic of this name; the nearest is orders\n  \
                    fix    bateau topic list\n  why    bateau explain E1001\n";
    for command in [
        &["consume", "ordres", "--from", ":end"][..],
        &["topic", "describe", "ordres"],
        &["topic", "alter", "ordres", "-p", "9"],
        &["topic", "delete", "ordres", "--yes"],
    ] {
        let ended = node.run(command);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), expected), "{command:?}");
    }
    assert_eq!(node.run(&["topic", "list"]).column("topic"), ["orders"]);
}

#[test]
fn a_group_or_a_partition_that_is_not_there_is_not_found() {
    let node = Node::start();
    node.run(&["topic", "create", "orders", "-p", "1"]).text();
    let unknown = "error[E1101]: nobody: no such group\n";
    node.run(&["group", "describe", "nobody"]).refused(3, unknown);
    node.run(&["group", "delete", "nobody", "--yes"]).refused(3, unknown);
    node.run(&["group", "seek", "nobody", "--to", "start"]).refused(3, unknown);
    node.run(&["lag", "nobody"]).refused(3, unknown);
    let partition = "error[E1004]: orders[7]: no such partition\n";
    node.run(&["consume", "orders", "-p", "7"]).refused(3, partition);
    node.run(&["produce", "orders", "-p", "7", "x"]).refused(3, partition);
}

#[test]
fn what_the_broker_does_not_allow_is_refused() {
    let node = Node::start();
    let name = node.run(&["topic", "create", "bad/name"]);
    name.refused(4, "error[E1003]: bad/name: the broker refuses the topic");
    let config = node.run(&["topic", "create", "orders", "-c", "retention.ms=soon"]);
    config.refused(4, "error[E1003]: orders: the broker refuses the topic");
    assert!(config.stderr.contains("retention.ms"), "{config:?}");
    let fewer = ["topic", "alter", "orders", "-p", "1"];
    node.run(&["topic", "create", "orders", "-p", "2"]).text();
    node.run(&fewer).refused(4, "error[E1003]: orders: the broker refuses the topic");
    let large = node.feed(&["produce", "orders"], vec![b'x'; 4 * 1024 * 1024]);
    large.refused(4, "error[E1005]: orders: the record is too large\n");
}

#[test]
fn a_topic_is_not_created_where_the_broker_does_not_want_that() {
    let node = Node::start_with(&["topics.auto_create=false"]);
    node.run(&["produce", "orders", "x"]).refused(3, "error[E1001]: orders: no such topic\n");
}

#[test]
fn nobody_at_the_address_is_unreachable() {
    // A socket that is there and never answers: nobody else can take the port.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    let port = silent.local_addr().expect("it is bound").port();
    let node = Node::start();
    let pin = "ab".repeat(32);
    let address = format!("127.0.0.1:{port}?pin=sha256:{pin}");
    let ended = node.run(&["status", "--broker", &address, "--timeout", "300ms"]);
    ended.refused(6, "error[E0101]: ");
    let name = format!("nowhere.invalid:{port}?pin=sha256:{pin}");
    let ended = node.run(&["status", "--broker", &name, "--timeout", "2s"]);
    ended.refused(6, "error[E01");
}

#[test]
fn another_key_than_the_expected_one_is_refused() {
    let node = Node::start();
    let address = format!("{}?pin=sha256:{}", node.native, "ab".repeat(32));
    node.run(&["status", "--broker", &address]).refused(4, "error[E0201]: ");
}

#[test]
fn a_broker_that_stands_still_is_a_time_out_and_the_record_may_be_written() {
    let node = Node::start();
    let mut producing = node.begin(&["produce", "orders", "--timeout", "1s"]);
    producing.type_line("one");
    assert!(!producing.line().is_empty());
    signal(node.id(), Signal::STOP);
    producing.type_line("two");
    let ended = producing.end();
    signal(node.id(), Signal::CONT);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("error[E1007]: orders: the record may or may not"), "{ended:?}");
}

#[test]
fn what_is_typed_wrong_is_usage() {
    let node = Node::start();
    for command in [
        &["consume", "orders", "--from", "latest"][..],
        &["consume", "orders", "-f", "%q"],
        &["consume", "orders", "-p", "1", "--group", "billing"],
        &["produce", "orders", "--file", "x", "y"],
        &["produce", "orders", "--key-separator", ""],
        &["produce", "orders", "--tombstone"],
        &["topic", "create"],
        &["topic", "create", "orders", "-p", "0"],
        &["topic", "create", "orders", "-c", "retention.ms"],
        &["topic", "alter", "orders"],
        &["topic", "delete", "orders"],
        &["group", "delete", "billing"],
        &["group", "seek", "billing", "--to", "1:2"],
        &["status", "--broker", "http://127.0.0.1:1"],
        &["status", "--timeout", "soon"],
    ] {
        let ended = node.run(command);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{command:?}: {ended:?}");
        assert!(ended.stderr.starts_with("error: "), "{command:?}: {ended:?}");
    }
    assert_eq!(node.run(&["topic", "list"]).text(), "", "nothing of it reached the broker");
}

#[test]
fn an_input_that_is_not_there_is_not_found() {
    let node = Node::start();
    let ended = node.run(&["produce", "orders", "--file", "nowhere"]);
    ended.refused(3, "error: nowhere: No such file or directory");
}
