//! What is shipped: size of the binary, and how many packages it is built from.

use super::Context;
use crate::command::cargo;
use crate::failure::{Failure, Tried};
use crate::machine::output;
use crate::report::{Gate, Row, Unit};
use std::collections::BTreeSet;

/// Size of the binary that is measured.
pub(super) fn size(context: &Context) -> Result<Vec<Row>, Failure> {
    let binary = &context.settings.binary;
    let metadata = std::fs::metadata(binary).tried(|| binary.display().to_string())?;
    let mut row = context.row("size", Unit::Megabytes, &[metadata.len() as f64 / 1e6])?;
    row.gates = vec![Gate::FigureAtMost(20.0)];
    let release = binary.components().any(|part| part.as_os_str() == "release");
    if !release {
        row.unjudged = Some("not in a directory of the release profile");
    }
    let profile = if release { "release (thin LTO, stripped)" } else { "not known" };
    row.contract = vec![("profile", profile.to_owned()), ("unit", "10^6 bytes".to_owned())];
    Ok(vec![row])
}

/// Packages in the released binary's tree.
pub(super) fn crates(context: &Context) -> Result<Vec<Row>, Failure> {
    let built = packages("bateau", "normal,build", &[])?;
    let linked = packages("bateau", "normal", &[])?;
    let mut row = context.row("crates", Unit::Crates, &[built.len() as f64])?;
    row.gates = vec![Gate::FigureAtMost(200.0)];
    // Counting does not depend on load.
    row.unjudged = None;
    row.contract = vec![
        ("counted", "packages that `bateau` is built from, ours included".to_owned()),
        ("dependencies", "normal and build, this machine's target, default features".to_owned()),
    ];
    row.beside = vec![("without build dependencies", linked.len().to_string())];
    Ok(vec![row])
}

/// Packages in a package's tree, itself included.
pub(super) fn packages(
    package: &str,
    edges: &str,
    more: &[&str],
) -> Result<BTreeSet<String>, Failure> {
    let arguments = ["tree", "--locked", "-p", package, "-e", edges, "--prefix", "none"];
    let arguments: Vec<&str> = arguments.iter().chain(more).copied().collect();
    Ok(parse_tree(&output(&cargo(), &arguments)?))
}

/// Name and version of each line, once: a line may end with the path of a package of ours and
/// with a mark for what was listed before.
fn parse_tree(text: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    text.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_counts_once_and_two_versions_twice() {
        let text = "bateau v0.1.0 (/somewhere)\nbytes v1.1.0\nsyn v1.0.0\nsyn v2.0.0\n\
                    bytes v1.1.0\nbytes v1.1.0 (*)\nserde_derive v1.0.0 (proc-macro)\n";
        assert_eq!(parse_tree(text).len(), 5);
    }
}
