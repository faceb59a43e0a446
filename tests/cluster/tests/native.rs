//! The native doors of three real processes, each with a key that its node made: a client that
//! knows one pin follows leaders and coordinators over all of them, and so does the command line.

use bateau_client::{AdminError, Client};
use cluster_tests::{NODES, RUST_LOAD, TIMEOUT, Trio};
use kafka_clients_tests::broker::binary;
use kafka_clients_tests::following::Progress;
use kafka_clients_tests::namespace;
use kafka_clients_tests::program::Program;
use std::fs;
use std::process::Command;
use std::time::Duration;

const TOPIC: &str = "orders";

/// `sha256:` and 64 digits.
const PIN_CHARACTERS: usize = 71;

/// Three nodes whose native doors are open.
fn with_native_doors() -> Trio {
    let mut trio = Trio::new();
    for id in NODES {
        fs::write(trio.file(id), trio.configuration_with_native(id)).expect("it is written");
    }
    trio.launch_all();
    trio
}

/// The native door of a node with the pin that it has logged.
fn url(trio: &Trio, id: usize) -> String {
    let pin = trio.program(id).wait_for_error("its pin", TIMEOUT, |lines| {
        let line = lines.iter().find(|line| line.contains("this pin"))?;
        let start = line.find("sha256:")?;
        line.get(start..start + PIN_CHARACTERS).map(str::to_owned)
    });
    format!("quic://{}?pin={pin}", Trio::native(id))
}

/// Each node is killed under load, and everybody goes on without it before it comes back.
fn kill_each(mut trio: Trio, progress: &Progress) -> Trio {
    for id in NODES {
        trio.kill(id);
        progress.goes_on(&format!("without node {id}"));
        trio.launch(id);
        trio.until_ready(id);
        progress.goes_on(&format!("with node {id} again"));
    }
    trio
}

#[test]
fn clients_that_know_one_pin_follow_leaders_and_coordinators_over_all_nodes() {
    if !namespace::enter("clients_that_know_one_pin_follow_leaders_and_coordinators_over_all_nodes")
    {
        return;
    }
    let trio = with_native_doors();
    let url = url(&trio, 1);
    let client = move || Client::builder().address(&url);
    let (_trio, count) = RUST_LOAD.run(client, |progress| kill_each(trio, progress));
    println!("{count} records, {} kills", NODES.len());
}

/// Runs a command, which must end well, and returns what it prints.
fn bateau(url: &str, arguments: &[&str]) -> Vec<serde_json::Value> {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--broker", url]);
    command.env_remove("BATEAU_CONTEXT").env_remove("RUST_LOG");
    let mut program = Program::start("bateau", command);
    let status = program.wait_for_exit(TIMEOUT);
    assert!(status.success(), "{arguments:?}: {status}{}", program.tail());
    program.lines().into_iter().filter_map(|line| line.json).collect()
}

#[test]
fn every_command_works_at_every_node() {
    if !namespace::enter("every_command_works_at_every_node") {
        return;
    }
    let trio = with_native_doors();
    let urls = NODES.map(|id| url(&trio, id));
    bateau(&urls[2], &["topic", "create", TOPIC, "--partitions", "6"]);
    for (place, url) in urls.iter().enumerate() {
        // Six keys: some go to partitions that another node leads.
        for key in ["a", "b", "c", "d", "e", "f"] {
            bateau(url, &["produce", TOPIC, "-k", key, &format!("node {}", NODES[place])]);
        }
        let described = bateau(url, &["topic", "describe", TOPIC]);
        let text = serde_json::to_string(&described).expect("it was JSON");
        for id in NODES {
            let is_led = text.contains(&format!("\"leader\":{id}"));
            assert!(is_led, "node {id} leads two of six: {text}");
        }
        let read = bateau(url, &["consume", TOPIC, "--exit-at-end"]);
        assert_eq!(read.len(), 6 * (place + 1), "through node {}", NODES[place]);
        let group = bateau(url, &["consume", TOPIC, "--group", "billing", "-n", "6"]);
        assert_eq!(group.len(), 6, "a group goes on through node {}", NODES[place]);
        let members = bateau(url, &["group", "describe", "billing"]);
        assert!(!members.is_empty(), "through node {}", NODES[place]);
        let status = bateau(url, &["status"]);
        assert_eq!(status.first().map(|one| &one["node_id"]), Some(&NODES[place].into()));
    }
}

/// A coordinator whose followers are gone does not know whether another one has been elected, so it
/// does not even say that a group does not exist.
#[test]
fn a_coordinator_that_is_alone_says_nothing_about_groups() {
    if !namespace::enter("a_coordinator_that_is_alone_says_nothing_about_groups") {
        return;
    }
    let mut trio = with_native_doors();
    let url = url(&trio, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let client = Client::builder().address(&url).timeout(Duration::from_secs(3));
        let client = client.connect().await.expect("node 1 is there");
        // Enough for every group partition to be asked about.
        let groups: Vec<String> = (0..64).map(|number| format!("nobody-{number}")).collect();
        for group in &groups {
            let found = client.admin().describe_group(group).await;
            assert!(matches!(found, Err(AdminError::NotFound { .. })), "{group}: {found:?}");
        }
        [2, 3].into_iter().for_each(|id| trio.kill(id));
        let asked = groups.into_iter().map(|group| {
            let admin = client.admin();
            tokio::spawn(async move { (admin.describe_group(&group).await, group) })
        });
        for one in asked.collect::<Vec<_>>() {
            let (found, group) = one.await.expect("it does not panic");
            assert!(matches!(found, Err(AdminError::Request(_))), "{group}: {found:?}");
        }
    });
}
