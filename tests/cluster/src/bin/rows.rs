//! The long forms of the rows, from the command line.
//!
//! ```text
//!   rows --row P1 --runs 20 --seed 7        ten faults a run; a line per run, and sums
//!   rows --row P4 --nodes 5                 of what the row needs, where nothing is said
//!   rows --row P1 --short                   as the tests do it
//!   rows --number created|restart           numbers that are no row
//!   rows ... --ledger FILE                  lines are added there; ledger.jsonl beside the build
//! ```
//!
//! Invariant: the exit code is 0 only if every run counts and nothing is wrong in any.
//! Absent on purpose: several clusters at once. They would measure each other.

use cluster_tests::ledger::{Entry, percentiles};
use cluster_tests::numbers;
use cluster_tests::rows::{Form, Row, run};
use kafka_clients_tests::broker::target_directory;
use kafka_clients_tests::namespace;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "rows (--row ROW | --number created|restart) [--nodes 3|5] [--runs N] \
                     [--seed N] [--short] [--ledger FILE]";

struct Wanted {
    row: Option<Row>,
    number: Option<String>,
    nodes: Option<usize>,
    runs: u64,
    seed: u64,
    form: Form,
    ledger: PathBuf,
}

fn main() -> ExitCode {
    let wanted = match parse(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(reason) => {
            eprintln!("{reason}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(code) = namespace::enter_program() {
        return code;
    }
    if let Some(number) = &wanted.number {
        return measure(number, wanted.runs);
    }
    let Some(row) = wanted.row else { return ExitCode::from(2) };
    let mut entries = Vec::new();
    for number in 1..=wanted.runs {
        let nodes = wanted.nodes.unwrap_or_else(|| row.nodes());
        let entry = run(row, nodes, wanted.seed, number, wanted.form);
        println!("{}", entry.to_json());
        if !entry.is_good() {
            println!("{}", entry.report);
        }
        entry.append(&wanted.ledger);
        entries.push(entry);
    }
    sums(row, &entries)
}

fn measure(number: &str, runs: u64) -> ExitCode {
    let times = match number {
        "created" => numbers::created_topics(runs),
        "restart" => numbers::restarts(runs),
        _ => return ExitCode::from(2),
    };
    println!("{}", spread(number, &times));
    ExitCode::SUCCESS
}

fn sums(row: Row, entries: &[Entry]) -> ExitCode {
    let all = |of: fn(&Entry) -> &Vec<Duration>| -> Vec<Duration> {
        entries.iter().flat_map(|entry| of(entry).iter().copied()).collect()
    };
    let name = row.name();
    println!("{}", spread(&format!("{name} produce gap"), &all(|entry| &entry.gaps)));
    println!("{}", spread(&format!("{name} without a leader"), &all(|entry| &entry.leaderless)));
    println!("{}", spread(&format!("{name} recovery"), &all(|entry| &entry.recoveries)));
    let counting = entries.iter().filter(|entry| entry.counts()).count();
    let good = entries.iter().filter(|entry| entry.is_good()).count();
    let anomalies: u64 = entries.iter().map(|entry| entry.report.count()).sum();
    let problems: usize = entries.iter().map(|entry| entry.problems.len()).sum();
    let runs = entries.len();
    println!(
        "{name}: {runs} runs, {counting} count, {good} good, {anomalies} anomalies, \
              {problems} problems"
    );
    if counting == entries.len() && good == entries.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn spread(what: &str, times: &[Duration]) -> String {
    match percentiles(times) {
        None => format!("{what}: nothing was measured"),
        Some((half, most_of_all, most)) => format!(
            "{what}: {} times, p50 {} ms, p99 {} ms, most {} ms",
            times.len(),
            half.as_millis(),
            most_of_all.as_millis(),
            most.as_millis()
        ),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let ledger = target_directory().join("ledger.jsonl");
    let (row, number, nodes, form) = (None, None, None, Form::Long);
    let mut wanted = Wanted { row, number, nodes, runs: 1, seed: 1, form, ledger };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text} is no number"));
        match argument.as_str() {
            "--row" => wanted.row = Some(value()?.parse()?),
            "--number" => wanted.number = Some(value()?),
            "--nodes" => {
                wanted.nodes = match value()?.as_str() {
                    "3" => Some(3),
                    "5" => Some(5),
                    other => return Err(format!("{other} is no number of nodes: 3 or 5 are")),
                }
            }
            "--runs" => wanted.runs = number(value()?)?,
            "--seed" => wanted.seed = number(value()?)?,
            "--short" => wanted.form = Form::Short,
            "--ledger" => wanted.ledger = PathBuf::from(value()?),
            _ => return Err(format!("{argument} is not known")),
        }
    }
    let known = wanted.number.as_deref().is_none_or(|one| ["created", "restart"].contains(&one));
    if wanted.row.is_some() == wanted.number.is_some() || !known {
        return Err("one row or one number is wanted".to_owned());
    }
    Ok(wanted)
}
