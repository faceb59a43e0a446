//! What the programs of the benches have in common: options, the run, and bare loops as children.
//!
//! Absent on purpose: a choice of loads. A row that can be tuned until it holds is no gate.

use crate::cleanup;
use crate::failure::{Failure, Tried};
use crate::machine::{output, source_root};
use crate::report::Row;
use crate::rows::{Context, Foreign, Kind, Settings};
use clap::error::ErrorKind;
use clap::{Args, Command, ValueEnum};
use serde_json::json;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of every program.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The broker to measure; default: the tree's, built with the release profile
    #[arg(long, value_name = "PATH")]
    bateau: Option<PathBuf>,
    /// Only this row, or these; see --list
    #[arg(long, value_name = "NAME")]
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

/// A program: its rows, and what its run is told besides the options.
#[derive(Debug)]
pub struct Program {
    /// Its name; where data goes by default.
    pub name: &'static str,
    /// All of its rows.
    pub kinds: &'static [Kind],
    /// A broker that runs already.
    pub foreign: Option<Foreign>,
    /// Whether figures of the debug profile are wanted beside.
    pub with_debug: bool,
    /// To complain with about arguments.
    pub command: fn() -> Command,
}

impl Program {
    /// Measures and prints; the program's exit code.
    #[must_use]
    pub fn run(&self, options: &Options) -> ExitCode {
        exit_code(self.measure(options))
    }

    /// Whether everything was measured and, if asked for, every gate holds.
    fn measure(&self, options: &Options) -> Result<bool, Failure> {
        if options.list {
            for Kind { name, about, .. } in self.kinds {
                println!("{name:<14} {about}");
            }
            return Ok(true);
        }
        let kinds = self.chosen(options);
        cleanup::on_signals()?;
        let context = self.context(options)?;
        match options.output {
            Output::Text => say(&format!("{}\n\n", context.machine.text()))?,
            Output::Json => say(&format!("{}\n", json!({"machine": context.machine.json()})))?,
        }
        let mut good = true;
        for kind in kinds {
            match context.measure(kind) {
                Ok(rows) => {
                    for row in rows {
                        good &= !options.gate || row.holds() != Some(false);
                        say(&show(&row, options.output))?;
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
    fn context(&self, options: &Options) -> Result<Context, Failure> {
        let binary = match (&options.bateau, self.foreign) {
            (Some(binary), _) => {
                std::path::absolute(binary).tried(|| binary.display().to_string())?
            }
            (None, Some(_)) => PathBuf::new(),
            (None, None) => build()?,
        };
        let settings = Settings {
            binary,
            foreign: self.foreign,
            pairs: options.pairs,
            scale: options.scale,
            with_debug: self.with_debug,
        };
        let parent = match &options.dir {
            Some(dir) => dir.clone(),
            None => target_directory()?.join(self.name),
        };
        Context::new(settings, &parent)
    }

    /// The rows that were asked for, without those that a foreign broker cannot have.
    fn chosen(&self, options: &Options) -> Vec<&'static Kind> {
        let named = |kind: &Kind| options.only.iter().any(|name| name == kind.name);
        let can = |kind: &Kind| kind.foreign || self.foreign.is_none();
        let known = |name: &&String| !self.kinds.iter().any(|kind| kind.name == name.as_str());
        if let Some(name) = options.only.iter().find(known) {
            let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name).collect();
            let message = format!("there is no row {name}; there are {}", names.join(", "));
            (self.command)().error(ErrorKind::InvalidValue, message).exit();
        }
        if let Some(kind) = self.kinds.iter().find(|kind| named(kind) && !can(kind)) {
            let message = format!("row {} starts its broker: not with --bootstrap", kind.name);
            (self.command)().error(ErrorKind::ArgumentConflict, message).exit();
        }
        let wanted = |kind: &&Kind| (options.only.is_empty() || named(kind)) && can(kind);
        self.kinds.iter().filter(wanted).collect()
    }
}

impl Options {
    /// Whether a broker was named.
    #[must_use]
    pub const fn names_broker(&self) -> bool {
        self.bateau.is_some()
    }
}

fn exit_code(done: Result<bool, Failure>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(row: &Row, output: Output) -> String {
    match output {
        Output::Text => format!("{}\n", row.text()),
        Output::Json => format!("{}\n", row.json()),
    }
}

/// Prints at once.
///
/// # Errors
/// Nobody reads stdout.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).tried(|| "stdout".to_owned())
}

/// Runs a child's work, which ends with its stdin: whoever started it holds that.
#[must_use]
pub fn run_child(work: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    exit_code(work().map(|()| true))
}

/// Builds the binary that is released, unless it is up to date.
fn build() -> Result<PathBuf, Failure> {
    eprintln!("building bateau with the release profile; --bateau PATH measures another binary");
    output(&cargo(), &["build", "--locked", "--release", "-p", "bateau"])?;
    Ok(target_directory()?.join("release").join("bateau"))
}

/// The cargo that runs this, or any.
#[must_use]
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Where cargo builds to.
///
/// # Errors
/// Cargo cannot be run.
pub fn target_directory() -> Result<PathBuf, Failure> {
    let text = output(&cargo(), &["metadata", "--no-deps", "--format-version", "1"])?;
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let found = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(found.map_or_else(|| source_root().join("target"), PathBuf::from))
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
