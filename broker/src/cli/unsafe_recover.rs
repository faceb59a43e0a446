//! `bateau node unsafe-recover`: a node goes on alone when the majority is gone for ever.
//!
//! ```text
//!   the file of a node that does not run ─► recovery ─► what would be lost, line by line
//!                              the loss is typed ─► every log goes on with this replica alone
//! ```
//!
//! Invariants
//! - Nothing is changed before the loss was typed, but for what every start does.
//! - Nothing that is here goes.
//!
//! Absent on purpose: a running node, whose lock keeps this out, and asking the others: whoever can
//! ask them has no need of this.

use super::codes::{ABORTED, ALONE_REFUSED};
use super::confirm::Asking;
use super::fault::{Fault, escaped};
use super::output::{Output, Rows};
use super::start::with_file;
use crate::config::{Config, Mode, Start, load};
use crate::exit::{Exit, Failure};
use crate::node::{NodeSettings, data_dir_options};
use bateau_core::controller::Metadata;
use bateau_core::shard::{Alone, Left, RecoveredLog, Survival};
use bateau_log::{CommitCycle, DataDir};
use bateau_protocol::ids::{Incarnation, NodeId};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau node unsafe-recover --config node1.toml --dry-run
  bateau node unsafe-recover --config node1.toml
  bateau node unsafe-recover --config node1.toml --accept 'lose what only nodes 2, 3 hold'";

#[derive(Args)]
pub(super) struct UnsafeRecoverArguments {
    /// The configuration of the node that goes on, which must not run
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The loss, word for word as it is asked for, instead of typing it
    #[arg(long, value_name = "LOSS")]
    accept: Option<String>,
    /// Say what would be lost and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(arguments: &UnsafeRecoverArguments, output: Output) -> Result<(), Fault> {
    let sources = with_file(Some(&arguments.config))?;
    let loaded = load(Start::of(Mode::Serve), &sources);
    let loaded = loaded.map_err(|problems| Fault::usage(problems.to_string()))?;
    let (cycle, logs) = open(&loaded.config)?;
    let node = loaded.config.node.id;
    let entropy = crate::entropy::Entropy::system();
    let survival = Survival::plan(node, &logs, || entropy.bytes());
    let survival = survival
        .map_err(|error| Fault::of(&ALONE_REFUSED, format!("node {node}")).because(error))?;
    describe(&survival, output)?;
    if arguments.dry_run {
        return Ok(());
    }
    let loss = loss(&survival.given_up);
    match &arguments.accept {
        Some(accepted) if *accepted == loss => {}
        Some(accepted) => {
            let found = format!("--accept says \"{accepted}\", and the loss is \"{loss}\"");
            return Err(Fault::of(&ABORTED, "unsafe-recover").because(found));
        }
        None => Asking::new(false).confirm("unsafe-recover", &loss)?,
    }
    bateau_storage::go_on_alone(cycle, &survival.logs)
        .map_err(|error| Fault::plain(Exit::Failed, escaped(&error.to_string())))?;
    eprint!("{}", next_steps(node, &survival.given_up));
    Ok(())
}

/// Locks and recovers the directory of a node that is of a cluster.
fn open(config: &Config) -> Result<(CommitCycle, Vec<RecoveredLog>), Fault> {
    let refused = |text: String| Fault::from(Failure::new(Exit::Refused, text));
    let place = config.node.data_dir.display();
    if !config.node.data_dir.is_dir() {
        return Err(Fault::plain(Exit::NotFoundOrHeld, format!("{place}: there is no directory")));
    }
    let settings = NodeSettings::of(config.clone());
    let disk = settings.store.open().map_err(|text| Fault::plain(Exit::Failed, text))?;
    let options = data_dir_options(config, &*disk, settings.clock.wall_ms());
    let opened = crate::engine::failure_of_open;
    let data_dir = DataDir::lock(disk, std::process::id()).map_err(opened)?;
    let identity = data_dir.identity(config.node.id).map_err(opened)?;
    let identity = identity.filter(|identity| identity.founded).ok_or_else(|| {
        refused(format!("{place}: this directory is of no cluster: there is nothing to recover"))
    })?;
    let found = data_dir.open(&identity, options).map_err(opened)?;
    let logs = found.logs.iter().map(|log| bateau_storage::recovered(log).0).collect();
    Ok((found.cycle, logs))
}

