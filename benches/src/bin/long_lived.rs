//! Prints the numbers of clusters that live for years, each with its contract and its gate.
//!
//! Without `--bateau` it builds the released binary first, so that the figures are the tree's.
//! The hidden command is the bare follower, which is started as a child.

use bateau_benches::chain::follow;
use bateau_benches::command::{Options, Program, run_child, say};
use bateau_benches::failure::{Failure, Tried};
use bateau_benches::rows::LONG_LIVED;
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The numbers of clusters that live for years, with their contract.
#[derive(Parser)]
#[command(name = "long_lived", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    bare: Option<Bare>,

    #[command(flatten)]
    options: Options,
}

/// What a node that copies is compared with; a child of this program.
#[derive(Subcommand)]
enum Bare {
    /// Receive, checksum, write, flush, say what is flushed
    #[command(hide = true)]
    ChainFollower {
        #[arg(long)]
        file: PathBuf,
        #[arg(long)]
        bytes: u64,
    },
}

fn main() -> ExitCode {
    let Arguments { bare, options } = Arguments::parse();
    if let Some(Bare::ChainFollower { file, bytes }) = &bare {
        return run_child(|| run_follower(file, *bytes));
    }
    let program = Program {
        name: "long_lived",
        kinds: LONG_LIVED,
        foreign: None,
        with_debug: false,
        command: Arguments::command,
    };
    program.run(&options)
}

fn run_follower(file: &Path, bytes: u64) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").tried(|| "listening".to_owned())?;
    let address = listener.local_addr().tried(|| "listening".to_owned())?;
    say(&format!("{}\n", json!({"ready": true, "kafka": address, "ready_ms": 0})))?;
    follow(&listener, file, bytes)
}
