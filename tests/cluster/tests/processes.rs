//! Three real processes: founded in any order, killed under a real client, refused where they do
//! not belong.

use cluster_tests::{NODES, TIMEOUT, Trio};
use kafka_clients_tests::program::{Program, wait_until};
use kafka_clients_tests::{namespace, runtimes};
use std::fs;
use std::thread;
use std::time::Duration;

/// Kills in the everyday run; each node is killed once.
const KILLS: usize = 3;

/// A kill comes at a moment within so much time.
const MOMENT_MAX: Duration = Duration::from_millis(300);

#[test]
fn a_cluster_begins_when_its_founders_have_met_in_any_order() {
    if !namespace::enter("a_cluster_begins_when_its_founders_have_met_in_any_order") {
        return;
    }
    let mut trio = Trio::new();
    trio.launch(3);
    trio.launch(1);
    let waits = |lines: &[String]| lines.iter().any(|line| line.contains("waiting for the other"));
    trio.program(1).wait_for_error("that it waits", TIMEOUT, |lines| waits(lines).then_some(()));
    trio.launch(2);
    NODES.into_iter().for_each(|id| trio.until_ready(id));
}

#[test]
fn founders_with_unequal_lists_stop_with_one_line_that_names_both() {
    if !namespace::enter("founders_with_unequal_lists_stop_with_one_line_that_names_both") {
        return;
    }
    let mut trio = Trio::new();
    fs::write(trio.file(2), trio.configuration(2, &[1, 2])).expect("it is written");
    trio.launch(1);
    trio.launch(2);
    for id in [1, 2] {
        let (status, said) = trio.ended(id);
        assert_eq!(status.code(), Some(2), "node {id}: {said}");
        assert!(said.contains("3@127.0.0.1:9643"), "node {id}: {said}");
    }
}

#[test]
fn an_emptied_directory_is_refused_and_nobody_else_is_disturbed() {
    if !namespace::enter("an_emptied_directory_is_refused_and_nobody_else_is_disturbed") {
        return;
    }
    let mut trio = Trio::started();
    trio.kill(3);
    fs::remove_dir_all(trio.data(3)).expect("it is there");
    trio.launch(3);
    let (status, said) = trio.ended(3);
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(said.contains("bateau node replace 3"), "{said}");
    trio.kill(1);
    trio.launch(1);
    trio.until_ready(1);
}

/// P1: the leaders' processes are killed under an idempotent producer.
#[test]
fn p1_a_killed_node_costs_no_record_and_repeats_none() {
    let Some(client) = runtimes::python_file("steady.py") else {
        return runtimes::skip("p1", "there is no Python 3 with venv");
    };
    if !namespace::enter("p1_a_killed_node_costs_no_record_and_repeats_none") {
        return;
    }
    let seed = fastrand::u64(..);
    println!("the moments of the kills are those of seed {seed:x}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut trio = Trio::started();
    let mut command = client.command();
    command.arg(Trio::bootstrap()).arg("orders").arg("6");
    let client = Program::start("steady.py", command);
    client.wait_for_events("first_ack", 1, TIMEOUT);
    for kill in 0..KILLS {
        let moment = random.u64(0..u64::try_from(MOMENT_MAX.as_micros()).expect("it is short"));
        thread::sleep(Duration::from_micros(moment));
        let id = NODES[kill % NODES.len()];
        client.tell("fault");
        trio.kill(id);
        trio.launch(id);
        trio.until_ready(id);
    }
    client.tell("stop");
    client.wait_for_events("judged", 1, TIMEOUT);
    let lines = client.lines();
    let judged = lines.iter().find(|line| line.event() == Some("judged")).expect("it was said");
    println!("{}", judged.text);
    let judged = judged.json.as_ref().expect("it is an object");
    assert_eq!(judged["lost"].as_array().map(Vec::len), Some(0), "{judged}");
    assert_eq!(judged["twice"].as_u64(), Some(0), "{judged}");
    assert_eq!(judged["failed"].as_array().map(Vec::len), Some(0), "{judged}");
    assert_eq!(judged["gaps_ms"].as_array().map(Vec::len), Some(KILLS), "every fault was seen");
    assert!(judged["acked"].as_u64() > Some(100), "the producer went on: {judged}");
}

/// P2, its short form: all processes are killed at once.
#[test]
fn p2_all_nodes_killed_at_once_go_on_with_all_that_was_acknowledged() {
    let Some(client) = runtimes::python_file("steady.py") else {
        return runtimes::skip("p2", "there is no Python 3 with venv");
    };
    if !namespace::enter("p2_all_nodes_killed_at_once_go_on_with_all_that_was_acknowledged") {
        return;
    }
    let mut trio = Trio::started();
    let mut command = client.command();
    command.arg(Trio::bootstrap()).arg("orders").arg("6");
    let mut client = Program::start("steady.py", command);
    client.wait_for_events("first_ack", 1, TIMEOUT);
    client.tell("fault");
    NODES.into_iter().for_each(|id| trio.kill(id));
    trio.launch_all();
    client.tell("stop");
    wait_until("the judgement", TIMEOUT, || !client.running());
    let lines = client.lines();
    let judged = lines.iter().find(|line| line.event() == Some("judged"));
    let judged = judged.unwrap_or_else(|| panic!("no judgement: {}", client.tail()));
    let judged = judged.json.as_ref().expect("it is an object");
    assert_eq!(judged["lost"].as_array().map(Vec::len), Some(0), "{judged}");
    assert_eq!(judged["twice"].as_u64(), Some(0), "{judged}");
    assert_eq!(judged["failed"].as_array().map(Vec::len), Some(0), "{judged}");
}
