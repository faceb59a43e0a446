//! `bateau version`.
//!
//! Absent on purpose: a build date and a host name, which would make two builds of one commit
//! differ.

use super::{Output, print};
use crate::exit::Failure;

pub(super) fn run(output: Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    print(&match output {
        Output::Json => format!("{}\n", serde_json::json!({ "version": version })),
        Output::Text => format!("bateau {version}\n"),
    })
}
