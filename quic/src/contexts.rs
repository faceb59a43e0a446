//! The user's file of known brokers: addresses, and the pins of their keys.
//!
//! ```toml
//! current = "dev"
//!
//! [contexts.dev]
//! native = "127.0.0.1:9443"
//! kafka = "127.0.0.1:9092"
//! http = "127.0.0.1:8080"
//! pin = "sha256:0f1e…"
//!
//! [contexts.prod]
//! native = "broker-1.example:9443"
//! ca = "authority.crt"
//! certificate = "me.crt"
//! key = "me.key"
//! ```
//!
//! `bateau dev` writes its entry; commands and clients read the pin of a loopback address from
//! it. The file is `contexts.toml` in `$BATEAU_CONFIG_DIR`, else in `bateau` below
//! `$XDG_CONFIG_HOME`, else in `~/.config/bateau`.
//!
//! Invariants
//! - A reader sees the old file or the new one: it is replaced by a rename, with mode 0600.
//! - Two processes that change it do so one after the other (a lock on `contexts.lock`).
//! - A file that others may write is not believed: whoever writes it chooses whom we trust.
//!
//! Absent on purpose: the rest of TOML. The file is this program's; what it would not write
//! itself is refused with its line, except for keys of later versions, which are kept.

mod text;

use crate::pin::{PinError, SpkiPin};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The file's name.
pub const FILE: &str = "contexts.toml";
/// Most contexts in a file. The oldest one goes for a new one.
pub const CONTEXTS_MAX: usize = 64;
/// Longest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 64 * 1_024;

const LOCK: &str = "contexts.lock";
/// Permissions that nobody else may have: to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// One broker, as a user knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Context {
    /// Letters, digits, `-` and `_`; at most 64 characters.
    pub name: String,
    /// Host and port of the native door.
    pub native: Option<String>,
    /// Host and port of the Kafka door.
    pub kafka: Option<String>,
    /// Host and port of the HTTP door.
    pub http: Option<String>,
    /// The key that the native door must show.
    pub pin: Option<SpkiPin>,
    /// File of the authorities that may vouch for the native door, where there is no pin. Paths
    /// are absolute, or begin at the directory of the file of contexts.
    pub ca: Option<String>,
    /// File of the certificate that is shown to the broker.
    pub certificate: Option<String>,
    /// File of its private key.
    pub key: Option<String>,
    /// Keys that this version does not know.
    other: Vec<(String, String)>,
}

/// What the file holds, oldest entry first.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Contexts {
    current: Option<String>,
    previous: Option<String>,
    contexts: Vec<Context>,
    other: Vec<(String, String)>,
}

/// Why the file could not be read or changed.
#[derive(Debug, Error)]
pub enum ContextsError {
    /// The operating system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others could have put their own pins in.
    #[error("{0}: mode {mode:03o} lets others write it; run `chmod 600 {0}`", path.display())]
    WritableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Larger than any file of ours.
    #[error("{}: longer than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line that is not understood.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What was expected.
        reason: String,
    },
    /// A name that cannot be written.
    #[error("`{name}` is no name of a context: 1 to 64 letters, digits, `-` and `_`")]
    Name {
        /// As given.
        name: String,
    },
}

/// Where the user's files of Bateau are, from the environment; `None` for a user without a home.
#[must_use]
pub fn config_directory() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(own) = set("BATEAU_CONFIG_DIR") {
        return Some(own.into());
    }
    let base = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")))?;
    Some(base.join("bateau"))
}

impl Context {
    /// A context without addresses.
    ///
    /// Errors: a name with other characters than letters, digits, `-` and `_`, or a long one.
    pub fn new(name: &str) -> Result<Self, ContextsError> {
        if !text::is_name(name) {
            return Err(ContextsError::Name { name: name.chars().take(80).collect() });
        }
        Ok(Self {
            name: name.to_owned(),
            native: None,
            kafka: None,
            http: None,
            pin: None,
            ca: None,
            certificate: None,
            key: None,
            other: Vec::new(),
        })
    }

    fn set(&mut self, key: String, value: String) -> Result<(), PinError> {
        match key.as_str() {
            "native" => self.native = Some(value),
            "kafka" => self.kafka = Some(value),
            "http" => self.http = Some(value),
            "pin" => self.pin = Some(value.parse()?),
            "ca" => self.ca = Some(value),
            "certificate" => self.certificate = Some(value),
            "key" => self.key = Some(value),
            _ => self.other.push((key, value)),
        }
        Ok(())
    }

