//! Notices that files of `[tls]` have changed, and exchanges the material.
//!
//! A thread of its own looks at them every few seconds: a file system that does not answer then
//! holds up nobody. Two files that are replaced one after the other do not fit together for a
//! moment; that is told once, and tried again until they do.
//!
//! Absent on purpose: notifications of the kernel. Mounted secrets change by a symbolic link two
//! directories up, which they would miss.

use super::files::{self, TlsError};
use super::live::Live;
use crate::config::TlsSettings;
use bateau_protocol::ids::NodeId;
use rustls_pki_types::UnixTime;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch(Option<(Sender<()>, JoinHandle<()>)>);

impl Watch {
    pub(super) fn begin(
        live: Arc<Live>,
        settings: Option<&TlsSettings>,
        peer: Option<NodeId>,
        period: Duration,
    ) -> Self {
        let Some(settings) = settings else { return Self(None) };
        let mut watched = Watched::new(live, settings.clone(), peer);
        let (stop, stopped) = mpsc::channel();
        let spawned = thread::Builder::new().name("bateau-tls".to_owned()).spawn(move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                watched.look(UnixTime::now()).log();
            }
        });
        match spawned {
            Ok(thread) => Self(Some((stop, thread))),
            Err(error) => {
                tracing::error!(%error, "certificates will not be reloaded: no thread");
                Self(None)
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// Files, and what they looked like when they were last read with success.
#[derive(Debug)]
pub(super) struct Watched {
    live: Arc<Live>,
    settings: TlsSettings,
    /// Which node this is, where other nodes speak with it.
    peer: Option<NodeId>,
    seen: Option<Vec<Stamp>>,
    /// What was said last about files that cannot be used.
    complaint: Option<String>,
}

/// What changes with a file: device, inode, length, and the moments of its last changes. `None`
/// for one that is not there.
type Stamp = Option<[i128; 5]>;

/// What a look at the files came to.
#[derive(Debug)]
pub(super) enum Look {
    /// They are the same, or as unusable as they were.
    Same,
    /// The material was exchanged.
    Exchanged(bateau_quic::SpkiPin),
    /// They changed and cannot be used. The old material stays.
    Refused(TlsError),
}

impl Watched {
    /// Files that have just been read for the first time. They are read once more at the first
    /// look, in case they changed in between.
    pub fn new(live: Arc<Live>, settings: TlsSettings, peer: Option<NodeId>) -> Self {
        Self { live, settings, peer, seen: None, complaint: None }
    }

    pub fn look(&mut self, now: UnixTime) -> Look {
        // Before reading, so that a change while reading shows at the next look.
        let stamps = self.stamps();
        if self.seen.as_ref() == Some(&stamps) {
            return Look::Same;
        }
        match files::read(&self.settings, self.peer, now) {
            Ok(material) => {
                let is_first = self.seen.replace(stamps).is_none();
                let had_complaint = self.complaint.take().is_some();
                let old = self.live.material();
                let is_same = old.certified.cert == material.certified.cert;
                let pin = material.pin;
                self.live.exchange(material);
                if is_first && is_same && !had_complaint {
                    Look::Same
                } else {
                    Look::Exchanged(pin)
                }
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() == Some(&complaint) {
                    return Look::Same;
                }
                self.complaint = Some(complaint);
                Look::Refused(error)
            }
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let TlsSettings { cert, key, client_ca } = &self.settings;
        let paths = [Some(cert), Some(key), client_ca.as_ref()];
        paths.into_iter().flatten().map(|path| stamp(path)).collect()
    }
}

fn stamp(path: &Path) -> Stamp {
    let of = fs::metadata(path).ok()?;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let modified = nanos(of.mtime(), of.mtime_nsec());
    let changed = nanos(of.ctime(), of.ctime_nsec());
    Some([of.dev().into(), of.ino().into(), of.size().into(), modified, changed])
}

impl Look {
    fn log(&self) {
        match self {
            Self::Same => {}
            Self::Exchanged(pin) => {
                tracing::info!(%pin, "the certificate was reloaded; new connections get it");
            }
            Self::Refused(error) => {
                tracing::error!("the certificate in use stays: {error}");
            }
        }
    }
}
