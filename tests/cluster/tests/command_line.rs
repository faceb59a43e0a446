//! The command of the long forms, as the page has it.

use kafka_clients_tests::broker::{BINARY_VARIABLE, binary};
use kafka_clients_tests::runtimes;
use std::fs;
use std::process::{Command, Output};

fn rows(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rows"));
    command.args(arguments).env(BINARY_VARIABLE, binary());
    command.output().expect("it can be started")
}

/// Whether networks can be made here; loud where not.
fn able(test: &str, output: &Output) -> bool {
    let able = !String::from_utf8_lossy(&output.stderr).contains("neither root nor user");
    if !able {
        runtimes::skip(test, "no networks can be made here");
    }
    able
}

#[test]
fn a_long_form_prints_its_ledger_and_adds_to_the_file() {
    let ledger = std::env::temp_dir().join(format!("bateau-ledger-{}", std::process::id()));
    let file = ledger.to_str().expect("a plain name");
    let page = ["--row", "P1", "--runs", "1", "--seed", "7"];
    // The short form of it: two kills, not ten.
    let output = rows(&[&page[..], &["--short", "--ledger", file]].concat());
    if !able("a_long_form_prints_its_ledger_and_adds_to_the_file", &output) {
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let kept = fs::read_to_string(&ledger).expect("there is a ledger");
    fs::remove_file(&ledger).expect("it is there");
    let line: serde_json::Value = serde_json::from_str(kept.trim()).expect("a line of JSON");
    assert_eq!(
        (&line["row"], &line["seed"], &line["counts"]),
        (&"P1".into(), &7.into(), &true.into())
    );
    assert!(line["observed"]["kills"].as_u64() > Some(0), "{line}");
    assert!(text.contains("P1 produce gap: 2 times, p50"), "{text}");
    assert!(text.ends_with("P1: 1 runs, 1 count, 1 good, 0 anomalies, 0 problems\n"), "{text}");
}

#[test]
fn a_number_is_measured_as_often_as_wanted() {
    let output = rows(&["--number", "created", "--runs", "3"]);
    if !able("a_number_is_measured_as_often_as_wanted", &output) {
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("created: 3 times, p50"), "{text}");
}

#[test]
fn a_row_that_is_not_there_is_refused_with_those_that_are() {
    let output = rows(&["--row", "P99"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let those = "P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17, P22";
    assert!(text.starts_with(&format!("no row P99; there are {those}\n")), "{text}");
}
