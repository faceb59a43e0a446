//! Prints the numbers of three nodes, each with its contract and its gate.
//!
//! Without `--bateau` it builds the released binary first, so that the figures are the tree's.
//! Hidden commands are the bare chain, whose members are started as children.

use bateau_benches::chain::{follow, lead};
use bateau_benches::command::{Options, Program, run_child, say};
use bateau_benches::failure::{Failure, Tried};
use bateau_benches::rows::THREE_NODES;
use bateau_benches::volumes::with_own_mounts;
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

/// The numbers of three nodes, with their contract.
#[derive(Parser)]
#[command(name = "three_nodes", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    member: Option<Member>,

    #[command(flatten)]
    options: Options,
}

/// The members of the chain; children of this program.
#[derive(Subcommand)]
enum Member {
    /// Receive, checksum, write, flush, say what is flushed
    #[command(hide = true)]
    ChainFollower {
        #[arg(long)]
        file: PathBuf,
        #[arg(long)]
        bytes: u64,
    },
    /// Receive, checksum, write, flush, send on; answer after two of three flushes
    #[command(hide = true)]
    ChainLeader {
        #[arg(long)]
        file: PathBuf,
        #[arg(long)]
        bytes: u64,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        follower: Vec<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let Arguments { member, options } = Arguments::parse();
    if let Some(member) = &member {
        return run_child(|| run_member(member));
    }
    with_own_mounts();
    let program = Program {
        name: "three_nodes",
        kinds: THREE_NODES,
        foreign: None,
        with_debug: false,
        command: Arguments::command,
    };
    program.run(&options)
}

fn run_member(member: &Member) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").tried(|| "listening".to_owned())?;
    let address = listener.local_addr().tried(|| "listening".to_owned())?;
    say(&format!("{}\n", json!({"ready": true, "kafka": address, "ready_ms": 0})))?;
    match member {
        Member::ChainFollower { file, bytes } => follow(&listener, file, *bytes),
        Member::ChainLeader { file, bytes, connections, follower } => {
            lead(&listener, follower, *connections, file, *bytes)
        }
    }
}
