//! `bateau node list|add|remove|replace|drain`; `unsafe-recover` has a file of its own.
//!
//! ```text
//!   add, replace ──► a permit; the node comes when it is started with an empty directory
//!   remove, drain ─► told, then looked at until it is so: progress on stderr
//! ```
//!
//! What the cluster was told stays told, however the command ends: Ctrl-C and a wait that is over
//! take nothing back.
//!
//! Absent on purpose: choosing nodes for partitions. The controller does.

use super::codes::{NODE_LATE, NODE_STUCK, UNKNOWN_NODE};
use super::confirm::Asking;
use super::connect::{self, BrokerArguments, duration};
use super::fault::{Fault, escaped};
use super::output::{Output, Rows, print};
use super::topic::number;
use super::trouble;
use super::unsafe_recover::{self, UnsafeRecoverArguments};
use bateau_client::Admin;
use bateau_client::admin::{MetadataRole, NodeInfo, NodeListener, NodePermit, NodeStanding};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(super) const LIST: &str = "\
Examples:
  bateau node list
  bateau node list -o table";

pub(super) const ADD: &str = "\
Examples:
  bateau node add 4 --dry-run
  bateau node add 4                     # then start it with an empty data directory";

pub(super) const REMOVE: &str = "\
Examples:
  bateau node add 4
  bateau node remove 4 --yes            # it has not come yet: this takes its permit back
  bateau node remove 3 --dry-run
  bateau node remove 3 --yes --wait 10m";

pub(super) const REPLACE: &str = "\
Examples:
  bateau node replace 3 --dry-run
  bateau node replace 3 --yes           # then start it with an empty data directory";

pub(super) const DRAIN: &str = "\
Examples:
  bateau node drain 1 --dry-run
  bateau node drain 3 --wait 30s
  bateau node drain 1 --undo";

/// Between two looks at how far a node is.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// So many looks in a row must find that it cannot end: who lives is seen late.
const STUCK_LOOKS: u32 = 8;

#[derive(Subcommand)]
pub(super) enum NodeCommand {
    /// List the nodes, what they hold, and what moves
    #[command(before_help = LIST)]
    List(ListArguments),
    /// Let a new node come
    #[command(before_help = ADD)]
    Add(AddArguments),
    /// Have a node give away what it holds, and then be no member any more
    #[command(before_help = REMOVE)]
    Remove(RemoveArguments),
    /// Let a node with an empty directory take the place of a lost one
    #[command(before_help = REPLACE)]
    Replace(GoneArguments),
    /// Have a node lead nothing, before work on it; it goes on holding its copies
    #[command(before_help = DRAIN)]
    Drain(DrainArguments),
    /// Have a node go on alone that does not run, when the majority is gone for ever
    #[command(before_help = unsafe_recover::EXAMPLES)]
    UnsafeRecover(UnsafeRecoverArguments),
}

#[derive(Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct AddArguments {
    /// The node's number, its node.id
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
    id: i32,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct RemoveArguments {
    #[command(flatten)]
    gone: GoneArguments,
    #[command(flatten)]
    waiting: WaitArguments,
}

#[derive(Args)]
pub(super) struct GoneArguments {
    /// The node's number
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
    id: i32,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    broker: BrokerArguments,
}

#[derive(Args)]
pub(super) struct DrainArguments {
    /// The node's number
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
    id: i32,
    /// Let it serve again, or stay where it was told to leave
    #[arg(long)]
    undo: bool,
    /// Say what would happen and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    waiting: WaitArguments,
    #[command(flatten)]
    broker: BrokerArguments,
}

