//! `bateau node unsafe-recover`: a node goes on alone when the majority is gone for ever, and
//! without what is damaged and has no other copy.
//!
//! ```text
//!   the file of a node that does not run ─► recovery, of every byte ─► what would be lost, line by
//!     line ─► the loss is typed ─► gaps are closed ─► every log goes on with this replica alone
//! ```
//!
//! Invariants
//! - Nothing is changed before the loss was typed, but for what every start does.
//! - Nothing that is here and intact goes.
//!
//! Absent on purpose: a running node, whose lock keeps this out, and asking the others: whoever can
//! ask them has no need of this.

use super::codes::{ABORTED, ALONE_REFUSED};
use super::confirm::Asking;
use super::fault::{Fault, escaped};
use super::output::Output;
use super::start::with_file;
use crate::config::{Config, Mode, Start, load};
use crate::exit::{Exit, Failure};
use crate::node::{NodeSettings, data_dir_options};
use bateau_core::shard::{Alone, AloneError, Survival, Wanted};
use bateau_log::{CommitCycle, DataDir, DataDirOptions, OpenError, RecoveredLog};
use bateau_protocol::ids::{Incarnation, NodeId};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

mod losses;

pub(super) const EXAMPLES: &str = "\
Examples:
  bateau node unsafe-recover --config node1.toml --dry-run
  bateau node unsafe-recover --config node1.toml
  bateau node unsafe-recover --config node1.toml --only-damaged
  bateau node unsafe-recover --config node1.toml --accept 'lose what only nodes 2, 3 hold'";

#[derive(Args)]
pub(super) struct UnsafeRecoverArguments {
    /// The configuration of the node that goes on, which must not run
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The loss, word for word as it is asked for, instead of typing it
    #[arg(long, value_name = "LOSS")]
    accept: Option<String>,
    /// Give no node up: only damaged partitions whose one copy is here go on
    #[arg(long)]
    only_damaged: bool,
    /// Say what would be lost and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(arguments: &UnsafeRecoverArguments, output: Output) -> Result<(), Fault> {
    let sources = with_file(Some(&arguments.config))?;
    let loaded = load(Start::of(Mode::Serve), &sources);
    let loaded = loaded.map_err(|problems| Fault::usage(problems.to_string()))?;
    let node = loaded.config.node.id;
    let mut recovery = Recovery::open(&loaded.config, arguments.only_damaged)?;
    let refused = |error| Fault::of(&ALONE_REFUSED, format!("node {node}")).because(error);
    let survival = recovery.plan().map_err(refused)?;
    losses::describe(&survival, &recovery.logs, output)?;
    if survival.logs.is_empty() && survival.closes.is_empty() {
        let cause = "what is damaged cannot go on without what is missing";
        return Err(Fault::of(&ALONE_REFUSED, format!("node {node}")).because(cause));
    }
    if arguments.dry_run {
        return Ok(());
    }
    let loss = loss(&survival);
    match &arguments.accept {
        Some(accepted) if *accepted == loss => {}
        Some(accepted) => {
            let found = format!("--accept says \"{accepted}\", and the loss is \"{loss}\"");
            return Err(Fault::of(&ABORTED, "unsafe-recover").because(found));
        }
        None => Asking::new(false).confirm("unsafe-recover", &loss)?,
    }
    recovery.close(&survival.closes)?;
    let alone = match recovery.plan() {
        Ok(survival) => survival.logs,
        // Closing was all.
        Err(AloneError::NothingToDo { .. }) => Vec::new(),
        Err(error) => return Err(refused(error)),
    };
    recovery.go_on(&alone)?;
    eprint!("{}", next_steps(node, &survival.given_up));
    Ok(())
}

/// A directory that is held, and what is to be done with it.
struct Recovery {
    node: NodeId,
    only_damaged: bool,
    /// Now; names what is kept of damaged files.
    wall_ms: u64,
    cycle: CommitCycle,
    logs: Vec<RecoveredLog>,
}

