//! One QUIC connection to one broker: the greeting, and the streams behind it.
//!
//! ```text
//!   Connection ─┬─ control   calls, watch                      Link: what all streams share
//!               ├─ data × 8  produces; a partition stays on one    window, failure, QUIC
//!               └─ bulk × 6  subscriptions, fetches            monitor: ends them all together
//! ```
//!
//! Invariants
//! - Whatever ends one stream ends the connection: there is one error for all who wait.
//! - A peer that owes acknowledgements and is silent is asked once, and then taken for dead, so
//!   that a broker that was killed is noticed long before QUIC's idle timeout; sooner where others
//!   say that it leads no more.
//!
//! Absent on purpose: reconnecting.

pub(crate) mod session;
mod silence;
pub(crate) mod stream;
pub(crate) mod window;

use crate::address::Address;
use crate::client::{BrokerInfo, ClientBuilder};
use crate::error::{BrokerError, ConnectError, RequestError};
use crate::record::Durability;
use bateau_protocol::limits::{NATIVE_FRAME_BYTES_MAX, NATIVE_HELLO_BYTES_MAX};
use bateau_protocol::native::{
    Auth, CloseCode, Frame, Hello, Kind, Reply, Request, Split, StreamRole, VERSION_OF_HELLO,
    Welcome,
};
use bateau_quic::{Farewell, Refusal};
use bytes::{Bytes, BytesMut};
use quinn::{ConnectionError, VarInt};
use silence::{Standing, watch_for_silence};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use stream::Stream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use window::Window;

/// Requests in flight that produces leave to everything else.
const OTHER_REQUESTS: usize = 96;

/// Credit that is kept for subscriptions to come, in bytes.
const CREDIT_RESERVE: u64 = 512 * 1024;

/// The smallest window of a subscription, in bytes: the reserve is enough for a thousand.
const WINDOW_BYTES_MIN: u64 = 512;

/// The kind of the push that says that the broker stops.
const GO_AWAY: Kind = Kind(0x4001);

/// What all streams of a connection share.
#[derive(Debug)]
pub(crate) struct Link {
    pub quic: quinn::Connection,
    pub runtime: Handle,
    pub version: i16,
    pub frame_bytes_max: usize,
    pub window: Window,
    /// Why we ended it, where we did.
    failure: Mutex<Option<RequestError>>,
    is_going_away: AtomicBool,
    standing: Standing,
}

impl Link {
    /// Ends the connection; the first reason counts.
    pub fn fail(&self, error: RequestError, code: CloseCode) {
        let reason = error.to_string();
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        drop(failure);
        self.quic.close(VarInt::from_u32(code.0), reason.as_bytes());
    }

    /// Takes the pushes that concern the connection itself.
    pub fn pushed(&self, kind: Kind) -> bool {
        if kind == GO_AWAY {
            self.is_going_away.store(true, Ordering::Relaxed);
        }
        kind == GO_AWAY
    }
}

/// The connection broke, or will never be.
pub(crate) fn link_lost(reason: &str) -> RequestError {
    RequestError::Lost { reason: reason.to_owned() }
}

/// A connection that is greeted and ready.
#[derive(Debug)]
pub(crate) struct Connection {
    link: Arc<Link>,
    pub info: BrokerInfo,
    pub control: Arc<Stream>,
    data: Vec<Arc<Stream>>,
    bulk: Vec<Arc<Stream>>,
    next_bulk: AtomicUsize,
    /// Payload bytes of subscriptions that may still be granted.
    credit: Mutex<u64>,
    closed: watch::Receiver<bool>,
}

