//! Every example of every `--help`, and every command of the manual's page, run as it stands.
//!
//! A help begins with `Examples:` and lines that a shell understands. They are run one after the
//! other against a node that has the topic `orders` with a few records and the group `billing`.
//! One that says `Ctrl-C` is interrupted after its first line.
//!
//! Absent on purpose: the commands that start a node, which have tests of their own.

use crate::node::{Ended, Node, ended};

/// Commands whose examples are not run here: two start a node on the ports that everybody uses.
const WITHOUT: &[&str] = &["dev", "serve", "help"];

/// What has an end only where there are more nodes than one: tests of clusters do the same.
const OF_CLUSTERS: &[&str] =
    &["node remove 3", "node replace 3", "node drain 3", "node unsafe-recover"];

/// The first segment of a partition.
const SEGMENT: &str = "0000000000000001.log";

/// A node with something in it.
fn prepared() -> Node {
    let node = Node::start();
    node.run(&["topic", "create", "orders", "-p", "2"]).text();
    node.run(&["produce", "orders", "-k", "7", "paid", "shipped", "done", "archived"]).text();
    node.run(&["produce", "orders", "-p", "1", "a", "b", "c", "d"]).text();
    node.run(&["consume", "orders", "--group", "billing", "-n", "3"]).text();
    // Examples speak of the context that a node on the usual port has.
    let file = node.work().join("../config/contexts.toml");
    let contexts = std::fs::read_to_string(&file).expect("the node has written it");
    let renamed = contexts.replace(&format!("[contexts.{}]", node.context()), "[contexts.dev]");
    std::fs::write(&file, renamed).expect("it can be written");
    std::fs::write(node.work().join("node.toml"), "[node]\nid = 1\n").expect("it can be written");
    let partitions = std::fs::read_dir(node.work().join("../data/partitions"));
    let segment = partitions
        .expect("the node has partitions")
        .map(|entry| entry.expect("it can be listed").path().join(SEGMENT))
        .find(|path| path.exists())
        .expect("a partition has its first segment");
    std::fs::copy(segment, node.work().join(SEGMENT)).expect("it can be copied");
    node
}

fn shell(node: &Node, line: &str) -> Ended {
    let mut shell = node.program("/bin/sh");
    shell.env("BATEAU_CONTEXT", "dev").args(["-c", line]);
    ended(shell, b"")
}

/// Runs one example.
#[track_caller]
fn run(node: &Node, example: &str) {
    if OF_CLUSTERS.iter().any(|command| example.contains(command)) {
        return;
    }
    if example.contains("Ctrl-C") {
        let command = example.split('#').next().expect("a text has a first part");
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let mut command = node.begin_in("dev", &words);
        assert!(!command.line().is_empty(), "{example}: nothing was printed");
        command.interrupt();
        let ended = command.end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{example}");
        return;
    }
    let ended = shell(node, example);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{example}: {}", ended.stdout);
}

fn help(node: &Node, path: &[&str]) -> String {
    node.run(&[path, &["--help"]].concat()).text().to_owned()
}

/// The lines under `Examples:`.
fn examples(help: &str) -> Vec<String> {
    let mut lines = help.lines();
    if lines.next() != Some("Examples:") {
        return Vec::new();
    }
    lines.take_while(|line| !line.is_empty()).map(|line| line.trim().to_owned()).collect()
}

/// The names under `Commands:`.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn every_example_of_every_help_works_as_it_stands() {
    let node = Node::start();
    let mut count = 0;
    let all = help(&node, &[]);
    let starts_a_node = |example: &&String| example.starts_with("bateau dev");
    let first = prepared();
    examples(&all).iter().filter(|one| !starts_a_node(one)).for_each(|one| run(&first, one));
    for command in commands(&all) {
        if WITHOUT.contains(&command.as_str()) {
            continue;
        }
        let outer = help(&node, &[&command]);
        let verbs = commands(&outer);
        let mut helps = vec![outer];
        if !verbs.is_empty() && examples(&helps[0]).is_empty() {
            let inner = verbs.iter().filter(|verb| *verb != "help");
            helps = inner.map(|verb| help(&node, &[&command, verb])).collect();
        }
        for help in helps {
            let found = examples(&help);
            assert!(!found.is_empty(), "{command}: the help does not begin with examples:\n{help}");
            let node = prepared();
            found.iter().for_each(|example| run(&node, example));
            count += found.len();
        }
    }
    assert!(count > 40, "only {count} examples were found");
}

#[test]
fn every_command_of_the_page_works_as_it_stands() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/command-line.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let node = prepared();
    let mut inside = false;
    let mut count = 0;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) => inside = language == "sh",
            None if inside => {
                run(&node, line);
                count += 1;
            }
            None => {}
        }
    }
    assert!(count > 10, "only {count} commands were found");
}