// A doc comment would become every command's summary.
#[derive(Args)]
struct WaitArguments {
    /// How long to wait until it is so, as in 30s or 10m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    wait: Duration,
    /// Do not wait until it is so
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

impl WaitArguments {
    fn length(&self) -> Option<Duration> {
        (!self.no_wait).then_some(self.wait)
    }
}

pub(super) fn run(command: &NodeCommand, output: Output) -> Result<(), Fault> {
    match command {
        NodeCommand::List(arguments) => connect::run(list(arguments, output)),
        NodeCommand::Add(AddArguments { id, dry_run, broker }) => {
            connect::run(permit(broker, (*id, NodePermit::Join), *dry_run, output))
        }
        NodeCommand::Replace(GoneArguments { id, yes, dry_run, broker }) => {
            let asking = Asking::new(*yes || *dry_run);
            asking.confirm("replace", &id.to_string())?;
            connect::run(permit(broker, (*id, NodePermit::Replace), *dry_run, output))
        }
        NodeCommand::Remove(arguments) => {
            let GoneArguments { id, yes, dry_run, .. } = &arguments.gone;
            Asking::new(*yes || *dry_run).confirm("remove", &id.to_string())?;
            connect::run(remove(arguments, output))
        }
        NodeCommand::Drain(arguments) => connect::run(drain(arguments, output)),
        NodeCommand::UnsafeRecover(arguments) => unsafe_recover::run(arguments, output),
    }
}

async fn list(arguments: &ListArguments, output: Output) -> Result<(), Fault> {
    let admin = arguments.broker.connect().await?.admin();
    let nodes = nodes(&admin).await?;
    let columns = &[
        "NODE",
        "ALIVE",
        "STANDING",
        "METADATA",
        ">REPLICAS",
        ">LEADERS",
        ">IN",
        ">OUT",
        "RACK",
        "ADDRESS",
    ];
    let mut rows = Rows::new(output, columns);
    for node in &nodes {
        rows.add(|| object(node), || cells(node));
    }
    rows.print()
}

async fn nodes(admin: &Admin) -> Result<Vec<NodeInfo>, Fault> {
    admin.list_nodes().await.map_err(|error| trouble::admin(&error, "nodes"))
}

fn object(node: &NodeInfo) -> Value {
    let listeners = node.listeners.iter();
    let listeners = listeners.map(|one| (one.name.clone(), Value::from(address(one))));
    json!({
        "node": node.node_id, "alive": node.is_alive,
        "standing": node.standing.map(NodeStanding::as_str),
        "permit": node.permit.map(NodePermit::as_str),
        "metadata": node.role.map(MetadataRole::as_str), "replicas": node.replicas,
        "leaders": node.leaders, "incoming": node.incoming, "outgoing": node.outgoing,
        "rack": node.rack, "boot_epoch": node.boot_epoch,
        "listeners": Value::Object(listeners.collect()), "hindrance": node.hindrance,
    })
}

fn cells(node: &NodeInfo) -> Vec<String> {
    let standing = match (node.standing, node.permit) {
        (Some(standing), Some(NodePermit::Replace)) => {
            format!("{}, to be replaced", standing.as_str())
        }
        (Some(standing), _) => standing.as_str().to_owned(),
        (None, _) => "expected".to_owned(),
    };
    let told = ["kafka", "native", "peers"];
    let told = told.into_iter().find_map(|name| listener(node, name)).map(address);
    vec![
        node.node_id.to_string(),
        if node.is_alive { "yes" } else { "no" }.to_owned(),
        standing,
        number(node.role.map(MetadataRole::as_str)),
        node.replicas.to_string(),
        node.leaders.to_string(),
        node.incoming.to_string(),
        node.outgoing.to_string(),
        number(node.rack.clone()),
        number(told),
    ]
}

fn listener<'a>(node: &'a NodeInfo, name: &str) -> Option<&'a NodeListener> {
    node.listeners.iter().find(|one| one.name == name)
}

fn address(listener: &NodeListener) -> String {
    match listener.host.contains(':') {
        true => format!("[{}]:{}", listener.host, listener.port),
        false => format!("{}:{}", listener.host, listener.port),
    }
}

async fn permit(
    broker: &BrokerArguments,
    (id, permit): (i32, NodePermit),
    dry_run: bool,
    output: Output,
) -> Result<(), Fault> {
    let admin = broker.connect().await?.admin();
    let permitted = admin.permit_node(id, permit, dry_run).await;
    let replaces = permit == NodePermit::Replace;
    permitted.map_err(|error| trouble::node(&error, id, replaces))?;
    let voters = voters(&nodes(&admin).await?, id);
    let next = next_step(id, &voters);
    print(&match output {
        Output::Json => {
            let object = json!({
                "node": id, "permit": permit.as_str(), "permitted": !dry_run, "voters": voters,
                "next": next,
            });
            format!("{object}\n")
        }
        Output::Table => {
            let may = if dry_run { "might" } else { "may" };
            let deed = match permit {
                NodePermit::Replace => "take the place of the lost one",
                _ => "join",
            };
            escaped_lines(&format!("node {id} {may} {deed}\n{next}\n{}", file(id, &voters)))
        }
    })
}

/// Members that a node can dial, as `cluster.voters` has them.
fn voters(nodes: &[NodeInfo], id: i32) -> Vec<String> {
    let stays = |node: &&NodeInfo| {
        let is_member = node.standing.is_some_and(|standing| standing != NodeStanding::Leaving);
        is_member && node.node_id != id
    };
    let members = nodes.iter().filter(stays);
    let dialled = members
        .filter_map(|node| Some(format!("{}@{}", node.node_id, address(listener(node, "peers")?))));
    dialled.collect()
}

/// What a person does now.
fn next_step(id: i32, voters: &[String]) -> String {
    match voters {
        [] => format!(
            "no member has a peers listener that node {id} could reach: give them listeners.peers, \
             start them again, and then node {id} with an empty node.data_dir and their addresses \
             as cluster.voters"
        ),
        _ => format!(
            "start node {id} with an empty node.data_dir, a listeners.peers that the members \
             reach, and cluster.voters that name members: naming itself alone founds another \
             cluster"
        ),
    }
}

