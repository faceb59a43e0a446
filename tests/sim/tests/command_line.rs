//! The simulator as a program.
//!
//! Absent on purpose: long runs.

use std::process::Command;

fn run(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output();
    let output = output.expect("it is built and runs");
    let said = String::from_utf8_lossy(&output.stdout);
    (output.status.success(), said.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn a_seed_says_its_hash_and_says_the_same_again() {
    let arguments = ["--seed", "7", "--seconds", "4"];
    let (is_ok, last) = run(&arguments);
    assert!(is_ok && last.starts_with("seed=7 hash=") && last.ends_with(" ok"), "{last}");
    assert_eq!(run(&arguments), (true, last));
}

#[test]
fn several_seeds_are_run_one_after_the_other() {
    let (is_ok, last) = run(&["--seed", "1", "--count", "3", "--seconds", "3"]);
    assert!(is_ok, "{last}");
}