impl Recovery {
    /// Locks and recovers the directory of a node that is of a cluster. All of it is read.
    fn open(config: &Config, only_damaged: bool) -> Result<Self, Fault> {
        let refused = |text: String| Fault::from(Failure::new(Exit::Refused, text));
        let place = config.node.data_dir.display();
        if !config.node.data_dir.is_dir() {
            let text = format!("{place}: there is no directory");
            return Err(Fault::plain(Exit::NotFoundOrHeld, text));
        }
        let settings = NodeSettings::of(config.clone());
        let disk = settings.store.open().map_err(|text| Fault::plain(Exit::Failed, text))?;
        let wall_ms = settings.clock.wall_ms();
        let options = data_dir_options(config, &*disk, wall_ms);
        let opened = crate::engine::failure_of_open;
        let data_dir = DataDir::lock(disk, std::process::id()).map_err(opened)?;
        let identity = data_dir.identity(config.node.id).map_err(opened)?;
        let identity = identity.filter(|identity| identity.founded).ok_or_else(|| {
            refused(format!(
                "{place}: this directory is of no cluster: there is nothing to recover"
            ))
        })?;
        let options = DataDirOptions { reads_everything: true, ..options };
        let found = data_dir.open(&identity, options).map_err(opened)?;
        let (node, cycle, logs) = (config.node.id, found.cycle, found.logs);
        Ok(Self { node, only_damaged, wall_ms, cycle, logs })
    }

    /// What becomes of the logs as they are now.
    fn plan(&self) -> Result<Survival, AloneError> {
        let unclosable = self.logs.iter().filter_map(|log| {
            let reason = log.loss.as_ref()?.closable.as_ref().err()?;
            Some((log.incarnation, reason.clone()))
        });
        let unclosable: BTreeMap<Incarnation, String> = unclosable.collect();
        let open = self.logs.iter().filter(|log| bateau_storage::ends_in_gap(log));
        let wanted = Wanted {
            unclosable: &unclosable,
            ends_in_gap: &open.map(|log| log.incarnation).collect(),
            only_damaged: self.only_damaged,
        };
        let logs: Vec<_> = self.logs.iter().map(bateau_storage::recovered_with_prefix).collect();
        let entropy = crate::entropy::Entropy::system();
        Survival::plan(self.node, &logs, wanted, || entropy.bytes())
    }

    /// Closes the gaps of these logs.
    fn close(&mut self, closes: &[Incarnation]) -> Result<(), Fault> {
        let (cycle, logs) = (&mut self.cycle, &mut self.logs);
        bateau_storage::close_gaps(cycle, logs, closes, self.wall_ms).map_err(failed)
    }

    /// Appends what lets these logs go on, and lets the directory go.
    fn go_on(self, alone: &[Alone]) -> Result<(), Fault> {
        bateau_storage::go_on_alone(self.cycle, alone).map_err(failed)
    }
}

fn failed(error: OpenError) -> Fault {
    Fault::plain(Exit::Failed, escaped(&error.to_string()))
}

/// What is given up, in the words that are to be typed.
fn loss(survival: &Survival) -> String {
    loss_of(&survival.given_up, survival.logs.is_empty(), !survival.closes.is_empty())
}

fn loss_of(given_up: &[NodeId], is_only_damaged: bool, is_damaged: bool) -> String {
    let others = match given_up {
        [] if is_only_damaged => return "lose what is damaged".to_owned(),
        [] => "lose what only others hold".to_owned(),
        [one] => format!("lose what only node {one} holds"),
        all => {
            let names: Vec<String> = all.iter().map(NodeId::to_string).collect();
            format!("lose what only nodes {} hold", names.join(", "))
        }
    };
    if is_damaged { format!("{others} and what is damaged") } else { others }
}

fn next_steps(node: NodeId, given_up: &[NodeId]) -> String {
    if given_up.is_empty() {
        return format!(
            "what was damaged is closed, and the damaged files are in quarantine/. Start node \
             {node}.\n"
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_names_every_node_that_is_given_up() {
        let nodes = [2, 3].map(NodeId::new);
        assert_eq!(loss_of(&nodes, false, false), "lose what only nodes 2, 3 hold");
        assert_eq!(loss_of(&nodes[..1], false, false), "lose what only node 2 holds");
        assert_eq!(loss_of(&[], true, true), "lose what is damaged");
        let both = "lose what only nodes 2, 3 hold and what is damaged";
        assert_eq!(loss_of(&nodes, false, true), both);
        let steps = next_steps(NodeId::new(1), &nodes);
        assert!(steps.contains("bateau node replace 2") && steps.contains("replace 3"), "{steps}");
    }
}
