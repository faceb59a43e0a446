//! Nodes that come and go, as an operator has them: one becomes three under load and two again, a
//! lost one is replaced, and what would lose something is refused with one line.

use cluster_tests::commanded::Cluster;
use cluster_tests::{NODES, TIMEOUT, Trio};
use kafka_clients_tests::program::Program;
use kafka_clients_tests::{namespace, runtimes};
use serde_json::Value;
use std::fs;

const TOPIC: &str = "orders";
const PARTITIONS: &str = "6";

/// Where each partition of the topic is.
fn replicas(cluster: &Cluster, at: usize) -> Vec<Vec<u64>> {
    let topic = cluster.run(at, &["topic", "describe", TOPIC]);
    let partitions = topic[0]["partitions"].as_array().expect("a list").clone();
    let nodes = |one: &Value| one["replicas"].as_array().expect("a list").clone();
    let numbers = |one: &Value| nodes(one).iter().filter_map(Value::as_u64).collect();
    partitions.iter().map(numbers).collect()
}

fn event(program: &Program, event: &str) -> Value {
    program.wait_for_events(event, 1, TIMEOUT);
    let lines = program.lines();
    let line = lines.into_iter().find(|line| line.event() == Some(event));
    line.and_then(|line| line.json).expect("it was said")
}

#[test]
fn one_node_becomes_three_under_load_and_its_founder_leaves() {
    let (Some(producer), Some(python), Some(node)) = (
        runtimes::python_file("steady.py"),
        runtimes::python_file("elections.py"),
        runtimes::node(),
    ) else {
        return runtimes::skip("membership", "there is no Python 3 with venv, or no Node.js");
    };
    if !namespace::enter("one_node_becomes_three_under_load_and_its_founder_leaves") {
        return;
    }
    let mut cluster = Cluster::founded_by(&[1]);
    let mut command = producer.command();
    command.args([&Trio::bootstrap(), TOPIC, PARTITIONS, "1"]);
    let producer = Program::start("steady.py", command);
    producer.wait_for_events("first_ack", 1, TIMEOUT);

    cluster.add(1, 2, &[1]);
    cluster.add(2, 3, &[1, 2]);
    for id in NODES {
        // Sixteen internal partitions, and those of the topic where it was made.
        cluster.until_node(1, id, "copies of the groups", |node| {
            node["replicas"].as_u64() >= Some(16) && node["incoming"] == 0
        });
        cluster.until_node(1, id, "votes", |node| node["metadata"] != "learner");
    }
    let mut command = node.command();
    command.args(["reassign.js", &Trio::bootstrap(), TOPIC, PARTITIONS, "3,2,1"]);
    event(&Program::start("reassign.js", command), "moved");
    assert_eq!(replicas(&cluster, 2), vec![vec![3, 2, 1]; 6]);

    let mut command = python.command();
    command.args([&Trio::bootstrap(), TOPIC, PARTITIONS]);
    let elected = event(&Program::start("elections.py", command), "elected");
    let topic = cluster.run(1, &["topic", "describe", TOPIC]);
    let partitions = topic[0]["partitions"].as_array().expect("a list");
    assert!(partitions.iter().all(|one| one["leader"] == 3), "{elected}: {topic:?}");

    cluster.run(1, &["node", "drain", "3"]);
    assert_eq!(cluster.node(1, 3).expect("it is a member")["leaders"], 0);
    cluster.run(1, &["node", "drain", "3", "--undo"]);

    // Asked at the node itself, which is there for long enough to name the others.
    let removed = cluster.run(1, &["node", "remove", "1", "--yes"]);
    assert_eq!(removed[0]["removed"], true);
    let (status, said) = cluster.trio.ended(1);
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(said.contains("was removed from the cluster"), "{said}");
    assert_eq!(replicas(&cluster, 2), vec![vec![3, 2]; 6]);

    // It comes back as anybody does, and the topic is copied to it again.
    fs::remove_dir_all(cluster.trio.data(1)).expect("it is there");
    cluster.add(2, 1, &[2, 3]);
    cluster.run(3, &["topic", "alter", TOPIC, "--replicas", "3"]);
    assert_eq!(replicas(&cluster, 2), vec![vec![3, 2, 1]; 6]);
    cluster.until_node(2, 1, "all of its copies", |node| {
        node["replicas"] == 22 && node["incoming"] == 0 && node["metadata"] != "learner"
    });

    producer.tell("stop");
    let judged = event(&producer, "judged");
    println!("{judged}");
    for nothing in ["lost", "failed"] {
        assert_eq!(judged[nothing].as_array().map(Vec::len), Some(0), "{judged}");
    }
    assert_eq!(judged["twice"], 0, "{judged}");
    assert!(judged["acked"].as_u64() > Some(500), "the producer went on: {judged}");
}

