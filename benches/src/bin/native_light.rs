//! Prints the numbers of the native protocol, its client and the TestBroker, each with its
//! contract and its gate.
//!
//! Without `--bateau` it builds the released binary first, so that the figures are the tree's.
//! Hidden commands are the bare loops, which are started as children.

use bateau_benches::command::{Options, Program, run_child, say};
use bateau_benches::failure::Failure;
use bateau_benches::native::ends::listen;
use bateau_benches::native::loops::{EchoFile, serve_echo, serve_sink};
use bateau_benches::native::run;
use bateau_benches::rows::NATIVE_LIGHT;
use bateau_benches::testbrokers::{Through, series};
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// The numbers of the native protocol, its client and the TestBroker, with their contract.
#[derive(Parser)]
#[command(name = "native_light", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    child: Option<Child>,

    #[command(flatten)]
    options: Options,
    /// Build with the debug profile too, and print its start times beside
    #[arg(long)]
    with_debug: bool,
}

/// Children of this program.
#[derive(Subcommand)]
enum Child {
    /// Receive over QUIC, checksum, write, flush, acknowledge
    #[command(hide = true)]
    BareSink {
        #[arg(long)]
        file: PathBuf,
        #[arg(long)]
        bytes: u64,
    },
    /// Receive over QUIC, write and flush if there is a file, send back
    #[command(hide = true)]
    BareEcho {
        #[arg(long)]
        file: Option<PathBuf>,
        #[arg(long)]
        round_trips: u64,
    },
    /// Start brokers in this process, each until its first record is acknowledged
    #[command(hide = true)]
    TestBrokers {
        #[arg(long)]
        count: usize,
        #[arg(long, value_enum)]
        through: Through,
    },
}

fn main() -> ExitCode {
    let Arguments { child, options, with_debug } = Arguments::parse();
    if let Some(child) = &child {
        return run_child(|| run_as_child(child));
    }
    let program = Program {
        name: "native_light",
        kinds: NATIVE_LIGHT,
        foreign: None,
        with_debug,
        command: Arguments::command,
    };
    program.run(&options)
}

fn run_as_child(child: &Child) -> Result<(), Failure> {
    match child {
        Child::BareSink { file, bytes } => {
            bare_loop(async |endpoint| serve_sink(endpoint, file, *bytes).await)
        }
        Child::BareEcho { file, round_trips } => bare_loop(async |endpoint| {
            let round_trips = *round_trips;
            let file = file.as_ref().map(|path| EchoFile { path, round_trips });
            serve_echo(endpoint, file).await
        }),
        Child::TestBrokers { count, through } => say(&format!("{}\n", series(*count, *through)?)),
    }
}

/// Says where it listens, then serves.
fn bare_loop(
    serve: impl AsyncFnOnce(quinn::Endpoint) -> Result<(), Failure>,
) -> Result<(), Failure> {
    run(async {
        let (endpoint, door) = listen()?;
        let (native, pin) = (door.address, door.pin.to_string());
        let ready = json!({"ready": true, "native": native, "pin": pin, "ready_ms": 0});
        say(&format!("{ready}\n"))?;
        serve(endpoint).await
    })
}
