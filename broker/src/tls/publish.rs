//! Tells this user's clients of a node for development: its addresses and the pin of its key.
//!
//! Absent on purpose: `serve`. Whoever runs a server hands out its pin or its authority.

use bateau_quic::SpkiPin;
use bateau_quic::contexts::{Context, Contexts, ContextsError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The port of the native door that has the name `dev` without a number.
const DEFAULT_PORT: u16 = 9_443;

/// An entry in the file of contexts; taken back when dropped, if it was for this run only.
#[derive(Debug)]
pub struct Published {
    directory: PathBuf,
    name: String,
    pin: SpkiPin,
    is_lasting: bool,
}

/// Writes the entry `dev`, or `dev-PORT` for another port than 9443.
///
/// - `directory`: of [`bateau_quic::contexts::config_directory`].
/// - `native`: where the native door listens; `kafka` and `http` where those do.
/// - `is_lasting`: the node comes back under this port with this key.
///
/// Errors: the file cannot be read or written. A node runs all the same; its clients then need
/// the pin by hand.
pub fn publish(
    directory: &Path,
    native: SocketAddr,
    kafka: Option<SocketAddr>,
    http: Option<SocketAddr>,
    pin: SpkiPin,
    is_lasting: bool,
) -> Result<Published, ContextsError> {
    let name = match native.port() {
        DEFAULT_PORT => "dev".to_owned(),
        port => format!("dev-{port}"),
    };
    let mut context = Context::new(&name)?;
    context.native = Some(native.to_string());
    context.kafka = kafka.map(|address| address.to_string());
    context.http = http.map(|address| address.to_string());
    context.pin = Some(pin);
    Contexts::update(directory, |contexts| contexts.put(context))?;
    Ok(Published { directory: directory.to_owned(), name, pin, is_lasting })
}

impl Drop for Published {
    fn drop(&mut self) {
        if self.is_lasting {
            return;
        }
        let taken_back = Contexts::update(&self.directory, |contexts| {
            // Another node may have the port and the name by now.
            if contexts.get(&self.name).is_some_and(|context| context.pin == Some(self.pin)) {
                contexts.remove(&self.name);
            }
        });
        if let Err(error) = taken_back {
            tracing::warn!(%error, "the entry in the file of contexts stays");
        }
    }
}
