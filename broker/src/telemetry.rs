//! Logs: to stderr, for people on a terminal, one JSON object per line otherwise.
//!
//! `RUST_LOG` chooses what is said (`info` when it is not set).
//!
//! Absent on purpose: log files and rotation; whoever runs the process owns its stderr.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Sends the process's logs to stderr. A second call changes nothing.
pub fn init() {
    let level = LevelFilter::INFO.into();
    let filter = EnvFilter::builder().with_default_directive(level).from_env_lossy();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
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
