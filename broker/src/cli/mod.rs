//! The command line: what a person or a script types, turned into one call.
//!
//! ```text
//!   dev, serve ──► start ──► server::run      log dump, config, explain, version, completion, ctx
//!
//!   topic, group, node, produce, consume, status, lag ──► connect ──► bateau-client ──► a broker
//!       one file per noun; `offsets`, `format`, `record` and `produce::input` read and write
//!       what people type, and know no broker
//! ```
//!
//! Each command's help begins with examples; a test runs every one of them. Data goes to stdout,
//! everything else to stderr. A command prints a table on a terminal and one JSON object per line
//! into a pipe or with `-o json`. Exit codes: [`crate::exit::Exit`].
//!
//! Absent on purpose: commands that this build cannot carry out; clap refuses them with code 2.

pub(crate) mod codes;
mod completion;
mod confirm;
mod connect;
mod consume;
mod context;
mod explain;
mod fault;
mod format;
mod group;
mod help_llm;
mod lag;
mod log_dump;
mod lookup;
mod node;
mod offsets;
mod open_files;
mod output;
mod produce;
mod record;
mod start;
mod status;
mod stdout;
mod topic;
mod trouble;
mod unsafe_recover;
mod version;

use crate::exit::Exit;
use crate::local_cluster::NODES_MAX;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use consume::ConsumeArguments;
use context::ContextCommand;
use fault::Fault;
use group::GroupCommand;
use lag::LagArguments;
use node::NodeCommand;
use output::Output;
use produce::ProduceArguments;
use status::StatusArguments;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use topic::TopicCommand;

const EXAMPLES: &str = "\
Examples:
  bateau dev                           # a node for development, until Ctrl-C
  bateau produce orders paid
  bateau consume orders --from :end
  bateau status";

/// A message broker in one binary that speaks Kafka's protocol.
#[derive(Parser)]
#[command(name = "bateau", version, arg_required_else_help = true, before_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Print every command on one page, with its scope and impact, for programs that read
    #[arg(long)]
    help_llm: bool,

    /// What goes to stdout: json (one object per line), or table. Default: table on a terminal
    #[arg(short = 'o', long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
}

// Deferred: the start of a node does not pay for the flags of the other commands.
#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    /// Run a node for development: no file, no flag, loopback only
    #[command(before_help = start::DEV)]
    Dev(Box<DevArguments>),
    /// Run a node from a configuration file
    #[command(before_help = start::SERVE)]
    Serve(ServeArguments),
    /// Write records to a topic
    #[command(before_help = produce::EXAMPLES)]
    Produce(Box<ProduceArguments>),
    /// Read records of a topic
    #[command(before_help = consume::EXAMPLES)]
    Consume(Box<ConsumeArguments>),
    /// Show how the cluster is
    #[command(before_help = status::EXAMPLES)]
    Status(StatusArguments),
    /// Show how far groups are behind
    #[command(before_help = lag::EXAMPLES)]
    Lag(LagArguments),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// List, describe, move and delete consumer groups
    #[command(subcommand)]
    Group(GroupCommand),
    /// List, add, remove, replace and drain nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Check a configuration, or say where a value comes from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the log on disk
    #[command(subcommand)]
    Log(LogCommand),
    /// List, use, show, set and delete contexts: names for brokers
    #[command(subcommand, before_help = context::EXAMPLES)]
    Ctx(ContextCommand),
    /// Print a shell's completion script
    #[command(before_help = completion::EXAMPLES)]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Explain an error code, or list them all
    #[command(before_help = codes::EXAMPLES)]
    Explain {
        /// As in error[E1001]
        code: Option<String>,
    },
    /// Print the version
    #[command(before_help = version::EXAMPLES)]
    Version,
}

#[derive(Args)]
struct DevArguments {
    /// Where the Kafka door listens; port 0 is any free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
    /// Where the native door listens; port 0 is any free one, or off [default: 127.0.0.1:9443]
    #[arg(long, value_name = "ADDR")]
    native: Option<String>,
    /// Where the HTTP door listens; port 0 is any free one, or off [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Nodes in this process, which make a cluster; of those behind the first one, ports follow
    /// its ports where they are free, and data lives in DIR/node-1 and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = nodes_range())]
    nodes: u32,
    /// Where the data lives [default: ./.bateau]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    data_dir: Option<String>,
    /// Keep the data in a temporary directory, never flush, remove it at the end
    #[arg(long)]
    ephemeral: bool,
    /// Drain and stop when stdin reaches its end
    #[arg(long)]
    exit_on_stdin_close: bool,
    /// Let tests move the clock and inject faults, over HTTP on loopback
    #[arg(long)]
    test_control: bool,
    /// Set a key of the configuration, as in -X topics.partitions_default=4
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

fn nodes_range() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(NODES_MAX))
}

#[derive(Args)]
struct ServeArguments {
    /// The configuration, TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Refused here (E2001): only dev takes it
    #[arg(long, hide = true)]
    test_control: bool,
    /// Set a key of the configuration, as in -X topics.partitions_default=4
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say whether a node would start with this file
    #[command(before_help = explain::CHECK)]
    Check {
        /// The configuration, TOML
        file: PathBuf,
    },
    /// Print a key's value, where it comes from, its default and its range
    #[command(before_help = explain::EXPLAIN)]
    Explain {
        /// A dotted key; all of them when absent
        key: Option<String>,
        /// The configuration, TOML
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum LogCommand {
    /// Print the frames of a segment file
    #[command(before_help = log_dump::EXAMPLES)]
    Dump {
        /// A file named <base index>.log
        segment: PathBuf,
    },
}

/// Carries out the command line.
///
/// - `started`: when the process began.
#[must_use]
pub fn main(started: Instant) -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::chosen(arguments.output);
    let outcome = match arguments.command {
        // As with --help, whatever else was typed.
        _ if arguments.help_llm => help_llm::run(),
        Some(command) => run(command, output, started),
        None => {
            let mut whole = <Arguments as clap::CommandFactory>::command();
            whole.error(ErrorKind::MissingSubcommand, "a command is missing").exit()
        }
    };
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(fault) => {
            eprint!("{}", fault.report());
            fault.exit.into()
        }
    }
}

fn run(command: Command, output: Output, started: Instant) -> Result<(), Fault> {
    match command {
        Command::Dev(dev) => Ok(start::dev(*dev, output, started)?),
        Command::Serve(serve) => start::serve(&serve, output, started),
        Command::Produce(arguments) => produce::run(&arguments, output),
        Command::Consume(arguments) => consume::run(&arguments, output),
        Command::Status(arguments) => status::run(&arguments, output),
        Command::Lag(arguments) => lag::run(&arguments, output),
        Command::Topic(command) => topic::run(&command, output),
        Command::Group(command) => group::run(&command, output),
        Command::Node(command) => node::run(&command, output),
        Command::Config(ConfigCommand::Check { file }) => explain::check(&file, output),
        Command::Config(ConfigCommand::Explain { key, config }) => {
            explain::explain(key.as_deref(), config.as_deref(), output)
        }
        Command::Log(LogCommand::Dump { segment }) => log_dump::run(&segment, output),
        Command::Ctx(command) => context::run(&command, output),
        Command::Completion { shell } => completion::run(shell),
        Command::Explain { code } => codes::run(code.as_deref(), output),
        Command::Version => version::run(output),
    }
}
