//! Prints the numbers of the first release, each with its contract and its gate.
//!
//! Without `--bateau` it builds the released binary first, so that the figures are the tree's.
//! Two hidden commands are the bare loops, which are started as children.
//!
//! Absent on purpose: a choice of loads. A row that can be tuned until it holds is no gate.

use bateau_benches::cleanup;
use bateau_benches::failure::{Failure, Tried};
use bateau_benches::machine::{output, source_root};
use bateau_benches::probe::{FetchSource, serve_produce};
use bateau_benches::report::Row;
use bateau_benches::rows::{ALL, Context, Foreign, Kind, Settings};
use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

/// The numbers of the first release, with their contract.
#[derive(Parser)]
#[command(name = "first_light", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    bare_loop: Option<BareLoop>,

    /// The broker to measure; default: the tree's, built with the release profile
    #[arg(long, value_name = "PATH")]
    bateau: Option<PathBuf>,
    /// Only this row, or these; see --list
    #[arg(long, value_name = "NAME", value_parser = row_names())]
    only: Vec<String>,
    /// List the rows
    #[arg(long)]
    list: bool,
    /// Interleaved pairs of each row
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = at_least_one)]
    pairs: usize,
    /// Share of each load, to try things out; below 1 no gate of a load is judged
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    scale: f64,
    /// Where data goes; default: a directory under the build's
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Measure a broker that runs already, on loopback; rows that must start one are left out
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "bateau")]
    bootstrap: Option<SocketAddr>,
    /// Process of that broker, for its CPU time
    #[arg(long, value_name = "PID", requires = "bootstrap")]
    pid: Option<u32>,
    /// Exit with 1 where a gate fails
    #[arg(long)]
    gate: bool,
    /// What goes to stdout: text, or one JSON object per line
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Shape of what goes to stdout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
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
    let arguments = Arguments::parse();
    let done = match &arguments.bare_loop {
        Some(bare_loop) => run_bare_loop(bare_loop).map(|()| true),
        None => run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was measured and, if asked for, every gate holds.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    if arguments.list {
        for Kind { name, about, .. } in ALL {
            println!("{name:<14} {about}");
        }
        return Ok(true);
    }
    let kinds = chosen(arguments);
    cleanup::on_signals()?;
    let context = context(arguments)?;
    match arguments.output {
        Output::Text => say(&format!("{}\n\n", context.machine.text()))?,
        Output::Json => say(&format!("{}\n", json!({"machine": context.machine.json()})))?,
    }
    let mut good = true;
    for kind in kinds {
        match context.measure(kind) {
            Ok(rows) => {
                for row in rows {
                    good &= !arguments.gate || row.holds() != Some(false);
                    say(&show(&row, arguments.output))?;
                }
            }
            Err(error) => {
                good = false;
                eprintln!("error: {}: not measured: {error}", kind.name);
            }
        }
    }
    Ok(good)
}

/// Whom to measure, and where.
fn context(arguments: &Arguments) -> Result<Context, Failure> {
    let binary = match (&arguments.bateau, arguments.bootstrap) {
        (Some(binary), _) => std::path::absolute(binary).tried(|| binary.display().to_string())?,
        (None, Some(_)) => PathBuf::new(),
        (None, None) => build()?,
    };
    let foreign = arguments.bootstrap.map(|address| Foreign { address, pid: arguments.pid });
    let settings = Settings { binary, foreign, pairs: arguments.pairs, scale: arguments.scale };
    let parent = match &arguments.dir {
        Some(dir) => dir.clone(),
        None => target_directory()?.join("first_light"),
    };
    Context::new(settings, &parent)
}

fn row_names() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|kind| kind.name))
}

/// The rows that were asked for, without those that a foreign broker cannot have.
fn chosen(arguments: &Arguments) -> Vec<&'static Kind> {
    let named = |kind: &Kind| arguments.only.iter().any(|name| name == kind.name);
    let can = |kind: &Kind| kind.foreign || arguments.bootstrap.is_none();
    if let Some(kind) = ALL.iter().find(|kind| named(kind) && !can(kind)) {
        let message = format!("row {} starts its broker: not with --bootstrap", kind.name);
        Arguments::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let wanted = |kind: &&Kind| (arguments.only.is_empty() || named(kind)) && can(kind);
    ALL.iter().filter(wanted).collect()
}

fn show(row: &Row, output: Output) -> String {
    match output {
        Output::Text => format!("{}\n", row.text()),
        Output::Json => format!("{}\n", row.json()),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).tried(|| "stdout".to_owned())
}

/// Builds the binary that is released, unless it is up to date.
fn build() -> Result<PathBuf, Failure> {
    eprintln!("building bateau with the release profile; --bateau PATH measures another binary");
    output(&cargo(), &["build", "--locked", "--release", "-p", "bateau"])?;
    Ok(target_directory()?.join("release").join("bateau"))
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn target_directory() -> Result<PathBuf, Failure> {
    let text = output(&cargo(), &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let found = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(found.map_or_else(|| source_root().join("target"), PathBuf::from))
}

fn run_bare_loop(bare_loop: &BareLoop) -> Result<(), Failure> {
    // Whoever started this process holds its stdin, and is gone when it ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
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

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("above 0, at most 1".to_owned()) }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}