impl Connection {
    /// Connects and greets.
    ///
    /// - `address`: for texts and for the name in the broker's certificate.
    pub async fn open(
        endpoint: &quinn::Endpoint,
        config: quinn::ClientConfig,
        remote: SocketAddr,
        address: &Address,
        options: &ClientBuilder,
    ) -> Result<Arc<Self>, ConnectError> {
        let name = address.to_string();
        let unreachable =
            |reason: String| ConnectError::Unreachable { address: name.clone(), reason };
        let connecting = endpoint
            .connect_with(config, remote, &address.host)
            .map_err(|error| unreachable(error.to_string()))?;
        let quic = connecting.await.map_err(|error| not_connected(&name, &error))?;
        let (mut send, mut receive) =
            quic.open_bi().await.map_err(|error| not_connected(&name, &error))?;
        let hello = greeting(options);
        let hello = hello.encode(0, VERSION_OF_HELLO).map_err(|e| unreachable(e.to_string()))?;
        let mut parts = hello.into_parts();
        // A broker that refuses our certificate does so behind the client's half of the handshake.
        let ended = |reason: String| match quic.close_reason() {
            Some(error) => not_connected(&name, &error),
            None => unreachable(reason),
        };
        send.write_all_chunks(&mut parts).await.map_err(|e| ended(e.to_string()))?;
        let mut buffer = BytesMut::new();
        let welcome = match read_welcome(&mut receive, &mut buffer).await {
            Ok(Reply::Welcome(welcome)) => welcome,
            Ok(Reply::Error(reply)) => {
                quic.close(VarInt::from_u32(CloseCode::DONE.0), b"");
                let error = BrokerError::of_reply(&reply);
                return Err(ConnectError::Greeting { address: name, error });
            }
            Ok(other) => {
                quic.close(VarInt::from_u32(CloseCode::PROTOCOL.0), b"no welcome");
                let reason = format!("it greets with kind {}", other.kind());
                return Err(unreachable(reason));
            }
            Err(reason) => {
                let error = ended(reason);
                quic.close(VarInt::from_u32(CloseCode::PROTOCOL.0), b"no welcome");
                return Err(error);
            }
        };
        let (lowest, highest) = options.versions;
        if !(lowest..=highest).contains(&welcome.version) {
            quic.close(VarInt::from_u32(CloseCode::VERSION.0), b"a version that was not offered");
            return Err(unreachable(format!(
                "it chose version {}, offered were {lowest} to {highest}",
                welcome.version
            )));
        }
        Ok(Self::start(quic, (send, receive), welcome, &buffer, options))
    }

    fn start(
        quic: quinn::Connection,
        control: (quinn::SendStream, quinn::RecvStream),
        welcome: Welcome,
        behind: &[u8],
        options: &ClientBuilder,
    ) -> Arc<Self> {
        let limits = &welcome.limits;
        let info = BrokerInfo {
            cluster_id: welcome.cluster_id.to_string(),
            node_id: welcome.node_id,
            version: welcome.broker_version.to_string(),
            durability: Durability::from_text(&welcome.durability),
            protocol_version: welcome.version,
        };
        let limit = |number: i32| usize::try_from(number).unwrap_or(0);
        let requests_max = limit(limits.requests_inflight_max);
        let produces_max = requests_max.saturating_sub(OTHER_REQUESTS).max(requests_max / 2).max(1);
        let produce_bytes_max = limit(limits.inflight_bytes_max) / 4 * 3;
        let link = Arc::new(Link {
            quic,
            runtime: Handle::current(),
            version: welcome.version,
            // A broker's frames are bounded by what we know, not by what it says.
            frame_bytes_max: NATIVE_FRAME_BYTES_MAX,
            window: Window::new(produces_max, produce_bytes_max),
            failure: Mutex::new(None),
            is_going_away: AtomicBool::new(false),
            standing: Standing::default(),
        });
        let streams = |role, count: i32| {
            let count = limit(count).clamp(1, 8);
            (0..count).map(|_| Stream::unopened(role, &link)).collect::<Vec<_>>()
        };
        let data = streams(StreamRole::Data, limits.data_streams_max);
        let bulk = streams(StreamRole::Bulk, limits.bulk_streams_max);
        let (closing, closed) = watch::channel(false);
        // What a connection may have outstanding is bounded by our own receive window.
        let window = u64::from(options.quic.connection_window_bytes) / 4 * 3;
        let credit = u64::try_from(limits.credit_bytes_max).unwrap_or(0).min(window);
        let connection = Arc::new(Self {
            control: Stream::control(&link, control, behind),
            link,
            info,
            data,
            bulk,
            next_bulk: AtomicUsize::new(0),
            credit: Mutex::new(credit),
            closed,
        });
        let link = Arc::clone(&connection.link);
        let all = connection.data.iter().chain(&connection.bulk).chain([&connection.control]);
        let streams: Vec<_> = all.cloned().collect();
        link.runtime.spawn(monitor(Arc::clone(&link), streams.clone(), closing));
        let control = Arc::clone(&connection.control);
        link.runtime.clone().spawn(watch_for_silence(link, control, streams, options.silence));
        connection
    }

    /// Datagrams that have come so far.
    pub fn heard(&self) -> u64 {
        self.link.quic.stats().udp_rx.datagrams
    }

    /// Whether the broker owes acknowledgements for longer than it should.
    pub fn is_suspect(&self) -> bool {
        self.link.standing.is_suspect()
    }

    /// Waits until the broker owes acknowledgements for longer than it should.
    pub async fn suspected(&self) {
        self.link.standing.suspected().await;
    }

