//! `bateau version`.
//!
//! Absent on purpose: a build date and a host name, which would make two builds of one commit
//! differ.

use super::fault::Fault;
use super::output::{Output, print};

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau version";

pub(super) fn run(output: Output) -> Result<(), Fault> {
    let version = env!("CARGO_PKG_VERSION");
    print(&match output {
        Output::Json => format!("{}\n", serde_json::json!({ "version": version })),
        Output::Table => format!("bateau {version}\n"),
    })
}
