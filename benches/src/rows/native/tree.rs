//! What an application takes on with the client: packages in its tree.

use super::Context;
use crate::failure::Failure;
use crate::report::{Gate, Row, Unit};
use crate::rows::build::packages;

/// Most packages, the client itself included.
const PACKAGES_MAX: f64 = 60.0;

/// The row.
pub(super) fn client_tree(context: &Context) -> Result<Vec<Row>, Failure> {
    let linked = packages("bateau-client", "normal", &[])?;
    let built = packages("bateau-client", "normal,build", &[])?;
    let all = packages("bateau-client", "normal", &["--all-features"])?;
    let mut row = context.row("client_tree", Unit::Crates, &[linked.len() as f64])?;
    row.gates = vec![Gate::FigureAtMost(PACKAGES_MAX)];
    // Counting does not depend on load.
    row.unjudged = None;
    row.contract = vec![
        ("counted", "packages in the tree of `bateau-client`, ours included".to_owned()),
        ("dependencies", "normal, this machine's target, default features, 4 codecs".to_owned()),
    ];
    row.beside = vec![
        ("with build dependencies", built.len().to_string()),
        ("with all features", all.len().to_string()),
    ];
    Ok(vec![row])
}
