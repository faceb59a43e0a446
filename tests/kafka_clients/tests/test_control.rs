//! Test control over HTTP, from the languages that have it no other way; and every `curl` line of
//! `docs/http.md`.
//!
//! The programs are `kafkajs/test-control.js`, `kafkajs/leaders.js` and `python/test_control.py`;
//! each ends with the line `done`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kafka_clients_tests::broker::Broker;
use kafka_clients_tests::program::Program;
use kafka_clients_tests::runtimes;

/// A whole program, start of its runtime included.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Runs a program that must say what it did and end well.
fn run_to_done(name: &str, command: Command, steps: &[&str]) {
    let mut program = Program::start(name, command);
    let status = program.wait_for_exit(TIMEOUT);
    assert!(status.success(), "{name}: {status}{}", program.tail());
    let lines = program.lines();
    let events: Vec<_> = lines.iter().filter_map(|line| line.event()).collect();
    assert_eq!(events, steps, "{}", program.tail());
}

#[test]
fn a_test_in_node_js_has_the_controls() {
    let Some(installed) = runtimes::node() else {
        return runtimes::skip("test control from Node.js", "no Node.js with npm here");
    };
    let mut broker = Broker::start_controlled();
    let mut command = installed.command();
    command.args(["test-control.js", broker.bootstrap(), &broker.http()]);
    let steps = ["retried", "deduplicated", "expired", "restarted", "done"];
    run_to_done("test-control.js", command, &steps);
    broker.terminate();
}

#[test]
fn a_producer_of_node_js_loses_and_doubles_nothing_while_leaders_move_and_die() {
    let Some(installed) = runtimes::node() else {
        return runtimes::skip("leaders that move under kafkajs", "no Node.js with npm here");
    };
    let mut broker = Broker::start_controlled_nodes();
    let mut command = installed.command();
    command.args(["leaders.js", &broker.bootstraps(), &broker.http()]);
    run_to_done("leaders.js", command, &["moved", "survived", "done"]);
    broker.terminate();
}

#[test]
fn a_test_in_python_has_the_controls() {
    let Some(installed) = runtimes::python_file("test_control.py") else {
        return runtimes::skip("test control from Python", "no Python 3 here");
    };
    let mut broker = Broker::start_controlled();
    let mut command = installed.command();
    command.args([broker.bootstrap(), &broker.http()]);
    run_to_done("test_control.py", command, &["retried", "expired", "refused", "done"]);
    broker.terminate();
}

/// A `curl` line of the page, and what the line below it says that it prints.
struct Example {
    line: String,
    printed: String,
}

/// The examples of the page: a line that begins with `$ curl`, on several lines where it ends with
/// a backslash, and the line behind it.
fn examples(page: &str) -> Vec<Example> {
    let page = page.replace("\\\n", " ");
    let lines: Vec<&str> = page.lines().collect();
    let pairs = lines.iter().zip(lines.iter().skip(1));
    let examples = pairs.filter_map(|(line, printed)| {
        let line = line.strip_prefix("$ ").filter(|line| line.starts_with("curl "))?;
        Some(Example { line: line.to_owned(), printed: (*printed).to_owned() })
    });
    examples.collect()
}

/// Whether a text is what the page says, where `…` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.is_empty() || pattern.ends_with('…')
}

#[test]
fn every_curl_line_of_the_page_does_what_the_page_says() {
    let curl = Command::new("curl").arg("--version").output();
    if !curl.is_ok_and(|output| output.status.success()) {
        return runtimes::skip("the examples of docs/http.md", "no curl here");
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/http.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    // Routes that concern several nodes have examples too.
    let mut broker = Broker::start_controlled_nodes();
    let examples = examples(&page);
    assert!(examples.len() >= 22, "every route has an example: {}", examples.len());
    for Example { line, printed } in examples {
        let run = line.replace("http://localhost:8080", &broker.http());
        assert_ne!(run, line, "the example asks the door at its usual place");
        let output = Command::new("sh").args(["-c", &run]).output().expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        let problems = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {}{problems}", output.status);
        assert!(is_like(said.trim_end(), &printed), "{line} printed {said}");
    }
    broker.terminate();
}
