//! Reaching a broker: flags, contexts and the deadline that covers a whole command.
//!
//! One current-thread runtime per command, made when the command needs it: a node that starts
//! never makes it.
//!
//! Absent on purpose: retries. The client has them, under one deadline.

use super::codes::AUTHORITIES;
use super::context::Target;
use super::fault::Fault;
use super::offsets::moment;
use super::trouble;
use crate::exit::Exit;
use bateau_client::Client;
use bateau_quic::{PEM_BYTES_MAX, Trust};
use clap::Args;
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

// Which broker, and how long to wait for it. A doc comment would become every command's summary.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Broker")]
pub(super) struct BrokerArguments {
    /// Address of the native door [default: the context's, else 127.0.0.1:9443]
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// Authorities that may vouch for the broker, in PEM, where no pin names its key
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show to a broker that demands one, in PEM
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The private key of that certificate, in PEM, readable by nobody else
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// How long to wait for answers, as in 500ms or 1m30s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

impl BrokerArguments {
    /// Connects to the broker that is meant.
    pub(super) async fn connect(&self) -> Result<Client, Fault> {
        let target = Target::choose(self.broker.as_deref())?;
        let mut builder =
            Client::builder().address(target.address).name("bateau").timeout(self.timeout);
        if let Some(ca) = self.ca.as_ref().or(target.ca.as_ref()) {
            builder = builder.authorities_pem(authorities(ca)?);
        }
        let flags = self.client_cert.clone().zip(self.client_key.clone());
        if let Some((certificate, key)) = flags.or(target.identity) {
            builder = builder.identity_files(certificate, key);
        }
        // A broker that is there answers at once: nobody should wait long for one that is not.
        let connected = builder.connect_timeout(self.timeout.min(CONNECT_TIMEOUT_MAX)).connect();
        connected.await.map_err(|error| trouble::connect(&error))
    }

    /// How long one piece of work may take.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// The authorities of a file.
fn authorities(path: &Path) -> Result<Vec<u8>, Fault> {
    let unusable = |reason: String| Fault::of(&AUTHORITIES, path.display()).because(reason);
    let file = File::open(path).map_err(|error| unusable(error.to_string()))?;
    let mut pem = Vec::new();
    let read = file.take(PEM_BYTES_MAX).read_to_end(&mut pem);
    read.map_err(|error| unusable(error.to_string()))?;
    // Looked at here, where the file has a name.
    match Trust::roots_from_pem(&pem) {
        Ok(_) => Ok(pem),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// The longest wait for a broker that does not answer.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// `1m30s` as a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let span = moment::span(text).map_err(|_| "write a time such as 500ms, 10s or 1m30s")?;
    let marker = jiff::SpanRelativeTo::days_are_24_hours();
    let length = span.to_duration(marker).map_err(|error| error.to_string())?;
    let length = Duration::try_from(length).map_err(|error| error.to_string())?;
    (!length.is_zero()).then_some(length).ok_or_else(|| "must be longer than 0".to_owned())
}

/// Carries out the network part of a command on this thread.
pub(super) fn run<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Fault::plain(Exit::Failed, format!("a runtime cannot be started: {error}"))
    })?;
    runtime.block_on(work)
}

/// Returns at Ctrl-C or SIGTERM, whichever comes first. From the first call on they do nothing
/// else.
pub(super) async fn interrupted() {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    // Where signals cannot be received, they end the process as they always do.
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_has_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("0s").unwrap_err(), "must be longer than 0");
        for text in ["", "10", "s", "-1s", "1y"] {
            assert!(duration(text).unwrap_err().starts_with("write a time"), "{text}");
        }
    }
}