#[test]
fn a_lost_node_is_replaced_under_its_own_id() {
    if !namespace::enter("a_lost_node_is_replaced_under_its_own_id") {
        return;
    }
    let mut cluster = Cluster::founded_by(&NODES);
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "6"]);
    cluster.run(1, &["produce", TOPIC, "-k", "7", "before"]);
    let controller = NODES
        .into_iter()
        .find(|id| cluster.node(1, *id).is_some_and(|node| node["metadata"] == "leader"));
    let controller = controller.expect("somebody leads the metadata").to_string();
    cluster.run(1, &["node", "drain", &controller]);
    let nodes = cluster.run(1, &["node", "list"]);
    let leads = |node: &&Value| node["metadata"] == "leader";
    let leader = nodes.iter().find(leads).expect("somebody leads it");
    assert_ne!(leader["node"].to_string(), controller, "it was drained: {nodes:?}");
    cluster.run(1, &["node", "drain", &controller, "--undo"]);
    let alive = "node 3 is alive";
    cluster.refused(1, &["node", "replace", "3", "--yes"], (4, "E0503"), alive);
    cluster.refused(1, &["node", "add", "3"], (4, "E0501"), "is a member of the cluster already");
    cluster.trio.kill(3);
    let data = cluster.trio.data(3);
    let lost = data.with_extension("lost");
    fs::rename(&data, &lost).expect("it is there");
    cluster.until_node(1, 3, "that its end is seen", |node| node["alive"] == false);
    cluster.run(1, &["node", "replace", "3", "--dry-run"]);
    cluster.run(1, &["node", "replace", "3", "--yes"]);
    cluster.trio.launch(3);
    cluster.trio.until_ready(3);
    cluster.until_node(1, 3, "all of its copies", |node| {
        node["replicas"] == 22 && node["incoming"] == 0 && node["outgoing"] == 0
    });
    // It holds what was there before it came: nobody else is needed for a majority.
    cluster.trio.kill(1);
    cluster.run(3, &["produce", TOPIC, "-k", "7", "after"]);
    let read = cluster.run(3, &["consume", TOPIC, "--exit-at-end"]);
    let values: Vec<&Value> = read.iter().map(|record| &record["value"]).collect();
    assert_eq!(values, ["before", "after"]);
    // The lost directory turns up.
    cluster.trio.kill(3);
    fs::remove_dir_all(&data).expect("it is there");
    fs::rename(&lost, &data).expect("it was kept");
    cluster.trio.launch(3);
    let (status, said) = cluster.trio.ended(3);
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(said.contains("shows a data directory that another one has replaced"), "{said}");
}

#[test]
fn a_node_that_has_lost_its_votes_is_taken_back_by_itself() {
    if !namespace::enter("a_node_that_has_lost_its_votes_is_taken_back_by_itself") {
        return;
    }
    let mut cluster = Cluster::founded_by(&NODES);
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "6"]);
    cluster.run(1, &["produce", TOPIC, "-k", "7", "before"]);
    cluster.trio.kill(3);
    let data = cluster.trio.data(3);
    for meta in ["meta.a", "meta.b"] {
        // There may be one copy only.
        let _ = fs::remove_file(data.join(meta));
    }
    cluster.trio.launch(3);
    cluster.trio.until_ready(3);
    let said = cluster.trio.program(3).errors().join("\n");
    assert!(said.contains("it asks its cluster for new replicas"), "{said}");
    cluster.until_node(1, 3, "all of its copies", |node| {
        node["replicas"] == 22 && node["incoming"] == 0 && node["outgoing"] == 0
    });
    let kept = fs::read_dir(data.join("quarantine")).expect("it is there").count();
    assert!(kept >= 22, "what it had is kept: {kept}");
    cluster.trio.kill(1);
    cluster.run(3, &["produce", TOPIC, "-k", "7", "after"]);
    let read = cluster.run(3, &["consume", TOPIC, "--exit-at-end"]);
    let values: Vec<&Value> = read.iter().map(|record| &record["value"]).collect();
    assert_eq!(values, ["before", "after"]);
}