    /// Another broker says that this one leads no more: it is asked whether it lives, and has less
    /// time to show it.
    pub fn doubt(&self) {
        self.link.standing.doubt();
    }

    /// The data stream of a partition.
    pub fn data(&self, topic_hash: u64, partition: i32) -> &Arc<Stream> {
        let mixed = topic_hash.wrapping_add(u64::from(partition.unsigned_abs()));
        let count = self.data.len().max(1) as u64;
        let place = usize::try_from(mixed % count).unwrap_or(0);
        // There is one at least; the control stream would be refused by the broker, not lost.
        self.data.get(place).unwrap_or(&self.control)
    }

    /// A bulk stream, one after the other.
    pub fn bulk(&self) -> &Arc<Stream> {
        let place = self.next_bulk.fetch_add(1, Ordering::Relaxed) % self.bulk.len().max(1);
        self.bulk.get(place).unwrap_or(&self.control)
    }

    /// Takes room for a subscription from the connection's credit: what is wanted, as long as there
    /// is plenty, and less the more subscriptions there are. Any credit at all keeps a subscription
    /// going: a batch above it comes alone.
    pub fn take_window(&self, wanted: u64) -> u64 {
        let mut credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        let plenty = credit.saturating_sub(CREDIT_RESERVE) / 4;
        let taken = wanted.min(plenty.max(WINDOW_BYTES_MIN)).max(1).min(*credit);
        *credit -= taken;
        taken
    }

    /// Gives the window of a subscription back that is over.
    pub fn return_credit(&self, bytes: u64) {
        let mut credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        *credit = credit.saturating_add(bytes);
    }

    /// Whether it takes requests.
    pub fn is_usable(&self) -> bool {
        !self.link.is_going_away.load(Ordering::Relaxed) && self.control.is_usable()
    }

    /// Waits until it is over.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // The sender goes only with the monitor, which is then done.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Ends it; the broker is told as far as one packet tells it.
    pub fn close(&self) -> Farewell {
        let farewell = Farewell::before_close(&self.link.quic);
        self.link.fail(RequestError::Closed, CloseCode::DONE);
        farewell
    }
}

fn greeting(options: &ClientBuilder) -> Request {
    let auth = options.token.as_ref().map_or_else(Auth::default, |token| Auth {
        mechanism: "token".into(),
        credentials: Bytes::copy_from_slice(token),
    });
    let (version_min, version_max) = options.versions;
    let client_name = options.name.clone().into();
    Hello { version_min, version_max, features: 0, client_name, auth }.into()
}

async fn read_welcome(
    receive: &mut quinn::RecvStream,
    buffer: &mut BytesMut,
) -> Result<Reply, String> {
    loop {
        match Frame::split(buffer, NATIVE_HELLO_BYTES_MAX) {
            Ok(Split::Frame(frame)) => {
                return Reply::decode(frame, VERSION_OF_HELLO).map_err(|error| error.to_string());
            }
            Ok(Split::Incomplete { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        match receive.read_chunk(NATIVE_HELLO_BYTES_MAX, true).await {
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err("it ended the stream instead of greeting".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Why a connection was not made.
fn not_connected(address: &str, error: &ConnectionError) -> ConnectError {
    let address = address.to_owned();
    match bateau_quic::refusal(error) {
        Some(refusal @ (Refusal::NoIdentity | Refusal::Identity { .. })) => {
            ConnectError::IdentityRefused { address, reason: refusal.to_string() }
        }
        Some(refusal) => ConnectError::Refused { address, reason: refusal.to_string() },
        None => ConnectError::Unreachable { address, reason: closed_by(error) },
    }
}

/// Why a connection ended, in words.
fn closed_by(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX);
            let reason = String::from_utf8_lossy(&close.reason);
            format!("the broker closed with {}: {reason}", CloseCode(code))
        }
        ConnectionError::TimedOut => "nothing came for too long".to_owned(),
        error => error.to_string(),
    }
}

/// Waits for the connection's end and tells all of its streams.
async fn monitor(link: Arc<Link>, streams: Vec<Arc<Stream>>, closing: watch::Sender<bool>) {
    let error = link.quic.closed().await;
    let failure = {
        let mut failure = link.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().unwrap_or_else(|| RequestError::Lost { reason: closed_by(&error) })
    };
    tracing::debug!(%failure, "the connection is over");
    // First, so that whoever is told finds that there is no connection.
    closing.send_replace(true);
    for stream in streams {
        stream.end(&failure);
    }
}
