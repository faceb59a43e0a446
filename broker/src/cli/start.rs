//! `bateau dev` and `bateau serve`: flags, variables and file to a configuration, then the node.
//!
//! Absent on purpose: signals and the end of stdin. They are the running server's business.

use super::codes::TEST_CONTROL_SERVE;
use super::fault::Fault;
use super::output::Output;
use super::{DevArguments, ServeArguments, open_files};
use crate::config::{Announce, Config, Mode, Origin, Problems, Sources, Start, load};
use crate::exit::{Exit, Failure};
use crate::{local_cluster, server, telemetry};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

pub(super) const DEV: &str = "\
Examples:
  bateau dev
  bateau dev --nodes 3
  bateau dev --ephemeral --kafka 127.0.0.1:0 --native 127.0.0.1:0 --http 127.0.0.1:0";

pub(super) const SERVE: &str = "\
Examples:
  bateau serve --config node.toml
  bateau serve --config node.toml -X topics.partitions_default=4";

pub(super) fn dev(arguments: DevArguments, output: Output, begun: Instant) -> Result<(), Failure> {
    let mut sources = Sources::default();
    sources.add_environment(environment());
    sources.add_flags(&arguments.settings);
    let DevArguments { kafka, native, http, nodes, data_dir, ephemeral, .. } = arguments;
    let temporary = ephemeral.then(temporary_name);
    let flags = [
        ("--kafka", "listeners.kafka", kafka),
        ("--native", "listeners.native", native),
        ("--http", "listeners.http", http),
        ("--data-dir", "node.data_dir", data_dir),
        ("--ephemeral", "node.data_dir", temporary),
    ];
    for (flag, key, value) in flags {
        if let Some(value) = value {
            sources.say(key, &value, Origin::Flag(flag.to_owned()));
        }
    }
    let (exit_on_stdin_close, test_control) =
        (arguments.exit_on_stdin_close, arguments.test_control);
    let announce = announce(output);
    let start = Start { mode: Mode::Dev, ephemeral, exit_on_stdin_close, test_control, announce };
    run(start, nodes, &sources, begun)
}

pub(super) fn serve(
    arguments: &ServeArguments,
    output: Output,
    begun: Instant,
) -> Result<(), Fault> {
    if arguments.test_control {
        return Err(Fault::of(&TEST_CONTROL_SERVE, "--test-control"));
    }
    let mut sources = with_file(Some(&arguments.config))?;
    sources.add_flags(&arguments.settings);
    let start = Start { announce: announce(output), ..Start::of(Mode::Serve) };
    Ok(run(start, 1, &sources, begun)?)
}

/// The sources of a node that serves: file, then environment.
pub(super) fn with_file(file: Option<&Path>) -> Result<Sources, Failure> {
    let mut sources = Sources::default();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(Exit::Usage, format!("{}: cannot be read: {error}", path.display()))
        })?;
        sources.add_file(path, &text);
    }
    sources.add_environment(environment());
    Ok(sources)
}

fn run(start: Start, nodes_count: u32, sources: &Sources, begun: Instant) -> Result<(), Failure> {
    let usage = |problems: Problems| Failure::new(Exit::Usage, problems.to_string());
    let loaded = load(start, sources).map_err(usage)?;
    let configs = local_cluster::configs(&loaded, nodes_count).map_err(usage)?;
    telemetry::init(nodes_count > 1);
    open_files::raise();
    bateau_log::name_unreadable_pages();
    let temporary = Temporary::create(&loaded.config)?;
    local_cluster::prepare(&loaded.config.node.data_dir, nodes_count)?;
    let done = server::run(&configs, begun);
    drop(temporary);
    done
}

const fn announce(output: Output) -> Announce {
    match output {
        Output::Json => Announce::ReadyLine,
        Output::Table => Announce::Banner,
    }
}

fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// A name that no other process has now, and none had a moment ago.
fn temporary_name() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = format!("bateau-{}-{:x}", std::process::id(), since.as_nanos());
    std::env::temp_dir().join(name).to_string_lossy().into_owned()
}

/// The data directory of `--ephemeral`, removed when the node has stopped.
struct Temporary(PathBuf);

impl Temporary {
    fn create(config: &Config) -> Result<Option<Self>, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        if !config.ephemeral {
            return Ok(None);
        }
        let path = config.node.data_dir.clone();
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map(|()| Some(Self(path))).map_err(|error| {
            let place = config.node.data_dir.display();
            Failure::new(Exit::Failed, format!("{place}: cannot be created: {error}"))
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "temporary data stays behind");
        }
    }
}