#[test]
fn one_of_three_goes_on_alone_when_its_loss_was_accepted() {
    if !namespace::enter("one_of_three_goes_on_alone_when_its_loss_was_accepted") {
        return;
    }
    let mut cluster = Cluster::founded_by(&NODES);
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "6"]);
    cluster.run(1, &["topic", "create", "elsewhere", "--partitions", "3", "--replicas", "1"]);
    cluster.run(1, &["produce", TOPIC, "-k", "7", "before"]);
    let (code, _, said) = cluster.unsafe_recover(1, &["--dry-run"]);
    assert_eq!(code, Some(3), "it runs: {said}");
    NODES.into_iter().for_each(|id| cluster.trio.kill(id));
    let (code, rows, said) = cluster.unsafe_recover(1, &["--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    let goes_on = |row: &&Value| row["goes_on"] == true;
    assert_eq!(rows.iter().filter(goes_on).count(), 16 + 6 + 1, "{rows:?}");
    assert_eq!(rows.iter().filter(|row| !goes_on(row)).count(), 2, "{rows:?}");
    let (code, _, said) = cluster.unsafe_recover(1, &[]);
    assert_eq!(code, Some(2), "nobody can type it here: {said}");
    let (code, _, said) = cluster.unsafe_recover(1, &["--accept", "yes"]);
    assert_eq!(code, Some(1), "{said}");
    let loss = "lose what only nodes 2, 3 hold";
    assert!(said.contains(loss), "{said}");
    let (code, _, said) = cluster.unsafe_recover(1, &["--accept", loss]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("bateau node replace 2"), "{said}");

    cluster.trio.launch(1);
    cluster.trio.until_ready(1);
    cluster.run(1, &["produce", TOPIC, "-k", "7", "alone"]);
    // An old directory is no member's any more, and takes nobody's votes.
    cluster.trio.launch(2);
    cluster.trio.launch(3);
    cluster.until_node(1, 1, "that it goes on alone", |node| node["metadata"] == "leader");
    cluster.run(1, &["produce", TOPIC, "-k", "7", "still alone"]);
    for id in [2, 3] {
        let (status, said) = cluster.trio.ended(id);
        assert_eq!(status.code(), Some(4), "{said}");
        assert!(said.contains("shows a data directory that another one has replaced"), "{said}");
        fs::remove_dir_all(cluster.trio.data(id)).expect("it is there");
        let id_text = id.to_string();
        cluster.until_node(1, id, "that it is gone", |node| node["alive"] == false);
        cluster.run(1, &["node", "replace", &id_text, "--yes"]);
        cluster.trio.launch(id);
        cluster.trio.until_ready(id);
    }
    // Its only copies were on the nodes that were given up.
    cluster.run(1, &["topic", "delete", "elsewhere", "--yes"]);
    for id in [2, 3] {
        cluster.until_node(1, id, "all of its copies", |node| {
            node["replicas"] == 22 && node["incoming"] == 0 && node["metadata"] == "voter"
        });
    }
    let (code, _, said) = cluster.unsafe_recover(1, &["--dry-run"]);
    assert_eq!(code, Some(3), "{said}");
    cluster.trio.kill(1);
    let read = cluster.run(2, &["consume", TOPIC, "--exit-at-end"]);
    let values: Vec<&Value> = read.iter().map(|record| &record["value"]).collect();
    assert_eq!(values, ["before", "alone", "still alone"]);
}

#[test]
fn what_would_lose_something_is_refused_with_one_line() {
    if !namespace::enter("what_would_lose_something_is_refused_with_one_line") {
        return;
    }
    let mut cluster = Cluster::founded_by(&[1]);
    cluster.refused(1, &["node", "remove", "1", "--yes"], (4, "E0504"), "is the only node");
    cluster.refused(1, &["node", "remove", "9", "--yes"], (3, "E0502"), "no member of this id");

    // A node that nobody has let in ends, and comes once somebody has.
    cluster.write(2, &[1]);
    cluster.trio.launch(2);
    let (status, said) = cluster.trio.ended(2);
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(said.contains("asking node 1 to be let in"), "{said}");
    assert!(said.contains("bateau node add 2") && said.contains("bateau node replace 2"), "{said}");
    cluster.add(1, 2, &[1]);

    // The only copy of a partition lies on the second node, which is gone.
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "2", "--replicas", "1"]);
    let alone = replicas(&cluster, 1).iter().any(|nodes| *nodes == [2]);
    assert!(alone, "of two partitions each node has one");
    let drained = cluster.try_run(1, &["node", "drain", "2", "--wait", "20s"]);
    assert_eq!(drained.0, Some(4), "{drained:?}");
    let cause = "node 2 goes on leading 1 partitions, orders/";
    assert!(drained.2.contains("error[E0505]") && drained.2.contains(cause), "{drained:?}");
    cluster.run(1, &["node", "drain", "2", "--undo"]);
    cluster.trio.kill(2);
    cluster.until_node(1, 2, "that its end is seen", |node| node["alive"] == false);
    let only = "holds the only copy of 1 partitions, orders/";
    cluster.refused(1, &["node", "remove", "2", "--yes"], (4, "E0504"), only);
    cluster.trio.launch(2);
    cluster.trio.until_ready(2);
    cluster.until_node(1, 2, "that it lives", |node| node["alive"] == true);
    let removed = cluster.run(1, &["node", "remove", "2", "--yes"]);
    assert_eq!(removed[0]["removed"], true);
    assert_eq!(replicas(&cluster, 1), vec![vec![1]; 2]);
}

#[test]
fn a_removal_that_would_lose_a_majority_is_refused() {
    if !namespace::enter("a_removal_that_would_lose_a_majority_is_refused") {
        return;
    }
    let mut cluster = Cluster::founded_by(&NODES);
    cluster.run(1, &["topic", "create", TOPIC, "--partitions", "6"]);
    cluster.trio.kill(3);
    cluster.until_node(1, 3, "that its end is seen", |node| node["alive"] == false);
    cluster.refused(1, &["node", "remove", "2", "--yes"], (4, "E0504"), "would be alive");
    // Without the dead one, two hold everything.
    cluster.run(1, &["node", "remove", "3", "--yes"]);
    assert_eq!(cluster.node(1, 3), None);
    let mut held = replicas(&cluster, 1);
    held.iter_mut().for_each(|nodes| nodes.sort_unstable());
    assert_eq!(held, vec![vec![1, 2]; 6]);
}
