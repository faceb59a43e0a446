//! `bateau config check` and `bateau config explain`.
//!
//! Absent on purpose: `config import`, which comes with the rest of the migration tools.

use super::fault::Fault;
use super::output::{Output, print};
use super::start;
use crate::config::keys::{KEYS, Key};
use crate::config::value::allowed;
use crate::config::{Loaded, Mode, Start, load, problem};
use crate::exit::{Exit, Failure};
use crate::tls::Tls;
use serde_json::json;
use std::path::Path;

pub(super) const CHECK: &str = "\
Examples:
  bateau config check node.toml";

pub(super) const EXPLAIN: &str = "\
Examples:
  bateau config explain topics.partitions_default
  bateau config explain --config node.toml";

pub(super) fn check(file: &Path, output: Output) -> Result<(), Fault> {
    let loaded = loaded(Some(file))?;
    Tls::of_config(&loaded.config).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    print(&match output {
        Output::Json => format!("{}\n", json!({ "ok": true })),
        Output::Table => format!("ok  {}\n", file.display()),
    })
}

pub(super) fn explain(key: Option<&str>, file: Option<&Path>, output: Output) -> Result<(), Fault> {
    let loaded = loaded(file)?;
    let wanted = |known: &&Key| key.is_none_or(|name| name == known.name);
    let mut text = String::new();
    for known in KEYS.iter().filter(wanted) {
        text += &described(known, &loaded, output);
    }
    match key {
        Some(name) if text.is_empty() => {
            let near = problem::nearest(name).name;
            let message = format!("{name}: no such key; the nearest is {near}");
            Err(Fault::usage(message))
        }
        _ => print(&text),
    }
}

fn described(key: &Key, loaded: &Loaded, output: Output) -> String {
    let value = loaded.values.get(key.name).map(String::as_str).unwrap_or_default();
    let origin = loaded.origins.get(key.name).map(ToString::to_string).unwrap_or_default();
    let range = allowed(key);
    match output {
        Output::Json => {
            let object = json!({
                "key": key.name, "value": value, "origin": origin, "default": key.default,
                "allowed": range, "meaning": key.meaning,
            });
            format!("{object}\n")
        }
        Output::Table => format!(
            "{} = {value}\n  origin   {origin}\n  default  {}\n  allowed  {range}\n  {}\n",
            key.name, key.default, key.meaning
        ),
    }
}

fn loaded(file: Option<&Path>) -> Result<Loaded, Failure> {
    let start = Start::of(Mode::Serve);
    let problems = |problems: problem::Problems| Failure::new(Exit::Usage, problems.to_string());
    load(start, &start::with_file(file)?).map_err(problems)
}
