//! Runs every script of `tests/scripts/scripts`.

use scripts::check_script;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let entries = std::fs::read_dir(folder).expect("the folder of the scripts");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a file of the folder").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_script_prints_what_it_says() {
    let mut failures = Vec::new();
    for path in scripts() {
        let result = catch_unwind(AssertUnwindSafe(|| check_script(&path)));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(difference)) => failures.push(difference),
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                failures.push(format!("{} stopped: {}", path.display(), said.unwrap_or_default()));
            }
        }
    }
    assert!(failures.is_empty(), "{} scripts:\n{}", failures.len(), failures.join("\n"));
}
