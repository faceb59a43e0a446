//! Prints the numbers of the first release, each with its contract and its gate.
//!
//! Without `--bateau` it builds the released binary first, so that the figures are the tree's.
//! Two hidden commands are the bare loops, which are started as children.

use bateau_benches::command::{Options, Program, run_child, say};
use bateau_benches::failure::{Failure, Tried};
use bateau_benches::probe::{FetchSource, serve_produce};
use bateau_benches::rows::{FIRST_LIGHT, Foreign};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

/// The numbers of the first release, with their contract.
#[derive(Parser)]
#[command(name = "first_light", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    bare_loop: Option<BareLoop>,

    #[command(flatten)]
    options: Options,
    /// Measure a broker that runs already, on loopback; rows that must start one are left out
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<SocketAddr>,
    /// Process of that broker, for its CPU time
    #[arg(long, value_name = "PID", requires = "bootstrap")]
    pid: Option<u32>,
}

/// The loops that the broker is compared with; children of this program.
#[derive(Subcommand)]
enum BareLoop {
    /// Receive, checksum, write, flush, acknowledge
    #[command(hide = true)]
    BareProduce {
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        file: PathBuf,
        #[arg(long)]
        bytes: u64,
    },
    /// Write from a map
    #[command(hide = true)]
    BareFetch {
        #[arg(long)]
        directory: PathBuf,
        #[arg(long)]
        bytes: usize,
        #[arg(long)]
        total: u64,
    },
}

fn main() -> ExitCode {
    let Arguments { bare_loop, options, bootstrap, pid } = Arguments::parse();
    if let Some(bare_loop) = &bare_loop {
        return run_child(|| run_bare_loop(bare_loop));
    }
    if bootstrap.is_some() && options.names_broker() {
        let message = "--bootstrap and --bateau name two brokers";
        Arguments::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let program = Program {
        name: "first_light",
        kinds: FIRST_LIGHT,
        foreign: bootstrap.map(|address| Foreign { address, pid }),
        with_debug: false,
        command: Arguments::command,
    };
    program.run(&options)
}

fn run_bare_loop(bare_loop: &BareLoop) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").tried(|| "listening".to_owned())?;
    let address = listener.local_addr().tried(|| "listening".to_owned())?;
    let ready = format!("{}\n", json!({"ready": true, "kafka": address, "ready_ms": 0}));
    match bare_loop {
        BareLoop::BareProduce { connections, file, bytes } => {
            say(&ready)?;
            serve_produce(&listener, *connections, file, *bytes)
        }
        BareLoop::BareFetch { directory, bytes, total } => {
            let source = FetchSource::create(directory, *bytes)?;
            say(&ready)?;
            source.serve(&listener, *total)
        }
    }
}
