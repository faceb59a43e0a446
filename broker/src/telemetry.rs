//! Logs: to stderr, for people on a terminal, one JSON object per line otherwise.
//!
//! `RUST_LOG` chooses what is said (`info` when it is not set).
//!
//! Absent on purpose: log files and rotation; whoever runs the process owns its stderr.

use bateau_core::shard::Unfit;
use bateau_log::{Identity, RecoveryReport};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Sends the process's logs to stderr. A second call changes nothing.
///
/// - `names_threads`: each line says which thread it is of, which tells nodes of one process apart.
pub fn init(names_threads: bool) {
    let level = LevelFilter::INFO.into();
    let filter = EnvFilter::builder().with_default_directive(level).from_env_lossy();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_thread_names(names_threads);
    let terminal = std::io::stderr().is_terminal();
    let set = if terminal {
        logs.with_target(false).compact().try_init()
    } else {
        logs.json().flatten_event(true).try_init()
    };
    if let Err(error) = set {
        tracing::debug!(%error, "logs were set up before");
    }
}

/// One line where a directory has lost its votes and is about to ask for new replicas.
pub fn report_lost_votes(identity: &Identity) {
    if identity.former.is_some() {
        tracing::error!(
            "the meta log of this directory is lost, and with it the node's votes: its logs are \
             kept in quarantine/, and it asks its cluster for new replicas"
        );
    }
}

/// One line where the node gives its leaderships away, or leads again.
pub fn report_fitness(unfit: Option<Unfit>) {
    match unfit {
        // Whoever stops it has been told.
        Some(Unfit::Stopping) => {}
        Some(unfit) => tracing::warn!("this node gives its leaderships away: {unfit}"),
        None => tracing::info!("this node is fit to lead again"),
    }
}

/// One line about what recovery found; on a log file it is one JSON object.
pub fn report_recovery(report: &RecoveryReport) {
    let torn_frames: u64 = report.torn.iter().map(|torn| torn.frames).sum();
    let torn_bytes: u64 = report.torn.iter().map(|torn| torn.bytes).sum();
    let torn = report.torn.iter().map(|torn| {
        let (log, first) = (torn.incarnation, torn.first_index);
        format!("{:016x} from index {first}: {} bytes", log.get(), torn.bytes)
    });
    let corrupt = report.corrupt.iter().map(|(log, range)| {
        let (first, last) = (range.first_index, range.last_index);
        format!("{:016x} index {first} to {last}: {}", log.get(), range.reason)
    });
    let torn = torn.collect::<Vec<_>>().join("; ");
    let corrupt = corrupt.collect::<Vec<_>>().join("; ");
    let is_damaged = !report.corrupt.is_empty();
    let (logs, clean) = (report.logs, report.clean);
    let (walked_frames, walked_bytes) = (report.walked_frames, report.walked_bytes);
    if is_damaged {
        tracing::error!(
            logs,
            clean,
            walked_frames,
            walked_bytes,
            torn_frames,
            torn_bytes,
            torn,
            corrupt,
            "recovered, with damaged partitions"
        );
    } else {
        tracing::info!(
            logs,
            clean,
            walked_frames,
            walked_bytes,
            torn_frames,
            torn_bytes,
            torn,
            "recovered"
        );
    }
}
