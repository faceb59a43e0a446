//! A broker that has died says nothing: when a connection is given up for its silence.
//!
//! ```text
//!   heard ── owes for a sixth of the limit ──> suspect: others are asked about the cluster
//!     ▲                                           │ a whole limit, or others say that it leads
//!     └────────── anything comes ─────────────────┤ no more and it owes for a sixth
//!                                                 └──> lost
//! ```
//!
//! Absent on purpose: QUIC's own idle timeout, which is ten times as long.

use super::stream::Stream;
use super::{Link, link_lost};
use bateau_protocol::native::{CloseCode, StatusRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Looks within the time after which a connection is given up.
const LOOKS: u32 = 16;

/// The part of it after which a broker that owes something is suspect.
const SUSPECT_PART: u32 = 6;

/// How far a connection is believed to have somebody at its other end.
#[derive(Debug, Default)]
pub(super) struct Standing {
    suspect: watch::Sender<bool>,
    is_doubted: AtomicBool,
    doubted: Notify,
}

impl Standing {
    pub fn is_suspect(&self) -> bool {
        *self.suspect.borrow()
    }

    pub async fn suspected(&self) {
        // The sender lives as long as `self`.
        let _ = self.suspect.subscribe().wait_for(|suspect| *suspect).await;
    }

    pub fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Relaxed);
        self.doubted.notify_one();
    }

    fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed)
    }

    fn suspect(&self) {
        self.suspect.send_if_modified(|suspect| !std::mem::replace(suspect, true));
    }

    /// Something has come.
    fn clear(&self) {
        self.suspect.send_if_modified(|suspect| std::mem::replace(suspect, false));
        self.is_doubted.store(false, Ordering::Relaxed);
    }
}

/// Ends a connection whose peer owes acknowledgements and says nothing.
///
/// A peer that owes an answer and nothing else is asked something: it may have died right behind
/// its acknowledgement, and then QUIC itself sends nothing that the next process at its port could
/// tell us by.
pub(super) async fn watch_for_silence(
    link: Arc<Link>,
    control: Arc<Stream>,
    streams: Vec<Arc<Stream>>,
    silence: Duration,
) {
    let tick = (silence / LOOKS).max(Duration::from_millis(10));
    let mut heard = Heard::now(&link.quic);
    loop {
        tokio::select! {
            _ = link.quic.closed() => return,
            () = link.standing.doubted.notified() => {}
            () = tokio::time::sleep(tick) => {}
        }
        let now = Heard::now(&link.quic);
        if now.received != heard.received {
            link.standing.clear();
            heard = now;
            continue;
        }
        let (is_owed, is_doubted) = (now.owed != heard.owed, link.standing.is_doubted());
        let is_waiting = || streams.iter().any(|stream| stream.is_waiting());
        if !(is_owed || is_doubted || is_waiting()) {
            heard = now;
            continue;
        }
        // A peer far away is no more suspect than one nearby.
        let brief = (silence / SUSPECT_PART).max(3 * link.quic.rtt());
        let owes = if is_owed { heard.owes(now.since) } else { Duration::ZERO };
        if owes >= brief {
            link.standing.suspect();
        }
        let silent = heard.since.elapsed();
        if is_owed && silent >= silence || is_doubted && owes >= brief {
            let reason = format!("the broker has been silent for {} ms", silent.as_millis());
            link.fail(link_lost(&reason), CloseCode::TOO_SLOW);
            return;
        }
        if (is_doubted || silent >= silence / 2) && !heard.asked {
            // A lost probe of path discovery is no sign of death; a question is answered.
            heard.asked = true;
            let control = Arc::clone(&control);
            link.runtime.spawn(async move { drop(control.call(&StatusRequest {}).await) });
        }
    }
}

/// What had come, and what was owed, when something came last.
struct Heard {
    received: u64,
    owed: u64,
    since: Instant,
    /// When it was seen first that more is owed.
    owed_since: Option<Instant>,
    asked: bool,
}

impl Heard {
    fn now(quic: &quinn::Connection) -> Self {
        let stats = quic.stats();
        let sent = stats.frame_tx;
        // Frames that a living peer acknowledges; acknowledgements themselves are not. What is sent
        // again is first asked after by a frame that wants its acknowledgement at once.
        let owed = [
            sent.stream,
            sent.ping,
            sent.immediate_ack,
            sent.max_data,
            sent.max_stream_data,
            sent.crypto,
        ];
        Self {
            received: stats.udp_rx.datagrams,
            owed: owed.into_iter().sum(),
            since: Instant::now(),
            owed_since: None,
            asked: false,
        }
    }

    /// How long something is owed by `now`.
    fn owes(&mut self, now: Instant) -> Duration {
        now.duration_since(*self.owed_since.get_or_insert(now))
    }
}