    fn entries(&self) -> impl Iterator<Item = (&str, String)> {
        let pin = self.pin.map(|pin| pin.to_string());
        let known = [
            ("native", self.native.clone()),
            ("kafka", self.kafka.clone()),
            ("http", self.http.clone()),
            ("pin", pin),
            ("ca", self.ca.clone()),
            ("certificate", self.certificate.clone()),
            ("key", self.key.clone()),
        ];
        let known = known.into_iter().filter_map(|(key, value)| Some((key, value?)));
        known.chain(self.other.iter().map(|(key, value)| (key.as_str(), value.clone())))
    }

    fn is_loopback_port(&self, port: u16) -> bool {
        let address = self.native.as_deref().and_then(|native| native.rsplit_once(':'));
        let Some((host, digits)) = address else { return false };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback =
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        is_loopback && digits.parse() == Ok(port)
    }
}

impl Contexts {
    /// Reads the file; an absent one is empty. Costs one read of at most 64 KiB.
    ///
    /// - `directory`: of [`config_directory`].
    ///
    /// Errors: it cannot be read, others may write it, or a line is not understood.
    pub fn load(directory: &Path) -> Result<Self, ContextsError> {
        let path = directory.join(FILE);
        let io = |error| ContextsError::Io { path: path.clone(), error };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io(error)),
        };
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(ContextsError::WritableByOthers { path, mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(ContextsError::TooLong { path });
        }
        text::parse(&text).map_err(|(line, reason)| ContextsError::Line { path, line, reason })
    }

    /// Reads the file, changes it and replaces it. Makes the directory where it is missing, and
    /// waits for another process that is changing the file.
    ///
    /// Errors: those of [`Self::load`], or it cannot be written; the old file is then untouched.
    pub fn update(directory: &Path, change: impl FnOnce(&mut Self)) -> Result<(), ContextsError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| ContextsError::Io { path, error }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(at(directory))?;
        let private = |path: &Path| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(path).map_err(at(path))
        };
        let lock_path = directory.join(LOCK);
        let lock = private(&lock_path)?;
        lock.lock().map_err(at(&lock_path))?;
        let mut contexts = Self::load(directory)?;
        change(&mut contexts);
        let new = directory.join(format!("{FILE}.new"));
        let mut file = private(&new)?;
        // Left by a run that was cut, it may have another mode.
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(at(&new))?;
        file.write_all(text::render(&contexts).as_bytes()).map_err(at(&new))?;
        fs::rename(&new, directory.join(FILE)).map_err(at(&new))
    }

    /// The context in use, if the file names one that exists.
    #[must_use]
    pub fn current(&self) -> Option<&Context> {
        self.current.as_deref().and_then(|name| self.get(name))
    }

    /// Names the context in use; the one before it is remembered.
    pub fn set_current(&mut self, name: &str) {
        if self.current.as_deref() != Some(name) {
            self.previous = self.current.replace(name.to_owned());
        }
    }

    /// The context that was in use before, if it still exists.
    #[must_use]
    pub fn previous(&self) -> Option<&Context> {
        self.previous.as_deref().and_then(|name| self.get(name))
    }

    /// The context with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Context> {
        self.contexts.iter().find(|context| context.name == name)
    }

    /// All contexts, oldest entry first.
    pub fn iter(&self) -> impl Iterator<Item = &Context> {
        self.contexts.iter()
    }

    /// Adds a context or replaces the one of this name, as the newest. Beyond [`CONTEXTS_MAX`] the
    /// oldest one goes.
    pub fn put(&mut self, context: Context) {
        self.remove(&context.name);
        self.contexts.push(context);
        let excess = self.contexts.len().saturating_sub(CONTEXTS_MAX);
        self.contexts.drain(..excess);
    }

    /// Removes a context; returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let count = self.contexts.len();
        self.contexts.retain(|context| context.name != name);
        self.contexts.len() < count
    }

    /// The pin for a broker at `address`: of the newest context with this port on a loopback
    /// address. `None` for addresses of other machines, whose pin must be given by hand.
    #[must_use]
    pub fn loopback_pin(&self, address: SocketAddr) -> Option<SpkiPin> {
        if !address.ip().to_canonical().is_loopback() {
            return None;
        }
        let newest = self.contexts.iter().rev();
        let mut at_port = newest.filter(|context| context.is_loopback_port(address.port()));
        at_port.find_map(|context| context.pin)
    }
}

#[cfg(test)]
mod tests;
