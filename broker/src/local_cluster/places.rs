//! Which directory has the data of which node, and of how many.
//!
//! Invariants: a directory that was made for another number of nodes is left as it is.
//!
//! Absent on purpose: who is in which cluster; each node's `IDENTITY` says that.

use crate::exit::{Exit, Failure};
use bateau_protocol::ids::NodeId;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What stands before the id in a node's directory.
const PREFIX: &str = "node-";
/// The file that every node's own directory has.
const IDENTITY: &str = "IDENTITY";

/// Where a node keeps its data in the directory of several.
pub(super) fn place_of(directory: &Path, id: NodeId) -> PathBuf {
    directory.join(format!("{PREFIX}{id}"))
}

/// Makes the directories of `nodes_count` nodes; one has `directory` for itself.
///
/// Errors: it is that of another number of nodes (exit code 4), or cannot be made.
pub fn prepare(directory: &Path, nodes_count: u32) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Failed, format!("{}: cannot be used: {error}", directory.display()))
    };
    match nodes_in(directory).map_err(failed)? {
        Some(found) if found != u64::from(nodes_count) => {
            return Err(of_another_number(directory, found, nodes_count));
        }
        _ if nodes_count == 1 => return Ok(()),
        _ => {}
    }
    // From the last one down: whoever is stopped in between has shown the number all the same.
    for id in (1..=u64::from(nodes_count)).rev() {
        let place = place_of(directory, NodeId::new(id));
        DirBuilder::new().recursive(true).mode(0o700).create(place).map_err(failed)?;
    }
    Ok(())
}

fn of_another_number(directory: &Path, found: u64, wanted: u32) -> Failure {
    let nodes =
        |count: u64| if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
    let message = format!(
        "{}: has the data of {}, not of {}; start `bateau dev` with --nodes {found} there, or \
         name another directory",
        directory.display(),
        nodes(found),
        nodes(wanted.into())
    );
    Failure::new(Exit::Refused, message)
}

/// How many nodes have data here; `None` where none has.
fn nodes_in(directory: &Path) -> io::Result<Option<u64>> {
    if directory.join(IDENTITY).try_exists()? {
        return Ok(Some(1));
    }
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut highest = None;
    for entry in entries {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
        highest = highest.max(id);
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(directory: &Path, nodes_count: u32) -> String {
        let failure = prepare(directory, nodes_count).expect_err("another number");
        assert_eq!(failure.exit, Exit::Refused);
        failure.message
    }

    #[test]
    fn a_directory_keeps_the_number_of_its_nodes() {
        let data = tempfile::tempdir().expect("there is a temporary directory");
        let place = data.path().join("data");
        prepare(&place, 3).expect("it is new");
        prepare(&place, 3).expect("the same again");
        let expected = format!(
            "{}: has the data of 3 nodes, not of 5 nodes; start `bateau dev` with --nodes 3 there, \
             or name another directory",
            place.display()
        );
        assert_eq!(refused(&place, 5), expected);
        assert!(refused(&place, 1).contains("3 nodes, not of 1 node; start"));
    }

    #[test]
    fn the_directory_of_one_node_is_not_for_three() {
        let data = tempfile::tempdir().expect("there is a temporary directory");
        prepare(data.path(), 1).expect("it is empty");
        std::fs::write(data.path().join(IDENTITY), "").expect("it can be written");
        prepare(data.path(), 1).expect("it is its own");
        assert!(refused(data.path(), 3).contains("1 node, not of 3 nodes"));
        assert!(!place_of(data.path(), NodeId::new(3)).exists(), "it is left as it was");
    }

    #[test]
    fn a_start_that_was_stopped_while_it_made_directories_has_shown_their_number() {
        let data = tempfile::tempdir().expect("there is a temporary directory");
        std::fs::create_dir(place_of(data.path(), NodeId::new(3))).expect("it is new");
        assert!(refused(data.path(), 2).contains("3 nodes"));
        prepare(data.path(), 3).expect("the rest is made");
        assert!(place_of(data.path(), NodeId::new(1)).exists());
    }
}