/// What is given up, in the words that are to be typed.
fn loss(given_up: &[NodeId]) -> String {
    match given_up {
        [] => "lose what only others hold".to_owned(),
        [one] => format!("lose what only node {one} holds"),
        all => {
            let names: Vec<String> = all.iter().map(NodeId::to_string).collect();
            format!("lose what only nodes {} hold", names.join(", "))
        }
    }
}

fn next_steps(node: NodeId, given_up: &[NodeId]) -> String {
    let mut text = format!(
        "node {node} goes on alone. Start it; never start the others with their old directories.\n"
    );
    for other in given_up {
        text += &format!(
            "  bateau node replace {other}      # then start node {other} with an empty directory\n"
        );
    }
    text
}

/// One row for each log that was of several nodes, and for each partition that is not here.
fn describe(survival: &Survival, output: Output) -> Result<(), Fault> {
    let columns = &["PARTITION", "VOTERS", ">COMMITTED", ">END OFFSET", "WHAT BECOMES OF IT"];
    let mut rows = Rows::new(output, columns);
    let mut names = names(&survival.metadata);
    for log in &survival.logs {
        add(&mut rows, &named(&mut names, log.incarnation), log);
    }
    for Left { incarnation, reason } in &survival.left {
        stays(&mut rows, &named(&mut names, *incarnation), reason);
    }
    let given_up = |name: &Incarnation| {
        let partition = survival.metadata.partition(*name);
        partition.is_some_and(|one| {
            one.replicas.iter().all(|replica| survival.given_up.contains(&replica.node))
        })
    };
    for (_, name) in names.iter().filter(|(log, _)| given_up(log)) {
        stays(&mut rows, name, "no copy is here: delete its topic, or find a copy");
    }
    rows.print()
}

fn add(rows: &mut Rows, name: &str, log: &Alone) {
    let voters: Vec<u64> = log.before.voters.iter().map(|one| one.node_id.get()).collect();
    let becomes =
        format!("goes on here; lost is what others acknowledged from {} on", log.end_offset);
    let shown: Vec<String> = voters.iter().map(u64::to_string).collect();
    rows.add(
        || {
            json!({
                "partition": name, "voters": voters, "committed_index": log.commit.get(),
                "end_offset": log.end_offset.get(), "goes_on": true,
            })
        },
        || {
            let (commit, end) = (log.commit.to_string(), log.end_offset.to_string());
            vec![name.to_owned(), shown.join(","), commit, end, becomes.clone()]
        },
    );
}

fn stays(rows: &mut Rows, name: &str, reason: &str) {
    rows.add(
        || json!({ "partition": name, "goes_on": false, "reason": reason }),
        || vec![name.to_owned(), String::new(), String::new(), String::new(), reason.to_owned()],
    );
}

/// What people call each log.
fn names(metadata: &Metadata) -> BTreeMap<Incarnation, String> {
    let topics = metadata.topics().chain(metadata.group_topic());
    let named = topics.flat_map(|topic| {
        let numbered = topic.partitions.iter().enumerate();
        numbered.map(|(number, one)| (one.incarnation, format!("{}/{number}", topic.name)))
    });
    named.chain([(Incarnation::METADATA, "the metadata".to_owned())]).collect()
}

fn named(names: &mut BTreeMap<Incarnation, String>, log: Incarnation) -> String {
    names.remove(&log).unwrap_or_else(|| format!("{:016x}, which was deleted", log.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_names_every_node_that_is_given_up() {
        let nodes = [2, 3].map(NodeId::new);
        assert_eq!(loss(&nodes), "lose what only nodes 2, 3 hold");
        assert_eq!(loss(&nodes[..1]), "lose what only node 2 holds");
        let steps = next_steps(NodeId::new(1), &nodes);
        assert!(steps.contains("bateau node replace 2") && steps.contains("replace 3"), "{steps}");
    }
}
