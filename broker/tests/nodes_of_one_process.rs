//! `bateau dev --nodes 3` from outside: its ready line, a kill and a start on the same directory,
//! another number of nodes, a stop.
//!
//! Absent on purpose: what clients see while nodes fail; that is tested in-process and with
//! processes of their own.

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// Nodes of one process, and the directory of their user.
struct Nodes {
    child: Child,
    ready: Value,
}

fn bateau(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bateau"));
    command.env_clear().env("BATEAU_CONFIG_DIR", home.join("config")).env("TZ", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn dev(home: &Path, arguments: &[&str]) -> Command {
    let mut command = bateau(home);
    command.arg("dev").args(arguments);
    for door in ["--kafka", "--native", "--http"] {
        command.args([door, "127.0.0.1:0"]);
    }
    command
}

fn with_data(home: &Path, arguments: &[&str]) -> Command {
    let mut command = dev(home, arguments);
    command.arg("--data-dir").arg(home.join("data"));
    command
}

impl Nodes {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.arg("--exit-on-stdin-close").spawn().expect("it can be started");
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a ready line comes");
        let ready = serde_json::from_str(&line).expect("the ready line is JSON");
        Self { child, ready }
    }

    fn all(&self, key: &str) -> Vec<Value> {
        let nodes = self.ready["nodes"].as_array().expect("there are several");
        nodes.iter().map(|node| node[key].clone()).collect()
    }

    /// Runs a client command against the node that the ready line names first.
    fn run(&self, home: &Path, arguments: &[&str]) -> String {
        let native = self.ready["native"].as_str().expect("the native door is open");
        let port = native.rsplit(':').next().expect("an address has a port");
        let mut command = bateau(home);
        command.env("BATEAU_CONTEXT", format!("dev-{port}")).args(arguments);
        let output = command.output().expect("it can be started");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the binary prints UTF-8")
}

fn home() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

#[track_caller]
fn refused(output: &Output, line: &str) {
    assert_eq!(text(&output.stderr), line);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("", Some(4)));
}

#[test]
fn the_ready_line_has_an_object_for_each_node_beside_the_first_ones_keys() {
    let home = home();
    let nodes = Nodes::start(with_data(home.path(), &["--nodes", "3"]));
    assert_eq!(nodes.all("node_id"), [1, 2, 3]);
    for (key, value) in nodes.ready["nodes"][0].as_object().expect("it is an object") {
        assert_eq!(nodes.ready[key], *value, "{key}");
    }
    for door in ["kafka", "native", "http", "peers"] {
        let addresses = nodes.all(door);
        let ports: BTreeSet<_> = addresses.iter().filter_map(Value::as_str).collect();
        assert_eq!(ports.len(), 3, "{door}: {addresses:?}");
    }
    let data = std::path::absolute(home.path().join("data")).expect("it is a path");
    for (place, id) in nodes.all("data_dir").iter().zip(1..) {
        let expected = data.join(format!("node-{id}"));
        assert_eq!(place.as_str(), expected.to_str());
        assert!(expected.join("IDENTITY").exists());
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_and_a_start_on_other_ports() {
    let home = home();
    let first = Nodes::start(with_data(home.path(), &["--nodes", "3"]));
    first.run(home.path(), &["produce", "orders", "paid", "shipped"]);
    let described = first.run(home.path(), &["topic", "describe", "orders"]);
    let topic: Value = serde_json::from_str(described.lines().next().expect("a line")).unwrap();
    let replicas = topic["partitions"][0]["replicas"].as_array();
    assert_eq!(replicas.map(Vec::len), Some(3), "{described}");
    let peers = first.all("peers");
    first.kill();
    let second = Nodes::start(with_data(home.path(), &["--nodes", "3"]));
    assert_ne!(second.all("peers"), peers, "they found each other at other addresses");
    let consumed = second.run(home.path(), &["consume", "orders", "--from", ":end"]);
    let values: Vec<Value> = consumed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a record is JSON")["value"].clone())
        .collect();
    assert_eq!(values, ["paid", "shipped"]);
}

#[test]
fn a_directory_is_opened_with_the_number_of_nodes_that_it_was_made_with() {
    let home = home();
    let place = home.path().join("data");
    let line = |found: &str, wanted: &str, flag: u32| {
        format!(
            "error: {}: has the data of {found}, not of {wanted}; start `bateau dev` with --nodes \
             {flag} there, or name another directory\n",
            place.display()
        )
    };
    drop(Nodes::start(with_data(home.path(), &["--nodes", "2"])));
    // What is not refused ends all the same, for nobody holds its stdin.
    let of = |arguments: &[&str]| {
        let mut command = with_data(home.path(), arguments);
        command.arg("--exit-on-stdin-close").output().expect("it ends")
    };
    refused(&of(&["--nodes", "3"]), &line("2 nodes", "3 nodes", 2));
    refused(&of(&[]), &line("2 nodes", "1 node", 2));
    std::fs::remove_dir_all(&place).expect("nobody holds it");
    drop(Nodes::start(with_data(home.path(), &[])));
    refused(&of(&["--nodes", "3"]), &line("1 node", "3 nodes", 1));
}

#[test]
fn nodes_stop_together_and_leave_no_temporary_directory() {
    let home = home();
    let temporary = home.path().join("tmp");
    std::fs::create_dir(&temporary).expect("it is new");
    let mut command = dev(home.path(), &["--nodes", "3", "--ephemeral"]);
    command.env("TMPDIR", &temporary);
    let mut nodes = Nodes::start(command);
    nodes.run(home.path(), &["produce", "orders", "paid"]);
    assert!(nodes.all("durability").iter().all(|word| word == "ephemeral"));
    assert_eq!(std::fs::read_dir(&temporary).expect("it is there").count(), 1);
    drop(nodes.child.stdin.take());
    assert_eq!(nodes.child.wait().expect("it ends").code(), Some(0));
    assert_eq!(std::fs::read_dir(&temporary).expect("it is there").count(), 0);
}

#[test]
fn a_setting_reaches_each_node() {
    let home = home();
    let flags = ["--nodes", "3", "-X", "topics.partitions_default=5"];
    let nodes = Nodes::start(with_data(home.path(), &flags));
    nodes.run(home.path(), &["produce", "orders", "paid"]);
    let described = nodes.run(home.path(), &["topic", "describe", "orders"]);
    let topic: Value = serde_json::from_str(described.lines().next().expect("a line")).unwrap();
    assert_eq!(topic["partitions"].as_array().map(Vec::len), Some(5), "{described}");
}

#[test]
fn what_three_nodes_cannot_share_is_refused_by_name() {
    let home = home();
    let flags = ["--nodes", "3", "--ephemeral", "--exit-on-stdin-close", "-X", "node.id=7"];
    let mut command = dev(home.path(), &flags);
    let output = command.output().expect("it ends");
    let expected =
        "error: node.id = 7 (-X): 3 nodes of one process cannot share it; leave it out\n";
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), (expected, Some(2)));
    let many = dev(home.path(), &["--nodes", "6"]).output().expect("it ends");
    assert_eq!(many.status.code(), Some(2));
    assert!(text(&many.stderr).contains("1..=5"), "{}", text(&many.stderr));
}
