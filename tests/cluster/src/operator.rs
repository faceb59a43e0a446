//! What an operator types at a cluster, and what its answers say about nodes and copies.
//!
//! Invariant: a command that fails is no panic here; under faults it is given again.
//! Absent on purpose: a client of its own. The commands are the ones that people have.

use crate::TIMEOUT;
use crate::nodes::Nodes;
use kafka_clients_tests::broker::binary;
use kafka_clients_tests::program::{Program, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// `sha256:` and 64 digits.
const PIN_CHARACTERS: usize = 71;
/// What a command has said.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its exit code.
    pub code: Option<i32>,
    /// Objects on standard output.
    pub objects: Vec<Value>,
    /// Standard error.
    pub said: String,
}

/// Where a node's native door is, with the pin that it has logged; `None` while it has not.
fn url(nodes: &Nodes, id: usize) -> Option<String> {
    let said = nodes.said(id);
    let line = said.lines().find(|line| line.contains("this pin"))?;
    let start = line.find("sha256:")?;
    let pin = line.get(start..start + PIN_CHARACTERS)?;
    Some(format!("quic://{}?pin={pin}", crate::network::native(id)))
}

/// Begins a command at a node; `None` where that node says no pin.
pub fn begin(nodes: &Nodes, at: usize, arguments: &[&str]) -> Option<Program> {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--broker", &url(nodes, at)?]);
    command.env_remove("BATEAU_CONTEXT").env_remove("RUST_LOG");
    Some(Program::start("bateau", command))
}

/// Waits for the end of a command.
pub fn finished(mut program: Program) -> Told {
    let code = program.wait_for_exit(2 * TIMEOUT).code();
    let objects = program.lines().into_iter().filter_map(|line| line.json).collect();
    Told { code, objects, said: program.errors().join("\n") }
}

/// Runs a command at a node; `None` where that node says no pin.
pub fn run(nodes: &Nodes, at: usize, arguments: &[&str]) -> Option<Told> {
    begin(nodes, at, arguments).map(finished)
}

/// Runs a command at a node that is well, and returns the objects of its answer.
///
/// Panics where it does not end well.
#[track_caller]
pub fn done(nodes: &Nodes, at: usize, arguments: &[&str]) -> Vec<Value> {
    // A node may be ready a moment before its pin is read here.
    wait_until("its pin", TIMEOUT, || url(nodes, at).is_some());
    let told = run(nodes, at, arguments).expect("the node has said its pin");
    assert_eq!(told.code, Some(0), "{arguments:?}: {}", told.said);
    told.objects
}

/// The nodes as one of them knows them; `None` where it does not answer.
pub fn list(nodes: &Nodes, at: usize) -> Option<Vec<Value>> {
    run(nodes, at, &["node", "list"]).filter(|told| told.code == Some(0)).map(|told| told.objects)
}

/// What keeps this cluster from being whole as this member sees it: who is a member and alive, who
/// holds copies of the topic and leads them, what is still on its way. `None` where nothing does.
///
/// - `copies`: of each partition of the topic.
pub fn hindrance(nodes: &Nodes, at: usize, (topic, copies): (&str, usize)) -> Option<String> {
    let members: BTreeSet<u64> = nodes.ids().into_iter().map(number).collect();
    let Some(list) = list(nodes, at) else { return Some(format!("node {at} lists no nodes")) };
    let listed: BTreeSet<u64> = list.iter().filter_map(|node| node["node"].as_u64()).collect();
    if listed != members {
        return Some(format!("node {at} knows nodes {listed:?}, and not {members:?}"));
    }
    let moves = |node: &&Value| {
        let still = node["incoming"] == 0 && node["outgoing"] == 0 && node["alive"] == true;
        !still || node["metadata"] == "learner"
    };
    if let Some(node) = list.iter().find(moves) {
        return Some(format!("as node {at} sees it: {node}"));
    }
    let described = run(nodes, at, &["topic", "describe", topic]);
    let described = described.filter(|told| told.code == Some(0));
    let partitions = described.as_ref().and_then(|told| told.objects.first()?.get("partitions"));
    let Some(partitions) = partitions.and_then(Value::as_array) else {
        return Some(format!("node {at} does not describe {topic}"));
    };
    let is_right = |one: &&Value| {
        let held = one["replicas"].as_array().into_iter().flatten();
        let held: BTreeSet<u64> = held.filter_map(Value::as_u64).collect();
        let led = one["leader"].as_u64().is_some_and(|leader| held.contains(&leader));
        led && held.len() == copies && held.is_subset(&members)
    };
    let wrong = partitions.iter().find(|one| !is_right(one));
    wrong.map(|one| format!("as node {at} sees it: {topic}: {one}"))
}

fn number(id: usize) -> u64 {
    u64::try_from(id).expect("there are few nodes")
}