/// What belongs into the node's file; nothing where that is not known.
fn file(id: i32, voters: &[String]) -> String {
    if voters.is_empty() {
        return String::new();
    }
    let voters: Vec<String> = voters.iter().map(|voter| format!("\"{voter}\"")).collect();
    format!("\n  [node]\n  id = {id}\n  [cluster]\n  voters = [{}]\n", voters.join(", "))
}

fn escaped_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", escaped(line))).collect()
}

async fn remove(arguments: &RemoveArguments, output: Output) -> Result<(), Fault> {
    let RemoveArguments { gone: GoneArguments { id, dry_run, broker, .. }, waiting } = arguments;
    let admin = broker.connect().await?.admin();
    let told = admin.set_node_standing(*id, NodeStanding::Leaving, *dry_run).await;
    told.map_err(|error| trouble::node(&error, *id, false))?;
    let is_gone = |node: Option<&NodeInfo>| node.is_none_or(|node| node.standing.is_none());
    let done = !dry_run && until(&admin, *id, waiting.length(), is_gone).await?;
    let said = match (dry_run, done) {
        (true, _) => "would be removed",
        (false, true) => "removed",
        (false, false) => "leaving",
    };
    row(output, *id, ("removed", done), said)
}

async fn drain(arguments: &DrainArguments, output: Output) -> Result<(), Fault> {
    let DrainArguments { id, undo, dry_run, waiting, broker } = arguments;
    let admin = broker.connect().await?.admin();
    let standing = if *undo { NodeStanding::Serving } else { NodeStanding::Draining };
    let told = admin.set_node_standing(*id, standing, *dry_run).await;
    told.map_err(|error| trouble::node(&error, *id, false))?;
    if *undo {
        let said = if *dry_run { "would serve" } else { "serving" };
        return row(output, *id, ("drained", false), said);
    }
    let leads_nothing = |node: Option<&NodeInfo>| {
        node.is_none_or(|node| node.leaders == 0 && node.role != Some(MetadataRole::Leader))
    };
    let done = !dry_run && until(&admin, *id, waiting.length(), leads_nothing).await?;
    let said = match (dry_run, done) {
        (true, _) => "would be drained",
        (false, true) => "drained",
        (false, false) => "draining",
    };
    row(output, *id, ("drained", done), said)
}

fn row(output: Output, id: i32, (deed, done): (&str, bool), said: &str) -> Result<(), Fault> {
    let mut rows = Rows::new(output, &["NODE", "DONE"]);
    rows.add(|| json!({ "node": id, deed: done }), || vec![id.to_string(), said.to_owned()]);
    rows.print()
}

/// Looks until it is so; false where nobody waits for that. What is left is told on stderr whenever
/// it has changed.
async fn until(
    admin: &Admin,
    id: i32,
    wait: Option<Duration>,
    is_so: impl Fn(Option<&NodeInfo>) -> bool,
) -> Result<bool, Fault> {
    let begun = Instant::now();
    let mut told = String::new();
    let mut stuck = 0;
    loop {
        let nodes = nodes(admin).await?;
        let node = nodes.iter().find(|node| node.node_id == id);
        if is_so(node) {
            return Ok(true);
        }
        let Some(wait) = wait else { return Ok(false) };
        // Somebody else may have removed a node that was to drain, which is no member then.
        let Some(node) = node else { return Err(Fault::of(&UNKNOWN_NODE, format!("node {id}"))) };
        stuck = if node.hindrance.is_some() { stuck + 1 } else { 0 };
        if let Some(hindrance) = node.hindrance.as_ref().filter(|_| stuck >= STUCK_LOOKS) {
            return Err(Fault::of(&NODE_STUCK, format!("node {id}")).because(hindrance));
        }
        let progress = left(node);
        if begun.elapsed() >= wait {
            let late = Fault::of(&NODE_LATE, format!("node {id}"));
            return Err(late.because(node.hindrance.as_ref().unwrap_or(&progress)));
        }
        if progress != told {
            eprintln!("node {id}: {progress}");
            told = progress;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// What still has to happen.
fn left(node: &NodeInfo) -> String {
    let leads = match node.role {
        Some(MetadataRole::Leader) => format!("leads {} partitions and the metadata", node.leaders),
        _ => format!("leads {} partitions", node.leaders),
    };
    match node.standing {
        Some(NodeStanding::Leaving) => format!(
            "holds {} partitions, {leads}, {} are on their way to others",
            node.replicas + node.outgoing,
            node.outgoing
        ),
        _ => leads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_is_started_with_names_members_that_stay() {
        let voters = ["1@127.0.0.1:9644".to_owned(), "2@[::1]:9644".to_owned()];
        let expected = "\n  [node]\n  id = 4\n  [cluster]\n  voters = [\"1@127.0.0.1:9644\", \
                        \"2@[::1]:9644\"]\n";
        assert_eq!(file(4, &voters), expected);
        assert!(next_step(4, &voters).contains("an empty node.data_dir"));
        assert_eq!(file(4, &[]), "");
        assert!(next_step(4, &[]).contains("listeners.peers"), "nobody could be dialled");
    }
}
