//! The command line: what a person or a script types, turned into one call.
//!
//! ```text
//!   dev, serve ──► start ──► server::run      log dump ──► log_dump      version
//!                                             config check, config explain ──► explain
//! ```
//!
//! Data goes to stdout, everything else to stderr. A command prints a table on a terminal and one
//! JSON object per line into a pipe or with `-o json`. Exit codes: [`crate::exit::Exit`].
//!
//! Absent on purpose: commands that this build cannot carry out; clap refuses them with code 2.

mod explain;
mod log_dump;
mod open_files;
mod start;
mod version;

use crate::exit::{Exit, Failure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// A message broker in one binary that speaks Kafka's protocol.
#[derive(Parser)]
#[command(name = "bateau", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// What goes to stdout: json, or text (a table, a banner). Default: text on a terminal
    #[arg(short = 'o', long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
}

/// Shape of what goes to stdout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    /// One object per line.
    Json,
    /// For people.
    Text,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node for development: no file, no flag, loopback only
    Dev(Box<DevArguments>),
    /// Run a node from a configuration file
    Serve(ServeArguments),
    /// Check a configuration, or say where a value comes from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at the log on disk
    #[command(subcommand)]
    Log(LogCommand),
    /// Print the version
    Version,
}

#[derive(Args)]
struct DevArguments {
    /// Where the Kafka door listens; port 0 is any free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDR")]
    kafka: Option<String>,
    /// Accepted and ignored: this build has no native door
    #[arg(long, value_name = "ADDR")]
    native: Option<String>,
    /// Accepted and ignored: this build has no HTTP door
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Nodes in this process; this build runs one
    #[arg(long, value_name = "N", default_value_t = 1)]
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
    Check {
        /// The configuration, TOML
        file: PathBuf,
    },
    /// Print a key's value, where it comes from, its default and its range
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
    let stdout_terminal = std::io::stdout().is_terminal();
    let output = arguments.output.unwrap_or(match stdout_terminal {
        true => Output::Text,
        false => Output::Json,
    });
    let done = match arguments.command {
        Command::Dev(dev) => start::dev(*dev, output, started),
        Command::Serve(serve) => start::serve(&serve, output, started),
        Command::Config(ConfigCommand::Check { file }) => explain::check(&file, output),
        Command::Config(ConfigCommand::Explain { key, config }) => {
            explain::explain(key.as_deref(), config.as_deref(), output)
        }
        Command::Log(LogCommand::Dump { segment }) => log_dump::run(&segment, output),
        Command::Version => version::run(output),
    };
    match done {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            for line in failure.message.lines() {
                eprintln!("error: {line}");
            }
            failure.exit.into()
        }
    }
}

/// Writes to stdout; a reader that has gone away is the end of the work, not a failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}
