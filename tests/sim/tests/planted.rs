//! The planted bugs apply to the tree, so that they cannot rot in silence.
//!
//! Absent on purpose: planting them, which builds once for each: `tests/sim/run-planted`.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it must be")]

use std::path::PathBuf;
use std::process::Command;

/// Bugs that there are at least.
const PLANTED_MIN: usize = 37;

#[test]
fn every_planted_bug_applies_to_the_tree() {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = package.join("../..").canonicalize().unwrap();
    let files = std::fs::read_dir(package.join("planted")).unwrap();
    let mut patches: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    patches.sort();
    assert!(patches.len() >= PLANTED_MIN, "{} planted bugs", patches.len());
    for patch in patches {
        let mut check = Command::new("git");
        check.current_dir(&root).args(["apply", "--check"]).arg(&patch);
        let output = check.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", patch.display());
    }
}
