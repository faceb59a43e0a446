//! `docs/runbook.md`, done from its first line to its last.

use cluster_tests::commanded::Cluster;
use cluster_tests::{NODES, TIMEOUT};
use kafka_clients_tests::broker::binary;
use kafka_clients_tests::data_dir::{all_frames, logs, metadata_log, segments};
use kafka_clients_tests::namespace;
use kafka_clients_tests::program::{Program, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the page has in its blocks of commands, block by block.
fn blocks() -> Vec<Vec<String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbook.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let block = lines.by_ref().take_while(|line| *line != "```");
            blocks.push(block.map(str::to_owned).collect());
        }
    }
    blocks
}

/// Words as a shell has them: quotes keep words together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// The page's nodes.
struct Runbook {
    cluster: Cluster,
    running: BTreeSet<usize>,
}

impl Runbook {
    /// Does one line of the page.
    fn perform(&mut self, line: &str) {
        println!("{line}");
        if let Some(deed) = line.strip_prefix("# node ") {
            let (id, deed) = deed.split_once(": ").expect("a node and a deed");
            return self.act(id.parse().expect("a node's id"), deed);
        }
        let words = words(line);
        let arguments: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        assert_eq!(words.first().map(String::as_str), Some("bateau"), "{line}");
        match &arguments[..] {
            ["node", "unsafe-recover", ..] => self.offline(&arguments),
            ["node", "remove", id, ..] => {
                self.cluster.run(self.member(), &arguments);
                let id = id.parse().expect("a node's id");
                let (status, said) = self.cluster.trio.ended(id);
                assert_eq!(status.code(), Some(4), "{said}");
                self.running.remove(&id);
            }
            _ => drop(self.cluster.run(self.member(), &arguments)),
        }
    }

    fn member(&self) -> usize {
        *self.running.first().expect("a node runs")
    }

    fn act(&mut self, id: usize, deed: &str) {
        match deed {
            "lose a segment file" => self.lose_a_segment(id),
            "stop it" | "lose it, with its directory" => {
                self.running.remove(&id);
                self.cluster.trio.kill(id);
                if deed != "stop it" {
                    fs::remove_dir_all(self.cluster.trio.data(id)).expect("it is there");
                }
                // Without a majority nobody says who lives.
                if self.running.len() > 1 {
                    let at = self.member();
                    self.cluster.until_node(at, id, "its end is seen", |one| one["alive"] == false);
                }
            }
            "start it" | "start it with an empty node.data_dir" => {
                assert_eq!(self.cluster.trio.data(id).exists(), deed == "start it");
                if deed != "start it" {
                    let members: Vec<usize> = self.running.iter().copied().collect();
                    self.cluster.write(id, &members);
                }
                self.cluster.trio.launch(id);
                self.running.insert(id);
                // One of several that were stopped waits for a second one.
                if self.running.len() > 1 {
                    self.cluster.trio.until_ready(id);
                }
            }
            other => panic!("nobody knows how to {other}"),
        }
    }

    /// The whole log of a partition, but for the metadata's and that of the one record.
    fn lose_a_segment(&self, id: usize) {
        let data = self.cluster.trio.data(id);
        let has_no_record = |log: &PathBuf| {
            *log != metadata_log(&data)
                && all_frames(log).iter().all(|frame| frame.kind != "records")
        };
        let log = logs(&data).into_iter().find(has_no_record).expect("there is one");
        fs::remove_file(segments(&log).last().expect("it has one")).expect("it is there");
    }

    /// Waits until everybody who runs is ready, and nothing moves.
    fn settle(&self) {
        self.running.iter().for_each(|id| self.cluster.trio.until_ready(*id));
        wait_until("nothing moves any more", TIMEOUT, || {
            let nodes = self.cluster.run(self.member(), &["node", "list"]);
            let is_still = |node: &serde_json::Value| {
                node["incoming"] == 0 && node["alive"] == true && node["metadata"] != "learner"
            };
            nodes.len() == self.running.len() && nodes.iter().all(is_still)
        });
    }

    /// A command for a node that does not run, by its file.
    fn offline(&self, arguments: &[&str]) {
        let mut command = Command::new(binary());
        for argument in arguments {
            match NODES.into_iter().find(|id| *argument == format!("node{id}.toml")) {
                Some(id) => command.arg(self.cluster.trio.file(id)),
                None => command.arg(argument),
            };
        }
        let mut program = Program::start("bateau", command);
        let status = program.wait_for_exit(TIMEOUT);
        assert_eq!(status.code(), Some(0), "{arguments:?}: {}", program.errors().join("\n"));
    }
}

#[test]
fn the_runbook_can_be_followed_from_its_first_line_to_its_last() {
    if !namespace::enter("the_runbook_can_be_followed_from_its_first_line_to_its_last") {
        return;
    }
    let blocks = blocks();
    assert!(blocks.len() >= 10, "{blocks:?}");
    let mut runbook = Runbook { cluster: Cluster::founded_by(&[1]), running: BTreeSet::from([1]) };
    runbook.cluster.run(1, &["topic", "create", "orders", "--partitions", "6"]);
    runbook.cluster.run(1, &["produce", "orders", "-k", "7", "an order"]);
    for block in blocks {
        block.iter().for_each(|line| runbook.perform(line));
        runbook.settle();
    }
    let read = runbook.cluster.run(1, &["consume", "orders", "--exit-at-end"]);
    let values: Vec<&serde_json::Value> = read.iter().map(|record| &record["value"]).collect();
    assert_eq!(values, ["an order"]);
}
